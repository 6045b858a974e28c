//! The certificate of an endorsement key: does it belong to the key, and does a CA the admin names stand behind it?
//!
//! Certificates are checked as RFC 5280, section 6 has it, as far as endorsement certificates use it: signatures, names, times,
//! basic constraints, key usage, path length, critical extensions. Not looked at: revocation, policies, name constraints (a CA
//! that marks those as critical is refused).

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use const_oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ECDSA_WITH_SHA_512, SHA_256_WITH_RSA_ENCRYPTION,
    SHA_384_WITH_RSA_ENCRYPTION, SHA_512_WITH_RSA_ENCRYPTION,
};
use const_oid::{AssociatedOid, ObjectIdentifier};
use der::asn1::AnyRef;
use der::referenced::OwnedToRef;
use der::{Decode, Document, Reader, SliceReader};
use rsa::signature::hazmat::PrehashVerifier;
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use sha2::{Digest, Sha256, Sha384, Sha512};
use spki::SubjectPublicKeyInfoRef;
use ukikit_creds::EndorsementKey;
use x509_cert::Certificate;
use x509_cert::certificate::TbsCertificate;
use x509_cert::ext::pkix::{
    BasicConstraints, CertificatePolicies, ExtendedKeyUsage, KeyUsage, SubjectAltName,
};

/// tcg-kp-EKCertificate: what the extended key usage of endorsement certificates says (TCG EK Credential Profile, 3.5.8).
const ENDORSEMENT_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.1");
/// Certificates between the endorsement certificate and the root, both counted. Makers use three.
const PATH_MAX: usize = 8;
/// Below is too weak to stand behind anything.
const RSA_BITS_MIN: u32 = 2048;

/// The certificates of CAs that are trusted to know real TPMs.
#[derive(Debug, Clone, Default)]
pub struct Authorities(Vec<Parsed>);

impl Authorities {
    /// Adds those in a file: any number in PEM with text around them, or one in DER.
    ///
    /// # Errors
    ///
    /// When there is none, or one that cannot be read.
    pub fn add(&mut self, file: &[u8]) -> Result<()> {
        if file.first() == Some(&0x30) {
            self.0
                .push(Parsed::from_der(file).context("it is not a certificate in DER")?);
            return Ok(());
        }
        let text = std::str::from_utf8(file).context("it is neither PEM nor DER")?;
        let blocks = text.match_indices("-----BEGIN CERTIFICATE-----");
        let before = self.0.len();
        for (number, (start, _)) in blocks.enumerate() {
            let certificate = Document::from_pem(pem_block(text, start))
                .and_then(|(_, document)| Parsed::from_der(document.as_bytes()));
            let number = number + 1;
            self.0.push(
                certificate.with_context(|| format!("its certificate {number} cannot be read"))?,
            );
        }
        ensure!(self.0.len() > before, "it has no certificate in PEM or DER");
        Ok(())
    }

    /// Checks the certificate of `key` at the time `now`, in seconds since 1970. Returns whom the path names, from the
    /// certificate's issuer to the root.
    ///
    /// # Errors
    ///
    /// One sentence: no certificate, one of another key, not for endorsement keys, out of its time, or no path of trusted
    /// certificates to a self-issued one.
    pub fn check(&self, key: &EndorsementKey, now: u64) -> Result<Vec<String>> {
        let certificate = read(key)?;
        check_leaf(certificate.tbs(), key)?;
        let now = Duration::from_secs(now);
        check_time(&certificate, now).context("the endorsement certificate cannot be used")?;
        let path = self.path(&certificate, now, 0)?;
        Ok(path.iter().map(|issuer| subject(issuer)).collect())
    }

    /// The issuers of `certificate` up to the root, `below` certificates standing between it and the end.
    fn path(&self, certificate: &Parsed, now: Duration, below: usize) -> Result<Vec<&Parsed>> {
        ensure!(
            below < PATH_MAX,
            "the path to a root has over {PATH_MAX} certificates"
        );
        let wanted = certificate.tbs().issuer();
        let named = self.0.iter().filter(|ca| ca.tbs().subject() == wanted);
        let mut refusal = anyhow!(
            "`{wanted}`, who issued the certificate of `{}`, is not among the CAs given",
            subject(certificate)
        );
        // A CA may have several certificates under one name; any path will do.
        for issuer in named {
            match self.path_through(certificate, issuer, now, below) {
                Ok(path) => return Ok(path),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn path_through<'a>(
        &'a self,
        certificate: &Parsed,
        issuer: &'a Parsed,
        now: Duration,
        below: usize,
    ) -> Result<Vec<&'a Parsed>> {
        check_signature(certificate, issuer)?;
        check_authority(issuer, below)
            .and_then(|()| check_time(issuer, now))
            .with_context(|| format!("the CA `{}` cannot be used", subject(issuer)))?;
        let mut path = vec![issuer];
        let tbs = issuer.tbs();
        if tbs.issuer() != tbs.subject() {
            path.extend(self.path(issuer, now, below + 1)?);
        }
        Ok(path)
    }
}

/// Whether the certificate of `key` is about that key. Says nothing about who made it.
///
/// # Errors
///
/// One sentence: no certificate, one that cannot be read, one of another key.
pub fn check_key(key: &EndorsementKey) -> Result<()> {
    check_subject(read(key)?.tbs(), key)
}

fn read(key: &EndorsementKey) -> Result<Parsed> {
    let der = key.certificate.as_deref();
    Parsed::from_der(der.context("there is no endorsement certificate")?)
        .context("the endorsement certificate cannot be read")
}

/// The block that begins at `start`, or the rest of the text if it does not end.
fn pem_block(text: &str, start: usize) -> &str {
    const END: &str = "-----END CERTIFICATE-----";
    let rest = text.get(start..).unwrap_or_default();
    let end = rest.find(END).map_or(rest.len(), |end| end + END.len());
    rest.get(..end).unwrap_or_default()
}

/// A certificate, and the bytes its signature is over: written anew they might come out different.
#[derive(Debug, Clone)]
struct Parsed {
    certificate: Certificate,
    signed: Vec<u8>,
}

impl Parsed {
    fn from_der(der: &[u8]) -> der::Result<Self> {
        let certificate = Certificate::from_der(der)?;
        let mut fields = SliceReader::new(AnyRef::from_der(der)?.value())?;
        let signed = fields.tlv_bytes()?.to_vec();
        Ok(Self {
            certificate,
            signed,
        })
    }

    fn tbs(&self) -> &TbsCertificate {
        self.certificate.tbs_certificate()
    }
}

fn subject(certificate: &Parsed) -> String {
    certificate.tbs().subject().to_string()
}

fn check_subject(tbs: &TbsCertificate, key: &EndorsementKey) -> Result<()> {
    let certified = &tbs.subject_public_key_info().subject_public_key;
    ensure!(
        certified.raw_bytes() == key.public.subject_public_key(),
        "the endorsement certificate is that of another key"
    );
    Ok(())
}

fn check_leaf(tbs: &TbsCertificate, key: &EndorsementKey) -> Result<()> {
    check_subject(tbs, key)?;
    check_critical(tbs)?;
    if let Some((_, constraints)) = tbs.get_extension::<BasicConstraints>()? {
        ensure!(
            !constraints.ca,
            "the endorsement certificate is that of a CA"
        );
    }
    if let Some((_, ExtendedKeyUsage(usages))) = tbs.get_extension()? {
        ensure!(
            usages.contains(&ENDORSEMENT_USAGE),
            "the endorsement certificate is for other uses (its extended key usage lacks {ENDORSEMENT_USAGE})"
        );
    }
    Ok(())
}

/// Whether this may issue certificates, with `below` CAs between it and the end.
fn check_authority(ca: &Parsed, below: usize) -> Result<()> {
    let tbs = ca.tbs();
    check_critical(tbs)?;
    let constraints = tbs.get_extension::<BasicConstraints>()?;
    let constraints = constraints.map(|(_, constraints)| constraints);
    let constraints = constraints
        .filter(|constraints| constraints.ca)
        .context("its basic constraints do not make it a CA")?;
    if let Some(longest) = constraints.path_len_constraint {
        ensure!(
            below <= longest.into(),
            "it allows {longest} CAs below it, not {below}"
        );
    }
    if let Some((_, usage)) = tbs.get_extension::<KeyUsage>()? {
        ensure!(
            usage.key_cert_sign(),
            "its key usage does not allow to sign certificates"
        );
    }
    Ok(())
}

/// A critical extension that is not understood forbids to use the certificate.
fn check_critical(tbs: &TbsCertificate) -> Result<()> {
    let understood = [
        BasicConstraints::OID,
        KeyUsage::OID,
        ExtendedKeyUsage::OID,
        SubjectAltName::OID,
        CertificatePolicies::OID,
    ];
    let mut extensions = tbs.extensions().into_iter().flatten();
    match extensions
        .find(|extension| extension.critical && !understood.contains(&extension.extn_id))
    {
        None => Ok(()),
        Some(other) => bail!(
            "it has a critical extension that is not known here ({})",
            other.extn_id
        ),
    }
}

fn check_time(certificate: &Parsed, now: Duration) -> Result<()> {
    let validity = certificate.tbs().validity();
    let (begin, end) = (validity.not_before, validity.not_after);
    ensure!(
        begin.to_unix_duration() <= now,
        "it is not valid before {begin}"
    );
    ensure!(now <= end.to_unix_duration(), "it expired at {end}");
    Ok(())
}

fn check_signature(certificate: &Parsed, issuer: &Parsed) -> Result<()> {
    let algorithm = certificate.certificate.signature_algorithm();
    let oid = algorithm.oid;
    ensure!(
        algorithm == certificate.tbs().signature(),
        "the certificate of `{}` names two signature algorithms",
        subject(certificate)
    );
    let (digest, padding) = digest(oid, &certificate.signed).with_context(|| {
        format!(
            "the certificate of `{}` is signed in a way that is not taken here ({oid})",
            subject(certificate)
        )
    })?;
    let key = issuer.tbs().subject_public_key_info().owned_to_ref();
    let signature = certificate.certificate.signature().raw_bytes();
    let verified = match padding {
        Some(padding) => verify_rsa(key, padding, &digest, signature),
        None => verify_ecdsa(key, &digest, signature),
    };
    verified.with_context(|| {
        format!(
            "the certificate of `{}` is not signed by the key of `{}`",
            subject(certificate),
            subject(issuer)
        )
    })
}

/// The digest to verify and, for RSA, its padding.
fn digest(oid: ObjectIdentifier, content: &[u8]) -> Option<(Vec<u8>, Option<Pkcs1v15Sign>)> {
    let sha256 = || Sha256::digest(content).to_vec();
    let sha384 = || Sha384::digest(content).to_vec();
    let sha512 = || Sha512::digest(content).to_vec();
    Some(match oid {
        SHA_256_WITH_RSA_ENCRYPTION => (sha256(), Some(Pkcs1v15Sign::new::<Sha256>())),
        SHA_384_WITH_RSA_ENCRYPTION => (sha384(), Some(Pkcs1v15Sign::new::<Sha384>())),
        SHA_512_WITH_RSA_ENCRYPTION => (sha512(), Some(Pkcs1v15Sign::new::<Sha512>())),
        ECDSA_WITH_SHA_256 => (sha256(), None),
        ECDSA_WITH_SHA_384 => (sha384(), None),
        ECDSA_WITH_SHA_512 => (sha512(), None),
        _ => return None,
    })
}

fn verify_rsa(
    key: SubjectPublicKeyInfoRef<'_>,
    padding: Pkcs1v15Sign,
    digest: &[u8],
    signature: &[u8],
) -> Option<()> {
    let key = RsaPublicKey::try_from(key).ok()?;
    let strong = key.n().bit_width() >= RSA_BITS_MIN;
    (strong && key.verify(padding, digest, signature).is_ok()).then_some(())
}

fn verify_ecdsa(key: SubjectPublicKeyInfoRef<'_>, digest: &[u8], signature: &[u8]) -> Option<()> {
    if let Ok(key) = p256::PublicKey::try_from(key.clone()) {
        let signature = p256::ecdsa::DerSignature::try_from(signature).ok()?;
        return p256::ecdsa::VerifyingKey::from(key)
            .verify_prehash(digest, &signature)
            .ok();
    }
    let key = p384::PublicKey::try_from(key).ok()?;
    let signature = p384::ecdsa::DerSignature::try_from(signature).ok()?;
    p384::ecdsa::VerifyingKey::from(key)
        .verify_prehash(digest, &signature)
        .ok()
}

#[cfg(test)]
mod tests {
    use ukikit_creds::EndorsementArea;

    use super::*;

    /// 2030-01-01
    const NOW: u64 = 1_893_456_000;

    fn vector(path: &str) -> Vec<u8> {
        let root = env!("CARGO_MANIFEST_DIR");
        std::fs::read(format!("{root}/../tests/vectors/creds/{path}")).unwrap()
    }

    /// What is said of a certificate, with these CAs trusted.
    fn verdict(certificate: &str, authorities: &[&str]) -> Result<Vec<String>, String> {
        let mut trusted = Authorities::default();
        for file in authorities {
            trusted
                .add(&vector(&format!("endorsement/{file}.pem")))
                .unwrap();
        }
        let public = EndorsementArea::from_sized(&vector("tpm/p256.endorsement.pub")).unwrap();
        let certificate = vector(&format!("endorsement/{certificate}.der"));
        let key = EndorsementKey::new(public, Some(certificate));
        trusted
            .check(&key, NOW)
            .map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_path_of_named_cas_is_found() {
        for (certificate, authorities, path) in [
            (
                "good",
                &["rsa", "root", "intermediate"][..],
                &["CN=intermediate", "CN=root"][..],
            ),
            ("by-root", &["root"], &["CN=root"]),
            ("by-rsa", &["rsa"], &["CN=rsa"]),
        ] {
            assert_eq!(
                verdict(certificate, authorities).unwrap(),
                path,
                "{certificate}"
            );
        }
    }

    #[test]
    fn every_reason_to_refuse_is_said() {
        for (certificate, wanted) in [
            (
                "expired",
                "the endorsement certificate cannot be used: it expired at 2021-01-01T00:00:00Z",
            ),
            (
                "server",
                "the endorsement certificate is for other uses (its extended key usage lacks 2.23.133.8.1)",
            ),
            ("ca", "the endorsement certificate is that of a CA"),
            (
                "critical",
                "it has a critical extension that is not known here (1.2.3.4)",
            ),
            (
                "other-key",
                "the endorsement certificate is that of another key",
            ),
            (
                "forged",
                "the certificate of `CN=tpm` is not signed by the key of `CN=intermediate`",
            ),
            (
                "by-rsa",
                "`CN=rsa`, who issued the certificate of `CN=tpm`, is not among the CAs given",
            ),
            (
                "by-end",
                "the CA `CN=end` cannot be used: its basic constraints do not make it a CA",
            ),
            (
                "by-silent",
                "the CA `CN=silent` cannot be used: its basic constraints do not make it a CA",
            ),
            (
                "by-usage",
                "the CA `CN=usage` cannot be used: its key usage does not allow to sign certificates",
            ),
            (
                "by-old",
                "the CA `CN=old` cannot be used: it expired at 2021-01-01T00:00:00Z",
            ),
            (
                "by-constrained",
                "the CA `CN=constrained` cannot be used: it has a critical extension that is not known here (2.5.29.30)",
            ),
            (
                "by-lower",
                "the CA `CN=intermediate` cannot be used: it allows 0 CAs below it, not 1",
            ),
            ("by-loop", "the path to a root has over 8 certificates"),
        ] {
            let all = [
                "root",
                "intermediate",
                "end",
                "silent",
                "usage",
                "old",
                "constrained",
                "lower",
                "loop-a",
                "loop-b",
            ];
            assert_eq!(
                verdict(certificate, &all).unwrap_err(),
                wanted,
                "{certificate}"
            );
        }
    }

    #[test]
    fn an_intermediate_alone_is_not_enough() {
        assert_eq!(
            verdict("good", &["intermediate"]).unwrap_err(),
            "`CN=root`, who issued the certificate of `CN=intermediate`, is not among the CAs given"
        );
    }

    #[test]
    fn files_of_cas_are_read_whole_or_refused() {
        let mut trusted = Authorities::default();
        let two = [
            b"Root:\n".to_vec(),
            vector("endorsement/root.pem"),
            vector("endorsement/rsa.pem"),
            b"the end".to_vec(),
        ];
        trusted.add(&two.concat()).unwrap();
        assert_eq!(trusted.0.len(), 2);
        trusted.add(&vector("endorsement/ca.der")).unwrap();
        assert_eq!(trusted.0.len(), 3);
        let cut = |file: &str, size| {
            Authorities::default()
                .add(&vector(file)[..size])
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            cut("endorsement/root.pem", 20),
            "it has no certificate in PEM or DER"
        );
        assert_eq!(
            cut("endorsement/root.pem", 300),
            "its certificate 1 cannot be read"
        );
        assert_eq!(
            cut("endorsement/ca.der", 100),
            "it is not a certificate in DER"
        );
    }
}
