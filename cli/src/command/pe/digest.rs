//! `ukikit pe digest`

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use ukikit_signing::Hash;

use super::{SCHEMA, read, signing_time};
use crate::file;
use crate::output::{Json, Output};

/// The first of two steps of signing: what a key that is elsewhere has to sign
#[derive(Debug, Args)]
pub(crate) struct Digest {
    /// The UKI, addon or boot loader
    file: PathBuf,
    /// Where to write the bytes to sign (the signed attributes in DER)
    #[arg(long, value_name = "FILE")]
    content: Option<PathBuf>,
    /// Where to write their SHA-256, in binary, for an HSM or a key service
    #[arg(long, value_name = "FILE")]
    digest: Option<PathBuf>,
    /// A time for the signature to tell, to be given to `pe attach` as well
    #[arg(long, value_name = "TIME")]
    signing_time: Option<String>,
    /// How to print what is to be signed
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl Digest {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let time = signing_time(self.signing_time.as_deref())?;
        let digest = read(&self.file)?.digest(time)?;
        let content = digest.to_be_signed()?;
        let of_content = Hash::Sha256.digest(&content);
        for (path, bytes) in [(&self.content, &content), (&self.digest, &of_content)] {
            if let Some(path) = path {
                file::write(path, bytes, out)?;
            }
        }
        let digested = Digested {
            schema: SCHEMA,
            file: &self.file,
            file_digest: hex::encode(digest.as_bytes()),
            to_be_signed: hex::encode(content),
            digest: hex::encode(of_content),
        };
        out.show(&digested, self.json)
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Digested<'a> {
    schema: u32,
    file: &'a Path,
    /// SHA-256 of the file as firmware reckons it, in hex.
    file_digest: String,
    /// The signed attributes, in hex.
    to_be_signed: String,
    /// Their SHA-256, in hex.
    digest: String,
}

impl fmt::Display for Digested<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "file       {}", self.file.display())?;
        writeln!(f, "SHA-256    {}", self.file_digest)?;
        writeln!(f, "to sign    {}", self.to_be_signed)?;
        writeln!(f, "its digest {}", self.digest)
    }
}
