//! Options that decide what of a tree goes into an image, and what is added: the same when it is built and when it is
//! proven to be built from that tree.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ukikit_sysext::{Error, FileContexts, Manifest, PackageDatabase, Packages, Plan};

use crate::file;

/// A manifest or file contexts of a whole distribution stay well below.
const TEXT_MAX: usize = 64 << 20;

#[derive(Debug, Args)]
pub(super) struct Content {
    /// Owners, modes, devices and extended attributes that a builder who is not root cannot give its files: an
    /// mtree(5) file
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Let files keep their owners instead of making all root's
    #[arg(long)]
    preserve_owner: bool,
    /// Label files for SELinux by this file_contexts(5), for extensions of the running system; labels of the
    /// machine that builds are never taken
    #[arg(long, value_name = "FILE")]
    selinux_contexts: Option<PathBuf>,
    /// Record the package of each file by the dpkg or rpm database of the system in DIR, beside the notes in
    /// programs and libraries
    #[arg(long, value_name = "DIR")]
    packages_from: Option<PathBuf>,
    /// Record no packages, not even those that programs and libraries name themselves
    #[arg(long, conflicts_with = "packages_from")]
    no_packages: bool,
}

impl Content {
    /// Puts them into a plan.
    pub(super) fn apply(&self, plan: &mut Plan) -> Result<()> {
        plan.preserve_owner = self.preserve_owner;
        plan.manifest = parsed(self.manifest.as_deref(), Manifest::parse)?;
        plan.contexts = parsed(self.selinux_contexts.as_deref(), FileContexts::parse)?;
        plan.packages = match &self.packages_from {
            _ if self.no_packages => Packages::None,
            Some(root) => Packages::Database(PackageDatabase::read(root)?),
            None => Packages::Noted,
        };
        Ok(())
    }
}

fn parsed<T>(path: Option<&Path>, parse: fn(&[u8]) -> Result<T, Error>) -> Result<Option<T>> {
    let read = |path: &Path| {
        let text = file::read(path, TEXT_MAX)?;
        parse(&text).with_context(|| format!("cannot use `{}`", path.display()))
    };
    path.map(read).transpose()
}
