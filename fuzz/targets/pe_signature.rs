//! Any bytes as a PE file and as a signature of one: no panic; what is read is written so that it reads the same, with the
//! same digest; and nobody but the owner of the key signs.
#![no_main]

mod common;

use libfuzzer_sys::fuzz_target;
use ukikit_esp::{PeSignature, SignablePe};
use ukikit_signing::{Certificate, Certificates};

fuzz_target!(|file: &[u8]| {
    let certificate = Certificate::from_pem(common::CERTIFICATE).unwrap();
    let trusted = Certificates::new([certificate]);
    let signature = PeSignature::from_der(file);
    let _ = signature.describe();
    let _ = signature.check(&[0; 32], &trusted);
    let Ok(image) = SignablePe::parse(file) else {
        return;
    };
    let digest = image.digest(None).unwrap();
    for signature in image.signatures() {
        let _ = signature.check(digest.as_bytes(), &trusted);
    }
    let again = SignablePe::parse(&image.to_bytes().unwrap()).unwrap();
    assert_eq!(again.digest(None).unwrap().as_bytes(), digest.as_bytes());
    assert_eq!(again.signatures(), image.signatures());
});
