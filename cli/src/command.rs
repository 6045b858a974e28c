//! The command line: nouns here, one file below for each verb.

mod addon;
mod check;
mod completions;
pub(crate) mod cred;
mod esp;
mod examples;
mod explain;
mod ext;
mod features;
mod first_boot;
mod fleet;
mod host;
mod man;
mod pe;
mod predict;
mod publish;
mod recipe;
mod tpm;
mod trust;
mod uki;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::output::Output;

/// Equips a unified kernel image: sealed credentials and signed extensions beside it
#[derive(Debug, Parser)]
#[command(
    name = "ukikit",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub(crate) struct Ukikit {
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Credentials: encrypt, decrypt, inspect, encrypt anew, carry
    #[command(subcommand)]
    Cred(Box<cred::Verb>),
    /// This host's TPM, seen from outside
    #[command(subcommand)]
    Tpm(tpm::Verb),
    /// Extension images: build, sign, verify, inspect
    #[command(subcommand)]
    Ext(ext::Verb),
    /// PE addons, which bring a command line or an initrd to a UKI: build, verify, inspect
    #[command(subcommand)]
    Addon(addon::Verb),
    /// Whom a UKI trusts for extensions, and the addon that changes it
    #[command(subcommand)]
    Trust(trust::Verb),
    /// Companions on the EFI system partition: place, list, remove
    #[command(subcommand)]
    Esp(esp::Verb),
    /// PE files - UKIs, addons, boot loaders: sign, verify
    #[command(subcommand)]
    Pe(pe::Verb),
    /// One file per host: plan what it makes, and do it
    #[command(subcommand)]
    Host(Box<host::Verb>),
    /// Credentials for many hosts at once
    #[command(subcommand)]
    Fleet(fleet::Verb),
    /// What will go wrong at the next boot, and what to do about it
    Check(check::Check),
    /// What the TPM will show of a boot: PCR 11, 12 and 13
    Predict(Box<predict::Predict>),
    /// Lay extension images out for systemd-sysupdate, on any web server
    Publish(publish::Publish),
    /// What a boot made of the companions, and why it was not what was to be expected
    Explain(Box<explain::Explain>),
    /// Seal what a cloud, a hypervisor or an installer says of this host to its TPM, once
    FirstBoot(Box<first_boot::FirstBoot>),
    /// Unified kernel images: inspect
    #[command(subcommand)]
    Uki(uki::Verb),
    /// Features that extensions can be built of: list, show
    #[command(subcommand)]
    Recipe(recipe::Verb),
    /// Print what completes commands and options in a shell
    Completions(completions::Completions),
    /// Write the man pages, one for each verb
    Man(man::Man),
}

/// The commands with all that `--help` shows: what is parsed, completed and printed in man pages.
pub(crate) fn definition() -> Command {
    examples::shown(Ukikit::command())
}

/// What was typed; wrong usage, help and the version end the program.
pub(crate) fn parse() -> Ukikit {
    let matches = definition().get_matches();
    Ukikit::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

impl Ukikit {
    /// Runs the verb; the status is its own (`verify` may find an image bad without failing).
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self.noun {
            Noun::Cred(verb) => verb.run(out),
            Noun::Tpm(verb) => verb.run(out),
            Noun::Ext(verb) => verb.run(out),
            Noun::Addon(verb) => verb.run(out),
            Noun::Trust(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
            Noun::Esp(verb) => verb.run(out),
            Noun::Pe(verb) => verb.run(out),
            Noun::Host(verb) => verb.run(out),
            Noun::Fleet(verb) => verb.run(out),
            Noun::Check(verb) => verb.run(out),
            Noun::Predict(verb) => verb.run(out),
            Noun::Publish(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
            Noun::Explain(verb) => verb.run(out),
            Noun::FirstBoot(verb) => verb.run(out),
            Noun::Recipe(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
            Noun::Uki(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
            Noun::Completions(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
            Noun::Man(verb) => verb.run(out).map(|()| ExitCode::SUCCESS),
        }
    }
}
