//! Keys made on the spot, in place of a TPM's and of a signer's.

use std::time::Duration;

use anyhow::{Context, Result};
use der::asn1::BitString;
use der::{DateTime, Encode, Sequence};
use p256::SecretKey;
use p256::ecdsa::{DerSignature, SigningKey, signature::Signer};
use p256::elliptic_curve::{Generate, sec1::ToSec1Point};
use p256::pkcs8::{EncodePrivateKey, LineEnding};
use rand_core::CryptoRng;
use ukikit_creds::{HostIdentity, PublicArea, STORAGE_ROOT_HANDLE, StorageRootKey};
use ukikit_sysext::{Certificate, KeyPair, PrivateKey};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{
    AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, SubjectPublicKeyInfoOwned,
};
use x509_cert::time::Validity;

/// What a host says of itself with `ukikit tpm identity`. Its TPM keeps the private half of the storage root
/// key; here nobody does.
pub(crate) fn identity(name: &str, rng: &mut impl CryptoRng) -> Result<HostIdentity> {
    let point = SecretKey::generate_from_rng(rng)
        .public_key()
        .to_sec1_point(false);
    let x = point.x().context("the point has no x")?;
    let y = point.y().context("the point has no y")?;
    let area = [&STORAGE_ROOT_KEY[..], &[0, 32], x, &[0, 32], y].concat();

    let mut identity = HostIdentity::default();
    identity.name = Some(name.to_owned());
    identity.systemd_version = Some(262);
    identity.storage_root_key = Some(StorageRootKey {
        handle: STORAGE_ROOT_HANDLE,
        public: PublicArea::parse(&area)?,
    });
    Ok(identity)
}

/// TPMT_PUBLIC of a storage root key up to its point (TPM 2.0 Library, part 2, 12.2.4).
const STORAGE_ROOT_KEY: [u8; 22] = [
    0x00, 0x23, 0x00, 0x0B, // ECC, names by SHA-256
    // fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt
    0x00, 0x03, 0x04, 0x72, // attributes
    0x00, 0x00, // no policy
    0x00, 0x06, 0x00, 0x80, 0x00, 0x43, // AES-128-CFB
    0x00, 0x10, 0x00, 0x03, 0x00, 0x10, // no scheme, NIST P-256, no key derivation
];

/// A signing key with its certificate, good for ten years from `now` (since 1970).
pub(crate) fn key_pair(subject: &str, now: Duration, rng: &mut impl CryptoRng) -> Result<KeyPair> {
    let key = SigningKey::generate_from_rng(rng);
    let content = CertificateContent {
        serial: SerialNumber::from(rng.next_u64()),
        algorithm: key.signature_algorithm_identifier()?,
        issuer: subject.parse()?,
        validity: validity(now)?,
        subject: subject.parse()?,
        key: SubjectPublicKeyInfoOwned::from_key(key.verifying_key())?,
    };
    let certificate = Certificate::from_der(&self_signed(content, &key)?)?;
    let pem = key.to_pkcs8_pem(LineEnding::LF)?;
    Ok(KeyPair::new(
        PrivateKey::from_pem(pem.as_bytes(), None)?,
        certificate,
    )?)
}

const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

fn validity(now: Duration) -> Result<Validity> {
    let from = DateTime::from_unix_duration(now)?;
    let until = DateTime::from_unix_duration(now + TEN_YEARS)?;
    Ok(Validity::new(from.into(), until.into()))
}

fn self_signed(content: CertificateContent, key: &SigningKey) -> Result<Vec<u8>> {
    let signature: DerSignature = key.sign(&content.to_der()?);
    let certificate = SignedCertificate {
        algorithm: content.algorithm.clone(),
        signature: BitString::from_bytes(signature.as_bytes())?,
        content,
    };
    Ok(certificate.to_der()?)
}

/// RFC 5280, 4.1: version 1, so without extensions. The kernel and systemd would not look at them.
#[derive(Sequence)]
struct CertificateContent {
    serial: SerialNumber,
    algorithm: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    key: SubjectPublicKeyInfoOwned,
}

#[derive(Sequence)]
struct SignedCertificate {
    content: CertificateContent,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}
