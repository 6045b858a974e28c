//! Any bytes as file contexts: no panic in reading them or in looking for a label, and no expression that takes long.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_sysext::{FileContexts, Kind};

const PATHS: [&str; 5] = [
    "",
    "usr",
    "usr/bin/ping",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "opt/\u{e9}\n",
];

fuzz_target!(|text: &[u8]| {
    let Ok(contexts) = FileContexts::parse(text) else {
        return;
    };
    for path in PATHS {
        if let Ok(Some(label)) = contexts.label(path.as_bytes(), &Kind::Directory) {
            assert!(!label.contains(char::is_whitespace));
        }
    }
});
