//! `ukikit ext digest`

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use ukikit_signing::Hash;
use ukikit_sysext::RootHash;

use super::build::{Built, Contents};
use super::read_certificate;
use crate::file;
use crate::output::Output;

/// The first of two steps of signing: the image with room for a signature, and what is to be signed
#[derive(Debug, Args)]
pub(crate) struct Digest {
    #[command(flatten)]
    image: Contents,
    /// The certificate of the key that will sign, PEM: its kind decides the hash [default hash: SHA-256]
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Where to write the bytes to sign, for `openssl cms` or `smime` (with -binary and -noattr)
    #[arg(long, value_name = "FILE")]
    content: Option<PathBuf>,
    /// Where to write the digest of these bytes, in binary, for an HSM or a key service
    #[arg(long, value_name = "FILE")]
    digest: Option<PathBuf>,
}

impl Digest {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let plan = self.image.plan(out)?;
        let certificate = self.certificate.as_deref().map(read_certificate);
        let certificate = certificate.transpose()?;
        let hash = certificate.map_or(Hash::Sha256, |certificate| certificate.key().hash());
        let built = self.image.build(&plan, None)?;
        let root_hash = built.root_hash();
        let to_be_signed = root_hash.to_be_signed();
        let digest = hash.digest(&to_be_signed);
        if !self.image.dry_run {
            for (path, bytes) in [(&self.content, &to_be_signed), (&self.digest, &digest)] {
                if let Some(path) = path {
                    file::write(path, bytes, out)?;
                }
            }
        }
        let digested = Digested {
            built,
            to_be_signed: root_hash,
            hash: hash.to_string(),
            digest: hex::encode(digest),
        };
        out.show(&digested, self.image.json)
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Digested<'a> {
    #[serde(flatten)]
    built: Built<'a>,
    /// These digits are what is signed.
    to_be_signed: RootHash,
    /// Whose digest follows.
    hash: String,
    /// Of what is to be signed, in hex.
    digest: String,
}

impl fmt::Display for Digested<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.built.fmt(f)?;
        writeln!(f, "to sign    {}", self.to_be_signed)?;
        writeln!(f, "{:<10} {}", self.hash, self.digest)
    }
}
