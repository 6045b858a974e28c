//! The EFI system partition: finding things on it the way FAT does.
//!
//! Names are compared without regard to ASCII case, so that any directory behaves as the mounted FAT
//! would. Symbolic links, which FAT does not have, are never followed below the root.

use std::any::Any;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::Content;
use crate::volume::{Directory, Fat, FilePart, Node, NodeKind, Space, Volume};
use crate::{Error, PathRule, UkiPath};

/// An EFI system partition (or XBOOTLDR partition): mounted, in an image, or just a directory with its files.
#[derive(Debug, Clone)]
pub struct Esp {
    volume: Arc<dyn Volume>,
    root: PathBuf,
    keep_free: u64,
    /// As long as one of its clones is there.
    lock: Option<Arc<dyn Any + Send + Sync>>,
}

/// In bytes. Boot loaders and firmware write small files of their own.
const KEEP_FREE: u64 = 1024 * 1024;

impl Esp {
    /// The ESP whose root is this directory.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if there is nothing, [`Error::NotADirectory`] if it is something else.
    pub fn at(root: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(root).map_err(|source| Error::Read {
            path: root.into(),
            source,
        })?;
        if !metadata.is_dir() {
            return Err(Error::NotADirectory { path: root.into() });
        }
        Ok(Self::on(Directory::new(root), root))
    }

    /// The ESP in an image of a disk or of the partition alone, which is not mounted; then XBOOTLDR, if the disk has one.
    ///
    /// # Errors
    ///
    /// [`Error::Image`] for one without a partition that can be read; [`Error::Read`].
    pub fn in_image(path: &Path) -> Result<Vec<Self>, Error> {
        let image = |source| Error::Image {
            path: path.into(),
            source,
        };
        let parts = FilePart::boot_partitions(path).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => image(source),
            _ => Error::Read {
                path: path.into(),
                source,
            },
        })?;
        let opened = parts
            .into_iter()
            .map(|part| Ok(Self::on(Fat::open(part).map_err(image)?, path)));
        opened.collect()
    }

    /// The ESP on any volume, called `name` where it has to be named.
    pub fn on(volume: impl Volume + 'static, name: &Path) -> Self {
        Self {
            volume: Arc::new(volume),
            root: name.into(),
            keep_free: KEEP_FREE,
            lock: None,
        }
    }

    /// The same, where no change may leave less room than this, in bytes; a MiB unless told.
    #[must_use]
    pub fn keep_free(mut self, bytes: u64) -> Self {
        self.keep_free = bytes;
        self
    }

    /// The same, with every other process kept from changing it until this and its clones are gone: what is planned on it is
    /// still true when it is applied.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] while another process is at work, and what the file system says.
    pub fn locked(mut self) -> Result<Self, Error> {
        self.lock = Some(self.lock()?);
        Ok(self)
    }

    /// Keeps other processes from changing the ESP.
    pub(crate) fn lock(&self) -> Result<Arc<dyn Any + Send + Sync>, Error> {
        if let Some(lock) = &self.lock {
            return Ok(Arc::clone(lock));
        }
        let lock = self.volume.lock().map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => Error::Busy {
                esp: self.root().into(),
            },
            _ => self.cannot_read("", source),
        })?;
        Ok(Arc::from(lock))
    }

    /// Its root directory, or what it is called if it is not mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn volume(&self) -> &dyn Volume {
        &*self.volume
    }

    pub(crate) fn room_to_keep(&self) -> u64 {
        self.keep_free
    }

    /// The paths of the UKIs in `EFI/Linux`, where boot loaders look for them by themselves.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn ukis(&self) -> Result<Vec<UkiPath>, Error> {
        let Some(directory) = self.find("EFI/Linux")? else {
            return Ok(Vec::new());
        };
        let is_uki = |node: &Node| {
            node.kind == NodeKind::File && node.name.to_ascii_lowercase().ends_with(".efi")
        };
        let nodes = self.nodes(&directory)?;
        let paths = nodes.into_iter().filter(is_uki);
        Ok(paths
            .filter_map(|node| join(&directory, &node.name).parse().ok())
            .collect())
    }

    /// The file of a UKI. One that is boot counted is found by its name with any counter or none,
    /// as the boot loader renames it at every try.
    ///
    /// # Errors
    ///
    /// [`Error::NoUki`] if there is none, [`Error::UkiPath`] if the stub would not see the counter
    /// in its name.
    pub fn uki(&self, path: &UkiPath) -> Result<PathBuf, Error> {
        Ok(self.shown(self.present_uki(path)?.as_str()))
    }

    /// The bytes of a UKI, found in the same way.
    ///
    /// # Errors
    ///
    /// As [`Esp::uki`], and what the file system says.
    pub fn read_uki(&self, path: &UkiPath) -> Result<Vec<u8>, Error> {
        self.read(self.present_uki(path)?.as_str())
    }

    pub(crate) fn present_uki(&self, path: &UkiPath) -> Result<UkiPath, Error> {
        let found = self.find_uki(path)?.ok_or_else(|| Error::NoUki {
            path: path.to_string(),
            esp: self.root.clone(),
        })?;
        if found.counter_stays() {
            return Err(Error::UkiPath {
                path: found.to_string(),
                rule: PathRule::CounterStays,
            });
        }
        self.regular_file(found.as_str())?;
        Ok(found)
    }

    /// The path of a UKI as it is spelt on the ESP, with the boot counter it has now; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn find_uki(&self, path: &UkiPath) -> Result<Option<UkiPath>, Error> {
        let (directory, file) = path.split();
        let Some(at) = self.find(directory)? else {
            return Ok(None);
        };
        let nodes = self.nodes(&at)?;
        if let Some(node) = alike(&nodes, file) {
            return Ok(join(&at, &node.name).parse().ok());
        }
        let wanted = path.without_counter();
        let named_alike = nodes.iter().find_map(|node| {
            let other: UkiPath = join(&at, &node.name).parse().ok()?;
            let same = other.without_counter().eq_ignore_ascii_case(&wanted);
            same.then_some(other)
        });
        Ok(named_alike)
    }

    /// The bytes of a file, whose path is spelt as on the ESP.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]
    pub fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        let read = self.volume.read(path);
        read.map_err(|source| self.cannot_read(path, source))
    }

    /// A path from the root of the ESP, as it is spelt there.
    pub(crate) fn find(&self, path: &str) -> Result<Option<String>, Error> {
        let mut at = String::new();
        for component in components(path) {
            let nodes = self.nodes(&at)?;
            let Some(node) = alike(&nodes, component) else {
                return Ok(None);
            };
            at = join(&at, &node.name);
            if node.kind == NodeKind::Link {
                return Err(Error::SymbolicLink {
                    path: self.shown(&at),
                });
            }
        }
        Ok(Some(at))
    }

    /// A path as it is spelt on the ESP, as far as it is there; the rest as given.
    pub(crate) fn spelt(&self, path: &str) -> Result<String, Error> {
        let names: Vec<&str> = components(path).collect();
        for there in (1..=names.len()).rev() {
            let (head, tail) = names.split_at(there);
            if let Some(found) = self.find(&head.join("/"))? {
                return Ok(tail.iter().fold(found, |at, name| join(&at, name)));
            }
        }
        Ok(names.join("/"))
    }

    /// What lies in a directory, sorted by name.
    pub(crate) fn nodes(&self, directory: &str) -> Result<Vec<Node>, Error> {
        self.volume
            .list(directory)
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotADirectory => Error::NotADirectory {
                    path: self.shown(directory),
                },
                _ => self.cannot_read(directory, source),
            })
    }

    /// What a path, spelt as on the ESP, is.
    pub(crate) fn node(&self, path: &str) -> Result<Option<Node>, Error> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.volume.list(directory) {
            Ok(nodes) => Ok(nodes.into_iter().find(|node| node.name == name)),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                _ => Err(self.cannot_read(directory, error)),
            },
        }
    }

    /// The size of what has to be a regular file.
    pub(crate) fn regular_file(&self, path: &str) -> Result<u64, Error> {
        let shown = self.shown(path);
        match self.node(path)? {
            Some(node) if node.kind == NodeKind::File => Ok(node.size),
            Some(node) if node.kind == NodeKind::Link => Err(Error::SymbolicLink { path: shown }),
            _ => Err(Error::NotAFile { path: shown }),
        }
    }

    /// The size and hash of a file; `None` if no regular file is there.
    pub(crate) fn content(&self, path: &str) -> Result<Option<Content>, Error> {
        let is_file = |node: Node| node.kind == NodeKind::File;
        if !self.node(path)?.is_some_and(is_file) {
            return Ok(None);
        }
        let read = self.volume.open(path).and_then(Content::read);
        read.map(Some)
            .map_err(|source| self.cannot_read(path, source))
    }

    /// How many bytes can still be written.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]
    pub fn free(&self) -> Result<u64, Error> {
        Ok(self.space()?.free)
    }

    /// What files of these sizes take, in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]
    pub fn taken(&self, sizes: impl Iterator<Item = usize>) -> Result<u64, Error> {
        let space = self.space()?;
        let sizes = sizes.map(|size| u64::try_from(size).unwrap_or(u64::MAX));
        Ok(sizes.fold(0, |sum: u64, size| sum.saturating_add(space.taken(size))))
    }

    pub(crate) fn space(&self) -> Result<Space, Error> {
        self.volume
            .space()
            .map_err(|source| self.cannot_read("", source))
    }

    /// A path as people should read it.
    pub(crate) fn shown(&self, path: &str) -> PathBuf {
        if path.is_empty() {
            self.root.clone()
        } else {
            self.root.join(path)
        }
    }

    pub(crate) fn cannot_read(&self, path: &str, source: io::Error) -> Error {
        Error::Read {
            path: self.shown(path),
            source,
        }
    }

    pub(crate) fn cannot_write(&self, path: &str, source: io::Error) -> Error {
        Error::Write {
            path: self.shown(path),
            source,
        }
    }

    pub(crate) fn cannot_remove(&self, path: &str, source: io::Error) -> Error {
        Error::Remove {
            path: self.shown(path),
            source,
        }
    }
}

/// A name below a directory.
pub(crate) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}

/// The directory something lies in.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

pub(crate) fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|component| !component.is_empty())
}

/// The entry of this name: spelt exactly so, or else in another case.
pub(crate) fn alike<'a>(nodes: &'a [Node], name: &str) -> Option<&'a Node> {
    let exact = nodes.iter().find(|node| node.name == name);
    exact.or_else(|| {
        nodes
            .iter()
            .find(|node| node.name.eq_ignore_ascii_case(name))
    })
}
