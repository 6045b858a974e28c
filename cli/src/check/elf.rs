//! The libraries a program asks for: the NEEDED entries of an ELF file (System V ABI, "Dynamic Section").

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::FileHeader;
use object::{Endianness, FileKind};

/// Their names, as the loader looks for them; none for what is no program or library, or a damaged one.
pub(super) fn needed(file: &[u8]) -> Vec<String> {
    let names = match FileKind::parse(file) {
        Ok(FileKind::Elf32) => of::<FileHeader32<Endianness>>(file),
        Ok(FileKind::Elf64) => of::<FileHeader64<Endianness>>(file),
        _ => None,
    };
    names.unwrap_or_default()
}

fn of<Header: FileHeader<Endian = Endianness>>(file: &[u8]) -> Option<Vec<String>> {
    let header = Header::parse(file).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, file).ok()?;
    let table = sections.dynamic_table(endian, file).ok()?;
    let needed = table.iter().filter(|entry| entry.tag == elf::DT_NEEDED);
    let names = needed.filter_map(|entry| table.string(entry).ok());
    Some(
        names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect(),
    )
}
