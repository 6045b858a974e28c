//! Any text as a host file: no panic, and what is taken makes credentials whose names are all different.
#![no_main]

use std::collections::BTreeSet;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ukikit::host::HostFile;

fuzz_target!(|text: &str| {
    let Ok(host) = HostFile::parse(text, Path::new("HOST.toml")) else {
        return;
    };
    let wanted = host.wanted().unwrap();
    let names = wanted.credentials.iter().map(|credential| &credential.name);
    let names: BTreeSet<&str> = names.map(|name| name.as_str()).collect();
    assert_eq!(names.len(), wanted.credentials.len());
});
