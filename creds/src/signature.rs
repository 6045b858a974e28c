//! `PcrSignatures`: the file `tpm2-pcr-signature.json`, written by systemd-measure and ukify.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::error::Error;
use crate::pcr::{PcrBank, PcrMask};

/// Directories that systemd searches for `tpm2-pcr-signature.json` and `tpm2-pcr-public-key.pem`, below a root, in this
/// order. An initrd adds `.extra`.
pub const SEARCH_PATH: [&str; 4] = [
    "etc/systemd",
    "run/systemd",
    "usr/local/lib/systemd",
    "usr/lib/systemd",
];
/// Name of the signature file in [`SEARCH_PATH`].
pub const SIGNATURE_FILE: &str = "tpm2-pcr-signature.json";
/// Name of the public key file in [`SEARCH_PATH`].
pub const PUBLIC_KEY_FILE: &str = "tpm2-pcr-public-key.pem";

/// Signatures over policies of PCR values, by bank.
#[derive(Debug, Clone, Default)]
pub struct PcrSignatures(BTreeMap<String, Vec<Entry>>);

#[derive(Debug, Clone, Deserialize)]
struct Entry {
    pcrs: Vec<u32>,
    pkfp: String,
    pol: String,
    sig: String,
    #[serde(rename = "ref")]
    reference: Option<serde_json::Value>,
}

impl PcrSignatures {
    /// Reads the file's JSON: an object of banks, each an array of `{pcrs, pkfp, pol, sig}`.
    ///
    /// # Errors
    ///
    /// [`Error::SignatureFile`] with the place, when it is something else.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let banks = serde_json::from_slice(json)
            .map_err(|error| Error::SignatureFile(error.to_string()))?;
        Ok(Self(banks))
    }

    /// The first signature for these PCRs, by the key with this fingerprint, over this policy digest (both hexadecimal).
    pub(crate) fn find(
        &self,
        bank: PcrBank,
        pcrs: PcrMask,
        fingerprint: &str,
        policy: &str,
    ) -> Option<Vec<u8>> {
        let fits = |entry: &&Entry| {
            entry.pcrs.iter().copied().collect::<PcrMask>() == pcrs
                && entry.pcrs.iter().all(|pcr| *pcr < 24)
                && entry.reference.is_none()
                && entry.pkfp.eq_ignore_ascii_case(fingerprint)
                && entry.pol.eq_ignore_ascii_case(policy)
        };
        let entry = self.0.get(&bank.to_string())?.iter().find(fits)?;
        STANDARD.decode(&entry.sig).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"sha256":[
        {"pcrs":[11],"pkfp":"aa","pol":"01","sig":"AQ==","ref":"x"},
        {"pcrs":[11],"pkfp":"aa","pol":"02","sig":"Ag=="},
        {"pcrs":[11,7],"pkfp":"aa","pol":"01","sig":"Aw=="},
        {"pcrs":[11],"pkfp":"AA","pol":"01","sig":"BA=="}]}"#;

    #[test]
    fn the_first_entry_that_fits_in_all_is_taken() {
        let file = PcrSignatures::from_json(FILE.as_bytes()).unwrap();
        let find = |mask: u32, fingerprint: &str, policy: &str| {
            file.find(
                PcrBank::Sha256,
                PcrMask::from_bits(mask),
                fingerprint,
                policy,
            )
        };
        assert_eq!(find(0x800, "aa", "01"), Some(vec![4]));
        assert_eq!(find(0x800, "aa", "02"), Some(vec![2]));
        assert_eq!(find(0x880, "aa", "01"), Some(vec![3]));
        assert_eq!(find(0x800, "bb", "01"), None);
        assert_eq!(
            file.find(PcrBank::Sha1, PcrMask::from_bits(0x800), "aa", "01"),
            None
        );
    }

    #[test]
    fn the_place_of_a_mistake_is_told() {
        let error = PcrSignatures::from_json(br#"{"sha256":[{"pcrs":"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the PCR signature file cannot be used: EOF while parsing a value at line 1 column 19"
        );
    }
}
