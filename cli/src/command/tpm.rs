//! `ukikit tpm`: its verbs.

mod identity;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write the public half of this host, to seal credentials for it from elsewhere
    Identity(identity::Identity),
}

impl Verb {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self {
            Self::Identity(verb) => verb.run(out)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
