//! `PcrPolicy`: what PCR values a sealed key opens under, and its digest. Pure arithmetic.
//!
//! Digests are SHA-256 whatever the bank. They start as 32 zero bytes; the signed policy is applied
//! first (PolicyAuthorize, which forgets what was before), then the literal values (PolicyPCR).

use std::collections::BTreeMap;
use std::fmt;

use rsa::RsaPublicKey;
use rsa::pkcs1::EncodeRsaPublicKey;
use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use tpm2_protocol::data::TpmCc;

use crate::error::Error;
use crate::kdf::sha256;
use crate::pcr::{PcrBank, PcrMask};
use crate::public;

/// A policy digest.
pub(crate) type PolicyDigest = [u8; 32];

/// The PCR values under which a sealed key opens. The default binds to none.
#[derive(Debug, Clone)]
pub struct PcrPolicy {
    /// Bank of the literal and the signed part alike.
    pub bank: PcrBank,
    /// Values by PCR number, each of the bank's size: the key opens only while they hold.
    pub literal: BTreeMap<u32, Vec<u8>>,
    /// Values signed by a key: the key opens under each for which a signature exists.
    pub signed: Option<SignedPolicy>,
}

/// The signed part of a [`PcrPolicy`].
#[derive(Debug, Clone)]
pub struct SignedPolicy {
    /// Whose signatures count.
    pub key: PolicyKey,
    /// PCRs the signatures cover; 11 by default.
    pub pcrs: PcrMask,
}

impl Default for PcrPolicy {
    fn default() -> Self {
        Self {
            bank: PcrBank::Sha256,
            literal: BTreeMap::new(),
            signed: None,
        }
    }
}

impl PcrPolicy {
    /// The PCRs bound by value.
    pub fn mask(&self) -> PcrMask {
        self.literal.keys().copied().collect()
    }

    /// The digest an object is sealed to: 32 zero bytes without any policy.
    ///
    /// # Errors
    ///
    /// [`Error::Pcr`] for a PCR above 23 or a value that is not of the bank's size.
    pub fn digest(&self) -> Result<[u8; 32], Error> {
        let mut digest = [0; 32];
        if let Some(signed) = &self.signed {
            digest = authorized(&signed.key.name(signed.key.exponent));
        }
        if self.literal.is_empty() {
            return Ok(digest);
        }
        for (pcr, value) in &self.literal {
            if *pcr > 23 || value.len() != self.bank.digest_size() {
                let reason = format!(
                    "a {} value of PCR 0 to 23 has {} bytes",
                    self.bank,
                    self.bank.digest_size()
                );
                return Err(Error::Pcr {
                    given: format!("{pcr}:{}={}", self.bank, hex::encode(value)),
                    reason,
                });
            }
        }
        let values: Vec<&[u8]> = self.literal.values().map(Vec::as_slice).collect();
        Ok(extended_by_pcrs(
            &digest,
            self.bank,
            self.mask(),
            &sha256(&values),
        ))
    }
}

/// The digest after PolicyPCR over `mask`, whose values in ascending order hash to `values`.
fn extended_by_pcrs(
    digest: &PolicyDigest,
    bank: PcrBank,
    mask: PcrMask,
    values: &[u8; 32],
) -> PolicyDigest {
    sha256(&[
        digest,
        &command_code(TpmCc::PolicyPcr),
        &mask.selection(bank),
        values,
    ])
}

/// The digest after PolicyAuthorize by the key of this name, with an empty policy reference. What was before is forgotten.
fn authorized(key_name: &[u8]) -> PolicyDigest {
    sha256(&[&sha256(&[
        &[0; 32],
        &command_code(TpmCc::PolicyAuthorize),
        key_name,
    ])])
}

fn command_code(code: TpmCc) -> [u8; 4] {
    code.value().to_be_bytes()
}

/// The public key of a signed PCR policy: RSA, in PEM, kept as the file has it.
#[derive(Clone)]
pub struct PolicyKey {
    pem: Vec<u8>,
    modulus: Vec<u8>,
    pub(crate) exponent: u32,
    fingerprint: [u8; 32],
}

impl PolicyKey {
    /// Reads a PEM file with an RSA public key (`PUBLIC KEY`).
    ///
    /// # Errors
    ///
    /// [`Error::PolicyKey`] for anything else; EC keys too, since systemd can seal to them and never unseal.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(pem)
            .map_err(|_| Error::PolicyKey("it is not a PEM file".into()))?;
        let key =
            RsaPublicKey::from_public_key_pem(text.trim_end_matches('\0')).map_err(|error| {
                Error::PolicyKey(format!("it is not an RSA public key in PEM ({error})"))
            })?;
        let pkcs1 = key
            .to_pkcs1_der()
            .map_err(|error| Error::PolicyKey(error.to_string()))?;
        let exponent = u32::try_from(u64::from_be_bytes(last_eight(
            &key.e().to_be_bytes_trimmed_vartime(),
        )))
        .map_err(|_| Error::PolicyKey("its exponent is over 32 bits".into()))?;
        Ok(Self {
            pem: pem.to_vec(),
            modulus: key.n().to_be_bytes_trimmed_vartime().into(),
            exponent,
            fingerprint: sha256(&[pkcs1.as_bytes()]),
        })
    }

    /// The PEM file, verbatim: this is what a credential carries.
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// SHA-256 of the key's PKCS#1 form, hexadecimal: `pkfp` in signature files.
    pub fn fingerprint(&self) -> String {
        hex::encode(self.fingerprint)
    }

    /// TPMT_PUBLIC of the key, as TPM2_LoadExternal takes it. `exponent` is part of the name, and old writers put 0.
    pub(crate) fn area(&self, exponent: u32) -> Vec<u8> {
        let bits = u16::try_from(self.modulus.len() * 8).unwrap_or(u16::MAX);
        let mut area = Vec::new();
        // RSA, SHA-256; decrypt, sign, userWithAuth; no policy, no cipher, no scheme.
        area.extend([0, 0x01, 0, 0x0b, 0, 0x06, 0, 0x40, 0, 0, 0, 0x10, 0, 0x10]);
        area.extend(bits.to_be_bytes());
        area.extend(exponent.to_be_bytes());
        area.extend(public::sized(&self.modulus));
        area
    }

    pub(crate) fn name(&self, exponent: u32) -> Vec<u8> {
        public::name(&self.area(exponent))
    }
}

impl fmt::Debug for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyKey({})", self.fingerprint())
    }
}

fn last_eight(bytes: &[u8]) -> [u8; 8] {
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().rev().zip(bytes.iter().rev()) {
        *to = *from;
    }
    last
}
