//! Any bytes as an squashfs image: no panic, not when its files are read either.
#![no_main]

mod common;

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|image: &[u8]| {
    if let Ok(tree) = ukikit_sysext::squashfs::read(Cursor::new(image.to_vec())) {
        common::read_everything(&tree);
    }
});
