//! Who signs an image, and the image as a file: shared by all verbs that build one.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use ukikit_signing::{Certificate, Error, KeyPair, PrivateKey, TokenUri};
use ukikit_sysext::{Plan, Report};

#[cfg(feature = "pkcs11")]
use super::token_key::open as token_key;
use super::{PEM_MAX, passphrase, read_certificate};
use crate::file::{self, Draft};
use crate::output::{Output, with_hint};
use crate::system;

#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// Private key: a PEM file, or the pkcs11: URI of a key on a token. Asked for its passphrase or PIN
    #[arg(long, value_name = "FILE|URI")]
    private_key: PathBuf,
    /// File with the passphrase or PIN
    #[arg(long, alias = "private-key-passphrase-file", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// The certificate of that key, PEM
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
}

impl Signing {
    pub(crate) fn new(
        private_key: PathBuf,
        passphrase_file: Option<PathBuf>,
        certificate: PathBuf,
    ) -> Self {
        Self {
            private_key,
            passphrase_file,
            certificate,
        }
    }

    pub(crate) fn signer(&self) -> Result<KeyPair> {
        let uri = self.private_key.to_str().filter(|text| TokenUri::is(text));
        let passphrase_file = self.passphrase_file.as_deref();
        let certificate = read_certificate(&self.certificate)?;
        let pair = match uri {
            Some(uri) => KeyPair::new(token_key(&uri.parse()?, passphrase_file)?, certificate),
            None => KeyPair::new(
                private_key(&self.private_key, passphrase_file)?,
                certificate,
            ),
        };
        pair.with_context(|| {
            let (key, certificate) = (self.private_key.display(), self.certificate.display());
            format!("`{key}` and `{certificate}` do not belong together")
        })
    }
}

#[cfg(not(feature = "pkcs11"))]
fn token_key(_: &TokenUri, _: Option<&Path>) -> Result<PrivateKey> {
    Err(with_hint(
        anyhow!("this ukikit was built without PKCS#11, so it cannot use keys on tokens"),
        "build it with `cargo install --locked --path cli --features pkcs11`",
    ))
}

/// The key in a PEM file; its passphrase comes from a file or is asked for.
pub(crate) fn private_key(path: &Path, passphrase_file: Option<&Path>) -> Result<PrivateKey> {
    let pem = file::read(path, PEM_MAX)?;
    let given = passphrase_file.map(passphrase::of_file).transpose()?;
    let parsed = match PrivateKey::from_pem(&pem, given.as_deref().map(Vec::as_slice)) {
        Err(Error::PassphraseNeeded) => ask_and_parse(path, &pem),
        result => result.map_err(Into::into),
    };
    parsed.with_context(|| format!("cannot use `{}`", path.display()))
}

fn ask_and_parse(path: &Path, pem: &[u8]) -> Result<PrivateKey> {
    let prompt = format!("Passphrase of {}: ", path.display());
    let no_terminal = with_hint(
        Error::PassphraseNeeded,
        "there is no terminal to ask on: give --passphrase-file=",
    );
    let typed = passphrase::ask(&prompt, no_terminal)?;
    Ok(PrivateKey::from_pem(pem, Some(&typed))?)
}

/// Warns when the certificate is not valid today: no boot looks at that, people may.
pub(crate) fn warn_of_dates(certificate: &Certificate, out: &mut Output) {
    let now = system::now_micros() / 1_000_000;
    let (begin, end) = (certificate.not_before(), certificate.not_after());
    let subject = certificate.subject();
    if now < begin.seconds() {
        out.warning(format_args!(
            "the certificate `{subject}` is not valid before {begin}"
        ));
    } else if now > end.seconds() {
        out.warning(format_args!("the certificate `{subject}` expired at {end}"));
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
