//! Any bytes as an initrd, concatenated and compressed archives: no panic, no memory beyond the stated bounds.
#![no_main]

mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|initrd: &[u8]| {
    if let Ok(tree) = ukikit_sysext::initrd::read(initrd) {
        common::read_everything(&tree);
        let _ = ukikit_sysext::initrd::Facts::of(&tree);
    }
});
