//! `ukikit pe verify`

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use ukikit_esp::PeSignature;
use ukikit_signing::Certificates;
use ukikit_sysext::CertificateDescription;

use super::{SCHEMA, read};
use crate::command::ext::read_certificate;
use crate::output::{Json, Output};

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The UKI, addon or boot loader
    file: PathBuf,
    /// A certificate that is trusted, PEM; may be given several times. It must be the signer's own
    #[arg(long, value_name = "FILE", required = true)]
    certificate: Vec<PathBuf>,
    /// How to print the verdict
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl Verify {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let trusted = self.certificate.iter().map(|path| read_certificate(path));
        let trusted = Certificates::new(trusted.collect::<Result<Vec<_>>>()?);
        let image = read(&self.file)?;
        let digest = image.digest(None)?;
        let judge = |signature| Judged::new(signature, digest.as_bytes(), &trusted);
        let signatures: Vec<Judged> = image.signatures().iter().map(judge).collect();
        // As for the firmware, one good signature is enough.
        let accepted = signatures
            .iter()
            .any(|signature| signature.reason.is_none());
        let verdict = Verdict {
            schema: SCHEMA,
            file: &self.file,
            accepted,
            digest: hex::encode(digest.as_bytes()),
            signatures,
        };
        out.show(&verdict, self.json)?;
        Ok(if accepted {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict<'a> {
    schema: u32,
    file: &'a Path,
    accepted: bool,
    /// SHA-256 of the file as firmware reckons it, in hex.
    digest: String,
    signatures: Vec<Judged>,
}

#[derive(Debug, Serialize)]
struct Judged {
    /// Whom it claims to be by.
    signers: Vec<String>,
    /// The certificate it was found to be by.
    certificate: Option<CertificateDescription>,
    /// Why it is refused.
    reason: Option<String>,
}

impl Judged {
    fn new(signature: &PeSignature, digest: &[u8], trusted: &Certificates) -> Self {
        let (signers, _) = signature.describe().unwrap_or_default();
        let (certificate, reason) = match signature.check(digest, trusted) {
            Ok(certificate) => (Some(certificate.into()), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            signers,
            certificate,
            reason,
        }
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        if self.signatures.is_empty() {
            writeln!(f, "{file}: has no signature")?;
        }
        for signature in &self.signatures {
            match (&signature.certificate, &signature.reason) {
                (Some(certificate), _) => {
                    let (subject, until) = (&certificate.subject, &certificate.not_after);
                    writeln!(f, "{file}: good, signed by {subject}, valid to {until}")?;
                }
                (None, reason) => {
                    let reason = reason.as_deref().unwrap_or_default();
                    writeln!(f, "{file}: {reason}")?;
                }
            }
        }
        Ok(())
    }
}
