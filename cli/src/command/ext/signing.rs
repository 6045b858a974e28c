//! Who signs an image, and the image as a file: shared by all verbs that build one.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use ukikit_signing::{Error, KeyPair, PrivateKey};
use ukikit_sysext::{Plan, Report};

use super::{PEM_MAX, passphrase, read_certificate};
use crate::file::{self, Draft};
use crate::output::with_hint;

#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// Private key, PEM; asked for its passphrase if it has one
    #[arg(long, value_name = "FILE")]
    private_key: PathBuf,
    /// File with the passphrase of the private key
    #[arg(long, alias = "private-key-passphrase-file", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// The certificate of that key, PEM
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
}

impl Signing {
    pub(crate) fn signer(&self) -> Result<KeyPair> {
        let pem = file::read(&self.private_key, PEM_MAX)?;
        let key = self
            .parse_key(&pem)
            .with_context(|| format!("cannot use `{}`", self.private_key.display()))?;
        let certificate = read_certificate(&self.certificate)?;
        KeyPair::new(key, certificate).with_context(|| {
            let (key, certificate) = (self.private_key.display(), self.certificate.display());
            format!("`{key}` and `{certificate}` do not belong together")
        })
    }

    fn parse_key(&self, pem: &[u8]) -> Result<PrivateKey> {
        let given = match &self.passphrase_file {
            Some(path) => Some(passphrase::of_file(path)?),
            None => None,
        };
        match PrivateKey::from_pem(pem, given.as_deref().map(Vec::as_slice)) {
            Err(Error::PassphraseNeeded) => {
                let prompt = format!("Passphrase of {}: ", self.private_key.display());
                let typed = passphrase::ask(&prompt).map_err(|_| {
                    with_hint(
                        Error::PassphraseNeeded,
                        "there is no terminal to ask on: give --passphrase-file=",
                    )
                })?;
                Ok(PrivateKey::from_pem(pem, Some(&typed))?)
            }
            result => Ok(result?),
        }
    }
}

/// Builds an image into `out`, signed or with an empty signature partition. `progress` is told how many bytes
/// of content were read.
pub(super) fn build(
    plan: &Plan,
    signer: Option<&KeyPair>,
    out: &mut (impl Write + Seek + Send),
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Report, ukikit_sysext::Error> {
    match signer {
        Some(signer) => plan.build_watched(signer, out, progress),
        None => plan.build_unsigned(out, progress),
    }
}

/// Writes an image so that what was there before stays until it is complete.
pub(crate) fn write<T>(
    path: &Path,
    image: impl FnOnce(&mut File) -> Result<T, ukikit_sysext::Error>,
) -> Result<T> {
    let cannot = || format!("cannot write `{}`", path.display());
    let mut draft = Draft::of(path).with_context(cannot)?;
    let report = match image(draft.content()) {
        Err(ukikit_sysext::Error::Write { source }) => return Err(source).with_context(cannot),
        written => written.map_err(explain)?,
    };
    draft.finish(0o644).with_context(cannot)?;
    Ok(report)
}

/// All reasons of a refusal, each on a line of its own.
pub(super) fn explain(error: ukikit_sysext::Error) -> anyhow::Error {
    match error {
        ukikit_sysext::Error::Refused { findings } => {
            let reasons: Vec<String> = findings
                .iter()
                .map(|finding| format!("\n  {finding}"))
                .collect();
            anyhow!("this would not be merged:{}", reasons.concat())
        }
        ukikit_sysext::Error::NotInstalled { .. } => with_hint(
            error,
            "squashfs images need the package squashfs-tools; without --format=, nothing is needed",
        ),
        other => other.into(),
    }
}
