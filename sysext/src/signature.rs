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
mod key;

use cms::cert::CertificateChoices;
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use const_oid::db::rfc5911::{ID_DATA, ID_SIGNED_DATA};
use der::asn1::{OctetString, SetOfVec};
use der::{Any, Encode};
use spki::AlgorithmIdentifierOwned;

pub(crate) use check::{check, describe};
pub(crate) use json::{SIZE_MAX, SignedRootHash};
pub use key::PrivateKey;
pub(crate) use key::{Hash, PublicKey};

use crate::{Certificate, Error, RootHash};

/// Something that signs root hashes with the key of one certificate: a key in memory ([`KeyPair`]), or
/// whatever reaches one elsewhere.
pub trait Signer {
    /// The certificate the signature is checked against.
    fn certificate(&self) -> &Certificate;

    /// Signs the 64 hex digits of `root_hash`.
    ///
    /// # Errors
    ///
    /// [`Error::PrivateKey`] when the key cannot be used.
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
    fn wrap(certificate: &Certificate, hash: Hash, signature: Vec<u8>) -> der::Result<Self> {
        let signed = SignedData {
            version: CmsVersion::V1,
            digest_algorithms: SetOfVec::try_from(vec![with_null(hash.oid())])?,
            encap_content_info: EncapsulatedContentInfo {
                econtent_type: ID_DATA,
                econtent: None,
            },
            certificates: Some(CertificateSet::try_from(vec![
                CertificateChoices::Certificate(certificate.parsed().clone()),
            ])?),
            crls: None,
            signer_infos: SignerInfos::try_from(vec![SignerInfo {
                version: CmsVersion::V1,
                sid: SignerIdentifier::IssuerAndSerialNumber(certificate.issuer_and_serial()),
                digest_alg: with_null(hash.oid()),
                signed_attrs: None,
                signature_algorithm: certificate.key().signature_algorithm(hash),
                signature: OctetString::new(signature)?,
                unsigned_attrs: None,
            }])?,
        };
        let content = ContentInfo {
            content_type: ID_SIGNED_DATA,
            content: Any::encode_from(&signed)?,
        };
        Ok(Self(content.to_der()?))
    }
}

/// OpenSSL writes an explicit NULL here, which RFC 5754 allows; so the bytes are the same.
fn with_null(oid: der::asn1::ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid,
        parameters: Some(Any::null()),
    }
}

/// A private key together with its certificate.
#[derive(Debug)]
pub struct KeyPair {
    key: PrivateKey,
    certificate: Certificate,
}

impl KeyPair {
    /// The two, which must belong together.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMismatch`] when the certificate is for another key.
    pub fn new(key: PrivateKey, certificate: Certificate) -> Result<Self, Error> {
        let public = key.public();
        if public == *certificate.key() {
            return Ok(Self { key, certificate });
        }
        Err(Error::KeyMismatch {
            key: public.description(),
            subject: certificate.subject(),
            certificate: certificate.key().description(),
        })
    }
}

impl Signer for KeyPair {
    fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    fn sign(&self, root_hash: &RootHash) -> Result<RootHashSignature, Error> {
        let hash = self.certificate.key().hash();
        let signature = self.key.sign(hash, root_hash.to_string().as_bytes())?;
        RootHashSignature::wrap(&self.certificate, hash, signature).map_err(|error| {
            Error::PrivateKey {
                what: error.to_string(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use der::Decode;

    use super::*;
    use crate::{Certificates, vector};

    fn key_pair(key: &str, certificate: &str) -> Result<KeyPair, Error> {
        KeyPair::new(
            PrivateKey::from_pem(&vector::key(key), None)?,
            Certificate::from_pem(&vector::key(certificate))?,
        )
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
        let ours = key_pair("rsa2048.key", "rsa2048.crt")
            .unwrap()
            .sign(&theirs.root_hash);
        assert_eq!(ours.unwrap(), theirs.signature);
    }

    #[test]
    fn ecdsa_signatures_have_openssls_form_and_never_change() {
        let theirs = signed("erofs-p256");
        let pair = key_pair("p256.key", "p256.crt").unwrap();
        let value = signature_value(&theirs.signature);
        let wrapped = RootHashSignature::wrap(pair.certificate(), Hash::Sha256, value);
        assert_eq!(wrapped.unwrap(), theirs.signature);
        let ours = pair.sign(&theirs.root_hash).unwrap();
        assert_eq!(pair.sign(&theirs.root_hash).unwrap(), ours);
        let trusted = Certificates::new([pair.certificate().clone()]);
        check(&ours, &theirs.root_hash, &trusted).unwrap();
    }

    fn signature_value(signature: &RootHashSignature) -> Vec<u8> {
        let content = ContentInfo::from_der(signature.as_der()).unwrap();
        let signed: SignedData = content.content.decode_as().unwrap();
        signed.signer_infos.0.as_slice()[0]
            .signature
            .as_bytes()
            .to_vec()
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
}
