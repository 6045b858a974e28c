//! `ukikit completions`

use anyhow::Result;
use clap::Args;
use clap_complete::Shell;

use super::definition;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut definition(), "ukikit", &mut script);
        out.bytes(&script)
    }
}
