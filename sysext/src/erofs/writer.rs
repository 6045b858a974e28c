//! Writes an image from its first byte to its last, so that it can be hashed on the way.

use std::io::{BufWriter, Write};

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::format::{self, BLOCK, CompactInode, ExtendedInode, SUPERBLOCK_AT, SuperBlock};
use super::layout::{Inode, Layout};
use super::xattr;
use crate::Error;
use crate::tree::{ContentReader, Entry, Kind, Tree};

/// How much of a file is in memory at once.
const CHUNK: usize = 128 * 1024;

/// What an image says about itself beside its files.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// File system UUID, in text order.
    pub uuid: [u8; 16],
    /// Time of the build in seconds since 1970. Entries with this time take half the metadata.
    pub epoch: u64,
    /// Volume name, NUL padded.
    pub volume_name: [u8; 16],
}

impl Options {
    /// Without a volume name.
    pub fn new(uuid: [u8; 16], epoch: u64) -> Self {
        Self {
            uuid,
            epoch,
            ..Self::default()
        }
    }
}

/// Writes `tree` as an EROFS image without compression and returns its size, a multiple of 4096. Equal
/// trees give equal bytes. Every file is opened and read once and never as a whole in memory.
///
/// # Errors
///
/// [`Error::Read`] when a file cannot be read or has changed its size, [`Error::Write`] when `out` fails,
/// [`Error::Entry`] for what EROFS cannot hold.
pub fn write(tree: &Tree, options: &Options, out: &mut impl Write) -> Result<u64, Error> {
    let layout = Layout::new(tree, options.epoch)?;
    let mut image = Image::new(out);
    image.pad_to(SUPERBLOCK_AT)?;
    image.put(superblock(&layout, options).as_bytes())?;
    let mut tails = Vec::with_capacity(layout.inodes.len());
    for inode in &layout.inodes {
        tails.push(image.put_blocks(inode)?);
    }
    for (number, (inode, tail)) in layout.inodes.iter().zip(tails).enumerate() {
        image.pad_to(inode.offset)?;
        image.put_inode(inode, number)?;
        match tail {
            Some(tail) => image.put(&tail)?,
            None => image.put_in_line(inode)?,
        }
    }
    image.pad_to(u64::from(layout.blocks) * BLOCK)?;
    image.finish()
}

fn superblock(layout: &Layout<'_>, options: &Options) -> SuperBlock {
    let root = layout.inodes.first().map_or(0, |root| layout.nid(root));
    SuperBlock {
        // The root is the first inode of its block.
        root_nid: U16::new(u16::try_from(root).unwrap_or_default()),
        inodes: U64::new(layout.inodes.len() as u64),
        epoch: U64::new(options.epoch),
        blocks: U32::new(layout.blocks),
        meta_block: U32::new(layout.meta_block),
        uuid: options.uuid,
        volume_name: options.volume_name,
        ..SuperBlock::new()
    }
}

/// The output, its position, and block 0 until it is complete and can have its checksum.
struct Image<W: Write> {
    out: BufWriter<W>,
    at: u64,
    block_0: Vec<u8>,
    buffer: Vec<u8>,
}

impl<W: Write> Image<W> {
    fn new(out: W) -> Self {
        Self {
            out: BufWriter::with_capacity(CHUNK, out),
            at: 0,
            block_0: Vec::new(),
            buffer: vec![0; CHUNK],
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let missing = format::BLOCK_LEN - self.block_0.len();
        let (first, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        if missing > 0 {
            self.block_0.extend_from_slice(first);
            if self.block_0.len() == format::BLOCK_LEN {
                format::seal(&mut self.block_0);
                self.out.write_all(&self.block_0).map_err(Error::write)?;
            }
        }
        self.out.write_all(rest).map_err(Error::write)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Zeros up to byte `end`.
    fn pad_to(&mut self, end: u64) -> Result<(), Error> {
        let zeros = [0; format::BLOCK_LEN];
        while let Some(missing) = end.checked_sub(self.at).filter(|&missing| missing > 0) {
            let missing = usize::try_from(missing).unwrap_or(usize::MAX);
            self.put(zeros.get(..missing).unwrap_or(&zeros))?;
        }
        Ok(())
    }

    /// The next `left` bytes of a file.
    fn copy(&mut self, reader: &mut ContentReader<'_>, mut left: u64) -> Result<(), Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        while left > 0 {
            let take = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let chunk = buffer.get_mut(..take).unwrap_or_default();
            reader.fill(chunk)?;
            self.put(chunk)?;
            left -= take as u64;
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Data that has blocks of its own. Returns the tail behind it, which follows later; `None` when there
    /// are no such blocks and nothing has been read yet.
    fn put_blocks(&mut self, inode: &Inode<'_>) -> Result<Option<Vec<u8>>, Error> {
        if inode.in_blocks() == 0 {
            return Ok(None);
        }
        let mut reader = inode.content.open()?;
        self.pad_to(u64::from(inode.data) * BLOCK)?;
        self.copy(&mut reader, inode.in_blocks())?;
        let mut tail = vec![0; usize::try_from(inode.in_line()).unwrap_or_default()];
        reader.fill(&mut tail)?;
        reader.finish()?;
        Ok(Some(tail))
    }

    /// Data that stands behind its inode as a whole, often none.
    fn put_in_line(&mut self, inode: &Inode<'_>) -> Result<(), Error> {
        let mut reader = inode.content.open()?;
        self.copy(&mut reader, inode.in_line())?;
        reader.finish()
    }

    fn put_inode(&mut self, inode: &Inode<'_>, number: usize) -> Result<(), Error> {
        // Only 32-bit programs see this number.
        let ino = U32::new(u32::try_from(number + 1).unwrap_or_default());
        match inode.extended {
            true => self.put(extended(inode, ino).as_bytes())?,
            false => self.put(compact(inode, ino).as_bytes())?,
        }
        self.put(&inode.xattrs)
    }

    fn finish(mut self) -> Result<u64, Error> {
        self.out.flush().map_err(Error::write)?;
        Ok(self.at)
    }
}

fn extended(inode: &Inode<'_>, ino: U32) -> ExtendedInode {
    ExtendedInode {
        format: U16::new(u16::from(inode.inline) << 2 | 1),
        xattr_count: U16::new(xattr::count(inode.xattrs.len())),
        mode: U16::new(mode(inode.entry)),
        high: U16::ZERO,
        size: U64::new(inode.size),
        data: U32::new(inode.data),
        ino,
        uid: U32::new(inode.entry.uid),
        gid: U32::new(inode.entry.gid),
        mtime: U64::new(inode.entry.mtime.cast_unsigned()),
        mtime_nanoseconds: U32::ZERO,
        nlink: U32::new(inode.nlink),
        reserved: [0; 16],
    }
}

/// Its numbers fit, or it were [`extended`].
fn compact(inode: &Inode<'_>, ino: U32) -> CompactInode {
    let short = |number: u32| U16::new(u16::try_from(number).unwrap_or(u16::MAX));
    CompactInode {
        format: U16::new(u16::from(inode.inline) << 2),
        xattr_count: U16::new(xattr::count(inode.xattrs.len())),
        mode: U16::new(mode(inode.entry)),
        nlink: short(inode.nlink),
        size: U32::new(u32::try_from(inode.size).unwrap_or(u32::MAX)),
        mtime: U32::ZERO,
        data: U32::new(inode.data),
        ino,
        uid: short(inode.entry.uid),
        gid: short(inode.entry.gid),
        reserved: U32::ZERO,
    }
}

/// File type and permissions as `st_mode` has them.
fn mode(entry: &Entry) -> u16 {
    let file_type = match entry.kind {
        Kind::Fifo => 0o010_000,
        Kind::CharDevice { .. } => 0o020_000,
        Kind::Directory => 0o040_000,
        Kind::BlockDevice { .. } => 0o060_000,
        Kind::File(_) => 0o100_000,
        Kind::Symlink(_) => 0o120_000,
    };
    file_type | entry.mode & 0o7777
}
