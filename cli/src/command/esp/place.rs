//! `ukikit esp place`

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use ukikit_creds::Timestamp;
use ukikit_esp::{Companion, Esp, Target, Uki};

use super::verify::{Encoding, Expected};
use super::{Root, Whose, apply, hint_at_ukis};
use crate::command::cred::read_identity;
use crate::output::{Json, Output};
use crate::system;

#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Files to place, each under its own name: *.cred, *.sysext.raw, *.raw, *.confext.raw, *.addon.efi
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    root: Root,
    #[command(flatten)]
    whose: Whose,
    /// Certificate, in PEM, that an image must be signed by [default: those in the initrd of the UKI]
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
    /// The host, by its identity file: a carrier is placed for its own host alone
    #[arg(long = "for", value_name = "IDENTITY")]
    identity: Option<PathBuf>,
    /// How the credentials are written; initrds of systemd up to 261 want some of them binary
    #[arg(long, value_enum, value_name = "ENCODING", default_value_t)]
    encoding: Encoding,
    /// Place also what was not verified, with a warning
    #[arg(long)]
    force: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the changes as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl Place {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let esp = self.root.open()?;
        let target = self.whose.target();
        let uki = read_uki(&esp, &target)?;
        let host = self.identity.as_deref().map(read_identity).transpose()?;
        let now = Timestamp::from_micros(system::now_micros());
        let mut expected = Expected::new(
            self.encoding,
            &self.certificate,
            uki.as_deref(),
            host.as_ref(),
            now,
        );
        let files = self
            .files
            .iter()
            .map(|path| Companion::read(path))
            .collect::<Result<Vec<_>, _>>()?;
        for file in &files {
            match expected.verify(file) {
                Err(reason) if self.force => out.warning(format_args!("{reason:#}")),
                verdict => verdict?,
            }
        }
        let changes = esp.place(&target, files)?;
        apply(&changes, &esp, self.dry_run, self.json, out)
    }
}

/// The bytes of the UKI the companions are for, if they are for one.
fn read_uki(esp: &Esp, target: &Target) -> Result<Option<Vec<u8>>> {
    let Target::Uki(path) = target else {
        return Ok(None);
    };
    let path = esp.uki(path).map_err(|error| hint_at_ukis(error, esp))?;
    let file = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Uki::parse(&file).with_context(|| format!("cannot use `{}`", path.display()))?;
    Ok(Some(file))
}
