//! `ukikit fleet forget`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use ukikit::fleet::forget;

use super::Directory;
use crate::output::{Json, Output};

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
    /// Print what went as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl Forget {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let forgotten = forget(&self.directory.open(), &self.hosts, self.dry_run)?;
        out.show(&forgotten, self.json)?;
        Ok(ExitCode::SUCCESS)
    }
}
