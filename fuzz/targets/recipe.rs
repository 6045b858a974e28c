//! Any text as a recipe: no panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_sysext::recipe::Recipe;

fuzz_target!(|text: &str| {
    let _ = Recipe::parse(text);
});
