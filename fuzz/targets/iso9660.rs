//! Any bytes as an ISO 9660 volume: no panic, no endless walk, and no file longer than asked for.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use ukikit::first_boot::Iso9660;

const LIMIT: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(mut volume)) = Iso9660::open(Cursor::new(bytes)) else {
        return;
    };
    for path in ["user-data", "openstack/latest/user_data", "a/b/c/d"] {
        if let Ok(Some(content)) = volume.read(path, LIMIT) {
            assert!(content.len() <= LIMIT);
        }
    }
});
