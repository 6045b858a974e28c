//! Any bytes as a PE file: no panic, and a section is a piece of the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_esp::Uki;

fuzz_target!(|file: &[u8]| {
    let Ok(uki) = Uki::parse(file) else { return };
    let _ = uki.architecture();
    for name in [".initrd", ".osrel", ".uname", ".cmdline"] {
        if let Some(section) = uki.section(name).filter(|section| !section.is_empty()) {
            assert!(file.as_ptr_range().start <= section.as_ptr_range().start);
            assert!(section.as_ptr_range().end <= file.as_ptr_range().end);
        }
    }
});
