//! The structures of an EROFS image, as Linux's `fs/erofs/erofs_fs.h` declares them. Bytes only: knows no trees.
//!
//! ```text
//! block 0:  1024 zero │ SuperBlock │ …
//! nid n at  meta_block * 4096 + n * 32:  Inode │ XattrHeader │ shared … │ XattrEntry name value pad … │ tail of the data
//! shared i at  xattr_block * 4096 + i * 4:  XattrEntry name value pad
//! ```
//!
//! Integers are little endian.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Bytes in a block; other sizes exist, but not every kernel mounts them.
pub(super) const BLOCK: u64 = 4096;
/// The same for buffers.
pub(super) const BLOCK_LEN: usize = 4096;
/// Its logarithm.
pub(super) const BLOCK_BITS: u32 = BLOCK.ilog2();
/// Nodes are numbered in units of this many bytes.
pub(super) const SLOT: u64 = 32;
/// Where the superblock lies.
pub(super) const SUPERBLOCK_AT: u64 = 1024;
/// The first byte after it.
pub(super) const SUPERBLOCK_END: u64 = SUPERBLOCK_AT + size_of::<SuperBlock>() as u64;
/// The start block of data that has no full block.
pub(super) const NO_BLOCK: u32 = u32::MAX;
/// An inode's compression index starts at a multiple of this.
pub(super) const MAP_ALIGN: usize = 8;
/// In the index, marks a number of blocks where a distance could stand.
pub(super) const BLOCK_COUNT: u16 = 0x800;
/// Superblock checksum is there (bit 0), extended inodes carry modification times (bit 1).
const FEATURES: u32 = 0b11;

/// Bits of `feature_incompat`.
pub(super) struct Features;

impl Features {
    /// Files in chunks.
    pub(super) const CHUNKS: u32 = 0x04;
    /// Zeros before compressed data.
    pub(super) const ZERO_PADDING: u32 = 1;
    /// Configurations behind the superblock, and clusters of several blocks.
    pub(super) const CONFIGURATIONS: u32 = 2;
    /// The two above, a packed inode and clusters with several users (0x20).
    pub(super) const COMPRESSED: u32 = 0x23;
}

/// What stands at byte 1024.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct SuperBlock {
    pub(super) magic: U32,
    pub(super) checksum: U32,
    pub(super) feature_compat: U32,
    pub(super) block_bits: u8,
    pub(super) extension_slots: u8,
    pub(super) root_nid: U16,
    pub(super) inodes: U64,
    pub(super) epoch: U64,
    pub(super) epoch_nanoseconds: U32,
    pub(super) blocks: U32,
    pub(super) meta_block: U32,
    pub(super) xattr_block: U32,
    pub(super) uuid: [u8; 16],
    pub(super) volume_name: [u8; 16],
    pub(super) feature_incompat: U32,
    pub(super) compression: U16,
    pub(super) extra_devices: U16,
    pub(super) device_slot: U16,
    pub(super) directory_block_bits: u8,
    pub(super) xattr_prefixes: u8,
    pub(super) xattr_prefix_start: U32,
    pub(super) packed_nid: U64,
    pub(super) xattr_filter: u8,
    pub(super) shared_prefix: u8,
    pub(super) reserved: [u8; 2],
    pub(super) build_time: U32,
    pub(super) root_nid_48: U64,
    pub(super) reserved_2: [u8; 8],
}

/// An inode of root's own time and numbers that fit.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct CompactInode {
    pub(super) format: U16,
    pub(super) xattr_count: U16,
    pub(super) mode: U16,
    pub(super) nlink: U16,
    pub(super) size: U32,
    pub(super) mtime: U32,
    pub(super) data: U32,
    pub(super) ino: U32,
    pub(super) uid: U16,
    pub(super) gid: U16,
    pub(super) reserved: U32,
}

/// An inode for everything.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct ExtendedInode {
    pub(super) format: U16,
    pub(super) xattr_count: U16,
    pub(super) mode: U16,
    pub(super) high: U16,
    pub(super) size: U64,
    pub(super) data: U32,
    pub(super) ino: U32,
    pub(super) uid: U32,
    pub(super) gid: U32,
    pub(super) mtime: U64,
    pub(super) mtime_nanoseconds: U32,
    pub(super) nlink: U32,
    pub(super) reserved: [u8; 16],
}

/// An entry at the front of a directory block; the names follow the last one.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct DirectoryEntry {
    pub(super) nid: U64,
    pub(super) name_offset: U16,
    pub(super) file_type: u8,
    pub(super) reserved: u8,
}

/// What stands before the extended attributes of an inode.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct XattrHeader {
    name_filter: U32,
    shared_count: u8,
    reserved: [u8; 7],
}

impl XattrHeader {
    /// With the places of so many shared attributes behind it, and no filter.
    pub(super) fn new(shared_count: u8) -> Self {
        Self {
            name_filter: U32::ZERO,
            shared_count,
            reserved: [0; 7],
        }
    }
}

/// What stands before the name and value of each.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct XattrEntry {
    pub(super) name_len: u8,
    pub(super) prefix: u8,
    pub(super) value_len: U16,
}

/// What stands before the index of compressed data, and alone when a whole file is in the packed inode.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct MapHeader {
    /// Where in the packed inode the file's end, or all of it, is.
    pub(super) fragment: U32,
    pub(super) advise: U16,
    pub(super) algorithm: u8,
    pub(super) cluster_bits: u8,
}

impl MapHeader {
    /// A compact index has packs of 16 items.
    pub(super) const COMPACT_2B: u16 = 0x01;
    /// Clusters of either head type take several blocks.
    pub(super) const BIG_CLUSTERS: u16 = 0x06;
    /// The last extent is in the packed inode.
    pub(super) const FRAGMENT: u16 = 0x20;
    /// In `cluster_bits`: the whole file is.
    pub(super) const WHOLE: u8 = 0x80;
}

/// An item of the full index.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct FullItem {
    pub(super) kind: U16,
    pub(super) cluster_offset: U16,
    /// A block's address, or two distances of 16 bits.
    pub(super) value: U32,
}

/// What a kernel must know before it decodes LZ4.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Lz4Config {
    pub(super) size: U16,
    pub(super) max_distance: U16,
    pub(super) max_blocks: U16,
    pub(super) reserved: [u8; 10],
}

/// The same for zstd.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct ZstdConfig {
    pub(super) size: U16,
    pub(super) format: u8,
    /// Logarithm of the window's size, less 10.
    pub(super) window: u8,
    pub(super) reserved: [u8; 4],
}

/// Where the bytes of an inode are; the number is what its format field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// In blocks.
    Flat = 0,
    /// In clusters, with an item of 8 bytes for each 4096 bytes.
    Full = 1,
    /// In blocks, what does not fill one behind the inode.
    Inline = 2,
    /// In clusters that follow each other, with packed items.
    Compact = 3,
    /// In chunks of one size, with the address of each.
    Chunks = 4,
}

// The sizes are the format.
const _: () = assert!(size_of::<MapHeader>() == 8);
const _: () = assert!(size_of::<FullItem>() == 8);
const _: () = assert!(size_of::<Lz4Config>() == 16);
const _: () = assert!(size_of::<ZstdConfig>() == 8);
const _: () = assert!(size_of::<SuperBlock>() == 128);
const _: () = assert!(size_of::<CompactInode>() == 32);
const _: () = assert!(size_of::<ExtendedInode>() == 64);
const _: () = assert!(size_of::<DirectoryEntry>() == 12);
const _: () = assert!(size_of::<XattrHeader>() == 12);
const _: () = assert!(size_of::<XattrEntry>() == 4);

impl SuperBlock {
    /// One without compression, further devices or shared attributes; the checksum is still zero.
    pub(super) fn new() -> Self {
        Self {
            magic: U32::new(0xE0F5_E1E2),
            feature_compat: U32::new(FEATURES),
            block_bits: 12,
            ..Self::new_zeroed()
        }
    }
}

/// Puts the checksum into a complete block 0: CRC-32C without the last inversion, from the superblock to
/// the end of the block.
pub(super) fn seal(block_0: &mut [u8]) {
    if let Some((_, checked)) = block_0.split_at_mut_checked(1024) {
        let checksum = !crc32c::crc32c(checked);
        if let Ok((superblock, _)) = SuperBlock::mut_from_prefix(checked) {
            superblock.checksum = U32::new(checksum);
        }
    }
}

/// Whether `bytes`, which start with the superblock, have the checksum they should have. It reaches to the end
/// of the superblock's block; where blocks are smaller than the 1024 bytes before it, over one whole block.
pub(super) fn is_sealed(bytes: &[u8]) -> bool {
    let mut checked = bytes.to_vec();
    let Ok((superblock, _)) = SuperBlock::mut_from_prefix(&mut checked) else {
        return false;
    };
    let stored = superblock.checksum.get();
    superblock.checksum = U32::ZERO;
    let unchecked = superblock.feature_compat.get() & 1 == 0;
    let block = 1_usize
        .checked_shl(superblock.block_bits.into())
        .unwrap_or(usize::MAX);
    let size = if block > 1024 { block - 1024 } else { block };
    unchecked
        || checked
            .get(..size)
            .is_some_and(|checked| !crc32c::crc32c(checked) == stored)
}

/// A device number as the kernel's `new_encode_dev` packs it.
pub(super) fn device_number(major: u32, minor: u32) -> u32 {
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

/// The number of a namespace of extended attributes, and the rest of the name.
pub(super) fn xattr_prefix(name: &[u8]) -> Option<(u8, &[u8])> {
    match name {
        b"system.posix_acl_access" => return Some((2, b"")),
        b"system.posix_acl_default" => return Some((3, b"")),
        _ => {}
    }
    let prefixes: [(u8, &[u8]); 3] = [(1, b"user."), (4, b"trusted."), (6, b"security.")];
    let mut found = prefixes
        .iter()
        .filter_map(|(number, prefix)| Some((*number, name.strip_prefix(*prefix)?)));
    found.next().filter(|(_, rest)| !rest.is_empty())
}
