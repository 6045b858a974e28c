//! Signatures of PE files: Authenticode, as the UEFI specification has it (section 32.2.4, "Image Execution
//! Information Table" and what it refers to: "Windows Authenticode Portable Executable Signature Format").
//!
//! ```text
//! PKCS#7 signed data
//!   content SpcIndirectDataContent { SpcPeImageData, SHA-256 of the file but for three places }
//!   signer: attributes (content type, message digest), signature over these
//! ```
//!
//! Always SHA-256: it is the one hash that all firmware, shim and `sbverify` take.

mod image;

pub use image::SignablePe;
use ukikit_signing::{Attributes, Certificate, Certificates, Content, Hash, KeyPair, SignedData};

use crate::Error;

const HASH: Hash = Hash::Sha256;
/// SPC_INDIRECT_DATA_OBJID
const INDIRECT_DATA: &str = "1.3.6.1.4.1.311.2.1.4";
/// `SpcIndirectDataContent` up to the digest: a PE file, no flags, in the place of a file name `<<<Obsolete>>>` in
/// UTF-16, as every tool writes it.
const BEFORE_DIGEST: &[u8] = b"\x30\x68\
    \x30\x33\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x01\x0f\
    \x30\x25\x03\x01\x00\xa0\x20\xa2\x1e\x80\x1c\
    \0<\0<\0<\0O\0b\0s\0o\0l\0e\0t\0e\0>\0>\0>\
    \x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
/// Its end up to the digest, which is all that the firmware looks at.
const DIGEST_INFO: &[u8] =
    b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";

/// What a signature of a PE file is over.
#[derive(Debug, Clone)]
pub struct PeDigest {
    value: Vec<u8>,
    content: Content,
    attributes: Attributes,
}

impl PeDigest {
    /// From the SHA-256 of a file; with a time, in seconds since 1970, if the signature is to tell one.
    fn new(value: Vec<u8>, signing_time: Option<u64>) -> Result<Self, Error> {
        let content = Content::new(INDIRECT_DATA, &[BEFORE_DIGEST, &value].concat())?;
        let attributes = content.attributes(HASH, signing_time)?;
        Ok(Self {
            value,
            content,
            attributes,
        })
    }

    /// The digest of the file, 32 bytes: what db and dbx list, and what other signers start from.
    pub fn as_bytes(&self) -> &[u8] {
        &self.value
    }

    /// The bytes that a key signs: the attributes in DER. A key service is given their SHA-256.
    ///
    /// # Errors
    ///
    /// [`Error::Signing`] when they do not fit into DER.
    pub fn to_be_signed(&self) -> Result<Vec<u8>, Error> {
        Ok(self.attributes.to_der()?)
    }

    /// Signs it.
    ///
    /// # Errors
    ///
    /// [`Error::Signing`] when the key cannot be used.
    pub fn sign(&self, signer: &KeyPair) -> Result<PeSignature, Error> {
        let signature = signer.sign_digest(HASH, &HASH.digest(&self.to_be_signed()?))?;
        self.wrap(signer.certificate(), signature)
    }

    /// What came back from somebody who was given the digest or the bytes to sign: PKCS#7 in DER as it is, or a
    /// signature alone, an RSA block or an ECDSA signature in either form. It is checked.
    ///
    /// # Errors
    ///
    /// [`Error::PeSignature`] when it is not over this file by the key of `certificate`.
    pub fn signature_of_answer(
        &self,
        answer: &[u8],
        certificate: &Certificate,
    ) -> Result<PeSignature, Error> {
        let signature = if SignedData::from_der(answer).is_ok() {
            PeSignature::from_der(answer)
        } else {
            let key = certificate.key();
            let value = key.signature_from_raw(answer);
            if !key.verifies(HASH, &HASH.digest(&self.to_be_signed()?), &value) {
                let subject = certificate.subject();
                return Err(refused(format!(
                    "is not over this file by the key of `{subject}`"
                )));
            }
            self.wrap(certificate, value)?
        };
        signature.check(&self.value, &Certificates::new([certificate.clone()]))?;
        Ok(signature)
    }

    fn wrap(&self, certificate: &Certificate, signature: Vec<u8>) -> Result<PeSignature, Error> {
        let attributes = self.attributes.clone();
        let signed =
            SignedData::enclosing(certificate, HASH, &self.content, attributes, signature)?;
        Ok(PeSignature(signed.to_der()?))
    }
}

/// One signature of a PE file: PKCS#7 in DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeSignature(Vec<u8>);

impl PeSignature {
    /// Bytes from elsewhere; nothing about them is checked here.
    pub fn from_der(der: impl Into<Vec<u8>>) -> Self {
        Self(der.into())
    }

    /// The DER bytes.
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }

    /// Checks that it is over a file with this digest, by one of the trusted certificates, which is returned.
    /// Chains are not followed.
    ///
    /// # Errors
    ///
    /// [`Error::PeSignature`] with the reason.
    pub fn check<'a>(
        &self,
        digest: &[u8],
        trusted: &'a Certificates,
    ) -> Result<&'a Certificate, Error> {
        let signed = SignedData::from_der(&self.0).map_err(refused)?;
        let content = content_over(&signed, digest)?;
        let mut signers = signed.signers();
        let count = signers.len();
        let (Some(signer), 1) = (signers.next(), count) else {
            return Err(refused(format!("has {count} signers, not one")));
        };
        let Some(certificate) = signer.certificate(trusted) else {
            return Err(refused(format!(
                "is by {signer}, which is no trusted certificate"
            )));
        };
        if signer.fits(certificate.key()) && signer.verifies_enclosed(certificate.key(), &content) {
            return Ok(certificate);
        }
        let subject = certificate.subject();
        Err(refused(format!("is not by the key of `{subject}`")))
    }

    /// Whether it is over a file of this Authenticode digest, whoever made it.
    pub fn is_over(&self, digest: &[u8]) -> bool {
        SignedData::from_der(&self.0).is_ok_and(|signed| content_over(&signed, digest).is_ok())
    }

    /// Who signed, as it claims: issuer and serial number; and the certificates inside that can be read.
    ///
    /// # Errors
    ///
    /// [`Error::PeSignature`] when it is not PKCS#7.
    pub fn describe(&self) -> Result<(Vec<String>, Vec<Certificate>), Error> {
        let signed = SignedData::from_der(&self.0).map_err(refused)?;
        let signers = signed.signers().map(|signer| signer.to_string()).collect();
        Ok((signers, signed.certificates().collect()))
    }
}

/// What was signed, if that is a PE file of this digest.
fn content_over(signed: &SignedData, digest: &[u8]) -> Result<Content, Error> {
    let content = signed
        .content()
        .filter(|content| content.is(INDIRECT_DATA))
        .ok_or_else(|| refused("is not over a PE file"))?;
    if !content.to_der()?.ends_with(&[DIGEST_INFO, digest].concat()) {
        return Err(refused("is over another file, or not with SHA-256"));
    }
    Ok(content)
}

fn refused(what: impl Into<String>) -> Error {
    Error::PeSignature { what: what.into() }
}

#[cfg(test)]
pub(crate) mod tests {
    use ukikit_signing::PrivateKey;

    use super::*;

    pub(crate) fn key_pair(name: &str) -> KeyPair {
        let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/ddi/keys");
        let file = |kind| std::fs::read(format!("{keys}/{name}.{kind}")).unwrap();
        KeyPair::new(
            PrivateKey::from_pem(&file("key"), None).unwrap(),
            Certificate::from_pem(&file("crt")).unwrap(),
        )
        .unwrap()
    }

    fn digest() -> PeDigest {
        PeDigest::new(vec![7; 32], None).unwrap()
    }

    fn trusted(name: &str) -> Certificates {
        Certificates::new([key_pair(name).certificate().clone()])
    }

    #[test]
    fn every_key_signs_the_same_each_time_and_is_checked() {
        for name in ["rsa2048", "p256", "p384"] {
            let signature = digest().sign(&key_pair(name)).unwrap();
            assert_eq!(digest().sign(&key_pair(name)).unwrap(), signature);
            let verdict = |digest, name| {
                let trusted = trusted(name);
                let checked = signature.check(digest, &trusted);
                checked
                    .map(Certificate::subject)
                    .map_err(|error| error.to_string())
            };
            assert_eq!(
                verdict(&[7; 32], name).unwrap(),
                key_pair(name).certificate().subject()
            );
            assert_eq!(
                verdict(&[8; 32], name).unwrap_err(),
                "the signature is over another file, or not with SHA-256"
            );
            let stranger = verdict(&[7; 32], "other").unwrap_err();
            assert!(
                stranger.ends_with(", which is no trusted certificate"),
                "{stranger}"
            );
        }
    }

    #[test]
    fn an_answer_is_checked_before_it_is_taken() {
        for name in ["rsa2048", "p256", "p384"] {
            let pair = key_pair(name);
            let digest = digest();
            let whole = digest.sign(&pair).unwrap();
            let raw = pair
                .sign_digest(HASH, &HASH.digest(&digest.to_be_signed().unwrap()))
                .unwrap();
            for answer in [whole.as_der(), &raw] {
                let taken = digest.signature_of_answer(answer, pair.certificate());
                assert_eq!(taken.unwrap(), whole);
            }
            let other = PeDigest::new(vec![8; 32], None).unwrap();
            for answer in [whole.as_der(), &raw] {
                let refused = other.signature_of_answer(answer, pair.certificate());
                let error = refused.unwrap_err().to_string();
                assert!(error.starts_with("the signature is "), "{error}");
            }
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let signature = digest().sign(&key_pair("p256")).unwrap();
        let trusted = trusted("p256");
        let good = signature.as_der();
        let signed = good.len() - 80;
        for at in signed..good.len() {
            let mut changed = good.to_vec();
            changed[at] ^= 1;
            let verdict = PeSignature::from_der(changed).check(&[7; 32], &trusted);
            assert!(verdict.is_err(), "byte {at}");
        }
    }
}
