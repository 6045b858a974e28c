//! Checks a signature by the stricter of the kernel's and systemd's rules, and says which of the two
//! would refuse it.

use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use const_oid::db::DB;
use const_oid::db::rfc5911::{ID_DATA, ID_SIGNED_DATA};
use const_oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_RSASSA_PSS, ID_SHA_1, RSA_ENCRYPTION,
};
use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};

use super::{Hash, PublicKey, RootHashSignature};
use crate::finding::Findings;
use crate::{Certificate, Certificates, Check, Error, Finding, RootHash};

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
    let [signer] = signed.signer_infos.0.as_slice() else {
        let count = signed.signer_infos.0.len();
        refuse(format!("has {count} signers; systemd takes exactly one"));
        return Err(findings.refused());
    };
    check_attributes(signer, &mut refuse);
    let hash = hash(signer, &mut refuse);
    let good = check_algorithm(signer, &mut refuse) && signer.signed_attrs.is_none();
    let certificate = signer_certificate(signer, trusted, &mut refuse);
    if let (Some(certificate), Some(hash), true) = (certificate, hash, good) {
        check_value(signer, hash, certificate, root_hash, &mut refuse);
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
    let damaged = |error: der::Error| format!("is not PKCS#7 in DER: {error}");
    let content = ContentInfo::from_der(der).map_err(damaged)?;
    if content.content_type != ID_SIGNED_DATA {
        return Err(format!(
            "is not signed data, but {}",
            oid_name(content.content_type)
        ));
    }
    content.content.decode_as::<SignedData>().map_err(damaged)
}

fn check_form(signed: &SignedData, refuse: &mut impl FnMut(String)) {
    let content = &signed.encap_content_info;
    if content.econtent.is_some() {
        refuse("has its content inside; the kernel takes only detached signatures".into());
    }
    if content.econtent_type != ID_DATA {
        let kind = oid_name(content.econtent_type);
        refuse(format!(
            "is over content of type {kind}, not `data`; the kernel refuses it"
        ));
    }
}

fn check_attributes(signer: &SignerInfo, refuse: &mut impl FnMut(String)) {
    if signer.signed_attrs.is_some() {
        refuse("has signed attributes; the kernel refuses them".into());
    }
}

fn hash(signer: &SignerInfo, refuse: &mut impl FnMut(String)) -> Option<Hash> {
    let oid = signer.digest_alg.oid;
    let hash = Hash::from_oid(oid);
    if oid == ID_SHA_1 {
        refuse("is made with SHA-1, which is broken".into());
    } else if hash.is_none() {
        let name = oid_name(oid);
        refuse(format!(
            "is made with {name}, not SHA-256, SHA-384 or SHA-512; the kernel may not know it"
        ));
    }
    hash
}

/// Whether the algorithm is one that both take.
fn check_algorithm(signer: &SignerInfo, refuse: &mut impl FnMut(String)) -> bool {
    let oid = signer.signature_algorithm.oid;
    if [RSA_ENCRYPTION, ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384].contains(&oid) {
        return true;
    }
    refuse(if oid == ID_RSASSA_PSS {
        "is made with RSA-PSS; neither the kernel nor systemd takes it".into()
    } else {
        let name = oid_name(oid);
        format!("is made with {name}, not rsaEncryption or ECDSA with SHA-2; the kernel refuses it")
    });
    false
}

fn signer_certificate<'a>(
    signer: &SignerInfo,
    trusted: &'a Certificates,
    refuse: &mut impl FnMut(String),
) -> Option<&'a Certificate> {
    let SignerIdentifier::IssuerAndSerialNumber(name) = &signer.sid else {
        refuse("names its signer by subject key identifier; systemd cannot read it".into());
        return None;
    };
    let certificate = trusted.named(name);
    if certificate.is_none() {
        refuse(format!(
            "is by {}, which is no trusted certificate",
            signer_name(signer)
        ));
    }
    certificate
}

fn check_value(
    signer: &SignerInfo,
    hash: Hash,
    certificate: &Certificate,
    root_hash: &RootHash,
    refuse: &mut impl FnMut(String),
) {
    let (key, subject) = (certificate.key(), certificate.subject());
    let curve_fits = matches!(key, PublicKey::Rsa(_)) || key.hash() == hash;
    if signer.signature_algorithm.oid != key.signature_algorithm(hash).oid || !curve_fits {
        let name = oid_name(signer.signature_algorithm.oid);
        refuse(format!(
            "is made with {name}, which does not go with the {key} key of `{subject}`"
        ));
        return;
    }
    let content = root_hash.to_string();
    if !key.verifies(hash, content.as_bytes(), signer.signature.as_bytes()) {
        refuse(format!(
            "is not over root hash {root_hash} by the key of `{subject}`"
        ));
    }
}

/// The name OpenSSL and the standards have for an algorithm, or its numbers.
fn oid_name(oid: ObjectIdentifier) -> String {
    DB.by_oid(&oid)
        .map_or_else(|| oid.to_string(), str::to_owned)
}

fn signer_name(signer: &SignerInfo) -> String {
    match &signer.sid {
        SignerIdentifier::IssuerAndSerialNumber(name) => {
            format!("issuer `{}` serial {}", name.issuer, name.serial_number)
        }
        SignerIdentifier::SubjectKeyIdentifier(id) => {
            format!("subject key {}", hex::encode(id.0.as_bytes()))
        }
    }
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
    let signers = signed.signer_infos.0.iter().map(signer_name).collect();
    let inside = signed.certificates.iter().flat_map(|set| set.0.iter());
    let certificates = inside.filter_map(|choice| match choice {
        CertificateChoices::Certificate(parsed) => {
            Certificate::from_der(&parsed.to_der().ok()?).ok()
        }
        CertificateChoices::Other(_) => None,
    });
    Ok((signers, certificates.collect()))
}
