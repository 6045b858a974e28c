//! `ukikit esp`: its verbs, and the options that say where.

mod list;
mod place;
mod remove;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use ukikit_esp::{Changes, Error, Esp, Target, UkiPath};

use crate::output::{Json, Output, with_hint};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show the companions of one UKI, or of all, and what becomes of them
    List(list::List),
    /// Put credentials, extension images and addons beside a UKI
    Place(place::Place),
    /// Take companions away from beside a UKI
    Remove(remove::Remove),
}

impl Verb {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self {
            Self::List(verb) => verb.run(out),
            Self::Place(verb) => verb.run(out),
            Self::Remove(verb) => verb.run(out),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// `--esp=`
#[derive(Debug, Args)]
struct Root {
    /// Root directory of the EFI system partition
    #[arg(long, value_name = "DIR")]
    esp: PathBuf,
}

impl Root {
    fn open(&self) -> Result<Esp> {
        Ok(Esp::at(&self.esp)?)
    }
}

/// `--uki=` or `--global`
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// Companions of the UKI at this path on the ESP, with or without its boot counter
    #[arg(long, value_name = "PATH")]
    uki: Option<UkiPath>,
    /// Companions of all UKIs on the ESP
    #[arg(long)]
    global: bool,
}

impl Whose {
    fn target(self) -> Target {
        self.uki.map_or(Target::Global, Target::Uki)
    }
}

/// What a verb changes, or with `--dry-run` would change.
#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: u32,
    applied: bool,
    #[serde(flatten)]
    changes: &'a Changes,
}

impl std::fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.changes.fmt(f)
    }
}

fn apply(changes: &Changes, esp: &Esp, dry_run: bool, json: Json, out: &mut Output) -> Result<()> {
    if !dry_run {
        changes.apply(esp)?;
    }
    let report = Report {
        schema: 1,
        applied: !dry_run,
        changes,
    };
    out.show(&report, json)
}

/// Names the UKIs there are when one was not found.
fn hint_at_ukis(error: Error, esp: &Esp) -> anyhow::Error {
    let ukis = esp.ukis().unwrap_or_default();
    if !matches!(error, Error::NoUki { .. }) || ukis.is_empty() {
        return error.into();
    }
    let paths: Vec<&str> = ukis.iter().map(UkiPath::as_str).collect();
    let hint = format!(
        "--uki= takes a path from the root of the ESP, here {}",
        paths.join(" or ")
    );
    with_hint(error, hint)
}
