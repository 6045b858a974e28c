//! Files as a value: what a directory, an initrd or an image holds, read when it is written.
//!
//! ```text
//! paths    ""  "etc"  "etc/a"  "etc/b"          sorted bytes, the root is the empty path
//!           │    │       └───┬────┘
//! entries   0    1           2                  one per inode: `etc/a` and `etc/b` are hard links
//! ```

mod budget;
mod compare;
mod content;
mod directory;
mod escape;
#[cfg(test)]
pub(crate) mod listing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

pub(crate) use budget::Budget;
pub use compare::{Difference, Differing};
pub(crate) use content::Open;
pub use content::{Content, ContentReader};
pub(crate) use directory::read_entry;
pub use escape::escape;

use crate::Error;

/// The longest name, and so the longest path component, that Linux file systems hold.
const NAME_MAX: usize = 255;
/// The longest path that a system call takes, without its terminating NUL; also bounds the depth.
const PATH_MAX: usize = 4095;
/// How many symbolic links one path may lead through, as in Linux.
const LINKS_MAX: usize = 40;

/// Files, directories and the like by their path. Paths are relative, without a leading slash; the root
/// is the empty path. Names are any bytes but NUL and slash. Every parent exists and is a directory.
#[derive(Debug, Clone)]
pub struct Tree {
    paths: BTreeMap<Vec<u8>, usize>,
    entries: Vec<Entry>,
}

/// What one inode says about itself.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Permission bits, set-id bits and the sticky bit: `0o7777` at most.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by their full name (`security.capability`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What it is.
    pub kind: Kind,
}

/// What an inode is, with all that belongs to this alone.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A directory; what it holds stands in the tree.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link to these bytes.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Below 2^12.
        major: u32,
        /// Below 2^20.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Below 2^12.
        major: u32,
        /// Below 2^20.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

impl Entry {
    /// An entry of root's with time 0 and no extended attributes.
    pub fn new(mode: u16, kind: Kind) -> Self {
        Self {
            mode: mode & 0o7777,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: BTreeMap::new(),
            kind,
        }
    }

    /// A directory, mode 0755.
    pub fn directory() -> Self {
        Self::new(0o755, Kind::Directory)
    }

    /// A regular file with these bytes, mode 0644.
    pub fn file(bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(0o644, Kind::File(Content::from_bytes(bytes)))
    }

    /// A symbolic link, mode 0777.
    pub fn symlink(target: impl Into<Vec<u8>>) -> Self {
        Self::new(0o777, Kind::Symlink(target.into()))
    }

    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory)
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// A tree of an empty root directory: mode 0755, owned by root, time 0.
    pub fn new() -> Self {
        Self {
            paths: BTreeMap::from([(Vec::new(), 0)]),
            entries: vec![Entry::directory()],
        }
    }

    /// Whether there is nothing but the root directory.
    pub fn is_empty(&self) -> bool {
        self.paths.len() == 1
    }

    /// The entry at `path`, symbolic links not followed.
    pub fn get(&self, path: impl AsRef<[u8]>) -> Option<&Entry> {
        self.entries.get(*self.paths.get(path.as_ref())?)
    }

    /// The same to change it; a change shows at all its hard links. A directory must stay one.
    pub fn get_mut(&mut self, path: impl AsRef<[u8]>) -> Option<&mut Entry> {
        self.entries.get_mut(*self.paths.get(path.as_ref())?)
    }

    /// All paths with their entries, the root first, in the order of the paths' bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.inodes().map(|(path, _, entry)| (path, entry))
    }

    /// As [`Tree::iter`], with a number that hard links to one file have in common.
    pub fn inodes(&self) -> impl Iterator<Item = (&[u8], usize, &Entry)> {
        self.paths
            .iter()
            .filter_map(|(path, &inode)| Some((path.as_slice(), inode, self.entries.get(inode)?)))
    }

    /// Bytes in its regular files, each file counted once.
    pub fn content_size(&self) -> u64 {
        let sizes: BTreeMap<usize, u64> = self
            .inodes()
            .filter_map(|(_, inode, entry)| match &entry.kind {
                Kind::File(content) => Some((inode, content.size())),
                _ => None,
            })
            .collect();
        sizes.into_values().fold(0, u64::saturating_add)
    }

    /// Puts `entry` at `path` in place of what was there; missing parents become directories of root's,
    /// mode 0755, with the same time. A directory keeps what it holds when another takes its place.
    ///
    /// # Errors
    ///
    /// [`Error::Entry`] when a name is empty, `.`, `..`, holds NUL or is longer than 255 bytes, the path is
    /// longer than 4095 bytes, a parent is not a directory, or a directory that is not empty, or the root,
    /// would become something else.
    pub fn insert(&mut self, path: impl AsRef<[u8]>, entry: Entry) -> Result<(), Error> {
        let path = path.as_ref();
        self.make_room(path, entry.is_directory(), entry.mtime)?;
        self.put(path, entry);
        Ok(())
    }

    /// Gives the file at `existing` the second name `path`, under the rules of [`Tree::insert`].
    ///
    /// # Errors
    ///
    /// [`Error::Entry`] as there, and when `existing` does not exist or is a directory.
    pub fn link(
        &mut self,
        existing: impl AsRef<[u8]>,
        path: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        let (existing, path) = (existing.as_ref(), path.as_ref());
        let Some(entry) = self.get(existing) else {
            return Err(Error::entry(path, "is a hard link to nothing"));
        };
        if entry.is_directory() {
            return Err(Error::entry(path, "is a hard link to a directory"));
        }
        let mtime = entry.mtime;
        if existing != path {
            self.make_room(path, false, mtime)?;
            if let Some(&inode) = self.paths.get(existing) {
                self.paths.insert(path.to_vec(), inode);
            }
        }
        Ok(())
    }

    /// Takes away `path` and all below it; the root keeps only itself. Returns whether it was there.
    pub fn remove(&mut self, path: impl AsRef<[u8]>) -> bool {
        let path = path.as_ref();
        let below = self.below(path);
        for child in below {
            self.paths.remove(&child);
        }
        if path.is_empty() {
            true
        } else {
            self.paths.remove(path).is_some()
        }
    }

    /// The path that `path` leads to when all symbolic links in it are followed inside the tree, as if the
    /// tree were the root directory. `None` when it leads to nothing or through more than 40 links.
    pub fn resolve(&self, path: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let mut ahead = components(path.as_ref());
        let mut reached = Vec::new();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == b".." {
                reached.truncate(parent(&reached).len());
                continue;
            }
            let next = join(&reached, &name);
            match &self.get(&next)?.kind {
                Kind::Symlink(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        reached.clear();
                    }
                    ahead.extend(components(target));
                }
                Kind::Directory => reached = next,
                _ if ahead.is_empty() => reached = next,
                _ => return None,
            }
        }
        Some(reached)
    }

    /// Makes every entry root's: what an image holds belongs to nobody of the machine that built it.
    pub fn own_by_root(&mut self) {
        for entry in &mut self.entries {
            (entry.uid, entry.gid) = (0, 0);
        }
    }

    /// Makes every entry's time `epoch`, in seconds since 1970.
    pub fn set_times(&mut self, epoch: i64) {
        for entry in &mut self.entries {
            entry.mtime = epoch;
        }
    }

    /// Makes times after `epoch` (seconds since 1970) `epoch`, as `SOURCE_DATE_EPOCH` wants it.
    pub fn clamp_times(&mut self, epoch: i64) {
        for entry in &mut self.entries {
            entry.mtime = entry.mtime.min(epoch);
        }
    }

    /// Keeps those extended attributes whose name `keep` accepts; [`is_portable_xattr`] is the usual choice.
    pub fn retain_xattrs(&mut self, keep: impl Fn(&[u8]) -> bool) {
        for entry in &mut self.entries {
            entry.xattrs.retain(|name, _| keep(name));
        }
    }

    /// Checks that `path` may hold a directory or not, and creates its parents.
    fn make_room(&mut self, path: &[u8], directory: bool, mtime: i64) -> Result<(), Error> {
        check_path(path)?;
        let is_directory = self.get(path).is_some_and(Entry::is_directory);
        if is_directory && !directory && (path.is_empty() || !self.below(path).is_empty()) {
            return Err(Error::entry(path, "is a directory that is not empty"));
        }
        for (end, _) in path.iter().enumerate().filter(|&(_, &byte)| byte == b'/') {
            let ancestor = path.get(..end).unwrap_or_default();
            match self.get(ancestor) {
                Some(entry) if entry.is_directory() => {}
                Some(_) => return Err(Error::entry(ancestor, "is not a directory")),
                None => self.put(
                    ancestor,
                    Entry {
                        mtime,
                        ..Entry::directory()
                    },
                ),
            }
        }
        Ok(())
    }

    /// Names a new inode.
    fn put(&mut self, path: &[u8], entry: Entry) {
        self.paths.insert(path.to_vec(), self.entries.len());
        self.entries.push(entry);
    }

    /// All paths below a directory.
    fn below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let first = if path.is_empty() {
            Vec::new()
        } else {
            join(path, b"")
        };
        let after = (Bound::Excluded(first.clone()), Bound::Unbounded);
        self.paths
            .range(after)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&first))
            .cloned()
            .collect()
    }
}

/// Whether an extended attribute means the same on every machine: `security.capability` and `user.*`. The
/// others are labels of the machine's security module, access lists of its users or its administrator's notes.
pub fn is_portable_xattr(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.")
}

/// `directory/name`, without the slash in the root.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        name.to_vec()
    } else {
        [directory, b"/", name].concat()
    }
}

/// Everything before the last slash; the root for a name alone.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    path.iter()
        .rposition(|&byte| byte == b'/')
        .and_then(|slash| path.get(..slash))
        .unwrap_or_default()
}

/// Everything after the last slash.
pub(crate) fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// A path in a tree as one of the host's.
pub(crate) fn path_of_bytes(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}

/// The names in a path, last first, without empty ones and `.`.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.rsplit(|&byte| byte == b'/');
    names
        .filter(|name| !name.is_empty() && *name != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// The rules for a path in a tree; the root is one.
fn check_path(path: &[u8]) -> Result<(), Error> {
    let names = || path.split(|&byte| byte == b'/');
    let what = if path.is_empty() {
        return Ok(());
    } else if path.len() > PATH_MAX {
        "path is longer than 4095 bytes"
    } else if path.contains(&0) {
        "name holds a NUL byte"
    } else if names().any(|name| name.len() > NAME_MAX) {
        "name is longer than 255 bytes"
    } else if names().any(|name| matches!(name, b"" | b"." | b"..")) {
        "path is absolute or has an empty, `.` or `..` name in it"
    } else {
        return Ok(());
    };
    Err(Error::entry(path, what))
}
