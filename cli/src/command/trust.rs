//! `ukikit trust`: its verbs.

mod add;
mod approve;
mod status;

use anyhow::{Context, Result};
use clap::Subcommand;
use ukikit_esp::Uki;
use ukikit_sysext::{Tree, initrd};

use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make an initrd trust certificates for extensions, or no longer trust them, by an addon
    Add(Box<add::Add>),
    /// Sign the PCR values of a UKI, so that credentials bound to your key open under it
    Approve(Box<approve::Approve>),
    /// Show whom a UKI trusts for extensions, and why
    Status(status::Status),
}

impl Verb {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        match self {
            Self::Add(verb) => verb.run(out),
            Self::Approve(verb) => verb.run(out),
            Self::Status(verb) => verb.run(out),
        }
    }
}

const SCHEMA: u32 = 1;

fn read_initrd(uki: &Uki<'_>) -> Result<Tree> {
    initrd::read(uki.initrd()?).context("cannot read the initrd of the UKI")
}
