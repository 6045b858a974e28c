//! Images that will be merged together with the one that is built: of a file in several of them a boot shows one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ukikit_sysext::{Error, Tree, needs};

use super::files;
use crate::command::features::refused;

#[derive(Debug, Args)]
pub(super) struct Beside {
    /// An image that is merged together with this one, or a directory of them, like the one beside a UKI: no file may
    /// be in both and differ. May be given several times
    #[arg(long, value_name = "PATH")]
    beside: Vec<PathBuf>,
}

impl Beside {
    /// Compares the files with those of each image but the one called `own`, which this one replaces.
    pub(super) fn check(&self, tree: &Tree, own: &str) -> Result<()> {
        let mut findings = Vec::new();
        for path in self.images(own)? {
            let name = super::file_name(&path).unwrap_or_default();
            let theirs = files::read(&path, false)?;
            findings.extend(needs::conflicts(tree, &theirs, &name)?);
        }
        if findings.is_empty() {
            return Ok(());
        }
        let error = Error::Refused { findings };
        Err(refused(error, "does not go with the images beside it"))
    }

    fn images(&self, own: &str) -> Result<Vec<PathBuf>> {
        let mut images = Vec::new();
        for path in &self.beside {
            if path.is_dir() {
                images.extend(images_in(path)?);
            } else {
                images.push(path.clone());
            }
        }
        images.retain(|path| super::file_name(path).as_deref() != Some(own));
        Ok(images)
    }
}

fn images_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot read `{}`", directory.display());
    let mut images = Vec::new();
    for item in fs::read_dir(directory).with_context(cannot)? {
        let path = item.with_context(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "raw") {
            images.push(path);
        }
    }
    images.sort();
    Ok(images)
}
