//! `ukikit ext diff`

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use ukikit_sysext::Differing;

use super::{SCHEMA, files};
use crate::output::{Json, Output};

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// An image, or a directory, which is taken as `ext build` takes it
    first: PathBuf,
    /// Another one
    second: PathBuf,
    /// Compare times too
    #[arg(long)]
    times: bool,
    /// Compare the owners of files in a directory, instead of taking all as root's
    #[arg(long)]
    preserve_owner: bool,
    /// How to print it
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl Diff {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let first = files::read(&self.first, self.preserve_owner)?;
        let second = files::read(&self.second, self.preserve_owner)?;
        let differing = if self.times {
            first.compare_with_times(&second)?
        } else {
            first.compare(&second)?
        };
        let compared = Compared {
            schema: SCHEMA,
            first: &self.first,
            second: &self.second,
            same: differing.is_empty(),
            differing,
        };
        out.show(&compared, self.json)?;
        Ok(if compared.same {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Compared<'a> {
    schema: u32,
    first: &'a Path,
    second: &'a Path,
    same: bool,
    differing: Vec<Differing>,
}

impl fmt::Display for Compared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.differing
            .iter()
            .try_for_each(|differing| writeln!(f, "{differing}"))
    }
}
