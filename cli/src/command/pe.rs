//! `ukikit pe`: signatures of UKIs, addons and boot loaders.

mod attach;
mod digest;
mod sign;
mod verify;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use serde::Serialize;
use ukikit_creds::Timestamp;
use ukikit_esp::SignablePe;
use ukikit_signing::Certificate;
use ukikit_sysext::CertificateDescription;

use super::ext::signing;
use crate::file::{self, Draft};
use crate::output::{Json, Output};
use crate::system;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Sign a UKI, an addon or a boot loader for Secure Boot
    Sign(sign::Sign),
    /// Tell what is to be signed, for a key that is elsewhere
    Digest(digest::Digest),
    /// Put a signature that was made elsewhere into a file
    Attach(attach::Attach),
    /// Check that a file is signed by somebody who is trusted
    Verify(verify::Verify),
}

impl Verb {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self {
            Self::Sign(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
            Self::Digest(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
            Self::Attach(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
            Self::Verify(verb) => verb.run(out),
        }
    }
}

/// The version of the JSON that the verbs print; it changes when a member changes its meaning or goes.
const SCHEMA: u32 = 1;
/// UKIs with large initrds stay well below.
const PE_MAX: usize = 1 << 30;

fn read(path: &Path) -> Result<SignablePe> {
    let bytes = file::read(path, PE_MAX)?;
    SignablePe::parse(&bytes).with_context(|| format!("cannot use `{}`", path.display()))
}

/// Seconds since 1970 of a `--signing-time=`.
fn signing_time(text: Option<&str>) -> Result<Option<u64>> {
    let now = Timestamp::from_micros(system::now_micros());
    let time = text
        .map(|text| ukikit::moment::parse(text, now))
        .transpose()?;
    Ok(time.map(|time| time.as_micros() / 1_000_000))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = Draft::of(path)?;
    draft.content().write_all(bytes)?;
    draft.finish(0o644)
}

/// A file that got a signature.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Signed<'a> {
    schema: u32,
    output: &'a Path,
    dry_run: bool,
    /// SHA-256 of the file as firmware reckons it, in hex.
    digest: String,
    /// How many it has now.
    signatures: usize,
    certificate: CertificateDescription,
}

impl<'a> Signed<'a> {
    /// Writes the file unless told not to, and tells what it is.
    fn finish(
        image: &SignablePe,
        certificate: &Certificate,
        (output, dry_run): (&'a Path, bool),
        out: &mut Output,
        json: Json,
    ) -> Result<()> {
        let bytes = image.to_bytes()?;
        signing::warn_of_dates(certificate, out);
        let description = CertificateDescription::from(certificate);
        if description.key.starts_with("ECDSA") {
            out.warning("the firmware of many machines verifies RSA signatures only");
        }
        if !dry_run {
            write(output, &bytes)
                .with_context(|| format!("cannot write `{}`", output.display()))?;
        }
        let signed = Self {
            schema: SCHEMA,
            output,
            dry_run,
            digest: hex::encode(image.digest(None)?.as_bytes()),
            signatures: image.signatures().len(),
            certificate: description,
        };
        out.show(&signed, json)
    }
}

impl fmt::Display for Signed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CertificateDescription {
            subject,
            key,
            not_before,
            not_after,
            ..
        } = &self.certificate;
        let written = if self.dry_run { " (not written)" } else { "" };
        writeln!(f, "file       {}{written}", self.output.display())?;
        writeln!(f, "SHA-256    {}", self.digest)?;
        writeln!(f, "signatures {}", self.signatures)?;
        writeln!(f, "signed by  {subject}, {key}")?;
        writeln!(f, "valid      {not_before} to {not_after}")
    }
}
