//! `ukikit esp undo`

use std::fmt;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{Changing, with_remedy};
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Undo {
    /// Undo also what something else has changed since: as a change of its own, which `undo` takes back
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    changing: Changing,
}

impl Undo {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let esps = self.changing.open(None, out)?;
        if self.force {
            let planned = esps.into_iter().map(|esp| {
                let changes = esp.undo_over().map_err(with_remedy)?;
                Ok((esp, changes))
            });
            let planned = planned.collect::<Result<Vec<_>>>()?;
            return self.changing.apply(&planned, out);
        }
        for esp in esps {
            let undo = esp.undo().map_err(with_remedy)?;
            if !self.changing.dry_run {
                undo.apply(&esp)?;
            }
            let report = Report {
                schema: 1,
                applied: !self.changing.dry_run,
                esp: esp.root().display().to_string(),
                undo: &undo,
            };
            out.show(&report, self.changing.json)?;
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
