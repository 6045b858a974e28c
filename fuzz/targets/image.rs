//! Any bytes as an extension image: no panic in opening, describing, listing, reading or verifying it.
#![no_main]

mod common;

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use ukikit_sysext::{Certificate, Certificates, Image, Requirements};

fuzz_target!(|file: &[u8]| {
    let Ok(image) = Image::open(Cursor::new(file.to_vec())) else {
        return;
    };
    let _ = image.describe(Some("feature.sysext.raw"));
    let certificate = Certificate::from_pem(common::CERTIFICATE).unwrap();
    let trusted = Certificates::new([certificate]);
    let _ = image.verify(&trusted, &Requirements::new());
    if let Ok(tree) = image.tree() {
        common::read_everything(&tree);
    }
});
