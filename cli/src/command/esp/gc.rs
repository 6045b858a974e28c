//! `ukikit esp gc`

use anyhow::Result;
use clap::Args;

use super::{Changing, with_remedy};
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Give up what `undo` would put back, and the room it takes; then only what was added can be undone
    #[arg(long)]
    forget_undo: bool,
    #[command(flatten)]
    changing: Changing,
}

impl Gc {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let mut planned = Vec::new();
        for esp in self.changing.open(None, out)? {
            let garbage = esp.garbage().map_err(with_remedy)?;
            planned.push((esp, garbage));
        }
        self.changing.apply(&planned, out)?;
        for (esp, _) in planned.iter().filter(|_| self.forget_undo) {
            let shown = esp.root().display();
            let verb = if self.changing.dry_run {
                "would free"
            } else {
                "freed"
            };
            let bytes = if self.changing.dry_run {
                esp.kept_for_undo()?
            } else {
                esp.forget_undo()?
            };
            out.note(format_args!(
                "{shown}: giving up what could be undone {verb} {bytes} bytes"
            ));
        }
        Ok(())
    }
}
