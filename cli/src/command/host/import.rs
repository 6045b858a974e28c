//! `ukikit host import`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use ukikit::host::import::{System, import};

use crate::file;
use crate::output::Output;
use crate::system;

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Where the host file goes, or - for standard output
    #[arg(default_value = "-")]
    output: PathBuf,
    /// The system to read
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// The kernel's command line [default: this boot's, or none with --root=]
    #[arg(long, value_name = "OPTIONS")]
    cmdline: Option<String>,
    /// Say what would be left out, and write nothing
    #[arg(long)]
    dry_run: bool,
}

impl Import {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let root = std::path::absolute(&self.root);
        let root = root.with_context(|| format!("cannot use `{}`", self.root.display()))?;
        let is_this = self.root == std::path::Path::new("/");
        let of_boot = || {
            if is_this {
                system::kernel_command_line()
            } else {
                String::new()
            }
        };
        let command_line = self.cmdline.unwrap_or_else(of_boot);
        let (host, left) = import(&System::read(&root, command_line));
        if !self.dry_run {
            file::write(&self.output, host.to_string().as_bytes(), out)?;
        }
        for left in &left {
            out.warning(left);
        }
        Ok(ExitCode::SUCCESS)
    }
}
