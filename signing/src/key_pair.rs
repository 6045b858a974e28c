//! Who signs: a key, wherever its private half lives, and the certificate that speaks of it.

use crate::{Certificate, Error, Hash, PublicKey};

/// Something that signs digests with one private key: a [`PrivateKey`](crate::PrivateKey) in memory, a token,
/// a service.
pub trait KeySource: std::fmt::Debug {
    /// The public half.
    fn public_key(&self) -> PublicKey;

    /// The signature over a digest that `hash` made: for RSA a PKCS#1 v1.5 block as long as the modulus, for
    /// ECDSA the two numbers in DER.
    ///
    /// # Errors
    ///
    /// [`Error::PrivateKey`] when the key cannot be used.
    fn sign_digest(&self, hash: Hash, digest: &[u8]) -> Result<Vec<u8>, Error>;
}

/// A private key together with its certificate.
#[derive(Debug)]
pub struct KeyPair {
    key: Box<dyn KeySource>,
    certificate: Certificate,
}

impl KeyPair {
    /// The two, which must belong together.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMismatch`] when the certificate is for another key.
    pub fn new(key: impl KeySource + 'static, certificate: Certificate) -> Result<Self, Error> {
        let public = key.public_key();
        if public == *certificate.key() {
            let key = Box::new(key);
            return Ok(Self { key, certificate });
        }
        Err(Error::KeyMismatch {
            key: public.description(),
            subject: certificate.subject(),
            certificate: certificate.key().description(),
        })
    }

    /// The certificate that signatures are checked against.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// As [`KeySource::sign_digest`]; what the source made is checked before it is returned.
    ///
    /// # Errors
    ///
    /// [`Error::PrivateKey`] when the key cannot be used, or its signature does not verify.
    pub fn sign_digest(&self, hash: Hash, digest: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.key.sign_digest(hash, digest)?;
        if self.certificate.key().verifies(hash, digest, &signature) {
            return Ok(signature);
        }
        Err(Error::private_key("its signature does not verify"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PrivateKey, vector};

    fn key_pair(key: &str, certificate: &str) -> Result<KeyPair, Error> {
        KeyPair::new(
            PrivateKey::from_pem(&vector::key(key), None)?,
            Certificate::from_pem(&vector::key(certificate))?,
        )
    }

    #[test]
    fn a_foreign_certificate_is_named_with_the_key() {
        let error = key_pair("rsa2048.key", "p256.crt").unwrap_err().to_string();
        assert_eq!(
            error,
            "the private key (RSA-2048, SHA-256 35d92792c9a115e66a3dc6bb7754415b4be1b7671798225683a39ce610991d61) \
             is not that of the certificate `CN=ddi test vector a p256` \
             (ECDSA P-256, SHA-256 297b16141019c732307552f042a178d821965ae465a52f65ebb0153ffb44c285)"
        );
    }

    /// A source that answers with somebody else's bytes, as a mistaken set-up of a token would.
    #[derive(Debug)]
    struct Mistaken(PrivateKey);

    impl KeySource for Mistaken {
        fn public_key(&self) -> PublicKey {
            self.0.public_key()
        }

        fn sign_digest(&self, _: Hash, _: &[u8]) -> Result<Vec<u8>, Error> {
            self.0.sign_digest(Hash::Sha256, &[0; 32])
        }
    }

    #[test]
    fn what_a_source_made_is_checked() {
        let key = Mistaken(PrivateKey::from_pem(&vector::key("p256.key"), None).unwrap());
        let certificate = Certificate::from_pem(&vector::key("p256.crt")).unwrap();
        let pair = KeyPair::new(key, certificate).unwrap();
        assert_eq!(
            pair.sign_digest(Hash::Sha256, &[1; 32])
                .unwrap_err()
                .to_string(),
            "not a usable private key: its signature does not verify"
        );
    }
}
