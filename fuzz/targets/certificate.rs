//! Any bytes as a certificate, a private key, PKCS#7 or a PKCS#11 URI: no panic; a certificate that is read is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ukikit_signing::{Certificate, PrivateKey, SignedData, TokenUri};

fuzz_target!(|file: &[u8]| {
    for read in [Certificate::from_pem(file), Certificate::from_der(file)] {
        if let Ok(certificate) = read {
            let again = Certificate::from_der(certificate.as_der()).unwrap();
            assert_eq!(again.fingerprint(), certificate.fingerprint());
            let _ = (certificate.subject(), certificate.not_after().to_string());
        }
    }
    // Without a passphrase: key derivation would take all the time there is.
    let _ = PrivateKey::from_pem(file, None);
    if let Ok(signed) = SignedData::from_der(file) {
        for signer in signed.signers() {
            let _ = (
                signer.to_string(),
                signer.hash_name(),
                signer.algorithm_name(),
            );
        }
        let _ = signed.certificates().count();
    }
    if let Ok(text) = std::str::from_utf8(file) {
        let _ = text.parse::<TokenUri>();
    }
});
