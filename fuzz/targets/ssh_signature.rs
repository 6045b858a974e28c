//! Any texts as allowed signers, a list of files and its signature, separated by NUL: no panic, and nothing is signed by nobody.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit::first_boot::{AllowedSigners, Files, signed_by};
use zeroize::Zeroizing;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let signers = parts.next().and_then(|text| str::from_utf8(text).ok());
    let signers = AllowedSigners::parse(signers.unwrap_or_default());
    let mut files = Files::new();
    for name in ["SHA256SUMS", "SHA256SUMS.sig"] {
        let content = parts.next().unwrap_or_default().to_vec();
        files.insert(name.to_owned(), Zeroizing::new(content));
    }
    let _ = signed_by(&files, &signers.unwrap_or_default());
    assert!(!matches!(
        signed_by(&files, &AllowedSigners::default()),
        Ok(Some(_))
    ));
});
