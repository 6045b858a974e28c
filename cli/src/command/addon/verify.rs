//! `ukikit addon verify`

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use ukikit_esp::{AddonFinding, AddonImage, AddonTarget, Name, SignablePe, Uki, check_addon};
use ukikit_signing::Certificates;
use ukikit_sysext::initrd;

use super::{SCHEMA, fit, read_pe, usable};
use crate::command::ext::read_certificate;
use crate::output::{Json, Output};

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The addon
    addon: PathBuf,
    /// The UKI it is to lie beside: its architecture, kernel, stub and initrd
    #[arg(long, value_name = "FILE")]
    uki: Option<PathBuf>,
    /// A certificate in the firmware's db or shim's list of keys, PEM; may be given several times. One of the signatures must be
    /// by one of them, the signer's own
    #[arg(long, value_name = "CERT")]
    db: Vec<PathBuf>,
    /// How to print the verdict
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl Verify {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let bytes = read_pe(&self.addon)?;
        let (target, base) = match &self.uki {
            Some(path) => {
                let uki = read_pe(path)?;
                let uki = usable(path, Uki::parse(&uki))?;
                (AddonTarget::of(&uki), uki.initrd().map(<[u8]>::to_vec).ok())
            }
            None => (AddonTarget::default(), None),
        };
        let mut verdict = Verdict {
            schema: SCHEMA,
            addon: &self.addon,
            accepted: true,
            signed_by: None,
            findings: check_addon(&bytes, &target)
                .iter()
                .map(Finding::from)
                .collect(),
        };
        verdict.findings.extend(check_name(&self.addon));
        if !self.db.is_empty() {
            match self.signer(&bytes)? {
                Ok(signer) => verdict.signed_by = Some(signer),
                Err(reasons) => verdict
                    .findings
                    .extend(reasons.into_iter().map(Finding::refusal)),
            }
        }
        if verdict.findings.iter().all(|finding| !finding.refusal) {
            verdict
                .findings
                .extend(check_initrd(&bytes, base.as_deref()));
        }
        verdict.accepted = verdict.findings.iter().all(|finding| !finding.refusal);
        out.show(&verdict, self.json)?;
        Ok(if verdict.accepted {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Verify {
    /// Who signed it, or what is wrong with each of its signatures.
    fn signer(&self, addon: &[u8]) -> Result<Result<String, Vec<String>>> {
        let db = self.db.iter().map(|path| read_certificate(path));
        let db = Certificates::new(db.collect::<Result<Vec<_>>>()?);
        let image = match SignablePe::parse(addon) {
            Ok(image) => image,
            Err(error) => return Ok(Err(vec![error.to_string()])),
        };
        let digest = image.digest(None)?;
        let mut reasons = Vec::new();
        for signature in image.signatures() {
            match signature.check(digest.as_bytes(), &db) {
                Ok(certificate) => return Ok(Ok(certificate.subject())),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        if reasons.is_empty() {
            reasons.push("it is not signed, which Secure Boot requires".to_owned());
        }
        Ok(Err(reasons))
    }
}

fn check_name(path: &Path) -> Option<Finding> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let refused = name.parse::<Name>().err()?;
    Some(Finding::refusal(refused.to_string()))
}

/// What the kernel unpacks behind the initrd of the UKI.
fn check_initrd(bytes: &[u8], base: Option<&[u8]>) -> Option<Finding> {
    let addon = AddonImage::parse(bytes).ok()?;
    let check = || -> Result<()> {
        let tree = initrd::read(&addon.initrd.unwrap_or_default()).context("its initrd")?;
        if let Some(base) = base {
            let base = initrd::read(base).context("the initrd of the UKI")?;
            fit::check(&tree, &base)?;
        }
        Ok(())
    };
    let refused = check().err()?;
    // A hint is not part of the sentence.
    let causes = refused.chain().map(ToString::to_string);
    let sentence: Vec<String> = if refused.is::<crate::output::Hint>() {
        causes.skip(1).collect()
    } else {
        causes.collect()
    };
    Some(Finding::refusal(sentence.join(": ")))
}

#[derive(Debug, Serialize)]
struct Finding {
    refusal: bool,
    what: String,
}

impl Finding {
    fn refusal(what: String) -> Self {
        Self {
            refusal: true,
            what,
        }
    }
}

impl From<&AddonFinding> for Finding {
    fn from(finding: &AddonFinding) -> Self {
        Self {
            refusal: finding.is_refusal(),
            what: finding.to_string(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict<'a> {
    schema: u32,
    addon: &'a Path,
    accepted: bool,
    /// Whose signature was found good; nothing when no certificate was given.
    signed_by: Option<String>,
    findings: Vec<Finding>,
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addon = self.addon.display();
        if self.accepted {
            match &self.signed_by {
                Some(signer) => writeln!(f, "{addon}: good, signed by {signer}")?,
                None => writeln!(f, "{addon}: good, signatures not looked at")?,
            }
        }
        self.findings.iter().try_for_each(|finding| {
            let warning = if finding.refusal { "" } else { "warning: " };
            writeln!(f, "{addon}: {warning}{}", finding.what)
        })
    }
}
