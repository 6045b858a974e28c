//! `ukikit ext attach`

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use ukikit_sysext::{CertificateDescription, Image, RootHash, RootHashSignature};

use super::signing::{self, explain};
use super::{PEM_MAX, SCHEMA, read_certificate};
use crate::file;
use crate::output::{Json, Output};

/// The second of two steps of signing: a signature made elsewhere comes into the image
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// The image, from `ext digest` or any other builder; a signature it has is replaced
    image: PathBuf,
    /// The signature: PKCS#7 in DER, or what an HSM or a key service made of the digest, in binary
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    /// The certificate of the key that signed, PEM
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// Where to write the signed image [default: in place of the other]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Check everything, write nothing
    #[arg(long)]
    dry_run: bool,
    /// How to print what was done
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl Attach {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let certificate = read_certificate(&self.certificate)?;
        let answer = file::read(&self.signature, PEM_MAX)?;
        let open = || -> Result<_> { Ok(Image::open(BufReader::new(File::open(&self.image)?))?) };
        let cannot = || format!("cannot use `{}`", self.image.display());
        let image = open().with_context(cannot)?;
        let root_hash = image.root_hash().map_err(explain).with_context(cannot)?;
        let signature = RootHashSignature::of_answer(&answer, &root_hash, &certificate)
            .map_err(explain)
            .with_context(|| format!("cannot use {}", file::shown_input(&self.signature)))?;
        signing::warn_of_dates(&certificate, out);
        let output = self.output.as_ref().unwrap_or(&self.image);
        if self.dry_run {
            image.attach(&signature, &certificate, &mut io::empty())?;
        } else {
            signing::write(output, |file| image.attach(&signature, &certificate, file))?;
        }
        let attached = Attached {
            schema: SCHEMA,
            output,
            dry_run: self.dry_run,
            root_hash,
            certificate: CertificateDescription::from(&certificate),
        };
        out.show(&attached, self.json)
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Attached<'a> {
    schema: u32,
    output: &'a Path,
    dry_run: bool,
    root_hash: RootHash,
    certificate: CertificateDescription,
}

impl fmt::Display for Attached<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CertificateDescription {
            subject,
            key,
            not_before,
            not_after,
            ..
        } = &self.certificate;
        let written = if self.dry_run { " (not written)" } else { "" };
        writeln!(f, "image      {}{written}", self.output.display())?;
        writeln!(f, "root hash  {}", self.root_hash)?;
        writeln!(f, "signed by  {subject}, {key}")?;
        writeln!(f, "valid      {not_before} to {not_after}")
    }
}
