//! `ukikit cred`: its verbs.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {}

impl Verb {
    pub(crate) fn run(self, _out: &mut Output) -> Result<ExitCode> {
        match self {}
    }
}
