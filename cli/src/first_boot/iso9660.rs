//! A reader of ISO 9660 volumes (ECMA-119), as genisoimage, xorriso and hypervisors write them for metadata: no mount, no root.
//!
//! ```text
//! sector 16 …   volume descriptors: 1 primary, 2 supplementary (Joliet when its escape is %/@, %/C or %/E), 255 the last
//! root record   in the descriptor at byte 156: extent (LBA) at 2, length at 10, flags at 25, name at 33
//! ```
//!
//! Names come from Joliet where there is one, else from Rock Ridge (`NM`), else as ISO has them, without `;1` and in lower case.

use std::io::{self, Read, Seek, SeekFrom};

use zeroize::Zeroizing;

/// Bytes of a sector.
const SECTOR: u64 = 2048;
const SECTOR_SIZE: usize = 2048;
/// Where descriptors start.
const FIRST_DESCRIPTOR: u64 = 16;
/// Descriptors looked at: a volume has two or three.
const DESCRIPTORS_MAX: u64 = 16;
/// Bytes of a directory looked at.
const DIRECTORY_MAX: u32 = 1 << 20;

/// A volume.
#[derive(Debug)]
pub struct Iso9660<R> {
    reader: R,
    root: Extent,
    joliet: bool,
    label: String,
}

/// Where something lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    sector: u32,
    length: u32,
    directory: bool,
}

impl<R: Read + Seek> Iso9660<R> {
    /// Opens a volume; `None` when it is none.
    ///
    /// # Errors
    ///
    /// What reading says.
    pub fn open(mut reader: R) -> io::Result<Option<Self>> {
        let mut found: Option<(Extent, bool, String)> = None;
        for number in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + DESCRIPTORS_MAX {
            let Some(descriptor) = sector(&mut reader, number)? else {
                break;
            };
            if descriptor.get(1..6) != Some(b"CD001") {
                break;
            }
            let kind = descriptor.first().copied();
            let joliet = kind == Some(2) && is_joliet(&descriptor);
            let root = descriptor.get(156..190).and_then(record);
            let label = descriptor.get(40..72).unwrap_or_default();
            match (kind, root) {
                (Some(255), _) => break,
                (Some(1), Some((extent, _))) if found.is_none() => {
                    let label = String::from_utf8_lossy(label).trim_end().to_owned();
                    found = Some((extent, false, label));
                }
                (Some(2), Some((extent, _))) if joliet => {
                    if let Some((root, is_joliet, _)) = &mut found {
                        (*root, *is_joliet) = (extent, true);
                    }
                }
                _ => {}
            }
        }
        Ok(found.map(|(root, joliet, label)| Self {
            reader,
            root,
            joliet,
            label,
        }))
    }

    /// What the volume is called.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The content of a file, its path with `/`; `None` when there is no such file.
    ///
    /// # Errors
    ///
    /// A file of more than `limit` bytes, one that reaches behind the end, what reading says.
    pub fn read(&mut self, path: &str, limit: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let mut at = self.root;
        for name in path.split('/') {
            if !at.directory {
                return Ok(None);
            }
            let Some(next) = self.entry(at, name)? else {
                return Ok(None);
            };
            at = next;
        }
        if at.directory {
            return Ok(None);
        }
        self.content(at, limit).map(Some)
    }

    fn entry(&mut self, directory: Extent, name: &str) -> io::Result<Option<Extent>> {
        let length = directory.length.min(DIRECTORY_MAX);
        let content = self.content(
            Extent {
                length,
                ..directory
            },
            DIRECTORY_MAX as usize,
        )?;
        // Records do not cross sectors; the rest of a sector is zero.
        for sector in content.chunks(SECTOR_SIZE) {
            let mut rest = sector;
            while let Some((extent, found, size)) = next_record(rest, self.joliet) {
                if found == name {
                    return Ok(Some(extent));
                }
                rest = rest.get(size..).unwrap_or_default();
            }
        }
        Ok(None)
    }

    fn content(&mut self, extent: Extent, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        let length = usize::try_from(extent.length).unwrap_or(usize::MAX);
        if length > limit {
            return Err(refused("a file of the volume is too long"));
        }
        self.reader
            .seek(SeekFrom::Start(u64::from(extent.sector) * SECTOR))?;
        let content = crate::read_wiped((&mut self.reader).take(length as u64), limit)?;
        if content.len() < length {
            return Err(refused("a file reaches behind the end of the volume"));
        }
        Ok(content)
    }
}

fn refused(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn sector<R: Read + Seek>(reader: &mut R, number: u64) -> io::Result<Option<Vec<u8>>> {
    reader.seek(SeekFrom::Start(number * SECTOR))?;
    let mut bytes = Vec::new();
    reader.take(SECTOR).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 == SECTOR).then_some(bytes))
}

/// The escape sequences of UCS-2 levels 1 to 3.
fn is_joliet(descriptor: &[u8]) -> bool {
    let escape = descriptor.get(88..91).unwrap_or_default();
    [b"%/@", b"%/C", b"%/E"]
        .iter()
        .any(|known| escape == *known)
}

/// A directory record, and what stands behind its fixed part.
fn record(bytes: &[u8]) -> Option<(Extent, &[u8])> {
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let extent = Extent {
        sector: number(2)?,
        length: number(10)?,
        directory: bytes.get(25)? & 2 != 0,
    };
    Some((extent, bytes.get(32..)?))
}

/// The first record of a piece of a directory, with its name and size.
fn next_record(rest: &[u8], joliet: bool) -> Option<(Extent, String, usize)> {
    let size = usize::from(*rest.first()?);
    let bytes = rest.get(..size).filter(|bytes| bytes.len() >= 34)?;
    let (extent, tail) = record(bytes)?;
    let length = usize::from(*tail.first()?);
    let name = tail.get(1..=length)?;
    // The system area begins at an even offset.
    let system = tail
        .get(1 + length + (length + 1) % 2..)
        .unwrap_or_default();
    let name = if joliet {
        utf16(name)
    } else {
        rock_ridge(system).unwrap_or_else(|| plain(name))
    };
    Some((extent, name, size))
}

fn utf16(name: &[u8]) -> String {
    let units = name.chunks_exact(2).map(|pair| match pair {
        [high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    });
    let text: String = char::decode_utf16(units)
        .map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    without_version(&text)
}

fn plain(name: &[u8]) -> String {
    without_version(&String::from_utf8_lossy(name)).to_ascii_lowercase()
}

fn without_version(name: &str) -> String {
    let name = name.split_once(';').map_or(name, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

/// The name of an `NM` entry of SUSP: signature, length, version, flags, name.
fn rock_ridge(mut area: &[u8]) -> Option<String> {
    let mut name = Vec::new();
    while let [first, second, size, _, ..] = *area {
        let entry = area
            .get(..usize::from(size))
            .filter(|entry| entry.len() >= 4)?;
        if [first, second] == *b"NM" {
            name.extend_from_slice(entry.get(5..).unwrap_or_default());
        }
        area = area.get(entry.len()..).unwrap_or_default();
    }
    (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned())
}
