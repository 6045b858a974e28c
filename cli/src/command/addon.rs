//! `ukikit addon`: its verbs, and what they share.

mod build;
mod fit;
mod inspect;
pub(crate) mod output;
pub(crate) mod signing;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use zeroize::Zeroizing;

use crate::file;
use crate::output::Output;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a PE addon: a command line, an initrd, microcode or a devicetree beside a UKI
    Build(Box<build::Build>),
    /// Check that firmware would load an addon and the stub use it
    Verify(verify::Verify),
    /// Show what an addon carries
    Inspect(inspect::Inspect),
}

impl Verb {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self {
            Self::Build(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
            Self::Verify(verb) => verb.run(out),
            Self::Inspect(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
        }
    }
}

/// The version of the JSON that the verbs print; it changes when a member changes its meaning or goes.
pub(crate) const SCHEMA: u32 = 1;

/// UKIs with large initrds stay well below.
const PE_MAX: usize = 1 << 30;

/// A UKI or an addon.
pub(crate) fn read_pe(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    file::read(path, PE_MAX)
}

/// What a UKI or addon at `path` could not be used for.
pub(crate) fn usable<T>(path: &Path, read: Result<T, ukikit_esp::Error>) -> Result<T> {
    read.with_context(|| format!("cannot use {}", file::shown_input(path)))
}
