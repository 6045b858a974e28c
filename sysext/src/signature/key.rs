//! The keys behind signatures: RSA of 2048 to 4096 bits, ECDSA on P-256 and P-384, hashed with SHA-2.

use std::fmt;

use const_oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_SHA_256, ID_SHA_384, ID_SHA_512, RSA_ENCRYPTION,
};
use der::asn1::{Any, ObjectIdentifier};
use der::referenced::OwnedToRef;
use der::{Decode, SecretDocument};
use pkcs8::{DecodePrivateKey, EncodePublicKey, EncryptedPrivateKeyInfoRef};
use rsa::Pkcs1v15Sign;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use rsa::traits::PublicKeyParts;
use rsa::{RsaPrivateKey, RsaPublicKey};
use sha2::{Digest, Sha256, Sha384, Sha512};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::{Error, pem};

/// Below is too weak, above is more than other verifiers are sure to take.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The hash functions that the kernel and systemd both take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(crate) fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Sha256 => ID_SHA_256,
            Self::Sha384 => ID_SHA_384,
            Self::Sha512 => ID_SHA_512,
        }
    }

    pub(crate) fn from_oid(oid: ObjectIdentifier) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512]
            .into_iter()
            .find(|hash| hash.oid() == oid)
    }

    fn digest(self, content: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(content).to_vec(),
            Self::Sha384 => Sha384::digest(content).to_vec(),
            Self::Sha512 => Sha512::digest(content).to_vec(),
        }
    }

    fn padding(self) -> Pkcs1v15Sign {
        match self {
            Self::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
            Self::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
            Self::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
        }
    }
}

/// The key of a certificate. Shown as its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublicKey {
    Rsa(RsaPublicKey),
    P256(p256::PublicKey),
    P384(p384::PublicKey),
}

impl PublicKey {
    /// The key in a certificate, or why it cannot serve.
    pub(crate) fn of(spki: &SubjectPublicKeyInfoOwned) -> Result<Self, String> {
        let spki = spki.owned_to_ref();
        if let Ok(key) = RsaPublicKey::try_from(spki.clone()) {
            check_size(&key)?;
            return Ok(Self::Rsa(key));
        }
        if let Ok(key) = p256::PublicKey::try_from(spki.clone()) {
            return Ok(Self::P256(key));
        }
        if let Ok(key) = p384::PublicKey::try_from(spki.clone()) {
            return Ok(Self::P384(key));
        }
        let oid = spki.algorithm.oid;
        Err(format!(
            "its key (algorithm {oid}) is neither RSA nor ECDSA on P-256 or P-384, the only ones the kernel and systemd both take"
        ))
    }

    /// The hash to sign with.
    pub(crate) fn hash(&self) -> Hash {
        match self {
            Self::Rsa(_) | Self::P256(_) => Hash::Sha256,
            Self::P384(_) => Hash::Sha384,
        }
    }

    pub(crate) fn signature_algorithm(&self, hash: Hash) -> AlgorithmIdentifierOwned {
        match (self, hash) {
            (Self::Rsa(_), _) => AlgorithmIdentifierOwned {
                oid: RSA_ENCRYPTION,
                parameters: Some(Any::null()),
            },
            (Self::P256(_), _) => without_parameters(ECDSA_WITH_SHA_256),
            (Self::P384(_), _) => without_parameters(ECDSA_WITH_SHA_384),
        }
    }

    /// Whether `signature` is this key's over `content`.
    pub(crate) fn verifies(&self, hash: Hash, content: &[u8], signature: &[u8]) -> bool {
        let digest = hash.digest(content);
        match self {
            Self::Rsa(key) => key.verify(hash.padding(), &digest, signature).is_ok(),
            Self::P256(key) => p256::ecdsa::DerSignature::try_from(signature)
                .and_then(|signature| {
                    p256::ecdsa::VerifyingKey::from(key).verify_prehash(&digest, &signature)
                })
                .is_ok(),
            Self::P384(key) => p384::ecdsa::DerSignature::try_from(signature)
                .and_then(|signature| {
                    p384::ecdsa::VerifyingKey::from(key).verify_prehash(&digest, &signature)
                })
                .is_ok(),
        }
    }

    /// Kind and fingerprint, enough to tell two keys apart.
    pub(crate) fn description(&self) -> String {
        let der = match self {
            Self::Rsa(key) => key.to_public_key_der(),
            Self::P256(key) => key.to_public_key_der(),
            Self::P384(key) => key.to_public_key_der(),
        };
        let der = der.map(spki::Document::into_vec).unwrap_or_default();
        format!("{self}, SHA-256 {}", hex::encode(Sha256::digest(der)))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(key) => write!(f, "RSA-{}", key.n().bit_width()),
            Self::P256(_) => f.write_str("ECDSA P-256"),
            Self::P384(_) => f.write_str("ECDSA P-384"),
        }
    }
}

fn check_size(key: &RsaPublicKey) -> Result<(), String> {
    let bits = key.n().bit_width() as usize;
    if RSA_BITS.contains(&bits) {
        return Ok(());
    }
    let (low, high) = RSA_BITS.into_inner();
    Err(format!("its RSA key has {bits} bits, not {low} to {high}"))
}

fn without_parameters(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid,
        parameters: None,
    }
}

/// A private key, wiped from memory when it goes.
pub struct PrivateKey(Kind);

enum Kind {
    Rsa(Box<RsaPrivateKey>),
    P256(p256::SecretKey),
    P384(p384::SecretKey),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public())
    }
}

impl PrivateKey {
    /// The first private key in PEM text: PKCS#8, encrypted PKCS#8 (PBES2), PKCS#1 or SEC 1.
    ///
    /// # Errors
    ///
    /// [`Error::PassphraseNeeded`] when it is encrypted and there is no passphrase, and
    /// [`Error::PrivateKey`] when it cannot be read, or is of another kind or size.
    pub fn from_pem(pem: &[u8], passphrase: Option<&[u8]>) -> Result<Self, Error> {
        let text = std::str::from_utf8(pem).map_err(|_| unusable("is not text"))?;
        let block = pem::block(text, "PRIVATE KEY")
            .ok_or_else(|| unusable("has no block `-----BEGIN PRIVATE KEY-----` or the like"))?;
        if block.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(unusable(
                "is encrypted in OpenSSL's old way; convert it with `openssl pkcs8 -topk8`",
            ));
        }
        let (label, document) = SecretDocument::from_pem(block).map_err(unusable)?;
        let der = document.as_bytes();
        let key = match (label, passphrase) {
            ("ENCRYPTED PRIVATE KEY", None) => return Err(Error::PassphraseNeeded),
            ("ENCRYPTED PRIVATE KEY", Some(passphrase)) => decrypt(der, passphrase)?,
            ("PRIVATE KEY", _) => Self::from_pkcs8(der),
            ("RSA PRIVATE KEY", _) => RsaPrivateKey::from_pkcs1_der(der).ok().map(Self::rsa),
            ("EC PRIVATE KEY", _) => Self::from_sec1(der),
            _ => None,
        };
        let key =
            key.ok_or_else(|| unusable("is damaged, or neither RSA nor ECDSA on P-256 or P-384"))?;
        if let PublicKey::Rsa(public) = key.public() {
            check_size(&public).map_err(unusable)?;
        }
        Ok(key)
    }

    fn rsa(key: RsaPrivateKey) -> Self {
        Self(Kind::Rsa(Box::new(key)))
    }

    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        if let Ok(key) = RsaPrivateKey::from_pkcs8_der(der) {
            return Some(Self::rsa(key));
        }
        if let Ok(key) = p256::SecretKey::from_pkcs8_der(der) {
            return Some(Self(Kind::P256(key)));
        }
        let key = p384::SecretKey::from_pkcs8_der(der).ok()?;
        Some(Self(Kind::P384(key)))
    }

    fn from_sec1(der: &[u8]) -> Option<Self> {
        if let Ok(key) = p256::SecretKey::from_sec1_der(der) {
            return Some(Self(Kind::P256(key)));
        }
        let key = p384::SecretKey::from_sec1_der(der).ok()?;
        Some(Self(Kind::P384(key)))
    }

    pub(crate) fn public(&self) -> PublicKey {
        match &self.0 {
            Kind::Rsa(key) => PublicKey::Rsa(key.to_public_key()),
            Kind::P256(key) => PublicKey::P256(key.public_key()),
            Kind::P384(key) => PublicKey::P384(key.public_key()),
        }
    }

    /// The signature over `content`, the same each time: PKCS#1 v1.5, or ECDSA after RFC 6979.
    pub(crate) fn sign(&self, hash: Hash, content: &[u8]) -> Result<Vec<u8>, Error> {
        let digest = hash.digest(content);
        match &self.0 {
            Kind::Rsa(key) => key.sign(hash.padding(), &digest).map_err(unusable),
            Kind::P256(key) => p256::ecdsa::SigningKey::from(key)
                .sign_prehash(&digest)
                .map(|signature: p256::ecdsa::DerSignature| signature.as_bytes().to_vec())
                .map_err(unusable),
            Kind::P384(key) => p384::ecdsa::SigningKey::from(key)
                .sign_prehash(&digest)
                .map(|signature: p384::ecdsa::DerSignature| signature.as_bytes().to_vec())
                .map_err(unusable),
        }
    }
}

fn decrypt(der: &[u8], passphrase: &[u8]) -> Result<Option<PrivateKey>, Error> {
    let encrypted = EncryptedPrivateKeyInfoRef::from_der(der).map_err(unusable)?;
    let plain = encrypted
        .decrypt(passphrase)
        .map_err(|_| unusable("cannot be decrypted: wrong passphrase, or not PBES2 with AES"))?;
    Ok(PrivateKey::from_pkcs8(plain.as_bytes()))
}

fn unusable(what: impl fmt::Display) -> Error {
    Error::PrivateKey {
        what: what.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector;

    fn load(file: &str, passphrase: Option<&str>) -> Result<PrivateKey, Error> {
        PrivateKey::from_pem(&vector::key(file), passphrase.map(str::as_bytes))
    }

    #[test]
    fn every_form_of_a_key_is_the_same_key() {
        for (file, passphrase, same) in [
            ("rsa2048-pkcs1.key", None, "rsa2048.key"),
            ("p256-sec1.key", None, "p256.key"),
            ("p256-encrypted.key", Some("secret"), "p256.key"),
            ("p256-scrypt.key", Some("secret"), "p256.key"),
        ] {
            let key = load(file, passphrase).unwrap();
            assert_eq!(key.public(), load(same, None).unwrap().public(), "{file}");
        }
        assert_eq!(
            format!("{:?}", load("p384.key", None).unwrap()),
            "PrivateKey(ECDSA P-384)"
        );
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said() {
        for (file, passphrase, expected) in [
            (
                "p256.crt",
                None,
                "has no block `-----BEGIN PRIVATE KEY-----` or the like",
            ),
            (
                "ed25519.key",
                None,
                "is damaged, or neither RSA nor ECDSA on P-256 or P-384",
            ),
            (
                "rsa1024.key",
                None,
                "its RSA key has 1024 bits, not 2048 to 4096",
            ),
            (
                "p256-encrypted.key",
                Some("wrong"),
                "cannot be decrypted: wrong passphrase, or not PBES2 with AES",
            ),
            (
                "rsa2048-proctype.key",
                Some("secret"),
                "is encrypted in OpenSSL's old way; convert it with `openssl pkcs8 -topk8`",
            ),
        ] {
            assert_eq!(
                load(file, passphrase).unwrap_err().to_string(),
                format!("not a usable private key: {expected}"),
                "{file}"
            );
        }
        assert_eq!(
            load("p256-encrypted.key", None).unwrap_err().to_string(),
            "the private key is encrypted and needs a passphrase"
        );
    }

    #[test]
    fn every_kind_verifies_what_it_signed_and_nothing_else() {
        for file in ["rsa2048.key", "p256.key", "p384.key"] {
            let key = load(file, None).unwrap();
            let hash = key.public().hash();
            let signature = key.sign(hash, b"content").unwrap();
            assert!(
                key.public().verifies(hash, b"content", &signature),
                "{file}"
            );
            assert!(
                !key.public().verifies(hash, b"Content", &signature),
                "{file}"
            );
            assert!(
                !key.public().verifies(hash, b"content", &signature[1..]),
                "{file}"
            );
        }
    }
}
