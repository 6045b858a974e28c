//! `ukikit host schema`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use ukikit::host::schema;

use crate::output::Output;

/// For editors and generators of host files.
#[derive(Debug, Args)]
pub(crate) struct Schema {}

impl Schema {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        out.bytes(schema().as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
