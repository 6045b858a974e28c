//! `ukikit uki`: its verbs.

mod inspect;

use anyhow::Result;
use clap::Subcommand;

use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show what a UKI, or an initrd, can do with extensions and sealed credentials
    Inspect(inspect::Inspect),
}

impl Verb {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        match self {
            Self::Inspect(verb) => verb.run(out),
        }
    }
}
