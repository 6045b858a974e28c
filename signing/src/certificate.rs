//! X.509 certificates as far as signatures need them: who it is, which key, until when. As in the kernel and
//! in systemd, chain and key usage are not looked at, and dates are only told.

use std::fmt;

use cms::cert::IssuerAndSerialNumber;
use der::{DateTime, Decode, Document, Encode};
use sha2::{Digest, Sha256};

use crate::{Error, PublicKey, pem};

/// One certificate whose key can sign what a boot verifies: RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384.
#[derive(Debug, Clone)]
pub struct Certificate {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
    key: PublicKey,
}

impl Certificate {
    /// The first certificate in PEM text, as systemd reads `/etc/verity.d/*.crt`. Text around it and
    /// what follows are ignored.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`] when there is none, or its key is of another kind.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(pem).unwrap_or_default();
        let text = pem::block(text, "CERTIFICATE")
            .ok_or_else(|| Error::certificate("has no block `-----BEGIN CERTIFICATE-----`"))?;
        let (_, document) = Document::from_pem(text).map_err(Error::certificate)?;
        Self::from_der(document.as_bytes())
    }

    /// A certificate in DER.
    ///
    /// # Errors
    ///
    /// [`Error::Certificate`] as above.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let parsed = x509_cert::Certificate::from_der(der).map_err(Error::certificate)?;
        // It is written again into every signature; its fingerprint must not change on the way.
        if parsed.to_der().map_err(Error::certificate)? != der {
            return Err(Error::certificate("is not in the distinguished encoding"));
        }
        let key = PublicKey::of(parsed.tbs_certificate().subject_public_key_info())
            .map_err(Error::certificate)?;
        let der = der.to_vec();
        Ok(Self { der, parsed, key })
    }

    /// Its DER bytes.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Whom it names, as in `CN=Example,O=Example Ltd`.
    pub fn subject(&self) -> String {
        self.parsed.tbs_certificate().subject().to_string()
    }

    /// The SHA-256 of its DER bytes, in 64 lower-case hex digits.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(&self.der))
    }

    /// When it becomes valid. Neither the kernel nor systemd looks at it.
    pub fn not_before(&self) -> Date {
        let validity = self.parsed.tbs_certificate().validity();
        Date(validity.not_before.to_date_time())
    }

    /// The last second at which it is valid. Neither the kernel nor systemd looks at it.
    pub fn not_after(&self) -> Date {
        let validity = self.parsed.tbs_certificate().validity();
        Date(validity.not_after.to_date_time())
    }

    /// Its key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    pub(crate) fn parsed(&self) -> &x509_cert::Certificate {
        &self.parsed
    }

    /// What a signature names it by.
    pub(crate) fn issuer_and_serial(&self) -> IssuerAndSerialNumber {
        let certificate = self.parsed.tbs_certificate();
        IssuerAndSerialNumber {
            issuer: certificate.issuer().clone(),
            serial_number: certificate.serial_number().clone(),
        }
    }
}

/// A second of some day. Shown as in `2026-11-23T08:12:31Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(DateTime);

impl Date {
    /// Seconds since 1970.
    pub fn seconds(self) -> u64 {
        self.0.unix_duration().as_secs()
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The certificates that are trusted; the order does not matter.
#[derive(Debug, Clone, Default)]
pub struct Certificates(Vec<Certificate>);

impl Certificates {
    /// Those, and no others.
    pub fn new(certificates: impl IntoIterator<Item = Certificate>) -> Self {
        Self(certificates.into_iter().collect())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Certificate> {
        self.0.iter()
    }

    pub(crate) fn named(&self, name: &IssuerAndSerialNumber) -> Option<&Certificate> {
        self.iter()
            .find(|certificate| certificate.issuer_and_serial() == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector;

    #[test]
    fn says_what_openssl_says() {
        let certificate = Certificate::from_pem(&vector::key("rsa2048.crt")).unwrap();
        assert_eq!(certificate.subject(), "CN=ddi test vector a rsa2048");
        assert_eq!(
            certificate.fingerprint(),
            "ad947766ce212cd29a3a18058fd97377b7343148cc90a75abb5ecba9c233273a"
        );
        assert_eq!(certificate.key().to_string(), "RSA-2048");
        assert_eq!(
            [certificate.not_before(), certificate.not_after()].map(|date| date.to_string()),
            ["2026-11-23T08:12:31Z", "2126-10-30T08:12:31Z"]
        );
        assert_eq!(certificate.not_before().seconds(), 1_795_421_551);
        let certificate = Certificate::from_pem(&vector::key("p256.crt")).unwrap();
        assert_eq!(certificate.key().to_string(), "ECDSA P-256");
    }

    #[test]
    fn text_around_it_does_no_harm() {
        let plain = vector::key("p256.crt");
        let wrapped = [
            b"Subject: CN=x\n".as_slice(),
            &plain,
            &vector::key("other.crt"),
        ]
        .concat();
        let certificate = Certificate::from_pem(&wrapped).unwrap();
        assert_eq!(
            certificate.as_der(),
            Certificate::from_pem(&plain).unwrap().as_der()
        );
    }

    #[test]
    fn what_is_no_certificate_is_said() {
        for (file, expected) in [
            ("p256.key", "has no block `-----BEGIN CERTIFICATE-----`"),
            (
                "ed25519.crt",
                "its key (algorithm 1.3.101.112) is neither RSA nor ECDSA on P-256 or P-384, \
                 the only ones the kernel and systemd both take",
            ),
            ("rsa1024.crt", "its RSA key has 1024 bits, not 2048 to 4096"),
        ] {
            assert_eq!(
                Certificate::from_pem(&vector::key(file))
                    .unwrap_err()
                    .to_string(),
                format!("not a usable certificate: {expected}")
            );
        }
    }

    #[test]
    fn no_der_at_all_is_said() {
        let error = Certificate::from_der(b"\x30\x03\x02\x01").unwrap_err();
        assert!(error.to_string().starts_with("not a usable certificate: "));
    }
}
