//! The GUID partition table of an image, after the UEFI specification, section 5.3. 512-byte sectors when
//! written; 512 or 4096 when read.
//!
//! ```text
//! LBA 0   protective MBR          LBA 1  header      LBA 2..33  128 entries of 128 bytes
//! LBA 40  first partition (20480 bytes in, a multiple of 4096)
//! …       the same entries, then the backup header in the last sector
//! ```
//!
//! Integers are little endian. Written and read by hand: every byte must be chosen (the image is
//! reproducible), and a damaged copy must be named rather than silently replaced by the other one.

mod reader;
mod writer;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub(crate) use reader::{Copies, read};
pub(crate) use writer::{BACKUP_SIZE, FRONT_SIZE, SECTOR_SIZE, backup, front};

use crate::Guid;

/// The partition is read-only.
pub(crate) const READ_ONLY: u64 = 1 << 60;
/// The partition is not to be discovered.
pub(crate) const NO_AUTO: u64 = 1 << 63;

const SIGNATURE: [u8; 8] = *b"EFI PART";
const REVISION: u32 = 0x0001_0000;
const HEADER_SIZE: u32 = 92;
const ENTRY_SIZE: u32 = 128;
const ENTRY_COUNT: u32 = 128;

/// A table's meaning, in sectors of `sector_size` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) sector_size: u32,
    pub(crate) disk: Guid,
    pub(crate) partitions: Vec<Partition>,
}

/// One used entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Place in the table, from 1.
    pub(crate) number: usize,
    pub(crate) type_guid: Guid,
    pub(crate) guid: Guid,
    /// First byte.
    pub(crate) offset: u64,
    /// In bytes, at least one sector.
    pub(crate) size: u64,
    pub(crate) attributes: u64,
    /// At most 36 UTF-16 units.
    pub(crate) label: String,
}

#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    signature: [u8; 8],
    revision: U32,
    size: U32,
    checksum: U32,
    reserved: U32,
    own_lba: U64,
    other_lba: U64,
    first_usable: U64,
    last_usable: U64,
    disk: [u8; 16],
    entries_lba: U64,
    entry_count: U32,
    entry_size: U32,
    entries_checksum: U32,
}

const _: () = assert!(size_of::<Header>() == HEADER_SIZE as usize);

impl Header {
    /// The checksum that belongs into the header, which counts itself as zero.
    fn computed_checksum(&self) -> u32 {
        let mut blank = self.clone();
        blank.checksum = U32::ZERO;
        checksum(blank.as_bytes())
    }
}

#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    type_guid: [u8; 16],
    guid: [u8; 16],
    first: U64,
    last: U64,
    attributes: U64,
    label: [U16; 36],
}

const _: () = assert!(size_of::<Entry>() == ENTRY_SIZE as usize);

/// The MBR's one partition, which covers the disk so that old tools keep away.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ProtectiveMbr {
    boot_code: [u8; 446],
    status: u8,
    first_chs: [u8; 3],
    kind: u8,
    last_chs: [u8; 3],
    first: U32,
    sectors: U32,
    others: [u8; 48],
    signature: [u8; 2],
}

const _: () = assert!(size_of::<ProtectiveMbr>() == 512);

impl ProtectiveMbr {
    const KIND: u8 = 0xEE;
    const SIGNATURE: [u8; 2] = [0x55, 0xAA];

    /// What `sectors` must say on a disk of so many; the field is too narrow for large ones.
    fn size_field(sectors: u64) -> u32 {
        u32::try_from(sectors.saturating_sub(1)).unwrap_or(u32::MAX)
    }
}

/// CRC-32 as in zlib.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
