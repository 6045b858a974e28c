//! The libraries a program asks for: the NEEDED and RUNPATH entries of an ELF file (System V ABI, "Dynamic Section").

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::FileHeader;
use object::{Endianness, FileKind};

/// What the loader is told.
#[derive(Debug, Default)]
pub(super) struct Needed {
    /// The names of the libraries.
    pub(super) libraries: Vec<String>,
    /// Where it looks before the usual directories, without a leading slash.
    pub(super) directories: Vec<String>,
}

/// What a program or library needs; nothing for what is neither, or damaged.
pub(super) fn needed(file: &[u8]) -> Needed {
    let needed = match FileKind::parse(file) {
        Ok(FileKind::Elf32) => of::<FileHeader32<Endianness>>(file),
        Ok(FileKind::Elf64) => of::<FileHeader64<Endianness>>(file),
        _ => None,
    };
    needed.unwrap_or_default()
}

fn of<Header: FileHeader<Endian = Endianness>>(file: &[u8]) -> Option<Needed> {
    let header = Header::parse(file).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, file).ok()?;
    let table = sections.dynamic_table(endian, file).ok()?;
    let mut needed = Needed::default();
    for entry in table.iter() {
        let text = || Some(String::from_utf8_lossy(table.string(entry).ok()?).into_owned());
        match entry.tag {
            elf::DT_NEEDED => needed.libraries.extend(text()),
            elf::DT_RUNPATH | elf::DT_RPATH => {
                let path = text().unwrap_or_default();
                let directories = path
                    .split(':')
                    .map(|part| part.trim_matches('/').to_owned());
                needed.directories.extend(directories);
            }
            _ => {}
        }
    }
    Some(needed)
}
