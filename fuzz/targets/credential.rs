//! Any bytes, as text or binary: no panic. What parses can be described, and its text form reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_creds::{Encoding, EncryptedCredential, LINE};

fuzz_target!(|file: &[u8]| {
    for encoding in [Encoding::Base64, Encoding::Binary] {
        let Ok(credential) = EncryptedCredential::parse(file, encoding) else {
            continue;
        };
        let _ = credential.describe();
        let _ = credential.sealed();
        let text = credential.to_text(LINE);
        let again = EncryptedCredential::parse(text.as_bytes(), Encoding::Base64).unwrap();
        assert_eq!(again.as_bytes(), credential.as_bytes());
    }
});
