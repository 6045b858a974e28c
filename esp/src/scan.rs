//! What of the ESP takes part in a boot, read.

use std::ffi::OsStr;

use crate::esp::join;
use crate::volume::NodeKind;
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
        Ok(LoaderEntry::parse(
            &self.read(found.as_deref().unwrap_or(path))?,
        ))
    }

    fn extras(&self, paths: &[String]) -> Result<Vec<File>, Error> {
        let mut files = Vec::new();
        for path in paths {
            if let Some(found) = self.find(&path.replace('\\', "/"))?
                && self
                    .node(&found)?
                    .is_some_and(|node| node.kind == NodeKind::File)
            {
                let content = self.read(&found)?;
                files.push(File::new(found, content));
            }
        }
        Ok(files)
    }

    /// The regular files of a directory and their content, sorted; none if it is not there.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn files(&self, directory: &str) -> Result<Vec<File>, Error> {
        self.files_that(directory, |_| true)
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
        for node in self.nodes(&directory)? {
            if node.kind == NodeKind::File && wanted(OsStr::new(&node.name)) {
                let path = join(&directory, &node.name);
                let content = self.read(&path)?;
                files.push(File::new(path, content));
            }
        }
        Ok(files)
    }
}
