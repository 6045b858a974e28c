//! `ukikit tpm`: its verbs.

mod answer;
mod challenge;
mod identity;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write the public half of this host, to seal credentials for it from elsewhere
    Identity(identity::Identity),
    /// Ask a host to prove its identity, and check its answer
    Challenge(challenge::Prove),
    /// Answer a challenge with this host's TPM
    Answer(answer::Respond),
}

impl Verb {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self {
            Self::Identity(verb) => verb.run(out)?,
            Self::Challenge(verb) => verb.run(out)?,
            Self::Answer(verb) => verb.run(out)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
