//! The `newc` cpio archive, as the kernel's `early-userspace/buffer-format` describes it.
//!
//! ```text
//! Header │ path NUL │ pad to 4 │ content │ pad to 4 │ Header … │ Header of `TRAILER!!!`
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::compression::Compression;
use crate::tree::{Budget, join, name, parent};
use crate::{Content, Entry, Error, FormatError, Kind, Tree};

/// What stands before every path; numbers are eight hexadecimal digits.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 6],
    ino: [u8; 8],
    mode: [u8; 8],
    uid: [u8; 8],
    gid: [u8; 8],
    nlink: [u8; 8],
    mtime: [u8; 8],
    size: [u8; 8],
    device: [[u8; 8]; 2],
    major: [u8; 8],
    minor: [u8; 8],
    path_size: [u8; 8],
    checksum: [u8; 8],
}

// The size is the format.
const _: () = assert!(size_of::<Header>() == 110);

/// Without and with a checksum of the content, which the kernel ignores too.
const MAGIC: [&[u8]; 2] = [b"070701", b"070702"];
/// The path that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

/// Why an archive could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// These bytes from its start.
    Format(usize, String),
    /// What it holds.
    Content(Error),
}

impl Fault {
    fn new(at: usize, what: impl Into<String>) -> Self {
        Self::Format(at, what.into())
    }

    /// The same fault of an archive that starts at byte `start` of more.
    pub(super) fn after(self, start: usize) -> Self {
        match self {
            Self::Format(at, what) => Self::Format(start + at, what),
            Self::Content(error) => Self::Content(error),
        }
    }

    /// The error for an archive at byte `start` of the initrd.
    pub(super) fn at(self, start: usize) -> Error {
        match self.after(start) {
            Self::Format(at, what) => FormatError::new(at as u64, what).into(),
            Self::Content(error) => error,
        }
    }

    /// The error for one compressed there.
    pub(super) fn inside(self, start: usize, compression: Compression) -> Error {
        match self {
            Self::Format(at, what) => {
                let what = format!("{compression} archive, at byte {at} when unpacked: {what}");
                FormatError::new(start as u64, what).into()
            }
            Self::Content(error) => error,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Content(error)
    }
}

/// What the archives read so far make together.
pub(super) struct Archives {
    pub(super) tree: Tree,
    budget: Budget,
}

/// Bytes, and where in them an archive starts.
type Shared<'a> = (&'a Arc<Vec<u8>>, usize);

/// An inode's number and device in one archive.
type Inode = (u32, u32, u32);

impl Archives {
    /// What is read takes the place of what is there.
    pub(super) fn over(tree: Tree) -> Self {
        Self {
            tree,
            budget: Budget::new("initrd"),
        }
    }

    /// Reads the archive that `bytes` begin with; returns how many bytes it takes. Where they are part of what can be `shared`, from
    /// a byte on, files hold them without a copy.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        shared: Option<Shared<'_>>,
    ) -> Result<usize, Fault> {
        let mut hard_links = HashMap::new();
        let mut at = 0;
        loop {
            let item = Item::read(bytes, at)?;
            if item.path == TRAILER {
                return Ok(item.end);
            }
            self.add(&item, shared, &mut hard_links)?;
            at = item.end;
        }
    }

    fn add(
        &mut self,
        item: &Item<'_>,
        shared: Option<Shared<'_>>,
        hard_links: &mut HashMap<Inode, Vec<u8>>,
    ) -> Result<(), Fault> {
        self.budget.spend(item.path.len())?;
        let path = self.place(item.path)?;
        let mut entry = item.entry(&path, shared)?;
        if entry.is_directory() || item.nlink < 2 {
            return Ok(self.tree.insert(path, entry)?);
        }
        let Some(first) = hard_links.get(&item.inode) else {
            hard_links.insert(item.inode, path.clone());
            return Ok(self.tree.insert(path, entry)?);
        };
        self.tree.link(first, &path)?;
        // Only one of the names comes with the content, often the last.
        if let (Some(linked), false) = (self.tree.get_mut(&path), item.content.is_empty()) {
            std::mem::swap(linked, &mut entry);
        }
        Ok(())
    }

    /// Where the kernel would put this path: it follows symbolic links on the way.
    fn place(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        let inside = path.strip_prefix(b"./").unwrap_or(path);
        if path == b"." || path == b"./" {
            return Ok(Vec::new());
        }
        if inside.is_empty() || inside.split(|&byte| byte == b'/').any(|name| name == b"..") {
            return Err(Error::entry(path, "is not a path inside the initrd"));
        }
        let directory = parent(inside);
        match self.tree.resolve(directory) {
            Some(found) if !inside.starts_with(b"/") => Ok(join(&found, name(inside))),
            _ => Ok(inside.to_vec()),
        }
    }
}

/// One header with what belongs to it.
struct Item<'a> {
    path: &'a [u8],
    content: &'a [u8],
    /// Where that starts.
    content_at: usize,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: u32,
    nlink: u32,
    device: (u32, u32),
    inode: Inode,
    /// Where the next one starts.
    end: usize,
}

impl<'a> Item<'a> {
    fn read(bytes: &'a [u8], at: usize) -> Result<Self, Fault> {
        let rest = bytes.get(at..).unwrap_or_default();
        let Ok((header, _)) = Header::ref_from_prefix(rest) else {
            return Err(Fault::new(at, "archive ends without its trailer"));
        };
        if !MAGIC.contains(&header.magic.as_slice()) {
            return Err(Fault::new(
                at,
                "neither a newc cpio archive nor a known compression",
            ));
        }
        let number = |digits| {
            number(digits)
                .ok_or_else(|| Fault::new(at, "a number in the header is not hexadecimal"))
        };
        let path_at = at + size_of::<Header>();
        let path = part(bytes, path_at, number(&header.path_size)?)
            .ok_or_else(|| Fault::new(path_at, "path is truncated"))?;
        let content_at = at + (size_of::<Header>() + path.len()).next_multiple_of(4);
        let content = part(bytes, content_at, number(&header.size)?);
        let content = content.ok_or_else(|| Fault::new(content_at, "content is truncated"))?;
        let Some((0, path)) = path.split_last() else {
            return Err(Fault::new(path_at, "path does not end with NUL"));
        };
        let [major, minor] = header.device;
        Ok(Self {
            path,
            content,
            content_at,
            mode: number(&header.mode)?,
            uid: number(&header.uid)?,
            gid: number(&header.gid)?,
            mtime: number(&header.mtime)?,
            nlink: number(&header.nlink)?,
            device: (number(&header.major)?, number(&header.minor)?),
            inode: (number(&header.ino)?, number(&major)?, number(&minor)?),
            end: content_at + content.len().next_multiple_of(4),
        })
    }

    fn file(&self, shared: Option<Shared<'_>>) -> Content {
        match shared {
            None => Content::from_bytes(self.content),
            Some((bytes, start)) => {
                let at = start + self.content_at;
                Content::from_part(Arc::clone(bytes), at..at + self.content.len())
            }
        }
    }

    fn entry(&self, path: &[u8], shared: Option<Shared<'_>>) -> Result<Entry, Error> {
        let (major, minor) = self.device;
        let kind = match self.mode & 0o170_000 {
            0o040_000 => Kind::Directory,
            0o100_000 => Kind::File(self.file(shared)),
            0o120_000 => Kind::Symlink(self.content.to_vec()),
            0o020_000 => Kind::CharDevice { major, minor },
            0o060_000 => Kind::BlockDevice { major, minor },
            0o010_000 => Kind::Fifo,
            0o140_000 => return Err(Error::entry(path, "is a socket, which no image can hold")),
            other => {
                return Err(Error::entry(
                    path,
                    format!("file type {other:o} is unknown"),
                ));
            }
        };
        let mode = u16::try_from(self.mode & 0o7777).unwrap_or_default();
        Ok(Entry {
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime.into(),
            ..Entry::new(mode, kind)
        })
    }
}

fn part(bytes: &[u8], at: usize, len: u32) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(usize::try_from(len).ok()?)?)
}

fn number(digits: &[u8; 8]) -> Option<u32> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    digits
        .iter()
        .try_fold(0, |number, byte| Some(number << 4 | digit(byte)?))
}
