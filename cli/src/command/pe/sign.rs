//! `ukikit pe sign`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Signed, read, signing_time};
use crate::command::ext::signing::Signing;
use crate::output::{Json, Output};

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The UKI, addon or boot loader
    file: PathBuf,
    #[command(flatten)]
    signing: Signing,
    /// Where to write the signed file; may be the same
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Take signatures that it has off first; without this the new one is put behind them
    #[arg(long)]
    replace: bool,
    /// A time for the signature to tell, such as now [default: none, so that the bytes are the same each time]
    #[arg(long, value_name = "TIME")]
    signing_time: Option<String>,
    /// Do everything but write the file
    #[arg(long)]
    dry_run: bool,
    /// How to print what was done
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl Sign {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let time = signing_time(self.signing_time.as_deref())?;
        let mut image = read(&self.file)?;
        let signer = self.signing.signer()?;
        if self.replace {
            image.remove_signatures();
        }
        image.sign(&signer, time)?;
        let place = (self.output.as_path(), self.dry_run);
        Signed::finish(&image, signer.certificate(), place, out, self.json)
    }
}
