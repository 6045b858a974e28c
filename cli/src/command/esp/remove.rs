//! `ukikit esp remove`

use anyhow::Result;
use clap::Args;

use super::{Changing, Whose, with_remedy};
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// File names, as `esp list` shows them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    whose: Whose,
    /// Remove also what something else has put there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    changing: Changing,
}

impl Remove {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let target = self.whose.target();
        let mut planned = Vec::new();
        for esp in self.changing.open(Some(&target), out)? {
            let changes = esp
                .remove_with(&target, &self.names, self.force)
                .map_err(with_remedy)?;
            planned.push((esp, changes));
        }
        self.changing.apply(&planned, out)
    }
}
