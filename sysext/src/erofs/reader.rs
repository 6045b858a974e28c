//! Reads an image through the crate `erofs-rs`, whose interface is asynchronous where it needs no memory map.
//! Nothing here ever waits, so each of its futures is ready at once.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use erofs_rs::r#async::{EroFS, File};
use erofs_rs::backend::AsyncImage;
use erofs_rs::types::Inode;
use rustix::fs::FileType;

use super::format::{SUPERBLOCK_AT, is_sealed};
use crate::Error;
use crate::tree::{Budget, Content, Entry, Kind, Open, Tree, path_of_bytes};
use crate::window::Source;

/// The largest block of any image that some kernel mounts: its page size, 64 KiB at most.
const BLOCK_BITS_MAX: u8 = 16;
/// The longest target of a symbolic link that the kernel follows.
const TARGET_MAX: u64 = 4095;

/// Reads an EROFS image, compressed or not. What files hold is read from `image` when it is wanted; the
/// tree keeps `image` for this. Times lose their fraction of a second.
///
/// # Errors
///
/// [`Error::FileSystem`] for what is damaged, not supported, or takes more memory than any real image;
/// [`Error::Entry`] for a socket and for paths that [`Tree::insert`] refuses.
pub fn read<R: Read + Seek + Send + 'static>(mut image: R) -> Result<Tree, Error> {
    check_superblock(&mut image)?;
    let file_system = ready(EroFS::new(Source::new(image))).map_err(damaged)?;
    let superblock = file_system.super_block();
    if superblock.blk_size_bits > BLOCK_BITS_MAX {
        return Err(damaged("blocks are larger than 64 KiB"));
    }
    let root = superblock.root_inode_id();
    let file_system = Arc::new(file_system);
    Walk {
        file_system: file_system.clone(),
        tree: Tree::new(),
        budget: Budget::new("EROFS"),
        files: HashMap::new(),
        directories: HashSet::from([root]),
    }
    .run(root)
}

/// The kernel refuses what the crate does not look at: a superblock with another checksum.
fn check_superblock(image: &mut (impl Read + Seek)) -> Result<(), Error> {
    let mut bytes = Vec::new();
    image
        .seek(SeekFrom::Start(SUPERBLOCK_AT))
        .and_then(|_| image.take(1 << BLOCK_BITS_MAX).read_to_end(&mut bytes))
        .map_err(damaged)?;
    if is_sealed(&bytes) {
        Ok(())
    } else {
        Err(damaged("at byte 1028: checksum of the superblock is wrong"))
    }
}

/// What is known while an image is walked through.
struct Walk {
    file_system: Arc<EroFS<Source>>,
    tree: Tree,
    budget: Budget,
    /// The first path of every inode that may have more.
    files: HashMap<u64, Vec<u8>>,
    directories: HashSet<u64>,
}

impl Walk {
    fn run(mut self, root: u64) -> Result<Tree, Error> {
        let file_system = self.file_system.clone();
        let inode = ready(file_system.get_inode(root)).map_err(damaged)?;
        self.add(Vec::new(), inode)?;
        let mut walk = ready(file_system.walk_dir("")).map_err(damaged)?;
        while let Some(found) = ready(walk.next_entry()) {
            let found = found.map_err(damaged)?;
            // A directory with two names, harmless to the kernel, could make a small image hold endless paths.
            if found.inode.is_dir() && !self.directories.insert(found.inode.id()) {
                return Err(damaged("a directory has two names"));
            }
            self.add(found.dir_entry.path().into_vec(), found.inode)?;
        }
        Ok(self.tree)
    }

    fn add(&mut self, path: Vec<u8>, inode: Inode) -> Result<(), Error> {
        self.budget.spend(path.len())?;
        if let Some(first) = self.files.get(&inode.id()) {
            return self.tree.link(first, &path);
        }
        if !path.is_empty() && self.tree.get(&path).is_some() {
            return Err(Error::entry(&path, "is there twice"));
        }
        let entry = self.entry(&path, inode)?;
        if !entry.is_directory() {
            self.files.insert(inode.id(), path.clone());
        }
        self.tree.insert(path, entry)
    }

    fn entry(&mut self, path: &[u8], inode: Inode) -> Result<Entry, Error> {
        let xattrs = ready(self.file_system.xattrs_inode(inode)).map_err(damaged)?;
        self.budget.spend(
            xattrs
                .iter()
                .map(|(name, value)| name.len() + value.len())
                .sum(),
        )?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&inode.permissions());
        Ok(Entry {
            mode: u16::try_from(mode & 0o7777).unwrap_or_default(),
            uid: inode.uid(),
            gid: inode.gid(),
            mtime: inode.modified_unix().0,
            xattrs,
            kind: self.kind(path, inode)?,
        })
    }

    fn kind(&mut self, path: &[u8], inode: Inode) -> Result<Kind, Error> {
        let (major, minor) = inode.device().unwrap_or_default();
        Ok(match inode.file_type() {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => {
                let file = ImageFile {
                    file_system: self.file_system.clone(),
                    inode,
                    path: path_of_bytes(path),
                };
                Kind::File(Content::from_image(inode.data_size(), Arc::new(file)))
            }
            FileType::Symlink => Kind::Symlink(self.target(inode)?),
            FileType::CharacterDevice => Kind::CharDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            FileType::Fifo => Kind::Fifo,
            _ => return Err(Error::entry(path, "is a socket, which no image can hold")),
        })
    }

    fn target(&mut self, inode: Inode) -> Result<Vec<u8>, Error> {
        if inode.data_size() > TARGET_MAX {
            return Err(damaged(
                "the target of a symbolic link is longer than 4095 bytes",
            ));
        }
        let target = ready(self.file_system.read_link_inode(inode))
            .map_err(damaged)?
            .into_vec();
        self.budget.spend(target.len())?;
        Ok(target)
    }
}

/// A regular file that knows where it is.
struct ImageFile {
    file_system: Arc<EroFS<Source>>,
    inode: Inode,
    path: PathBuf,
}

impl Open for ImageFile {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        let file = self
            .file_system
            .open_inode_file(self.inode)
            .map_err(io::Error::other)?;
        Ok(Box::new(ImageReader(file)))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

struct ImageReader<'a>(File<'a, Source>);

impl Read for ImageReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        ready(self.0.read(buffer)).map_err(io::Error::other)
    }
}

impl AsyncImage for Source {
    async fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> erofs_rs::Result<()> {
        Ok(self.read_at(buffer, offset)?)
    }
}

/// The value of a future that never waits.
fn ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return value;
        }
    }
}

fn damaged(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::FileSystem {
        format: "EROFS",
        source: source.into(),
    }
}
