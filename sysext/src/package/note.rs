//! The package metadata in an ELF file: a note of the owner `FDO` that holds JSON, as systemd and the distributions
//! have agreed on it (systemd.io, "Package Metadata for Executable Files").

use object::elf::{ELFMAG, FileHeader32, FileHeader64, NoteType};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind};

use super::Package;
use crate::{Content, Error};

/// The type of the note.
const PACKAGE: NoteType = NoteType(0xCAFE_1A7E);
/// Linkers put notes to the front; what lies behind this is not looked for.
const FRONT: usize = 256 * 1024;

/// The package that the file says it is from; `None` when it is no ELF file, or says nothing that can be read.
pub(super) fn of(content: &Content) -> Result<Option<Package>, Error> {
    if content.start(ELFMAG.len())? != ELFMAG {
        return Ok(None);
    }
    content.start(FRONT).map(|front| parse(&front))
}

/// The same from the first bytes of a file.
pub(super) fn parse(front: &[u8]) -> Option<Package> {
    let note = match FileKind::parse(front).ok()? {
        FileKind::Elf32 => find::<FileHeader32<Endianness>>(front),
        FileKind::Elf64 => find::<FileHeader64<Endianness>>(front),
        _ => None,
    }?;
    let end = note
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(note.len());
    let package: Package = serde_json::from_slice(note.get(..end)?).ok()?;
    (!package.name.is_empty()).then_some(package)
}

/// What the note holds.
fn find<H: FileHeader<Endian = Endianness>>(front: &[u8]) -> Option<&[u8]> {
    let header = H::parse(front).ok()?;
    let endian = header.endian().ok()?;
    for segment in header.program_headers(endian, front).ok()? {
        let Ok(Some(mut notes)) = segment.notes(endian, front) else {
            continue;
        };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == b"FDO" && note.n_type(endian) == PACKAGE {
                return Some(note.desc());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least ELF file of 64 bits, little endian, with one note segment behind its program header.
    fn elf(owner: &[u8; 4], kind: u32, json: &[u8]) -> Vec<u8> {
        let note_size = u64::try_from(12 + 4 + json.len().next_multiple_of(4)).unwrap();
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend([3, 0, 62, 0, 1, 0, 0, 0]);
        for number in [0_u64, 64, 0] {
            file.extend(number.to_le_bytes());
        }
        file.extend([0; 4]);
        for number in [64_u16, 56, 1, 64, 0, 0] {
            file.extend(number.to_le_bytes());
        }
        file.extend([4, 0, 0, 0, 4, 0, 0, 0]);
        for number in [120, 120, 120, note_size, note_size, 4] {
            file.extend(u64::to_le_bytes(number));
        }
        for number in [4, u32::try_from(json.len()).unwrap(), kind] {
            file.extend(number.to_le_bytes());
        }
        file.extend(owner);
        file.extend(json);
        file.resize(file.len().next_multiple_of(4), 0);
        file
    }

    #[test]
    fn the_note_tells_the_package() {
        let json = br#"{"type":"rpm","name":"nbd","version":"3.26-3.fc42","architecture":"x86_64","osCpe":"cpe:/o:x:y:42","new":"?"}"#;
        let with_end = [json.as_slice(), b"\0\0\0"].concat();
        let package = of(&Content::from_bytes(elf(b"FDO\0", PACKAGE.0, &with_end))).unwrap();
        assert_eq!(
            serde_json::to_string(&package.unwrap()).unwrap(),
            "{\"type\":\"rpm\",\"name\":\"nbd\",\"version\":\"3.26-3.fc42\",\"architecture\":\"x86_64\",\
             \"osCpe\":\"cpe:/o:x:y:42\"}"
        );
        for other in [
            elf(b"GNU\0", PACKAGE.0, json),
            elf(b"FDO\0", 1, json),
            elf(b"FDO\0", PACKAGE.0, b"no JSON"),
            elf(b"FDO\0", PACKAGE.0, b"{}"),
            json.to_vec(),
            b"\x7fELF".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(of(&Content::from_bytes(other)).unwrap(), None);
        }
    }
}
