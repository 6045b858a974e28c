//! `ukikit pe attach`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::{Signed, read, signing_time};
use crate::command::ext::{PEM_MAX, read_certificate};
use crate::file;
use crate::output::{Json, Output};

/// The second of two steps of signing: a signature made elsewhere comes into the file
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// The UKI, addon or boot loader
    file: PathBuf,
    /// The signature: PKCS#7 in DER as from `sbsign --detached`, or what an HSM or a key service made of the digest
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    /// The certificate of the key that signed, PEM
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// The time that was given to `pe digest`
    #[arg(long, value_name = "TIME")]
    signing_time: Option<String>,
    /// Where to write the signed file [default: in place of the other]
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
        let time = signing_time(self.signing_time.as_deref())?;
        let certificate = read_certificate(&self.certificate)?;
        let answer = file::read(&self.signature, PEM_MAX)?;
        let mut image = read(&self.file)?;
        let signature = image
            .digest(time)?
            .signature_of_answer(&answer, &certificate);
        let cannot = || format!("cannot use {}", file::shown_input(&self.signature));
        image.attach(signature.with_context(cannot)?);
        let place = (self.output.as_deref().unwrap_or(&self.file), self.dry_run);
        Signed::finish(&image, &certificate, place, out, self.json)
    }
}
