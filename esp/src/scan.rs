//! What of the ESP takes part in a boot, read.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use crate::esp::names;
use crate::{BootFiles, Error, Esp, File, Kind, LoaderEntry, UkiPath};

impl Esp {
    /// The files that take part in a boot of this UKI, whether it is there or not; `extras` are the paths of the entry's
    /// `extra` lines. Those that are missing are left out, as the boot loader does.
    ///
    /// # Errors
    ///
    /// What the file system says, and [`Error::SymbolicLink`] on the way to a directory.
    pub fn boot_files(&self, uki: &UkiPath, extras: &[String]) -> Result<BootFiles, Error> {
        let global = |kind: Kind| self.files_in(kind.global_directory());
        Ok(BootFiles {
            own: self.files_in(&uki.companions())?,
            global_credentials: global(Kind::Credential)?,
            global_extensions: global(Kind::Extension)?,
            global_addons: global(Kind::Addon)?,
            extras: self.extras(extras)?,
        })
    }

    /// A file of a boot entry.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when it is not there.
    pub fn loader_entry(&self, path: &str) -> Result<LoaderEntry, Error> {
        let found = self.find(&path.replace('\\', "/"))?;
        let path = found.unwrap_or_else(|| self.root().join(path));
        Ok(LoaderEntry::parse(&read(&path)?))
    }

    /// The regular files of a directory and their content, sorted; none if it is not there.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn files(&self, directory: &str) -> Result<Vec<File>, Error> {
        self.files_that(directory, |_| true)
    }

    fn extras(&self, paths: &[String]) -> Result<Vec<File>, Error> {
        let mut files = Vec::new();
        for path in paths {
            if let Some(found) = self.find(&path.replace('\\', "/"))?
                && found.is_file()
            {
                files.push(File::new(self.relative(&found), read(&found)?));
            }
        }
        Ok(files)
    }

    /// Those that have a name a boot could take.
    fn files_in(&self, directory: &str) -> Result<Vec<File>, Error> {
        self.files_that(directory, |name| Kind::taken_by_stub(name).is_ok())
    }

    fn files_that(
        &self,
        directory: &str,
        wanted: impl Fn(&OsStr) -> bool,
    ) -> Result<Vec<File>, Error> {
        let Some(directory) = self.find(directory)? else {
            return Ok(Vec::new());
        };
        let mut files = Vec::new();
        for name in names(&directory)? {
            let path = directory.join(&name);
            let regular = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
            if regular && wanted(&name) {
                files.push(File::new(self.relative(&path), read(&path)?));
            }
        }
        Ok(files)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read {
        path: path.into(),
        source,
    })
}
