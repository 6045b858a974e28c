//! The keys that signatures are checked with: RSA of 2048 to 4096 bits, ECDSA on P-256 and P-384.

use std::fmt;

use const_oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ECDSA_WITH_SHA_512, RSA_ENCRYPTION,
};
use der::asn1::{Any, ObjectIdentifier};
use der::referenced::OwnedToRef;
use pkcs8::EncodePublicKey;
use rsa::RsaPublicKey;
use rsa::signature::hazmat::PrehashVerifier;
use rsa::traits::PublicKeyParts;
use sha2::{Digest, Sha256};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::Hash;

/// Below is too weak, above is more than other verifiers are sure to take.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The key of a certificate. Shown as its kind, `RSA-2048` or `ECDSA P-256`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(pub(crate) Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Rsa(RsaPublicKey),
    P256(p256::PublicKey),
    P384(p384::PublicKey),
}

impl PublicKey {
    /// The key in a certificate, or why it cannot serve.
    pub(crate) fn of(spki: &SubjectPublicKeyInfoOwned) -> Result<Self, String> {
        let spki = spki.owned_to_ref();
        if let Ok(key) = RsaPublicKey::try_from(spki.clone()) {
            return Self::rsa(key);
        }
        if let Ok(key) = p256::PublicKey::try_from(spki.clone()) {
            return Ok(Self(Kind::P256(key)));
        }
        if let Ok(key) = p384::PublicKey::try_from(spki.clone()) {
            return Ok(Self(Kind::P384(key)));
        }
        let oid = spki.algorithm.oid;
        Err(format!(
            "its key (algorithm {oid}) is neither RSA nor ECDSA on P-256 or P-384, the only ones the kernel and systemd both take"
        ))
    }

    /// An RSA key of a size that everybody takes.
    pub(crate) fn rsa(key: RsaPublicKey) -> Result<Self, String> {
        let bits = key.n().bit_width() as usize;
        if RSA_BITS.contains(&bits) {
            return Ok(Self(Kind::Rsa(key)));
        }
        let (low, high) = RSA_BITS.into_inner();
        Err(format!("its RSA key has {bits} bits, not {low} to {high}"))
    }

    /// The hash to sign with.
    pub fn hash(&self) -> Hash {
        match self.0 {
            Kind::Rsa(_) | Kind::P256(_) => Hash::Sha256,
            Kind::P384(_) => Hash::Sha384,
        }
    }

    /// Whether the kernel and systemd both take signatures of this key over digests of `hash`: an elliptic
    /// curve has one hash.
    pub fn takes(&self, hash: Hash) -> bool {
        self.is_rsa() || self.hash() == hash
    }

    /// What PKCS#7 calls a signature of this key over a digest of `hash`.
    pub(crate) fn signature_algorithm(&self, hash: Hash) -> AlgorithmIdentifierOwned {
        match (&self.0, hash) {
            (Kind::Rsa(_), _) => AlgorithmIdentifierOwned {
                oid: RSA_ENCRYPTION,
                parameters: Some(Any::null()),
            },
            (_, Hash::Sha256) => without_parameters(ECDSA_WITH_SHA_256),
            (_, Hash::Sha384) => without_parameters(ECDSA_WITH_SHA_384),
            (_, Hash::Sha512) => without_parameters(ECDSA_WITH_SHA_512),
        }
    }

    pub(crate) fn is_rsa(&self) -> bool {
        matches!(self.0, Kind::Rsa(_))
    }

    /// Whether `signature` is this key's over a digest that `hash` made.
    pub fn verifies(&self, hash: Hash, digest: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Kind::Rsa(key) => key.verify(hash.padding(), digest, signature).is_ok(),
            Kind::P256(key) => p256::ecdsa::DerSignature::try_from(signature)
                .and_then(|signature| {
                    p256::ecdsa::VerifyingKey::from(key).verify_prehash(digest, &signature)
                })
                .is_ok(),
            Kind::P384(key) => p384::ecdsa::DerSignature::try_from(signature)
                .and_then(|signature| {
                    p384::ecdsa::VerifyingKey::from(key).verify_prehash(digest, &signature)
                })
                .is_ok(),
        }
    }

    /// A signature of this key in the form that PKCS#7 has: what PKCS#11 and some key services give for ECDSA, the
    /// two numbers one behind the other, is put into DER. Anything else comes back as it is.
    pub fn signature_from_raw(&self, raw: &[u8]) -> Vec<u8> {
        let der = match self.0 {
            Kind::Rsa(_) => None,
            Kind::P256(_) => p256::ecdsa::Signature::from_slice(raw)
                .ok()
                .map(|signature| signature.to_der().as_bytes().to_vec()),
            Kind::P384(_) => p384::ecdsa::Signature::from_slice(raw)
                .ok()
                .map(|signature| signature.to_der().as_bytes().to_vec()),
        };
        der.unwrap_or_else(|| raw.to_vec())
    }

    /// Kind and fingerprint, enough to tell two keys apart.
    pub fn description(&self) -> String {
        let der = match &self.0 {
            Kind::Rsa(key) => key.to_public_key_der(),
            Kind::P256(key) => key.to_public_key_der(),
            Kind::P384(key) => key.to_public_key_der(),
        };
        let der = der.map(spki::Document::into_vec).unwrap_or_default();
        format!("{self}, SHA-256 {}", hex::encode(Sha256::digest(der)))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Rsa(key) => write!(f, "RSA-{}", key.n().bit_width()),
            Kind::P256(_) => f.write_str("ECDSA P-256"),
            Kind::P384(_) => f.write_str("ECDSA P-384"),
        }
    }
}

fn without_parameters(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid,
        parameters: None,
    }
}
