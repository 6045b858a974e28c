//! Checks a signature by the stricter of the kernel's and systemd's rules, and says which of the two
//! would refuse it.

use ukikit_signing::{Certificate, Certificates, Hash, SignatureAlgorithm, SignedBy, SignedData};

use super::RootHashSignature;
use crate::finding::Findings;
use crate::{Check, Error, Finding, RootHash};

/// Checks that `signature` is over `root_hash` by one of the trusted certificates, which is returned.
///
/// # Errors
///
/// [`Error::Refused`] with every rule it breaks.
pub(crate) fn check<'a>(
    signature: &RootHashSignature,
    root_hash: &RootHash,
    trusted: &'a Certificates,
) -> Result<&'a Certificate, Error> {
    let signed = parse(signature).map_err(finding)?;
    let mut findings = Findings::default();
    let mut refuse = |what: String| findings.add(Check::Signature, PLACE, what);
    check_form(&signed, &mut refuse);
    let mut signers = signed.signers();
    let count = signers.len();
    let (Some(signer), 1) = (signers.next(), count) else {
        refuse(format!("has {count} signers; systemd takes exactly one"));
        return Err(findings.refused());
    };
    if signer.has_attributes() {
        refuse("has signed attributes; the kernel refuses them".into());
    }
    let hashed = check_hash(signer, &mut refuse);
    let good = check_algorithm(signer, &mut refuse) && !signer.has_attributes();
    let certificate = signer_certificate(signer, trusted, &mut refuse);
    if let (Some(certificate), true, true) = (certificate, hashed, good) {
        check_value(signer, certificate, root_hash, &mut refuse);
    }
    match certificate {
        Some(certificate) => findings.verdict(certificate),
        None => Err(findings.refused()),
    }
}

const PLACE: &str = "signature";

fn finding(what: impl Into<String>) -> Error {
    Finding::new(Check::Signature, PLACE, what).into()
}

fn parse(signature: &RootHashSignature) -> Result<SignedData, String> {
    let der = signature.as_der();
    if der.starts_with(b"-----BEGIN") {
        return Err("is PEM text; the kernel and systemd take only DER".into());
    }
    SignedData::from_der(der)
}

fn check_form(signed: &SignedData, refuse: &mut impl FnMut(String)) {
    if signed.has_content() {
        refuse("has its content inside; the kernel takes only detached signatures".into());
    }
    if let Some(kind) = signed.content_type() {
        refuse(format!(
            "is over content of type {kind}, not `data`; the kernel refuses it"
        ));
    }
}

/// Whether the hash is one that both take.
fn check_hash(signer: SignedBy<'_>, refuse: &mut impl FnMut(String)) -> bool {
    if signer.is_sha1() {
        refuse("is made with SHA-1, which is broken".into());
    } else if signer.hash().is_none() {
        let name = signer.hash_name();
        refuse(format!(
            "is made with {name}, not SHA-256, SHA-384 or SHA-512; the kernel may not know it"
        ));
    }
    signer.hash().is_some()
}

/// Whether the algorithm is one that both take.
fn check_algorithm(signer: SignedBy<'_>, refuse: &mut impl FnMut(String)) -> bool {
    match signer.algorithm() {
        SignatureAlgorithm::Rsa | SignatureAlgorithm::Ecdsa(Hash::Sha256 | Hash::Sha384) => {
            return true;
        }
        SignatureAlgorithm::RsaPss => {
            refuse("is made with RSA-PSS; neither the kernel nor systemd takes it".into());
        }
        _ => {
            let name = signer.algorithm_name();
            refuse(format!(
                "is made with {name}, not rsaEncryption or ECDSA with SHA-2; the kernel refuses it"
            ));
        }
    }
    false
}

fn signer_certificate<'a>(
    signer: SignedBy<'_>,
    trusted: &'a Certificates,
    refuse: &mut impl FnMut(String),
) -> Option<&'a Certificate> {
    if !signer.is_named_by_issuer() {
        refuse("names its signer by subject key identifier; systemd cannot read it".into());
        return None;
    }
    let certificate = signer.certificate(trusted);
    if certificate.is_none() {
        refuse(format!("is by {signer}, which is no trusted certificate"));
    }
    certificate
}

fn check_value(
    signer: SignedBy<'_>,
    certificate: &Certificate,
    root_hash: &RootHash,
    refuse: &mut impl FnMut(String),
) {
    let (key, subject) = (certificate.key(), certificate.subject());
    let curve_fits = signer.hash().is_some_and(|hash| key.takes(hash));
    if !signer.fits(key) || !curve_fits {
        let name = signer.algorithm_name();
        refuse(format!(
            "is made with {name}, which does not go with the {key} key of `{subject}`"
        ));
    } else if !signer.verifies(key, &root_hash.to_be_signed()) {
        refuse(other_content(root_hash, &subject));
    }
}

fn other_content(root_hash: &RootHash, subject: &str) -> String {
    format!("is not over root hash {root_hash} by the key of `{subject}`")
}

/// The refusal of a signature that is not over `root_hash`.
pub(super) fn not_over(root_hash: &RootHash, certificate: &Certificate) -> Error {
    finding(other_content(root_hash, &certificate.subject()))
}

/// Who signed, and the certificates inside that can be read; for showing, nothing is checked.
///
/// # Errors
///
/// [`Error::Refused`] when it is not PKCS#7.
pub(crate) fn describe(
    signature: &RootHashSignature,
) -> Result<(Vec<String>, Vec<Certificate>), Error> {
    let signed = parse(signature).map_err(finding)?;
    let signers = signed.signers().map(|signer| signer.to_string()).collect();
    Ok((signers, signed.certificates().collect()))
}
