//! Content inside PKCS#7, and the signed attributes that speak of it (RFC 5652, section 11).
//!
//! ```text
//! SET OF Attribute        what is signed, with this tag
//!   contentType           of the content
//!   messageDigest         of the content without its own tag and length, as PKCS#7 has it
//!   signingTime           if asked for
//! ```

use std::time::Duration;

use cms::signed_data::SignedAttributes;
use const_oid::db::rfc5911::{ID_CONTENT_TYPE, ID_MESSAGE_DIGEST, ID_SIGNING_TIME};
use der::asn1::{ObjectIdentifier, OctetString, SetOfVec, UtcTime};
use der::{Any, Decode, Encode, EncodeValue, Tagged};
use x509_cert::attr::Attribute;

use crate::{Error, Hash};

/// Content of some kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub(crate) kind: ObjectIdentifier,
    pub(crate) value: Any,
}

impl Content {
    /// Content of the kind that an object identifier such as `1.2.840.113549.1.7.1` names; `der` is one value.
    ///
    /// # Errors
    ///
    /// [`Error::Content`] when either is none.
    pub fn new(kind: &str, der: &[u8]) -> Result<Self, Error> {
        let kind = ObjectIdentifier::new(kind).map_err(Error::content)?;
        let value = Any::from_der(der).map_err(Error::content)?;
        Ok(Self { kind, value })
    }

    /// Whether it is of the kind that an object identifier names.
    pub fn is(&self, kind: &str) -> bool {
        ObjectIdentifier::new(kind).is_ok_and(|kind| kind == self.kind)
    }

    /// The value in DER.
    ///
    /// # Errors
    ///
    /// [`Error::Content`] when it is too large for DER.
    pub fn to_der(&self) -> Result<Vec<u8>, Error> {
        self.value.to_der().map_err(Error::content)
    }

    /// The attributes that speak of it, with a time in seconds since 1970 if there is to be one.
    ///
    /// # Errors
    ///
    /// [`Error::Content`] when the time is not before 2050.
    pub fn attributes(&self, hash: Hash, signing_time: Option<u64>) -> Result<Attributes, Error> {
        self.assemble(hash, signing_time).map_err(Error::content)
    }

    fn assemble(&self, hash: Hash, signing_time: Option<u64>) -> der::Result<Attributes> {
        let digest = OctetString::new(hash.digest(self.value.value()))?;
        let mut attributes = vec![
            attribute(ID_CONTENT_TYPE, &self.kind)?,
            attribute(ID_MESSAGE_DIGEST, &digest)?,
        ];
        if let Some(seconds) = signing_time {
            let time = UtcTime::from_unix_duration(Duration::from_secs(seconds))?;
            attributes.push(attribute(ID_SIGNING_TIME, &time)?);
        }
        Ok(Attributes(SetOfVec::try_from(attributes)?))
    }
}

fn attribute(oid: ObjectIdentifier, value: &(impl Tagged + EncodeValue)) -> der::Result<Attribute> {
    let values = SetOfVec::try_from(vec![Any::encode_from(value)?])?;
    Ok(Attribute { oid, values })
}

/// Signed attributes.
#[derive(Debug, Clone)]
pub struct Attributes(pub(crate) SignedAttributes);

impl Attributes {
    /// The bytes that are signed.
    ///
    /// # Errors
    ///
    /// [`Error::Content`] when they are too many for DER.
    pub fn to_der(&self) -> Result<Vec<u8>, Error> {
        self.0.to_der().map_err(Error::content)
    }

    /// Whether they are about `content`: its kind and its digest, each once.
    pub(crate) fn speak_of(&self, content: &Content, hash: Hash) -> bool {
        let kind: Option<ObjectIdentifier> = self.only(ID_CONTENT_TYPE);
        let digest: Option<OctetString> = self.only(ID_MESSAGE_DIGEST);
        kind == Some(content.kind)
            && digest.is_some_and(|digest| digest.as_bytes() == hash.digest(content.value.value()))
    }

    /// The only value of the only attribute of a kind.
    fn only<'a, T: der::Choice<'a> + der::DecodeValue<'a>>(
        &'a self,
        kind: ObjectIdentifier,
    ) -> Option<T> {
        let mut found = self.0.iter().filter(|attribute| attribute.oid == kind);
        let (Some(attribute), None) = (found.next(), found.next()) else {
            return None;
        };
        match attribute.values.as_slice() {
            [value] => value.decode_as().ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Certificate, KeyPair, PrivateKey, SignedData, vector};

    const KIND: &str = "1.3.6.1.4.1.311.2.1.4";

    fn enclosed(content: &Content, signing_time: Option<u64>) -> (Certificate, SignedData) {
        let key = PrivateKey::from_pem(&vector::key("p384.key"), None).unwrap();
        let certificate = Certificate::from_pem(&vector::key("p384.crt")).unwrap();
        let pair = KeyPair::new(key, certificate.clone()).unwrap();
        let hash = Hash::Sha256;
        let attributes = content.attributes(hash, signing_time).unwrap();
        let digest = hash.digest(&attributes.to_der().unwrap());
        let signature = pair.sign_digest(hash, &digest).unwrap();
        let signed = SignedData::enclosing(&certificate, hash, content, attributes, signature);
        let der = signed.unwrap().to_der().unwrap();
        (certificate, SignedData::from_der(&der).unwrap())
    }

    #[test]
    fn what_is_inside_is_read_back_and_verifies_and_nothing_else_does() {
        let content = Content::new(KIND, b"\x30\x03\x02\x01\x05").unwrap();
        let other = Content::new(KIND, b"\x30\x03\x02\x01\x06").unwrap();
        let of_other_kind = Content::new("1.2.3.4", b"\x30\x03\x02\x01\x05").unwrap();
        for time in [None, Some(1_700_000_000)] {
            let (certificate, signed) = enclosed(&content, time);
            assert_eq!(signed.content().as_ref(), Some(&content));
            assert_eq!(signed.content_type().as_deref(), Some(KIND));
            let signer = signed.signers().next().unwrap();
            assert!(signer.fits(certificate.key()));
            let verdicts = [&content, &other, &of_other_kind]
                .map(|content| signer.verifies_enclosed(certificate.key(), content));
            assert_eq!(verdicts, [true, false, false]);
            assert!(!signer.verifies(certificate.key(), b"\x02\x01\x05"));
        }
    }

    #[test]
    fn a_time_is_there_only_when_asked_for() {
        let content = Content::new(KIND, b"\x30\x00").unwrap();
        let without = content.attributes(Hash::Sha256, None).unwrap();
        let with = content
            .attributes(Hash::Sha256, Some(1_700_000_000))
            .unwrap();
        let time = b"231114221320Z";
        let has = |attributes: &Attributes| {
            let der = attributes.to_der().unwrap();
            der.windows(time.len()).any(|window| window == time)
        };
        assert_eq!((has(&without), has(&with)), (false, true));
        assert_eq!(
            content
                .attributes(Hash::Sha256, Some(u64::MAX))
                .unwrap_err()
                .to_string(),
            "cannot be put into PKCS#7: date/time error"
        );
    }
}
