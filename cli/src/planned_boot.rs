//! A boot that is to be looked at: the UKI, what lies beside it, and what it is started with.

use std::sync::Arc;

use anyhow::{Context, Result};
use ukikit_esp::{
    Boot, BootFiles, Companion, Error, Esp, LoaderEntry, Start, Target, Uki, UkiPath,
};

/// Everything that takes part in one boot, read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlannedBoot {
    /// The path of the UKI, as it was asked for.
    pub uki_path: UkiPath,
    /// The bytes of the UKI, `None` if it is not there yet.
    pub uki: Option<Arc<Vec<u8>>>,
    /// The files the stub and the boot loader look at.
    pub files: BootFiles,
    /// What it is started with.
    pub start: Start,
}

impl PlannedBoot {
    /// Reads it from an ESP; `extras` are paths as in the `extra` lines of a boot entry.
    ///
    /// # Errors
    ///
    /// What keeps the files from being read. A UKI that is not there is none.
    pub fn read(esp: &Esp, uki_path: UkiPath, extras: &[String], start: Start) -> Result<Self> {
        let uki = match esp.read_uki(&uki_path) {
            Ok(file) => Some(Arc::new(file)),
            Err(Error::NoUki { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let files = esp.boot_files(&uki_path, extras)?;
        Ok(Self {
            uki_path,
            uki,
            files,
            start,
        })
    }

    /// The same UKI, which is not read again, started with something else.
    ///
    /// # Errors
    ///
    /// What keeps the files from being read.
    pub fn started_with(&self, esp: &Esp, extras: &[String], start: Start) -> Result<Self> {
        Ok(Self {
            uki_path: self.uki_path.clone(),
            uki: self.uki.clone(),
            files: esp.boot_files(&self.uki_path, extras)?,
            start,
        })
    }

    /// The bytes of the UKI.
    pub fn uki(&self) -> Option<&[u8]> {
        self.uki.as_deref().map(Vec::as_slice)
    }

    /// The boot after companions of these names were removed, and others then placed.
    ///
    /// # Errors
    ///
    /// None that the name of a companion could give rise to.
    pub fn change(
        &mut self,
        target: &Target,
        removed: &[String],
        placed: &[Companion],
    ) -> Result<()> {
        for name in removed {
            self.files.remove(target, name);
        }
        for companion in placed {
            let (name, content) = (companion.name().to_string(), companion.content().to_vec());
            self.files.put(target, &name, content)?;
        }
        Ok(())
    }

    /// What a boot entry starts the UKI with.
    pub fn start_of(entry: &LoaderEntry) -> Start {
        let mut start = Start::default();
        start.profile = entry.profile;
        start.options.clone_from(&entry.options);
        start
    }

    /// Plays the boot.
    ///
    /// # Errors
    ///
    /// For a file that is no UKI, and a profile it does not have.
    pub fn boot(&self) -> Result<Boot<'_>> {
        let cannot_use = || format!("cannot use `{}`", self.uki_path);
        let uki = self.uki().map(Uki::parse).transpose();
        let uki = uki.with_context(cannot_use)?;
        Boot::new(uki.as_ref(), &self.files, &self.start).with_context(cannot_use)
    }
}
