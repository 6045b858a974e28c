//! `ukikit tpm challenge`

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use ukikit::endorsement::Authorities;
use ukikit_creds::{Answer, Challenge, EndorsementKey, HostIdentity};

use crate::file;
use crate::output::{Json, Output, with_hint};
use crate::system;

/// In bytes; all files read here are a few kilobytes long.
const LONGEST: usize = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// The identity to be proven, as `ukikit tpm identity` wrote it
    identity: PathBuf,
    /// Where the challenge goes, for `ukikit tpm answer` on that host; - for standard output
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "check",
        conflicts_with = "check"
    )]
    output: Option<PathBuf>,
    /// Check the answer that the host gave
    #[arg(long, value_name = "ANSWER")]
    check: Option<PathBuf>,
    /// The answer expected: written with the challenge, read with --check. Keep it here; who reads it can forge the answer
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
    /// A CA that certifies real TPMs, PEM or DER, and its own issuers up to the root; may be given several times
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// How to print the verdict of --check
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl Prove {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let shown = file::shown_input(&self.identity);
        let identity = HostIdentity::from_json(&file::read(&self.identity, LONGEST)?)
            .with_context(|| format!("cannot use {shown}"))?;
        let issuers = self.issuers(&identity)?;
        if issuers.is_none() {
            out.warning("the endorsement certificate is not checked without --ca=: the answer shows that one TPM holds all keys, not that it is a real one");
        }
        match &self.check {
            None => self.make(&identity, out),
            Some(answer) => self.check(&identity, answer, issuers, out),
        }
    }

    /// Who stands behind the endorsement certificate, from its issuer to the root.
    fn issuers(&self, identity: &HostIdentity) -> Result<Option<Vec<String>>> {
        if self.ca.is_empty() {
            return Ok(None);
        }
        let mut authorities = Authorities::default();
        for path in &self.ca {
            authorities
                .add(&file::read(path, LONGEST)?)
                .with_context(|| format!("cannot use {}", file::shown_input(path)))?;
        }
        let Some(key) = &identity.endorsement_key else {
            return Ok(Some(Vec::new()));
        };
        let now = system::now_micros() / 1_000_000;
        let issuers = authorities.check(key, now).map_err(|error| match key.certificate {
            Some(_) => error,
            None => with_hint(error, "the TPM holds none; its maker may offer it for download. Without --ca= the proof goes on, and says less"),
        });
        issuers
            .map(Some)
            .with_context(|| format!("{} is not proven", file::shown_input(&self.identity)))
    }

    fn make(&self, identity: &HostIdentity, out: &mut Output) -> Result<()> {
        let (challenge, answer) = Challenge::new(identity, &mut system::random())?;
        file::write(&self.secret, answer.to_json().as_bytes(), out)?;
        let output = self.output.as_deref().unwrap_or(Path::new("-"));
        file::write(output, challenge.to_json().as_bytes(), out)?;
        out.note(format_args!(
            "{}: run `ukikit tpm answer` with it on the host, then check the answer with --check= here",
            file::shown_output(output)
        ));
        Ok(())
    }

    fn check(
        &self,
        identity: &HostIdentity,
        answer: &Path,
        issuers: Option<Vec<String>>,
        out: &mut Output,
    ) -> Result<()> {
        let expected = read_answer(&self.secret)?;
        let proven = expected.check(&read_answer(answer)?, identity)?;
        let verdict = Verdict {
            schema: 1,
            proven: proven.iter().map(ToString::to_string).collect(),
            endorsement_key: identity.endorsement_key.as_ref().map(described),
            certificate_issuers: issuers,
        };
        out.show(&verdict, self.json)
    }
}

fn read_answer(path: &Path) -> Result<Answer> {
    Answer::from_json(&file::read(path, LONGEST)?)
        .with_context(|| format!("cannot use {}", file::shown_input(path)))
}

fn described(key: &EndorsementKey) -> String {
    let kind = key.public.template().kind();
    format!("{kind} {}", hex::encode(key.public.name()))
}

/// What an answer has shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    schema: u32,
    /// Members of the identity.
    proven: Vec<String>,
    /// Kind and TPM name.
    endorsement_key: Option<String>,
    /// From the certificate's issuer to the root; absent when the certificate was not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_issuers: Option<Vec<String>>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "proven:          {}", self.proven.join(", "))?;
        let key = self.endorsement_key.as_deref().unwrap_or("none");
        writeln!(f, "endorsement key: {key}")?;
        match &self.certificate_issuers {
            Some(issuers) => writeln!(f, "certified by:    {}", issuers.join(", by ")),
            None => writeln!(f, "certified by:    not checked"),
        }
    }
}
