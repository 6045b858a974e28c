//! The signature over a root hash: PKCS#7 (RFC 2315, RFC 5652) in the one form that the kernel's
//! dm-verity and systemd both take.
//!
//! ```text
//! ContentInfo signedData
//!   SignedData version 1, digests { SHA-2 }, content `data`, detached, certificates { signer's }
//!     SignerInfo version 1, issuer and serial number, SHA-2, no attributes,
//!       rsaEncryption (PKCS#1 v1.5) or ECDSA over the 64 hex digits of the root hash
//! ```

mod check;
mod json;

use ukikit_signing::{Certificate, Hash, KeyPair, SignedData};

pub(crate) use check::{check, describe};
pub(crate) use json::{SIZE_MAX, SignedRootHash};

use crate::{Error, RootHash};

/// Something that signs root hashes with the key of one certificate: a key in memory ([`KeyPair`]), or
/// whatever reaches one elsewhere.
pub trait Signer {
    /// The certificate the signature is checked against.
    fn certificate(&self) -> &Certificate;

    /// Signs the 64 hex digits of `root_hash`.
    ///
    /// # Errors
    ///
    /// [`Error::Signing`] when the key cannot be used.
    fn sign(&self, root_hash: &RootHash) -> Result<RootHashSignature, Error>;
}

/// A finished signature: PKCS#7 in DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootHashSignature(Vec<u8>);

impl RootHashSignature {
    /// Bytes from elsewhere; nothing about them is checked here.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Self {
        Self(der.into())
    }

    /// The DER bytes.
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }

    /// Wraps what a key made of the root hash: an RSA block, or an ECDSA signature in DER.
    fn wrap(certificate: &Certificate, hash: Hash, signature: Vec<u8>) -> Result<Self, Error> {
        let signed = SignedData::detached(certificate, hash, signature)?;
        Ok(Self(signed.to_der()?))
    }
}

impl Signer for KeyPair {
    fn certificate(&self) -> &Certificate {
        self.certificate()
    }

    fn sign(&self, root_hash: &RootHash) -> Result<RootHashSignature, Error> {
        let hash = self.certificate().key().hash();
        let digest = hash.digest(root_hash.to_string().as_bytes());
        let signature = self.sign_digest(hash, &digest)?;
        RootHashSignature::wrap(self.certificate(), hash, signature)
    }
}

#[cfg(test)]
mod tests {
    use ukikit_signing::{Certificates, PrivateKey};

    use super::*;
    use crate::vector;

    fn key_pair(name: &str) -> KeyPair {
        let key = PrivateKey::from_pem(&vector::key(&format!("{name}.key")), None).unwrap();
        let certificate = Certificate::from_pem(&vector::key(&format!("{name}.crt"))).unwrap();
        KeyPair::new(key, certificate).unwrap()
    }

    /// What systemd put into the signature partition of a vector.
    fn signed(name: &str) -> SignedRootHash {
        let image = vector::image(name);
        let start = image
            .windows(10)
            .position(|at| at == b"{\"rootHash")
            .unwrap();
        SignedRootHash::parse(&image[start..start + 16384]).unwrap()
    }

    #[test]
    fn rsa_signatures_are_openssls_byte_for_byte() {
        let theirs = signed("erofs");
        let ours = key_pair("rsa2048").sign(&theirs.root_hash);
        assert_eq!(ours.unwrap(), theirs.signature);
    }

    #[test]
    fn ecdsa_signatures_have_openssls_form_and_never_change() {
        let theirs = signed("erofs-p256");
        let pair = key_pair("p256");
        let value = signature_value(&theirs.signature);
        let wrapped = RootHashSignature::wrap(Signer::certificate(&pair), Hash::Sha256, value);
        assert_eq!(wrapped.unwrap(), theirs.signature);
        let ours = pair.sign(&theirs.root_hash).unwrap();
        assert_eq!(pair.sign(&theirs.root_hash).unwrap(), ours);
        let trusted = Certificates::new([pair.certificate().clone()]);
        check(&ours, &theirs.root_hash, &trusted).unwrap();
    }

    fn signature_value(signature: &RootHashSignature) -> Vec<u8> {
        let signed = SignedData::from_der(signature.as_der()).unwrap();
        let signer = signed.signers().next().unwrap();
        signer.value().to_vec()
    }
}
