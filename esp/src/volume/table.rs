//! Finds the boot partitions in a GUID partition table (UEFI 2.10, section 5.3).

use std::io::{self, ErrorKind};

use super::Blocks;

/// Where a partition lies, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// C12A7328-F81F-11D2-BA4B-00A0C93EC93B, as on disk.
const ESP: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];
/// BC13C2FF-59E6-4262-A352-B275FD6F7172, as on disk.
const XBOOTLDR: [u8; 16] = [
    0xff, 0xc2, 0x13, 0xbc, 0xe6, 0x59, 0x62, 0x42, 0xa3, 0x52, 0xb2, 0x75, 0xfd, 0x6f, 0x71, 0x72,
];

/// More than anybody's tool makes.
const MOST_ENTRIES: u64 = 1024;

/// The EFI system partition and XBOOTLDR, as far as they are there; `None` without a partition table.
pub(super) fn boot_partitions(disk: &impl Blocks) -> io::Result<Option<Vec<Partition>>> {
    let mut found = None;
    for block in [512, 4096] {
        if let Some(header) = header(disk, block)? {
            found = Some(entries(disk, block, &header)?);
            break;
        }
    }
    Ok(found)
}

fn header(disk: &impl Blocks, block: u64) -> io::Result<Option<[u8; 92]>> {
    let mut header = [0; 92];
    if disk.length()? < block * 2 {
        return Ok(None);
    }
    disk.read_at(block, &mut header)?;
    Ok(header.starts_with(b"EFI PART").then_some(header))
}

fn entries(disk: &impl Blocks, block: u64, header: &[u8; 92]) -> io::Result<Vec<Partition>> {
    let (at, count, size) = (
        field(header, 72, 8),
        field(header, 80, 4),
        field(header, 84, 4),
    );
    let damaged = || io::Error::new(ErrorKind::InvalidData, "its partition table is damaged");
    if count > MOST_ENTRIES || !(128..=4096).contains(&size) {
        return Err(damaged());
    }
    let start = at.checked_mul(block).ok_or_else(damaged)?;
    let mut esp = Vec::new();
    let mut other = Vec::new();
    for number in 0..count {
        let mut entry = [0; 128];
        let place = start.checked_add(number * size).ok_or_else(damaged)?;
        disk.read_at(place, &mut entry)?;
        let found = if entry.starts_with(&ESP) {
            &mut esp
        } else if entry.starts_with(&XBOOTLDR) {
            &mut other
        } else {
            continue;
        };
        found.push(partition(disk, block, &entry)?.ok_or_else(damaged)?);
    }
    esp.extend(other);
    if esp.is_empty() {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "it has no EFI system partition",
        ));
    }
    Ok(esp)
}

fn partition(disk: &impl Blocks, block: u64, entry: &[u8; 128]) -> io::Result<Option<Partition>> {
    let (first, last) = (field(entry, 32, 8), field(entry, 40, 8));
    let places = || {
        let start = first.checked_mul(block)?;
        let end = last.checked_add(1)?.checked_mul(block)?;
        Some((start, end))
    };
    let length = disk.length()?;
    Ok(places()
        .filter(|(start, end)| start < end && *end <= length)
        .map(|(start, end)| Partition {
            start,
            length: end - start,
        }))
}

fn field(bytes: &[u8], at: usize, size: usize) -> u64 {
    let bytes = bytes.get(at..at + size).unwrap_or_default();
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}
