//! A change of the ESP as a value: shown by a dry run, or applied.
//!
//! ```text
//! every new content → temporary name in its directory → fsync
//!                   → rename, new files first → fsync of the directories → removals
//! ```
//!
//! Until the first rename nothing shows; a failure before it leaves the ESP as it was. The temporary
//! names begin with a dot, so the stub would skip one that a power cut left behind.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::TempPath;

use crate::companion::size;
use crate::{Error, Esp, Kind};

/// What happens to one file. In the order of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Action {
    /// It is not there and will be.
    Add,
    /// It is there with other content.
    Replace,
    /// It is there and will not be.
    Remove,
    /// It is there with this content already.
    Keep,
    /// It was to be removed and is not there.
    Absent,
}

/// What happens to one file.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// What is done.
    pub action: Action,
    /// From the root of the ESP, without a leading slash.
    pub path: String,
    /// What the stub takes the file for.
    pub kind: Kind,
    /// Its size before, in bytes.
    pub before: Option<u64>,
    /// Its size afterwards, in bytes.
    pub after: Option<u64>,
    #[serde(skip)]
    content: Vec<u8>,
}

impl Change {
    pub(crate) fn add(path: String, kind: Kind, content: Vec<u8>) -> Self {
        let after = Some(size(&content));
        Self::new(Action::Add, path, kind, (None, after), content)
    }

    pub(crate) fn replace(path: String, kind: Kind, before: u64, content: Vec<u8>) -> Self {
        let sizes = (Some(before), Some(size(&content)));
        Self::new(Action::Replace, path, kind, sizes, content)
    }

    pub(crate) fn remove(path: String, kind: Kind, before: u64) -> Self {
        Self::new(Action::Remove, path, kind, (Some(before), None), Vec::new())
    }

    pub(crate) fn keep(path: String, kind: Kind, size: u64) -> Self {
        let sizes = (Some(size), Some(size));
        Self::new(Action::Keep, path, kind, sizes, Vec::new())
    }

    pub(crate) fn absent(path: String, kind: Kind) -> Self {
        Self::new(Action::Absent, path, kind, (None, None), Vec::new())
    }

    fn new(
        action: Action,
        path: String,
        kind: Kind,
        (before, after): (Option<u64>, Option<u64>),
        content: Vec<u8>,
    ) -> Self {
        Self {
            action,
            path,
            kind,
            before,
            after,
            content,
        }
    }

    /// The directory, from the root of the ESP.
    fn directory(&self) -> &str {
        self.path
            .rsplit_once('/')
            .map_or("", |(directory, _)| directory)
    }

    /// A credential is for root alone, on file systems that can tell.
    fn mode(&self) -> u32 {
        if self.kind == Kind::Credential {
            0o600
        } else {
            0o644
        }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Change({self})")
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match (self.action, self.before, self.after) {
            (Action::Add, _, Some(after)) => write!(f, "add      {path} ({after} bytes)"),
            (Action::Replace, Some(before), Some(after)) => {
                write!(f, "replace  {path} ({before} bytes, now {after})")
            }
            (Action::Remove, Some(before), _) => write!(f, "remove   {path} ({before} bytes)"),
            (Action::Keep, Some(before), _) => write!(f, "keep     {path} ({before} bytes)"),
            _ => write!(f, "absent   {path}"),
        }
    }
}

/// A set of changes that belong together, in the order in which they are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changes {
    changes: Vec<Change>,
}

impl Changes {
    pub(crate) fn new(mut changes: Vec<Change>) -> Self {
        changes.sort_by(|a, b| (a.action, &a.path).cmp(&(b.action, &b.path)));
        Self { changes }
    }

    /// What happens to each file.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }

    /// Whether everything is as it should be.
    pub fn is_empty(&self) -> bool {
        self.iter()
            .all(|change| matches!(change.action, Action::Keep | Action::Absent))
    }

    /// Makes the changes.
    ///
    /// # Errors
    ///
    /// What the file system says. No temporary file stays, and no file is ever half-written. After
    /// a failed rename or removal the changes in front of it are made, those behind it are not.
    pub fn apply(&self, esp: &Esp) -> Result<(), Error> {
        // Dropped in reverse: temporary files go before the directories made for them.
        let mut made = MadeDirectories::default();
        let staged = self
            .with(&[Action::Add, Action::Replace])
            .map(|change| stage(esp, change, &mut made))
            .collect::<Result<Vec<_>, Error>>()?;
        for file in staged {
            file.rename()?;
        }
        self.sync_directories(esp, &[Action::Add, Action::Replace])?;
        for change in self.with(&[Action::Remove]) {
            let path = esp.root().join(&change.path);
            fs::remove_file(&path).map_err(|source| Error::Remove { path, source })?;
        }
        self.sync_directories(esp, &[Action::Remove])?;
        self.remove_empty_directories(esp)
    }

    fn with(&self, actions: &[Action]) -> impl Iterator<Item = &Change> {
        self.iter()
            .filter(move |change| actions.contains(&change.action))
    }

    fn directories(&self, actions: &[Action]) -> BTreeSet<&str> {
        self.with(actions).map(Change::directory).collect()
    }

    fn sync_directories(&self, esp: &Esp, actions: &[Action]) -> Result<(), Error> {
        self.directories(actions)
            .into_iter()
            .try_for_each(|directory| sync(&esp.root().join(directory)))
    }

    /// The directory of companions goes with the last of them.
    fn remove_empty_directories(&self, esp: &Esp) -> Result<(), Error> {
        for directory in self.directories(&[Action::Remove]) {
            let path = esp.root().join(directory);
            match fs::remove_dir(&path) {
                Ok(()) => sync(path.parent().unwrap_or(esp.root()))?,
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(source) => return Err(Error::Remove { path, source }),
            }
        }
        Ok(())
    }
}

impl fmt::Display for Changes {
    /// One line for each file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|change| writeln!(f, "{change}"))
    }
}

/// A file written aside. Dropped, it is gone.
struct Staged {
    temporary: TempPath,
    path: PathBuf,
}

impl Staged {
    fn rename(self) -> Result<(), Error> {
        let path = self.path;
        self.temporary
            .persist(&path)
            .map_err(|failed| cannot_write(&path)(failed.error))
    }
}

fn stage(esp: &Esp, change: &Change, made: &mut MadeDirectories) -> Result<Staged, Error> {
    let directory = made.make(esp.root(), change.directory())?;
    let path = esp.root().join(&change.path);
    let write = || {
        let mut file = tempfile::Builder::new()
            .prefix(".ukikit-")
            .permissions(Permissions::from_mode(change.mode()))
            .tempfile_in(directory)?;
        file.write_all(&change.content)?;
        file.as_file().sync_all()?;
        Ok(file.into_temp_path())
    };
    let temporary = write().map_err(cannot_write(&path))?;
    Ok(Staged { temporary, path })
}

/// The directories made for a change. Dropped, those that are empty go again: after a success none is.
#[derive(Default)]
struct MadeDirectories(Vec<PathBuf>);

impl MadeDirectories {
    /// Makes what is missing of the way and returns its end.
    fn make(&mut self, root: &Path, way: &str) -> Result<PathBuf, Error> {
        let mut at = root.to_owned();
        for name in way.split('/') {
            let parent = at.clone();
            at.push(name);
            match fs::create_dir(&at) {
                Ok(()) => self.0.push(at.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(source) => return Err(cannot_write(&at)(source)),
            }
            sync(&parent)?;
        }
        Ok(at)
    }
}

impl Drop for MadeDirectories {
    fn drop(&mut self) {
        for directory in self.0.iter().rev() {
            // Refused when it holds something, which is when it is wanted.
            let _ = fs::remove_dir(directory);
        }
    }
}

fn sync(directory: &Path) -> Result<(), Error> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(cannot_write(directory))
}

fn cannot_write(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Write {
        path: path.into(),
        source,
    }
}

#[cfg(test)]
mod tests;
