//! Writes both copies of a table.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    ENTRY_COUNT, ENTRY_SIZE, Entry, HEADER_SIZE, Header, Partition, ProtectiveMbr, REVISION,
    SIGNATURE, Table, checksum,
};

/// The only sector size that is written: every reader knows it, and the table is smallest.
pub(crate) const SECTOR_SIZE: u32 = 512;
const SECTOR: u64 = SECTOR_SIZE as u64;
/// Entries, in sectors.
const ENTRIES: u64 = 32;
/// Bytes before the first partition: MBR, header and entries take 34 sectors, then zeros up to a
/// multiple of 4096.
pub(crate) const FRONT_SIZE: u64 = 40 * SECTOR;
/// Bytes behind the last partition.
pub(crate) const BACKUP_SIZE: u64 = (ENTRIES + 1) * SECTOR;

/// The first [`FRONT_SIZE`] bytes of a disk of `size` bytes.
pub(crate) fn front(table: &Table, size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let sectors = size / SECTOR;
    bytes.extend_from_slice(protective_mbr(sectors).as_bytes());
    push_sector(&mut bytes, &header(table, sectors, Which::Primary));
    bytes.extend_from_slice(entries(&table.partitions).as_bytes());
    pad(&mut bytes, FRONT_SIZE);
    bytes
}

/// The last [`BACKUP_SIZE`] bytes of a disk of `size` bytes.
pub(crate) fn backup(table: &Table, size: u64) -> Vec<u8> {
    let mut bytes = entries(&table.partitions).as_bytes().to_vec();
    push_sector(&mut bytes, &header(table, size / SECTOR, Which::Backup));
    bytes
}

enum Which {
    Primary,
    Backup,
}

fn protective_mbr(sectors: u64) -> ProtectiveMbr {
    ProtectiveMbr {
        boot_code: [0; 446],
        status: 0,
        first_chs: [0x00, 0x02, 0x00],
        kind: ProtectiveMbr::KIND,
        last_chs: [0xFF; 3],
        first: U32::new(1),
        sectors: U32::new(ProtectiveMbr::size_field(sectors)),
        others: [0; 48],
        signature: ProtectiveMbr::SIGNATURE,
    }
}

fn header(table: &Table, sectors: u64, which: Which) -> Header {
    let backup = sectors - 1;
    let (own, other, entries_lba) = match which {
        Which::Primary => (1, backup, 2),
        Which::Backup => (backup, 1, backup - ENTRIES),
    };
    let mut header = Header {
        signature: SIGNATURE,
        revision: U32::new(REVISION),
        size: U32::new(HEADER_SIZE),
        checksum: U32::ZERO,
        reserved: U32::ZERO,
        own_lba: U64::new(own),
        other_lba: U64::new(other),
        first_usable: U64::new(2 + ENTRIES),
        last_usable: U64::new(backup - ENTRIES - 1),
        disk: table.disk.to_disk(),
        entries_lba: U64::new(entries_lba),
        entry_count: U32::new(ENTRY_COUNT),
        entry_size: U32::new(ENTRY_SIZE),
        entries_checksum: U32::new(checksum(entries(&table.partitions).as_bytes())),
    };
    header.checksum = U32::new(header.computed_checksum());
    header
}

fn entries(partitions: &[Partition]) -> [Entry; ENTRY_COUNT as usize] {
    let mut entries: [Entry; ENTRY_COUNT as usize] = FromZeros::new_zeroed();
    for (entry, partition) in entries.iter_mut().zip(partitions) {
        entry.type_guid = partition.type_guid.to_disk();
        entry.guid = partition.guid.to_disk();
        entry.first = U64::new(partition.offset / SECTOR);
        entry.last = U64::new((partition.offset + partition.size) / SECTOR - 1);
        entry.attributes = U64::new(partition.attributes);
        for (unit, code) in entry.label.iter_mut().zip(partition.label.encode_utf16()) {
            *unit = U16::new(code);
        }
    }
    entries
}

fn push_sector(bytes: &mut Vec<u8>, header: &Header) {
    let end = bytes.len() as u64 + SECTOR;
    bytes.extend_from_slice(header.as_bytes());
    pad(bytes, end);
}

fn pad(bytes: &mut Vec<u8>, size: u64) {
    while (bytes.len() as u64) < size {
        bytes.push(0);
    }
}
