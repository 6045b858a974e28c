//! `ukikit ext verify`

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use ukikit::Carrier;
use ukikit_creds::Timestamp;
use ukikit_sysext::{
    Architecture, Certificates, Check, Error, Finding, Image, Requirements, RootHash, Scope, Tree,
};

use super::{SCHEMA, read_base, read_certificate};
use crate::command::cred::read_identity;
use crate::output::{Json, Output};
use crate::system;

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The image; its name tells which release file counts
    image: PathBuf,
    /// A certificate that is trusted, PEM; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    certificate: Vec<PathBuf>,
    /// Where it is to be merged: initrd, system, portable
    #[arg(long, default_value = "initrd")]
    scope: Scope,
    /// What it is to be merged into: an os-release, initrd or UKI [default: this machine's os-release]
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// The host, by its identity file: refuse the carrier of another
    #[arg(long = "for", value_name = "IDENTITY")]
    identity: Option<PathBuf>,
    /// How to print the verdict
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl Verify {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let trusted = self.certificate.iter().map(|path| read_certificate(path));
        let trusted = Certificates::new(trusted.collect::<Result<Vec<_>>>()?);
        let requirements = self.requirements()?;
        let cannot = || format!("cannot read `{}`", self.image.display());
        let file = File::open(&self.image).with_context(cannot)?;
        let verified = Image::open(BufReader::new(file))
            .and_then(|image| Ok((image.verify(&trusted, &requirements)?, image.tree()?)));
        let (root_hash, findings) = match verified {
            Ok((root_hash, tree)) => match self.refused_carrier(&tree)? {
                None => (Some(root_hash), Vec::new()),
                finding => (None, finding.into_iter().collect()),
            },
            Err(Error::Refused { findings }) => (None, findings),
            Err(error) => return Err(anyhow::Error::new(error).context(cannot())),
        };
        let accepted = root_hash.is_some();
        let image = &self.image;
        let verdict = Verdict {
            schema: SCHEMA,
            image,
            accepted,
            root_hash,
            findings,
        };
        out.show(&verdict, self.json)?;
        Ok(if accepted {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// What speaks against a carrier: its expiry and, when the host is known, that it is another's.
    fn refused_carrier(&self, tree: &Tree) -> Result<Option<Finding>> {
        let Some(carrier) = Carrier::find(tree)? else {
            return Ok(None);
        };
        let host = self.identity.as_deref().map(read_identity).transpose()?;
        let now = Timestamp::from_micros(system::now_micros());
        let checked = host
            .map_or(Ok(()), |host| carrier.check_host(&host))
            .and_then(|()| carrier.check_expiry(now));
        let finding = |error: anyhow::Error| {
            Finding::new(Check::Content, Carrier::place(), error.to_string())
        };
        Ok(checked.err().map(finding))
    }

    fn requirements(&self) -> Result<Requirements> {
        let base = match &self.base {
            Some(path) => read_base(path)?,
            None => read_base(this_machine())?,
        };
        let mut requirements = Requirements::new();
        requirements.scope = Some(self.scope);
        requirements.architecture = base.architecture.or_else(Architecture::native);
        requirements.base = Some(base.release);
        requirements.file_name = super::file_name(&self.image);
        Ok(requirements)
    }
}

fn this_machine() -> &'static Path {
    let first = Path::new("/etc/os-release");
    if first.exists() {
        first
    } else {
        Path::new("/usr/lib/os-release")
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict<'a> {
    schema: u32,
    image: &'a Path,
    accepted: bool,
    root_hash: Option<RootHash>,
    findings: Vec<Finding>,
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = self.image.display();
        if let Some(root_hash) = &self.root_hash {
            writeln!(f, "{image}: good, root hash {root_hash}")?;
        }
        self.findings
            .iter()
            .try_for_each(|finding| writeln!(f, "{image}: {finding}"))
    }
}
