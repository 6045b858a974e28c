//! `ukikit fleet forget`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Directory;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Forget {
    /// Hosts whose tree and record go
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<String>,
    #[command(flatten)]
    directory: Directory,
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

impl Forget {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let store = self.directory.open();
        for host in &self.hosts {
            let removed = store.forget(host, self.dry_run)?;
            out.note(format_args!(
                "{host}: {removed} credentials {}",
                if self.dry_run { "to remove" } else { "removed" }
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}
