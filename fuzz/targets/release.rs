//! Any bytes as an extension-release or os-release file: no panic, and setting a field again changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_sysext::Release;

fuzz_target!(|file: &[u8]| {
    let Ok(release) = Release::parse(file) else {
        return;
    };
    for (key, value) in release.iter() {
        let mut again = release.clone();
        if again.set(key, value).is_ok() {
            assert_eq!(again, release);
        }
    }
});
