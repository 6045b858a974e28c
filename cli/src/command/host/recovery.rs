//! `ukikit host recovery`

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use ukikit::host::{RecoveryFile, directory};

use super::{Secrets, sources};
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Recovery {
    /// The host file whose [recovery] has the password hash
    #[arg(value_name = "HOST.toml")]
    file: PathBuf,
    /// Where the tree goes; there is nothing yet
    #[arg(value_name = "DIR")]
    tree: PathBuf,
    #[command(flatten)]
    secrets: Secrets,
    /// Say what would be in it, and write nothing
    #[arg(long)]
    dry_run: bool,
}

impl Recovery {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let host = self.secrets.host_file(&self.file)?;
        let values = self.secrets.values(directory(&self.file))?;
        let files = host.recovery_files(&sources(&values));
        let files = files.with_context(|| self.file.display().to_string())?;
        if fs::symlink_metadata(&self.tree).is_ok() {
            bail!("`{}` is there already", self.tree.display());
        }
        if !self.dry_run {
            let written = write(&self.tree, &files);
            written.with_context(|| format!("cannot write `{}`", self.tree.display()))?;
        }
        for file in &files {
            out.note(file.path.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Under another name first, so that it is there whole or not at all.
fn write(tree: &Path, files: &[RecoveryFile]) -> io::Result<()> {
    let parent = tree
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let draft = tempfile::tempdir_in(parent.unwrap_or(Path::new(".")))?;
    let place = draft.path().join("tree");
    for RecoveryFile {
        path,
        mode,
        content,
        ..
    } in files
    {
        let path = place.join(path);
        let directory = path.parent().unwrap_or(&place);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(*mode)
            .open(&path)?;
        file.write_all(content.expose())?;
    }
    fs::rename(place, tree)
}
