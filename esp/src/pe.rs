//! The section table of a PE file, as far as systemd-stub reads it ("PE Format", section "COFF File
//! Header" and "Section Table").
//!
//! ```text
//! DOS header ─ e_lfanew → "PE\0\0" | COFF header | optional header (PE32 or PE32+) | section table
//! ```
//!
//! Sections are borrowed from the file: nothing is allocated by a size that the file names.

mod layout;
mod writer;

use object::endian::LittleEndian as LE;
use object::pe::{
    IMAGE_FILE_MACHINE_AMD64, IMAGE_FILE_MACHINE_ARM64, IMAGE_FILE_MACHINE_ARMNT,
    IMAGE_FILE_MACHINE_I386, IMAGE_FILE_MACHINE_RISCV64, IMAGE_NT_OPTIONAL_HDR32_MAGIC,
    IMAGE_NT_OPTIONAL_HDR64_MAGIC, ImageDosHeader, ImageNtHeaders32, ImageNtHeaders64,
    ImageSectionHeader, Machine,
};
use object::read::pe::{ImageNtHeaders, SectionTable, optional_header_magic};
use serde::Serialize;

use crate::FormatError;
pub(crate) use layout::check as check_layout;
pub(crate) use writer::write;

/// The processor a PE file is made for, in systemd's words (`ARCHITECTURE=` of an extension).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Architecture {
    /// 32-bit Arm
    #[serde(rename = "arm")]
    Arm,
    /// 64-bit Arm, little endian
    #[serde(rename = "arm64")]
    Arm64,
    /// 64-bit LoongArch
    #[serde(rename = "loongarch64")]
    LoongArch64,
    /// 64-bit RISC-V
    #[serde(rename = "riscv64")]
    RiscV64,
    /// 32-bit x86
    #[serde(rename = "x86")]
    X86,
    /// 64-bit x86
    #[serde(rename = "x86-64")]
    X86_64,
}

/// "PE Format", section "Machine Types"; not in the list of the object crate.
const LOONGARCH64: Machine = Machine(0x6264);

impl Architecture {
    /// The word systemd uses, such as `x86-64`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arm => "arm",
            Self::Arm64 => "arm64",
            Self::LoongArch64 => "loongarch64",
            Self::RiscV64 => "riscv64",
            Self::X86 => "x86",
            Self::X86_64 => "x86-64",
        }
    }

    fn machine(self) -> Machine {
        match self {
            Self::Arm => IMAGE_FILE_MACHINE_ARMNT,
            Self::Arm64 => IMAGE_FILE_MACHINE_ARM64,
            Self::LoongArch64 => LOONGARCH64,
            Self::RiscV64 => IMAGE_FILE_MACHINE_RISCV64,
            Self::X86 => IMAGE_FILE_MACHINE_I386,
            Self::X86_64 => IMAGE_FILE_MACHINE_AMD64,
        }
    }

    fn of(machine: Machine) -> Option<Self> {
        Some(match machine {
            IMAGE_FILE_MACHINE_ARMNT => Self::Arm,
            IMAGE_FILE_MACHINE_ARM64 => Self::Arm64,
            LOONGARCH64 => Self::LoongArch64,
            IMAGE_FILE_MACHINE_RISCV64 => Self::RiscV64,
            IMAGE_FILE_MACHINE_I386 => Self::X86,
            IMAGE_FILE_MACHINE_AMD64 => Self::X86_64,
            _ => return None,
        })
    }
}

/// A PE file: a UKI, an addon, or any other.
#[derive(Debug, Clone)]
pub struct Pe<'a> {
    machine: Machine,
    /// In the order of the table.
    sections: Vec<Section<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Section<'a> {
    name: &'a [u8],
    /// `None` for what the file does not hold in full, such as `.bss`.
    data: Option<&'a [u8]>,
}

impl Section<'_> {
    fn is_profile(&self) -> bool {
        self.name == b".profile"
    }
}

fn find<'s, 'a>(sections: &'s [Section<'a>], name: &str) -> Option<&'s Section<'a>> {
    sections
        .iter()
        .find(|section| section.name == name.as_bytes())
}

impl<'a> Pe<'a> {
    /// Reads the headers of a whole file.
    ///
    /// # Errors
    ///
    /// A file that is not a PE image, or one whose headers or whose sections for the stub are cut off.
    pub fn parse(file: &'a [u8]) -> Result<Self, FormatError> {
        let magic = optional_header_magic(file)
            .map_err(|_| FormatError::new(0_u64, "this is not a PE file"))?;
        match magic {
            IMAGE_NT_OPTIONAL_HDR32_MAGIC => Self::parse_as::<ImageNtHeaders32>(file),
            IMAGE_NT_OPTIONAL_HDR64_MAGIC => Self::parse_as::<ImageNtHeaders64>(file),
            _ => Err(FormatError::new(
                0_u64,
                "this is a PE file of an unknown kind, neither PE32 nor PE32+",
            )),
        }
    }

    fn parse_as<Headers: ImageNtHeaders>(file: &'a [u8]) -> Result<Self, FormatError> {
        let start = ImageDosHeader::parse(file)
            .map_err(|_| FormatError::new(0_u64, "this is not a PE file"))?
            .nt_headers_offset();
        let mut end = u64::from(start);
        let (headers, _) = Headers::parse(file, &mut end)
            .map_err(|_| FormatError::new(start, "the PE headers are damaged"))?;
        let table = headers
            .sections(file, end)
            .map_err(|_| FormatError::new(end, "the section table is cut off"))?;
        Ok(Self {
            machine: headers.file_header().machine.get(LE),
            sections: sections(file, table)?,
        })
    }

    /// The bytes of a section as the stub sees and measures them: `VirtualSize` of them, without the
    /// padding in the file. The first of that name counts, and only in front of any `.profile`.
    pub fn section(&self, name: &str) -> Option<&'a [u8]> {
        find(self.base(), name)?.data
    }

    /// The bytes of a section when this profile is booted: the profile's own, else those of the base. An
    /// empty section counts as none. Profile 0 is there even if no `.profile` is.
    pub fn section_in_profile(&self, profile: u32, name: &str) -> Option<&'a [u8]> {
        let own = self.profile(profile).and_then(|own| find(own, name));
        let section = own.or_else(|| find(self.base(), name))?;
        section.data.filter(|data| !data.is_empty())
    }

    /// The bytes of the first section of that name in the whole file: how the stub reads addons.
    pub fn section_anywhere(&self, name: &str) -> Option<&'a [u8]> {
        find(&self.sections, name)?
            .data
            .filter(|data| !data.is_empty())
    }

    /// How many profiles can be chosen: one at least.
    pub fn profiles(&self) -> usize {
        let named = self.sections.iter().filter(|section| section.is_profile());
        named.count().max(1)
    }

    /// The sections in front of the first `.profile`.
    fn base(&self) -> &[Section<'a>] {
        self.sections
            .split(Section::is_profile)
            .next()
            .unwrap_or_default()
    }

    /// From one `.profile`, which is a part of it, up to the next.
    fn profile(&self, number: u32) -> Option<&[Section<'a>]> {
        let number = usize::try_from(number).ok()?;
        let starts = |(at, section): (usize, &Section<'a>)| section.is_profile().then_some(at);
        let mut starts = self.sections.iter().enumerate().filter_map(starts);
        let start = starts.nth(number)?;
        let end = starts.next().unwrap_or(self.sections.len());
        self.sections.get(start..end)
    }

    /// How many sections of that name there are.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.sections
            .iter()
            .filter(|section| section.name == name.as_bytes())
            .count()
    }

    /// Names and bytes of all sections, in the order of the table. The bytes are missing where the file does
    /// not hold the section in full.
    pub fn sections(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        self.sections
            .iter()
            .map(|section| (section.name, section.data))
    }

    /// The processor it is made for, `None` if systemd has no word for it.
    pub fn architecture(&self) -> Option<Architecture> {
        Architecture::of(self.machine)
    }
}

/// The sections systemd-stub looks for. What else a PE file has (code, `.bss`) is not ours to judge.
const READ_BY_STUB: [&[u8]; 15] = [
    b".linux",
    b".osrel",
    b".cmdline",
    b".initrd",
    b".ucode",
    b".splash",
    b".dtb",
    b".dtbauto",
    b".uname",
    b".sbat",
    b".pcrsig",
    b".pcrpkey",
    b".hwids",
    b".efifw",
    b".profile",
];

fn sections<'a>(file: &'a [u8], table: SectionTable<'a>) -> Result<Vec<Section<'a>>, FormatError> {
    table.iter().map(|header| section(file, header)).collect()
}

fn section<'a>(file: &'a [u8], header: &'a ImageSectionHeader) -> Result<Section<'a>, FormatError> {
    let name = header.raw_name();
    let data = header.pe_data(file).ok().filter(|data| {
        // The firmware would fill the rest with zeros; no tool that makes UKIs relies on it.
        u64::try_from(data.len()) == Ok(header.virtual_size.get(LE).into())
    });
    if data.is_none() && READ_BY_STUB.contains(&name) {
        let what = format!("section {} is cut off", String::from_utf8_lossy(name));
        return Err(FormatError::new(header.pointer_to_raw_data.get(LE), what));
    }
    Ok(Section { name, data })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    use proptest::prelude::*;

    /// A minimal PE32+ file for x86-64: headers, section table, then the sections without padding.
    pub(crate) fn pe_file(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let count = u16::try_from(sections.len()).unwrap();
        let mut file = vec![0; 64];
        file[..2].copy_from_slice(b"MZ");
        file[60] = 64;
        file.extend(b"PE\0\0");
        file.extend(0x8664_u16.to_le_bytes());
        file.extend(count.to_le_bytes());
        file.extend([0; 12]);
        file.extend(112_u16.to_le_bytes());
        file.extend([0; 2]);
        file.extend(0x20b_u16.to_le_bytes());
        file.extend([0; 110]);
        let mut start = u32::try_from(file.len() + 40 * sections.len()).unwrap();
        for (name, data) in sections {
            let size = u32::try_from(data.len()).unwrap();
            let mut padded = [0; 8];
            padded[..name.len()].copy_from_slice(name.as_bytes());
            file.extend(padded);
            for field in [size, 0, size, start] {
                file.extend(field.to_le_bytes());
            }
            file.extend([0; 16]);
            start += size;
        }
        for (_, data) in sections {
            file.extend(*data);
        }
        file
    }

    /// Where the header of the first section is in such a file.
    const FIRST_SECTION: usize = 64 + 24 + 112;

    #[test]
    fn finds_sections_of_the_base_profile() {
        let file = pe_file(&[
            (".linux", b"kernel"),
            (".osrel", b"first"),
            (".osrel", b"second"),
            (".pcrpkey", b"eight"),
            (".profile", b"ID=other"),
            (".cmdline", b"of the profile"),
        ]);
        let pe = Pe::parse(&file).unwrap();
        assert_eq!(pe.architecture(), Some(Architecture::X86_64));
        assert_eq!(pe.section(".linux"), Some(&b"kernel"[..]));
        assert_eq!(pe.section(".osrel"), Some(&b"first"[..]));
        assert_eq!(pe.section(".pcrpkey"), Some(&b"eight"[..]));
        assert_eq!(pe.section(".cmdline"), None);
        assert_eq!(pe.section(".profile"), None);
    }

    #[test]
    fn a_profile_overrides_the_base() {
        let file = pe_file(&[
            (".linux", b"kernel"),
            (".cmdline", b"of the base"),
            (".profile", b"ID=main"),
            (".profile", b"ID=other"),
            (".cmdline", b"of the profile"),
        ]);
        let pe = Pe::parse(&file).unwrap();
        assert_eq!(pe.profiles(), 2);
        for (profile, cmdline, id) in [
            (0, &b"of the base"[..], Some(&b"ID=main"[..])),
            (1, b"of the profile", Some(b"ID=other")),
            (2, b"of the base", None),
        ] {
            assert_eq!(
                pe.section_in_profile(profile, ".linux"),
                Some(&b"kernel"[..])
            );
            assert_eq!(pe.section_in_profile(profile, ".cmdline"), Some(cmdline));
            assert_eq!(pe.section_in_profile(profile, ".profile"), id);
        }
        assert_eq!(pe.section_anywhere(".cmdline"), Some(&b"of the base"[..]));
        let plain = pe_file(&[(".linux", b"kernel"), (".cmdline", b"")]);
        let plain = Pe::parse(&plain).unwrap();
        assert_eq!(plain.profiles(), 1);
        assert_eq!(plain.section_in_profile(0, ".cmdline"), None);
    }

    #[test]
    fn leaves_the_padding_in_the_file() {
        let mut file = pe_file(&[(".linux", b"kernel\0\0")]);
        file[FIRST_SECTION + 8] = 6;
        let pe = Pe::parse(&file).unwrap();
        assert_eq!(pe.section(".linux"), Some(&b"kernel"[..]));
    }

    #[test]
    fn reads_at_any_alignment() {
        let mut shifted = vec![0];
        shifted.extend(pe_file(&[(".linux", b"kernel")]));
        let pe = Pe::parse(&shifted[1..]).unwrap();
        assert_eq!(pe.section(".linux"), Some(&b"kernel"[..]));
    }

    #[test]
    fn refuses_what_is_not_pe_or_damaged() {
        let good = pe_file(&[(".linux", b"kernel"), (".text", b"code")]);
        let damaged = |at: usize, byte: u8| {
            let mut file = good.clone();
            file[at] = byte;
            file
        };
        for (file, expected) in [
            (Vec::new(), "at byte 0: this is not a PE file"),
            (b"#!/bin/sh\n".to_vec(), "at byte 0: this is not a PE file"),
            (damaged(64, b'Q'), "at byte 0: this is not a PE file"),
            (
                damaged(88, 0),
                "at byte 0: this is a PE file of an unknown kind, neither PE32 nor PE32+",
            ),
            (damaged(84, 8), "at byte 64: the PE headers are damaged"),
            (damaged(70, 9), "at byte 200: the section table is cut off"),
            // VirtualSize above what the file has, then data beyond its end.
            (
                damaged(FIRST_SECTION + 11, 255),
                "at byte 280: section .linux is cut off",
            ),
            (
                damaged(FIRST_SECTION + 22, 1),
                "at byte 65816: section .linux is cut off",
            ),
        ] {
            assert_eq!(Pe::parse(&file).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn does_not_judge_sections_of_others() {
        let mut file = pe_file(&[(".linux", b"kernel"), (".bss", b"")]);
        file[FIRST_SECTION + 40 + 11] = 255;
        let pe = Pe::parse(&file).unwrap();
        assert_eq!(pe.section(".bss"), None);
    }

    proptest! {
        /// Any bytes, and any damage to a good file, are read or refused.
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0_usize..320, byte: u8) {
            let _ = Pe::parse(&bytes);
            let mut file = pe_file(&[(".linux", b"kernel"), (".initrd", b"initrd")]);
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
            if let Ok(pe) = Pe::parse(&file) {
                prop_assert!(pe.section(".linux").is_none_or(|data| data.len() <= file.len()));
            }
            let _ = Pe::parse(&file[..at.min(file.len())]);
        }
    }
}
