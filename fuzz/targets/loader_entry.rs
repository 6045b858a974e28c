//! Any bytes as a boot entry: no panic, and no blank is left around a value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_esp::LoaderEntry;

fuzz_target!(|file: &[u8]| {
    let entry = LoaderEntry::parse(file);
    for extra in &entry.extras {
        assert!(!extra.contains(['\n', '\r', '\0']));
    }
});
