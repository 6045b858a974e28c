//! Reads a table, both copies, and says what is wrong with each.

use std::io::{self, Read, Seek, SeekFrom};

use zerocopy::FromBytes;

use super::{
    ENTRY_SIZE, Entry, HEADER_SIZE, Header, Partition, ProtectiveMbr, REVISION, SIGNATURE, Table,
    checksum,
};
use crate::finding::Findings;
use crate::{Check, Error, Finding, Guid};

/// Sector sizes that images come in; the firmware's and the kernel's default first.
const SECTOR_SIZES: [u32; 2] = [512, 4096];
/// The most entries that are read. The specification sets no limit; nobody uses more than 128.
const ENTRIES_MAX: u32 = 1024;

/// What a reader gets from a disk: the better copy, and what is wrong with either.
#[derive(Debug)]
pub(crate) struct Copies {
    pub(crate) table: Table,
    pub(crate) findings: Vec<Finding>,
}

/// Reads the table of a disk of `size` bytes. A damaged copy is a finding as long as the other serves.
///
/// # Errors
///
/// [`Error::Refused`] when neither copy can be used, [`Error::ReadImage`].
pub(crate) fn read(disk: &mut (impl Read + Seek), size: u64) -> Result<Copies, Error> {
    let (sector_size, primary) = find_primary(disk, size)?;
    let last = (size / u64::from(sector_size)).saturating_sub(1);
    let backup_lba = match &primary {
        Ok(copy) => copy.header.other_lba.get(),
        Err(_) => last,
    };
    let mut source = Source {
        disk,
        size,
        sector_size,
    };
    let backup = source.copy(backup_lba, "backup")?;
    let mbr = source.protective_mbr()?;
    let mut findings = Findings::default();
    let table = match (primary, backup) {
        (Ok(primary), Ok(backup)) => {
            compare(&primary, &backup, last, &mut findings);
            primary.table(sector_size, &mut findings)
        }
        (Ok(copy), Err(finding)) | (Err(finding), Ok(copy)) => {
            findings.keep::<()>(Err(finding.into()))?;
            copy.table(sector_size, &mut findings)
        }
        (Err(primary), Err(backup)) => {
            findings.keep::<()>(Err(primary.into()))?;
            findings.keep::<()>(Err(backup.into()))?;
            return Err(findings.refused());
        }
    };
    check_layout(&table, size, &mut findings);
    findings.keep(mbr)?;
    Ok(Copies {
        table,
        findings: findings.into_vec(),
    })
}

/// One copy, read whole, its checksums right.
struct Copied {
    header: Header,
    entries: Vec<u8>,
}

type Attempt = Result<Copied, Finding>;

/// The sector size at which a primary header stands, and that header. With none in sight the disk is
/// taken for one of 512-byte sectors unless only a backup header at 4096 exists.
fn find_primary(disk: &mut (impl Read + Seek), size: u64) -> Result<(u32, Attempt), Error> {
    for sector_size in SECTOR_SIZES {
        let mut source = Source {
            disk,
            size,
            sector_size,
        };
        if source.has_header(1)? {
            return Ok((sector_size, source.copy(1, "primary")?));
        }
    }
    let mut found = 512;
    for sector_size in SECTOR_SIZES {
        let mut source = Source {
            disk,
            size,
            sector_size,
        };
        if source.has_header((size / u64::from(sector_size)).saturating_sub(1))? {
            found = sector_size;
            break;
        }
    }
    let mut source = Source {
        disk,
        size,
        sector_size: found,
    };
    Ok((found, source.copy(1, "primary")?))
}

struct Source<'a, R> {
    disk: &'a mut R,
    size: u64,
    sector_size: u32,
}

impl<R: Read + Seek> Source<'_, R> {
    /// `buffer.len()` bytes from a sector on, `false` when they reach past the end.
    fn fill(&mut self, lba: u64, buffer: &mut [u8]) -> Result<bool, Error> {
        let start = lba.checked_mul(u64::from(self.sector_size));
        let end = start.and_then(|start| start.checked_add(buffer.len() as u64));
        let (Some(start), Some(end)) = (start, end) else {
            return Ok(false);
        };
        if end > self.size {
            return Ok(false);
        }
        let read = self.disk.seek(SeekFrom::Start(start));
        match read.and_then(|_| self.disk.read_exact(buffer)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(Error::ReadImage { source }),
        }
    }

    fn has_header(&mut self, lba: u64) -> Result<bool, Error> {
        let mut signature = [0; 8];
        Ok(self.fill(lba, &mut signature)? && signature == SIGNATURE)
    }

    fn protective_mbr(&mut self) -> Result<Result<(), Error>, Error> {
        let mut bytes = [0; size_of::<ProtectiveMbr>()];
        let whole = self.fill(0, &mut bytes)?;
        let sectors = self.size / u64::from(self.sector_size);
        let what = match ProtectiveMbr::ref_from_bytes(&bytes) {
            Ok(mbr) if whole => mbr_defect(mbr, sectors),
            _ => Some("is cut short".to_owned()),
        };
        Ok(what.map_or(Ok(()), |what| {
            Err(table_finding("protective MBR", what).into())
        }))
    }

    fn copy(&mut self, lba: u64, name: &str) -> Result<Attempt, Error> {
        let header = match self.header(lba, name)? {
            Ok(header) => header,
            Err(finding) => return Ok(Err(finding)),
        };
        let place = format!("{name} GPT entries");
        // Bounded by `header_defect`: at most 128 KiB.
        let size = header.entry_count.get().saturating_mul(ENTRY_SIZE);
        let mut entries = vec![0; size as usize];
        if !self.fill(header.entries_lba.get(), &mut entries)? {
            return Ok(Err(table_finding(place, "reach past the end of the file")));
        }
        let (found, said) = (checksum(&entries), header.entries_checksum.get());
        if found != said {
            let what = format!("have checksum {found:#010x}, the header says {said:#010x}");
            return Ok(Err(table_finding(place, what)));
        }
        Ok(Ok(Copied { header, entries }))
    }

    fn header(&mut self, lba: u64, name: &str) -> Result<Result<Header, Finding>, Error> {
        let mut bytes = [0; HEADER_SIZE as usize];
        let whole = self.fill(lba, &mut bytes)?;
        let what = match Header::read_from_bytes(&bytes) {
            Ok(header) if whole => match header_defect(&header, lba) {
                None => return Ok(Ok(header)),
                Some(what) => what,
            },
            _ => format!(
                "sector {lba} is past the end of the file ({} bytes)",
                self.size
            ),
        };
        Ok(Err(table_finding(format!("{name} GPT header"), what)))
    }
}

fn table_finding(place: impl Into<String>, what: impl Into<String>) -> Finding {
    Finding::new(Check::PartitionTable, place, what)
}

fn mbr_defect(mbr: &ProtectiveMbr, sectors: u64) -> Option<String> {
    let size = ProtectiveMbr::size_field(sectors);
    if mbr.signature != ProtectiveMbr::SIGNATURE {
        Some("at byte 510: not 55 AA".into())
    } else if mbr.kind != ProtectiveMbr::KIND {
        Some(format!(
            "at byte 450: partition type is {:#04x}, not 0xee",
            mbr.kind
        ))
    } else if mbr.sectors.get() != size {
        let said = mbr.sectors.get();
        Some(format!("at byte 458: covers {said} sectors, not {size}"))
    } else {
        None
    }
}

fn header_defect(header: &Header, lba: u64) -> Option<String> {
    let (said, found) = (header.checksum.get(), header.computed_checksum());
    if header.signature != SIGNATURE {
        Some(format!("sector {lba} does not start with `EFI PART`"))
    } else if header.revision.get() != REVISION || header.size.get() != HEADER_SIZE {
        Some("is not of revision 1.0 with 92 bytes".into())
    } else if found != said {
        Some(format!(
            "checksum is {found:#010x}, the header says {said:#010x}"
        ))
    } else if header.own_lba.get() != lba {
        let own = header.own_lba.get();
        Some(format!("stands in sector {lba}, but says {own}"))
    } else if header.entry_size.get() != ENTRY_SIZE {
        Some(format!(
            "entries have {} bytes, not 128",
            header.entry_size.get()
        ))
    } else if header.entry_count.get() > ENTRIES_MAX {
        let count = header.entry_count.get();
        Some(format!("has {count} entries, more than {ENTRIES_MAX}"))
    } else {
        None
    }
}

fn compare(primary: &Copied, backup: &Copied, last: u64, findings: &mut Findings) {
    let mut differ = |what: String| findings.add(Check::PartitionTable, "backup GPT header", what);
    let (ours, theirs) = (&primary.header, &backup.header);
    if theirs.other_lba != ours.own_lba {
        differ(format!("names sector {} as the primary", theirs.other_lba));
    }
    if ours.other_lba.get() != last {
        differ(format!(
            "stands in sector {}, not in the last, {last}",
            ours.other_lba
        ));
    }
    if (ours.first_usable, ours.last_usable, ours.disk)
        != (theirs.first_usable, theirs.last_usable, theirs.disk)
    {
        differ("differs from the primary in disk UUID or usable sectors".into());
    }
    if primary.entries != backup.entries {
        findings.add(
            Check::PartitionTable,
            "backup GPT entries",
            "differ from the primary ones",
        );
    }
}

impl Copied {
    fn table(&self, sector_size: u32, findings: &mut Findings) -> Table {
        let mut partitions = Vec::new();
        for (index, bytes) in self.entries.chunks_exact(ENTRY_SIZE as usize).enumerate() {
            let Ok(entry) = Entry::ref_from_bytes(bytes) else {
                continue;
            };
            if entry.type_guid == [0; 16] {
                continue;
            }
            let number = index + 1;
            match self.partition(number, entry, u64::from(sector_size)) {
                Ok(partition) => partitions.push(partition),
                Err(what) => {
                    findings.add(Check::PartitionTable, format!("partition {number}"), what);
                }
            }
        }
        let disk = Guid::from_disk(self.header.disk);
        Table {
            sector_size,
            disk,
            partitions,
        }
    }

    fn partition(&self, number: usize, entry: &Entry, sector: u64) -> Result<Partition, String> {
        let (first, last) = (entry.first.get(), entry.last.get());
        let usable = self.header.first_usable.get()..=self.header.last_usable.get();
        if last < first {
            return Err(format!("ends in sector {last}, before its first, {first}"));
        }
        if !usable.contains(&first) || !usable.contains(&last) {
            let (low, high) = usable.into_inner();
            return Err(format!(
                "sectors {first} to {last} are outside the usable {low} to {high}"
            ));
        }
        let sectors = (last - first).checked_add(1);
        let size = sectors.and_then(|sectors| sectors.checked_mul(sector));
        let (Some(offset), Some(size)) = (first.checked_mul(sector), size) else {
            return Err(format!(
                "sectors {first} to {last} are further than a file can reach"
            ));
        };
        Ok(Partition {
            number,
            type_guid: Guid::from_disk(entry.type_guid),
            guid: Guid::from_disk(entry.guid),
            offset,
            size,
            attributes: entry.attributes.get(),
            label: label(entry),
        })
    }
}

fn label(entry: &Entry) -> String {
    let units = entry.label.iter().map(|unit| unit.get());
    char::decode_utf16(units.take_while(|&unit| unit != 0))
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

fn check_layout(table: &Table, size: u64, findings: &mut Findings) {
    let mut add = |number: usize, what: String| {
        findings.add(Check::PartitionTable, format!("partition {number}"), what);
    };
    let mut sorted: Vec<&Partition> = table.partitions.iter().collect();
    sorted.sort_by_key(|partition| partition.offset);
    let mut previous: Option<&Partition> = None;
    for partition in sorted {
        let end = partition.offset.saturating_add(partition.size);
        if end > size {
            let what = format!("ends at byte {end}, the file at byte {size}");
            add(partition.number, what);
        }
        if let Some(previous) = previous
            && previous.offset.saturating_add(previous.size) > partition.offset
        {
            add(
                partition.number,
                format!("overlaps partition {}", previous.number),
            );
        }
        previous = Some(partition);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;
    use crate::gpt::{BACKUP_SIZE, FRONT_SIZE, backup, front};
    use crate::vector;

    fn findings(bytes: &[u8]) -> Vec<String> {
        let found = match read(&mut Cursor::new(bytes), bytes.len() as u64) {
            Ok(copies) => copies.findings,
            Err(Error::Refused { findings }) => findings,
            Err(other) => panic!("{other}"),
        };
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn reads_what_repart_wrote_and_writes_it_again() {
        let image = vector::image("erofs");
        let size = image.len() as u64;
        let copies = read(&mut Cursor::new(&image), size).unwrap();
        assert_eq!(copies.findings, []);
        let table = copies.table;
        let labels: Vec<&str> = table
            .partitions
            .iter()
            .map(|at| at.label.as_str())
            .collect();
        assert_eq!(
            labels,
            [
                "root-x86-64",
                "root-x86-64-verity",
                "root-x86-64-verity-sig"
            ]
        );
        assert!(image.starts_with(&front(&table, size)));
        assert!(image.ends_with(&backup(&table, size)));
    }

    #[test]
    fn reads_sectors_of_4096_bytes() {
        let image = vector::image("sector4096");
        let copies = read(&mut Cursor::new(&image), image.len() as u64).unwrap();
        assert_eq!(copies.findings, []);
        assert_eq!(copies.table.sector_size, 4096);
        assert_eq!(copies.table.partitions[0].offset, 24576);
    }

    fn small() -> Vec<u8> {
        let partition = |number: u8, offset, size| Partition {
            number: number.into(),
            type_guid: Guid::from_bytes([1; 16]),
            guid: Guid::from_bytes([number; 16]),
            offset,
            size,
            attributes: 0,
            label: "a".into(),
        };
        let table = Table {
            sector_size: 512,
            disk: Guid::from_bytes([2; 16]),
            partitions: vec![partition(1, 20480, 4096), partition(2, 24576, 4096)],
        };
        let size = FRONT_SIZE + 2 * 4096 + BACKUP_SIZE;
        let mut disk = front(&table, size);
        disk.extend([0; 2 * 4096]);
        disk.extend(backup(&table, size));
        disk
    }

    #[test]
    fn every_damage_is_named_where_it_is() {
        let good = small();
        assert_eq!(findings(&good), [""; 0]);
        let backup = good.len() - 512;
        for (at, expected) in [
            (
                450,
                "protective MBR: at byte 450: partition type is 0xef, not 0xee",
            ),
            (
                458,
                "protective MBR: at byte 458: covers 89 sectors, not 88",
            ),
            (511, "protective MBR: at byte 510: not 55 AA"),
            (
                512,
                "primary GPT header: sector 1 does not start with `EFI PART`",
            ),
            (
                520,
                "primary GPT header: is not of revision 1.0 with 92 bytes",
            ),
        ] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(findings(&bad), [expected], "byte {at}");
        }
        let mut bad = good.clone();
        bad[backup] ^= 1;
        assert_eq!(
            findings(&bad),
            ["backup GPT header: sector 88 does not start with `EFI PART`"]
        );
    }

    proptest! {
        // Whatever the bytes are: no panic, no allocation beyond the entries, no partition outside.
        #[test]
        fn no_bytes_panic(at in 0..small().len(), value: u64) {
            let mut disk = small();
            for (byte, new) in disk.iter_mut().skip(at).zip(value.to_le_bytes()) {
                *byte = new;
            }
            let _ = read(&mut Cursor::new(&disk), disk.len() as u64);
        }

        #[test]
        fn no_short_disk_panics(disk: Vec<u8>) {
            let _ = read(&mut Cursor::new(&disk), disk.len() as u64);
        }
    }
}
