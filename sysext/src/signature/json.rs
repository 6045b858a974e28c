//! The signature partition: JSON text, then zeros. Member order and spacing as `systemd-repart` writes
//! them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::RootHashSignature;
use crate::{Certificate, RootHash};

/// The largest signature partition that systemd reads, in bytes.
pub(crate) const SIZE_MAX: u64 = 4 * 1024 * 1024;

/// A root hash with the signature over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedRootHash {
    pub(crate) root_hash: RootHash,
    /// SHA-256 of the certificate in hex. systemd writes it and never reads it.
    pub(crate) fingerprint: Option<String>,
    pub(crate) signature: RootHashSignature,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    root_hash: String,
    certificate_fingerprint: Option<String>,
    signature: String,
}

impl SignedRootHash {
    pub(crate) fn new(
        root_hash: RootHash,
        certificate: &Certificate,
        signature: RootHashSignature,
    ) -> Self {
        Self {
            root_hash,
            fingerprint: Some(certificate.fingerprint()),
            signature,
        }
    }

    /// The text, without the zeros behind it.
    pub(crate) fn to_text(&self) -> Vec<u8> {
        let text = Text {
            root_hash: self.root_hash.to_string(),
            certificate_fingerprint: self.fingerprint.clone(),
            signature: STANDARD.encode(self.signature.as_der()),
        };
        // Three strings always serialize.
        serde_json::to_vec(&text).unwrap_or_default()
    }

    /// Reads a whole partition; the error is the reason to refuse it.
    pub(crate) fn parse(partition: &[u8]) -> Result<Self, String> {
        let end = partition.iter().position(|&byte| byte == 0);
        let (text, rest) = partition.split_at(end.unwrap_or(partition.len()));
        if let Some(at) = rest.iter().position(|&byte| byte != 0) {
            let at = text.len() + at;
            return Err(format!("at byte {at}: not zero behind the end of the text"));
        }
        let text: Text = serde_json::from_slice(text).map_err(|error| format!("JSON: {error}"))?;
        let signature = STANDARD
            .decode(&text.signature)
            .map_err(|error| format!("`signature` is not Base64: {error}"))?;
        Ok(Self {
            root_hash: text
                .root_hash
                .parse()
                .map_err(|error: crate::Error| error.to_string())?,
            fingerprint: text.certificate_fingerprint,
            signature: RootHashSignature::from_der(signature),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "0cfc167ea7334b3705f00a8d14ccb2200a88002d4995111d8881c78834ba2327";

    #[test]
    fn the_text_is_systemds() {
        let signed = SignedRootHash {
            root_hash: HASH.parse().unwrap(),
            fingerprint: Some("ab".into()),
            signature: RootHashSignature::from_der(*b"DER"),
        };
        let text =
            format!(r#"{{"rootHash":"{HASH}","certificateFingerprint":"ab","signature":"REVS"}}"#);
        assert_eq!(signed.to_text(), text.as_bytes());
        let padded = [text.as_bytes(), &[0; 100]].concat();
        assert_eq!(SignedRootHash::parse(&padded), Ok(signed));
    }

    #[test]
    fn what_is_wrong_with_a_partition_is_said() {
        let short = format!(r#"{{"rootHash":"{}","signature":""}}"#, &HASH[2..]);
        let lines = format!(r#"{{"rootHash":"{HASH}","signature":"REVS\n"}}"#);
        let unsigned = format!(r#"{{"rootHash":"{HASH}"}}"#);
        for (partition, expected) in [
            ("", "JSON: EOF while parsing a value at line 1 column 0"),
            ("{}\0\0x", "at byte 4: not zero behind the end of the text"),
            ("{}", "JSON: missing field `rootHash` at line 1 column 2"),
            (
                &unsigned,
                "JSON: missing field `signature` at line 1 column 79",
            ),
            (&short, "root hash is not 64 lower-case hex digits"),
            (
                &lines,
                "`signature` is not Base64: Invalid symbol 10, offset 4.",
            ),
        ] {
            assert_eq!(
                SignedRootHash::parse(partition.as_bytes()),
                Err(expected.into())
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = SignedRootHash::parse(&bytes);
        }
    }
}
