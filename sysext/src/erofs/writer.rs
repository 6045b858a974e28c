//! Writes an image: data first, then metadata, and last what speaks of both.

use std::io::{BufWriter, Seek, Write};

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::compress::{CLUSTER_MAX, Compression};
use super::data;
use super::format::{BLOCK, CompactInode, DataLayout, ExtendedInode, Features, SuperBlock};
use super::image::Image;
use super::inode::{Inode, collect};
use super::layout::Layout;
use super::output::{Output, Plain};
use super::xattr::{Shared, WORD};
use crate::Error;
use crate::tree::{Entry, Kind, Tree};

/// Small files are written together, up to this many bytes.
pub(crate) const BUFFER: usize = 1 << 20;

/// What an image says about itself beside its files, and how it holds them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// File system UUID, in text order.
    pub uuid: [u8; 16],
    /// Time of the build in seconds since 1970. Entries with this time take half the metadata.
    pub epoch: u64,
    /// Volume name, NUL padded.
    pub volume_name: [u8; 16],
    /// How file data is compressed.
    pub compression: Compression,
    /// Bytes that are compressed together: a power of two from 4 KiB to 1 MiB, or the next one. `None`: what
    /// suits the codec.
    pub cluster: Option<u32>,
}

impl Options {
    /// Without compression and volume name.
    pub fn new(uuid: [u8; 16], epoch: u64) -> Self {
        Self {
            uuid,
            epoch,
            volume_name: [0; 16],
            compression: Compression::None,
            cluster: None,
        }
    }

    /// The size of a cluster in bytes.
    pub(super) fn cluster(&self) -> u32 {
        let cluster = self.cluster.unwrap_or(self.compression.default_cluster());
        cluster.clamp(4096, CLUSTER_MAX).next_power_of_two()
    }
}

/// Writes `tree` as an EROFS image from byte 0 of `out` on, and returns its size, a multiple of 4096. Equal
/// trees give equal bytes, on any number of threads. Every file is opened and read once, and every block
/// written once: block 0 last. `progress` is told of bytes read since it was last told.
///
/// # Errors
///
/// [`Error::Read`] when a file cannot be read or has changed its size, [`Error::Write`] when `out` fails,
/// [`Error::Entry`] for what EROFS cannot hold.
pub fn write(
    tree: &Tree,
    options: &Options,
    out: &mut (impl Write + Seek + Send),
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<u64, Error> {
    let mut out = Plain(BufWriter::with_capacity(BUFFER, out));
    let size = write_to(tree, options, &mut out, progress)?;
    out.flush().map_err(Error::write)?;
    Ok(size)
}

/// As [`write`], for an output that has its own buffer of [`BUFFER`] bytes.
pub(crate) fn write_to(
    tree: &Tree,
    options: &Options,
    out: &mut impl Output,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<u64, Error> {
    let epoch = i64::try_from(options.epoch).unwrap_or_default();
    let packed = Entry {
        mtime: epoch,
        ..Entry::file([])
    };
    let shared = Shared::of(tree);
    let mut inodes = collect(tree, options.epoch, &shared)?;
    let named = inodes.len();
    let mut image = Image::new(out)?;
    let packed = data::write(&mut inodes, &packed, options, &mut image, progress)?;
    let data_end = u32::try_from(image.at() / BLOCK).unwrap_or(u32::MAX);
    let layout = Layout::new(inodes, shared.bytes.len(), data_end)?;
    put_metadata(&mut image, &layout, &shared.bytes)?;
    let mut superblock = superblock(&layout, options);
    superblock.inodes = U64::new(named as u64);
    if !shared.bytes.is_empty() {
        let block = u32::try_from(layout.shared / BLOCK);
        superblock.xattr_block = U32::new(block.unwrap_or_default());
    }
    let packed = packed.and_then(|index| layout.inodes.get(index));
    superblock.packed_nid = U64::new(packed.map_or(0, |packed| layout.nid(packed)));
    let mut front = superblock.as_bytes().to_vec();
    if superblock.feature_incompat.get() == Features::COMPRESSED {
        front.extend(options.compression.config(options.cluster()));
    }
    image.finish(&front)
}

fn put_metadata<W: Output>(
    image: &mut Image<'_, W>,
    layout: &Layout<'_>,
    shared: &[u8],
) -> Result<(), Error> {
    let first_place = u32::try_from(layout.shared % BLOCK / WORD).unwrap_or_default();
    image.put(&layout.late)?;
    for (number, inode) in layout.inodes.iter().enumerate() {
        image.go_to(inode.offset)?;
        put_inode(image, inode, first_place, number)?;
    }
    image.go_to(layout.shared)?;
    image.put(shared)?;
    image.go_to(u64::from(layout.blocks) * BLOCK)
}

fn superblock(layout: &Layout<'_>, options: &Options) -> SuperBlock {
    let root = layout.inodes.first().map_or(0, |root| layout.nid(root));
    let mut superblock = SuperBlock {
        // The root is the first inode of its block.
        root_nid: U16::new(u16::try_from(root).unwrap_or_default()),
        epoch: U64::new(options.epoch),
        blocks: U32::new(layout.blocks),
        meta_block: U32::new(layout.meta_block),
        uuid: options.uuid,
        volume_name: options.volume_name,
        ..SuperBlock::new()
    };
    let is_compressed =
        |inode: &Inode<'_>| matches!(inode.layout, DataLayout::Full | DataLayout::Compact);
    let in_chunks = |inode: &Inode<'_>| inode.layout == DataLayout::Chunks;
    if layout.inodes.iter().any(is_compressed) {
        superblock.feature_incompat = U32::new(Features::COMPRESSED);
        superblock.compression = U16::new(1 << options.compression.algorithm());
    } else if layout.inodes.iter().any(in_chunks) {
        superblock.feature_incompat = U32::new(Features::CHUNKS);
    }
    superblock
}

fn put_inode<W: Output>(
    image: &mut Image<'_, W>,
    inode: &Inode<'_>,
    first_place: u32,
    number: usize,
) -> Result<(), Error> {
    // Only 32-bit programs see this number.
    let ino = U32::new(u32::try_from(number + 1).unwrap_or_default());
    match inode.extended {
        true => image.put(extended(inode, ino).as_bytes())?,
        false => image.put(compact(inode, ino).as_bytes())?,
    }
    image.put(&inode.xattrs.body(first_place))?;
    image.put(&inode.behind)
}

fn extended(inode: &Inode<'_>, ino: U32) -> ExtendedInode {
    ExtendedInode {
        format: U16::new((inode.layout as u16) << 1 | 1),
        xattr_count: U16::new(inode.xattrs.count()),
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
        format: U16::new((inode.layout as u16) << 1),
        xattr_count: U16::new(inode.xattrs.count()),
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
