//! Any name or path: no panic, and every name this project would place is one the stub takes, as the same kind.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use ukikit_esp::{Kind, Name, UkiPath};

fuzz_target!(|name: &[u8]| {
    let taken = Kind::taken_by_stub(OsStr::from_bytes(name));
    let Ok(text) = str::from_utf8(name) else {
        return;
    };
    if let Ok(placed) = text.parse::<Name>() {
        assert_eq!(taken.ok(), Some(placed.kind()));
    }
    if let Ok(path) = text.parse::<UkiPath>() {
        assert!(path.companions().ends_with(".extra.d"));
    }
});
