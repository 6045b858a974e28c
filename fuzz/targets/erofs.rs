//! Any bytes as an EROFS image: no panic, not when its files are read either.
#![no_main]

mod common;

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|image: &[u8]| {
    if let Ok(tree) = ukikit_sysext::erofs::read(Cursor::new(image.to_vec())) {
        common::read_everything(&tree);
    }
});
