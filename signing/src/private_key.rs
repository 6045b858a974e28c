//! Private keys in memory: RSA of 2048 to 4096 bits and ECDSA on P-256 and P-384, read from PEM.

use std::fmt;

use der::{Decode, SecretDocument};
use pkcs8::{DecodePrivateKey, EncryptedPrivateKeyInfoRef};
use rsa::RsaPrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::signature::hazmat::PrehashSigner;

use crate::public_key::{self, PublicKey};
use crate::{Error, Hash, KeySource, pem};

/// A private key, wiped from memory when it goes.
pub struct PrivateKey(Kind);

enum Kind {
    Rsa(Box<RsaPrivateKey>),
    P256(p256::SecretKey),
    P384(p384::SecretKey),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public_key())
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
        let text = std::str::from_utf8(pem).map_err(|_| Error::private_key("is not text"))?;
        let block = pem::block(text, "PRIVATE KEY").ok_or_else(|| {
            Error::private_key("has no block `-----BEGIN PRIVATE KEY-----` or the like")
        })?;
        if block.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(Error::private_key(
                "is encrypted in OpenSSL's old way; convert it with `openssl pkcs8 -topk8`",
            ));
        }
        let (label, document) = SecretDocument::from_pem(block).map_err(Error::private_key)?;
        let der = document.as_bytes();
        let key = match (label, passphrase) {
            ("ENCRYPTED PRIVATE KEY", None) => return Err(Error::PassphraseNeeded),
            ("ENCRYPTED PRIVATE KEY", Some(passphrase)) => decrypt(der, passphrase)?,
            ("PRIVATE KEY", _) => Self::from_pkcs8(der),
            ("RSA PRIVATE KEY", _) => RsaPrivateKey::from_pkcs1_der(der).ok().map(Self::rsa),
            ("EC PRIVATE KEY", _) => Self::from_sec1(der),
            _ => None,
        };
        let key = key.ok_or_else(|| {
            Error::private_key("is damaged, or neither RSA nor ECDSA on P-256 or P-384")
        })?;
        if let Kind::Rsa(private) = &key.0 {
            PublicKey::rsa(private.to_public_key()).map_err(Error::private_key)?;
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
}

impl KeySource for PrivateKey {
    fn public_key(&self) -> PublicKey {
        PublicKey(match &self.0 {
            Kind::Rsa(key) => public_key::Kind::Rsa(key.to_public_key()),
            Kind::P256(key) => public_key::Kind::P256(key.public_key()),
            Kind::P384(key) => public_key::Kind::P384(key.public_key()),
        })
    }

    /// The same each time: PKCS#1 v1.5, or ECDSA after RFC 6979.
    fn sign_digest(&self, hash: Hash, digest: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.0 {
            Kind::Rsa(key) => key.sign(hash.padding(), digest).map_err(Error::private_key),
            Kind::P256(key) => p256::ecdsa::SigningKey::from(key)
                .sign_prehash(digest)
                .map(|signature: p256::ecdsa::DerSignature| signature.as_bytes().to_vec())
                .map_err(Error::private_key),
            Kind::P384(key) => p384::ecdsa::SigningKey::from(key)
                .sign_prehash(digest)
                .map(|signature: p384::ecdsa::DerSignature| signature.as_bytes().to_vec())
                .map_err(Error::private_key),
        }
    }
}

fn decrypt(der: &[u8], passphrase: &[u8]) -> Result<Option<PrivateKey>, Error> {
    let encrypted = EncryptedPrivateKeyInfoRef::from_der(der).map_err(Error::private_key)?;
    let plain = encrypted.decrypt(passphrase).map_err(|_| {
        Error::private_key("cannot be decrypted: wrong passphrase, or not PBES2 with AES")
    })?;
    Ok(PrivateKey::from_pkcs8(plain.as_bytes()))
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
            assert_eq!(
                key.public_key(),
                load(same, None).unwrap().public_key(),
                "{file}"
            );
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
            let public = key.public_key();
            let hash = public.hash();
            let (content, other) = (hash.digest(b"content"), hash.digest(b"Content"));
            let signature = key.sign_digest(hash, &content).unwrap();
            assert_eq!(key.sign_digest(hash, &content).unwrap(), signature);
            assert!(public.verifies(hash, &content, &signature), "{file}");
            assert!(!public.verifies(hash, &other, &signature), "{file}");
            assert!(!public.verifies(hash, &content, &signature[1..]), "{file}");
        }
    }
}
