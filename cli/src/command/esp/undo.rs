//! `ukikit esp undo`

use std::fmt;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use ukikit_esp::Error;

use super::{Root, with_remedy};
use crate::output::{Json, Output, with_hint};

#[derive(Debug, Args)]
pub(crate) struct Undo {
    #[command(flatten)]
    root: Root,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the changes as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl Undo {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        for esp in self.root.open(None)? {
            let recovered = if self.dry_run {
                Vec::new()
            } else {
                esp.recover()?
            };
            for what in recovered {
                out.note(format_args!("{}: {what}", esp.root().display()));
            }
            let undo = esp.undo().map_err(|error| match error {
                Error::ChangedSince { .. } => {
                    with_hint(error, "undoing would lose that; put it back first")
                }
                other => with_remedy(other),
            })?;
            if !self.dry_run {
                undo.apply(&esp)?;
            }
            let report = Report {
                schema: 1,
                applied: !self.dry_run,
                esp: esp.root().display().to_string(),
                undo: &undo,
            };
            out.show(&report, self.json)?;
        }
        Ok(())
    }
}

/// What is undone, or with `--dry-run` would be.
#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: u32,
    applied: bool,
    esp: String,
    #[serde(flatten)]
    undo: &'a ukikit_esp::Undo,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.undo.fmt(f)
    }
}
