//! `ukikit fleet status`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Args;

use super::Directory;
use crate::file;
use crate::output::{Json, Output, with_hint};

const LISTING_MAX: usize = 64 << 20;

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// What `ukikit esp list --json=short` printed on the host, or - for standard input
    #[arg(value_name = "LISTING")]
    listing: PathBuf,
    #[command(flatten)]
    directory: Directory,
    /// The host it was printed on
    #[arg(long)]
    host: String,
    /// Print the comparison as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl Status {
    /// Status 1 when the host has not exactly what was sealed for it.
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let record = self.directory.open().record(&self.host)?;
        let record = record.ok_or_else(|| {
            let error = anyhow!(
                "nothing was sealed for host {:?} in `{}`",
                self.host,
                self.directory.output.display()
            );
            with_hint(error, "ukikit fleet encrypt does so")
        })?;
        let listing = file::read(&self.listing, LISTING_MAX)?;
        let status = ukikit::fleet::status(&record, &listing)
            .with_context(|| format!("cannot use {}", file::shown_input(&self.listing)))?;
        out.show(&status, self.json)?;
        Ok(if status.is_current() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
