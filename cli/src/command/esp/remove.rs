//! `ukikit esp remove`

use anyhow::Result;
use clap::Args;

use super::{Root, Whose, apply};
use crate::output::{Json, Output};

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// File names, as `esp list` shows them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    root: Root,
    #[command(flatten)]
    whose: Whose,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the changes as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl Remove {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let esp = self.root.open()?;
        let target = self.whose.target();
        let changes = esp.remove(&target, &self.names)?;
        apply(&changes, &esp, self.dry_run, self.json, out)
    }
}
