//! PKCS#7 signed data (RFC 2315, RFC 5652): written in one form, read in any.
//!
//! ```text
//! ContentInfo signedData
//!   SignedData version 1, digests { SHA-2 }, content, certificates { signer's }
//!     SignerInfo version 1, issuer and serial number, SHA-2, attributes or none,
//!       rsaEncryption (PKCS#1 v1.5) or ECDSA
//! ```

use cms::cert::CertificateChoices;
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedAttributes, SignerIdentifier, SignerInfo,
    SignerInfos,
};
use const_oid::db::DB;
use const_oid::db::rfc5911::{ID_DATA, ID_SIGNED_DATA};
use const_oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ECDSA_WITH_SHA_512, ID_RSASSA_PSS, ID_SHA_1,
    RSA_ENCRYPTION, SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION,
    SHA_512_WITH_RSA_ENCRYPTION,
};
use der::asn1::{ObjectIdentifier, OctetString, SetOfVec};
use der::{Any, Decode, Encode};
use spki::AlgorithmIdentifierOwned;

use crate::{Attributes, Certificate, Certificates, Content, Error, Hash, PublicKey};

/// PKCS#7 signed data.
#[derive(Debug, Clone)]
pub struct SignedData(cms::signed_data::SignedData);

impl SignedData {
    /// A signature of the certificate's key, over a digest that `hash` made of content that is elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`] when it cannot be put in.
    pub fn detached(
        certificate: &Certificate,
        hash: Hash,
        signature: Vec<u8>,
    ) -> Result<Self, Error> {
        let content = EncapsulatedContentInfo {
            econtent_type: ID_DATA,
            econtent: None,
        };
        Self::assemble(certificate, hash, content, None, signature).map_err(Error::certificate)
    }

    /// A signature of the certificate's key over a digest that `hash` made of `attributes`, which speak of
    /// `content`, which is inside.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`] when it cannot be put in.
    pub fn enclosing(
        certificate: &Certificate,
        hash: Hash,
        content: &Content,
        attributes: Attributes,
        signature: Vec<u8>,
    ) -> Result<Self, Error> {
        let content = EncapsulatedContentInfo {
            econtent_type: content.kind,
            econtent: Some(content.value.clone()),
        };
        Self::assemble(certificate, hash, content, Some(attributes.0), signature)
            .map_err(Error::certificate)
    }

    fn assemble(
        certificate: &Certificate,
        hash: Hash,
        content: EncapsulatedContentInfo,
        signed_attrs: Option<SignedAttributes>,
        signature: Vec<u8>,
    ) -> der::Result<Self> {
        let inside = CertificateChoices::Certificate(certificate.parsed().clone());
        Ok(Self(cms::signed_data::SignedData {
            version: CmsVersion::V1,
            digest_algorithms: SetOfVec::try_from(vec![with_null(hash.oid())])?,
            encap_content_info: content,
            certificates: Some(CertificateSet::try_from(vec![inside])?),
            crls: None,
            signer_infos: SignerInfos::try_from(vec![SignerInfo {
                version: CmsVersion::V1,
                sid: SignerIdentifier::IssuerAndSerialNumber(certificate.issuer_and_serial()),
                digest_alg: with_null(hash.oid()),
                signed_attrs,
                signature_algorithm: certificate.key().signature_algorithm(hash),
                signature: OctetString::new(signature)?,
                unsigned_attrs: None,
            }])?,
        }))
    }

    /// Its DER bytes, from the outermost `ContentInfo` on.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`] when it is too large for DER.
    pub fn to_der(&self) -> Result<Vec<u8>, Error> {
        let encode = || {
            let content = ContentInfo {
                content_type: ID_SIGNED_DATA,
                content: Any::encode_from(&self.0)?,
            };
            content.to_der()
        };
        encode().map_err(Error::certificate)
    }

    /// Reads DER.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as in `is not PKCS#7 in DER: …`.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        let damaged = |error: der::Error| format!("is not PKCS#7 in DER: {error}");
        let content = ContentInfo::from_der(der).map_err(damaged)?;
        if content.content_type != ID_SIGNED_DATA {
            let kind = oid_name(content.content_type);
            return Err(format!("is not signed data, but {kind}"));
        }
        content.content.decode_as().map(Self).map_err(damaged)
    }

    /// What kind of content is signed: a name of the standards or an object identifier; `None` for `data`,
    /// the kind of no kind.
    pub fn content_type(&self) -> Option<String> {
        let oid = self.0.encap_content_info.econtent_type;
        (oid != ID_DATA).then(|| oid_name(oid))
    }

    /// Whether the content is inside.
    pub fn has_content(&self) -> bool {
        self.0.encap_content_info.econtent.is_some()
    }

    /// The content, if it is inside.
    pub fn content(&self) -> Option<Content> {
        let content = &self.0.encap_content_info;
        Some(Content {
            kind: content.econtent_type,
            value: content.econtent.clone()?,
        })
    }

    /// Who signed.
    pub fn signers(&self) -> impl ExactSizeIterator<Item = SignedBy<'_>> {
        self.0.signer_infos.0.iter().map(SignedBy)
    }

    /// The certificates inside that can be read.
    pub fn certificates(&self) -> impl Iterator<Item = Certificate> {
        let inside = self.0.certificates.iter().flat_map(|set| set.0.iter());
        inside.filter_map(|choice| match choice {
            CertificateChoices::Certificate(parsed) => {
                Certificate::from_der(&parsed.to_der().ok()?).ok()
            }
            CertificateChoices::Other(_) => None,
        })
    }
}

/// One of those who signed. Shown as what it names its certificate by.
#[derive(Debug, Clone, Copy)]
pub struct SignedBy<'a>(&'a SignerInfo);

impl<'a> SignedBy<'a> {
    /// Whether it has signed attributes: then the signature is over these.
    pub fn has_attributes(&self) -> bool {
        self.0.signed_attrs.is_some()
    }

    /// The hash function, if it is one of SHA-2.
    pub fn hash(&self) -> Option<Hash> {
        Hash::from_oid(self.0.digest_alg.oid)
    }

    /// The name of the hash function, whichever it is.
    pub fn hash_name(&self) -> String {
        oid_name(self.0.digest_alg.oid)
    }

    /// Whether the hash function is SHA-1, which is broken.
    pub fn is_sha1(&self) -> bool {
        self.0.digest_alg.oid == ID_SHA_1
    }

    /// How the signature is made.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::of(self.0.signature_algorithm.oid)
    }

    /// The name of that, whichever it is.
    pub fn algorithm_name(&self) -> String {
        oid_name(self.0.signature_algorithm.oid)
    }

    /// Whether it names its certificate by issuer and serial number, as PKCS#7 version 1 does.
    pub fn is_named_by_issuer(&self) -> bool {
        matches!(self.0.sid, SignerIdentifier::IssuerAndSerialNumber(_))
    }

    /// The certificate it names, by issuer and serial number, if it is among the trusted ones.
    pub fn certificate<'c>(&self, trusted: &'c Certificates) -> Option<&'c Certificate> {
        match &self.0.sid {
            SignerIdentifier::IssuerAndSerialNumber(name) => trusted.named(name),
            SignerIdentifier::SubjectKeyIdentifier(_) => None,
        }
    }

    /// The signature proper: an RSA block, or an ECDSA signature in DER.
    pub fn value(&self) -> &'a [u8] {
        self.0.signature.as_bytes()
    }

    /// Whether `key` goes with the algorithms that are named, and these with each other.
    pub fn fits(&self, key: &PublicKey) -> bool {
        match self.algorithm() {
            SignatureAlgorithm::Rsa => key.is_rsa(),
            SignatureAlgorithm::RsaWith(hash) => key.is_rsa() && self.hash() == Some(hash),
            SignatureAlgorithm::Ecdsa(hash) => !key.is_rsa() && self.hash() == Some(hash),
            _ => false,
        }
    }

    /// Whether the signature is that of `key` over `content`. Attributes are not looked at.
    pub fn verifies(&self, key: &PublicKey, content: &[u8]) -> bool {
        self.hash()
            .is_some_and(|hash| key.verifies(hash, &hash.digest(content), self.value()))
    }

    /// Whether the attributes speak of `content`, and the signature is that of `key` over them.
    pub fn verifies_enclosed(&self, key: &PublicKey, content: &Content) -> bool {
        let (Some(attributes), Some(hash)) = (&self.0.signed_attrs, self.hash()) else {
            return false;
        };
        let attributes = Attributes(attributes.clone());
        attributes.speak_of(content, hash)
            && attributes
                .to_der()
                .is_ok_and(|signed| self.verifies(key, &signed))
    }
}

impl std::fmt::Display for SignedBy<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0.sid {
            SignerIdentifier::IssuerAndSerialNumber(name) => {
                write!(f, "issuer `{}` serial {}", name.issuer, name.serial_number)
            }
            SignerIdentifier::SubjectKeyIdentifier(id) => {
                write!(f, "subject key {}", hex::encode(id.0.as_bytes()))
            }
        }
    }
}

/// How a signature is made of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureAlgorithm {
    /// RSA with PKCS#1 v1.5 padding; the hash is named beside it.
    Rsa,
    /// The same under a name that has the hash in it.
    RsaWith(Hash),
    /// RSA with probabilistic padding.
    RsaPss,
    /// ECDSA
    Ecdsa(Hash),
    /// Anything else.
    Other,
}

impl SignatureAlgorithm {
    fn of(oid: ObjectIdentifier) -> Self {
        match oid {
            RSA_ENCRYPTION => Self::Rsa,
            SHA_256_WITH_RSA_ENCRYPTION => Self::RsaWith(Hash::Sha256),
            SHA_384_WITH_RSA_ENCRYPTION => Self::RsaWith(Hash::Sha384),
            SHA_512_WITH_RSA_ENCRYPTION => Self::RsaWith(Hash::Sha512),
            ID_RSASSA_PSS => Self::RsaPss,
            ECDSA_WITH_SHA_256 => Self::Ecdsa(Hash::Sha256),
            ECDSA_WITH_SHA_384 => Self::Ecdsa(Hash::Sha384),
            ECDSA_WITH_SHA_512 => Self::Ecdsa(Hash::Sha512),
            _ => Self::Other,
        }
    }
}

/// OpenSSL writes an explicit NULL here, which RFC 5754 allows; so the bytes are the same.
fn with_null(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid,
        parameters: Some(Any::null()),
    }
}

/// The name OpenSSL and the standards have for an algorithm, or its numbers.
fn oid_name(oid: ObjectIdentifier) -> String {
    DB.by_oid(&oid)
        .map_or_else(|| oid.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = SignedData::from_der(&bytes);
        }
    }
}
