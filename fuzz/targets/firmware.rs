//! Any bytes as an SMBIOS structure of type 11: no panic, and only files of metadata come out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit::first_boot::{firmware_file, smbios_strings};

fuzz_target!(|bytes: &[u8]| {
    for (name, _) in smbios_strings(bytes).filter_map(firmware_file) {
        assert!(name.is_ascii() && !name.contains('/'));
    }
});
