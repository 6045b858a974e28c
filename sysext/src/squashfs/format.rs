//! The structures of a squashfs 4.0 image, as Linux's `fs/squashfs/squashfs_fs.h` declares them. Bytes only.
//!
//! ```text
//! SuperBlock │ data, fragments │ inode table │ directory table │ fragment, id and attribute tables
//! ```
//!
//! The tables lie in metadata blocks of 8 KiB, packed, each behind its size (u16). Integers are little endian.

use zerocopy::little_endian::{I16, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What a metadata block holds unpacked.
pub(super) const METADATA: usize = 8192;
/// In the size of a metadata block: it is stored as it is.
pub(super) const METADATA_STORED: u16 = 1 << 15;
/// In the size of a data block: it is stored as it is.
pub(super) const DATA_STORED: u32 = 1 << 24;
/// Instead of the number of a fragment or of extended attributes: there are none.
pub(super) const NONE: u32 = u32::MAX;
/// Instead of the place of a table.
pub(super) const NO_TABLE: u64 = u64::MAX;
/// In the type of an attribute: its value is a reference to the value.
pub(super) const OUT_OF_LINE: u16 = 0x100;

macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident, $size:literal { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub(super) struct $name {
            $(pub(super) $field: $type,)*
        }

        // The size is the format.
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

structures! {
    /// At byte 0.
    SuperBlock, 96 {
        magic: [u8; 4],
        inodes: U32,
        mtime: U32,
        block_size: U32,
        fragments: U32,
        compressor: U16,
        block_bits: U16,
        flags: U16,
        ids: U16,
        version: [U16; 2],
        root: U64,
        bytes_used: U64,
        id_table: U64,
        xattr_table: U64,
        inode_table: U64,
        directory_table: U64,
        fragment_table: U64,
        export_table: U64,
    }
    /// In front of every inode.
    InodeHeader, 16 {
        kind: U16,
        mode: U16,
        uid: U16,
        gid: U16,
        mtime: U32,
        number: U32,
    }
    /// Type 1.
    Directory, 16 {
        block: U32,
        nlink: U32,
        size: U16,
        offset: U16,
        parent: U32,
    }
    /// Type 8; an index follows.
    LongDirectory, 24 {
        nlink: U32,
        size: U32,
        block: U32,
        parent: U32,
        index_count: U16,
        offset: U16,
        xattrs: U32,
    }
    /// Type 2; the sizes of the blocks follow.
    File, 16 {
        start: U32,
        fragment: U32,
        fragment_offset: U32,
        size: U32,
    }
    /// Type 9; the sizes of the blocks follow.
    LongFile, 40 {
        start: U64,
        size: U64,
        sparse: U64,
        nlink: U32,
        fragment: U32,
        fragment_offset: U32,
        xattrs: U32,
    }
    /// Types 3 and 10; the target follows, and then the number of its attributes.
    Symlink, 8 {
        nlink: U32,
        size: U32,
    }
    /// Types 4 and 5, 11 and 12.
    Device, 8 {
        nlink: U32,
        number: U32,
    }
    /// In front of up to 256 entries whose inodes share a metadata block.
    DirectoryHeader, 12 {
        count_less_one: U32,
        inode_block: U32,
        number: U32,
    }
    /// One name; it follows.
    DirectoryEntry, 8 {
        inode_offset: U16,
        number: I16,
        kind: U16,
        name_len_less_one: U16,
    }
    /// A block of tails of files.
    Fragment, 16 {
        start: U64,
        size: U32,
        unused: U32,
    }
    /// In front of the attribute table's pointers.
    XattrTable, 16 {
        start: U64,
        count: U32,
        unused: U32,
    }
    /// The attributes of some inodes.
    Xattrs, 16 {
        reference: U64,
        count: U32,
        size: U32,
    }
    /// One attribute; its name without prefix follows, then the length of the value (u32) and the value.
    Xattr, 4 {
        kind: U16,
        name_len: U16,
    }
}
