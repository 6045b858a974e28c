//! A mounted file system, or any directory, as a [`Volume`].
//!
//! Linux's vfat writes names, the table of clusters and what an entry says of its file each when it likes, until somebody asks for
//! it (VERIFIED with 7.2, by the log of a disk). So a new directory is flushed before the one that names it, a renamed file after
//! it got its name, which has no content on the medium before, and clusters are freed when no name leads to them any more.

use std::any::Any;
use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FlockOperation};

use super::{Node, NodeKind, Sink, Space, Volume};

/// A directory with everything below it. Symbolic links below it are not followed.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The volume whose root is this directory.
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// The path on this machine; an error if a link on the way could lead elsewhere.
    fn at(&self, path: &str) -> io::Result<PathBuf> {
        let mut at = self.root.clone();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at.push(name);
            if fs::symlink_metadata(&at).is_ok_and(|metadata| metadata.is_symlink()) {
                return Err(io::Error::other("a symbolic link is not followed"));
            }
        }
        Ok(at)
    }
}

impl Volume for Directory {
    fn list(&self, directory: &str) -> io::Result<Vec<Node>> {
        let mut nodes = fs::read_dir(self.at(directory)?)?
            .map(|entry| {
                let entry = entry?;
                let metadata = fs::symlink_metadata(entry.path())?;
                let kind = kind(metadata.file_type());
                let size = if kind == NodeKind::File {
                    metadata.len()
                } else {
                    0
                };
                let name = entry.file_name().to_string_lossy().into_owned();
                Ok(Node::new(name, kind, size))
            })
            .collect::<io::Result<Vec<_>>>()?;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(File::open(self.at(path)?)?))
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.at(path)?)
    }

    fn create(&self, path: &str, private: bool) -> io::Result<Box<dyn Sink + '_>> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if private { 0o600 } else { 0o644 })
            .open(self.at(path)?)?;
        Ok(Box::new(Flushed(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.at(from)?, self.at(to)?);
        let replaced = Kept::new(&to);
        fs::rename(from, &to)?;
        File::open(&to)?.sync_all()?;
        drop(replaced);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let path = self.at(path)?;
        let removed = Kept::new(&path);
        fs::remove_file(&path)?;
        sync_parent(&path)?;
        drop(removed);
        Ok(())
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        let path = self.at(path)?;
        fs::create_dir(&path)?;
        File::open(&path)?.sync_all()
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        let path = self.at(path)?;
        let removed = Kept::new(&path);
        fs::remove_dir(&path)?;
        sync_parent(&path)?;
        drop(removed);
        Ok(())
    }

    fn sync(&self, directory: &str) -> io::Result<()> {
        File::open(self.at(directory)?)?.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(Space {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            cluster: stat.f_frsize,
        })
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let root = File::open(&self.root)?;
        rustix::fs::flock(&root, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(root))
    }
}

/// What is about to lose its name, held open: as long as it is, Linux's vfat does not free its clusters, so that no name on the
/// medium leads to free ones.
struct Kept {
    _file: Option<File>,
}

impl Kept {
    fn new(path: &Path) -> Self {
        Self {
            _file: File::open(path).ok(),
        }
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn kind(kind: FileType) -> NodeKind {
    if kind.is_file() {
        NodeKind::File
    } else if kind.is_dir() {
        NodeKind::Directory
    } else if kind.is_symlink() {
        NodeKind::Link
    } else {
        NodeKind::Other
    }
}

struct Flushed(File);

impl Write for Flushed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Sink for Flushed {
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()?;
        // What is read back should come from the medium. Where that cannot be asked for, it is only less of a check.
        let _ = rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed);
        Ok(())
    }
}
