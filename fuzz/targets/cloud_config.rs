//! Any bytes as user-data beside any as meta-data, separated by NUL: no panic, and what is taken makes credentials that can be planned.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit::first_boot::{Configuration, Files, Metadata, Origin};
use zeroize::Zeroizing;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let mut files = Files::new();
    for name in ["user-data", "meta-data"] {
        let content = parts.next().unwrap_or_default().to_vec();
        files.insert(name.to_owned(), Zeroizing::new(content));
    }
    let metadata = Metadata::new(Origin::Local, "seed".to_owned(), files);
    if let Ok(configuration) = Configuration::of(&metadata) {
        configuration.host.wanted().unwrap();
        configuration.values().unwrap();
    }
});
