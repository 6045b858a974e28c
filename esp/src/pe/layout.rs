//! Whether firmware loads a PE image: the rules of EDK2 (`BasePeCoff.c`, `Image.c`) and shim (`pe.c`), the
//! stricter where they differ, so that what passes here is not refused by either without a word.
//!
//! ```text
//! file      headers and section table │ sections, none over another │ signatures to the end
//!           └──── SizeOfHeaders ─────┘
//! memory    headers │ page: section │ page: section │ …               └ SizeOfImage
//! ```

use object::endian::LittleEndian as LE;
use object::pe::{
    IMAGE_DIRECTORY_ENTRY_SECURITY, IMAGE_DLLCHARACTERISTICS_NX_COMPAT, IMAGE_FILE_RELOCS_STRIPPED,
    IMAGE_NT_OPTIONAL_HDR32_MAGIC, IMAGE_NUMBEROF_DIRECTORY_ENTRIES, IMAGE_SCN_MEM_EXECUTE,
    IMAGE_SCN_MEM_WRITE, IMAGE_SUBSYSTEM_EFI_APPLICATION, ImageDosHeader, ImageNtHeaders32,
    ImageNtHeaders64, ImageSectionHeader,
};
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, optional_header_magic};

use crate::FormatError;

/// The most an addon may hold, in bytes: the kernel's initrd has to fit below 4 GiB with all else.
pub(crate) const IMAGE_MAX: usize = 1 << 30;
/// In bytes; memory protection works in these.
const PAGE: u32 = 4096;

/// What else the headers say that somebody may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// It promises to run where data is not executable, which some firmware wants to hear.
    pub(crate) nx_compat: bool,
}

/// Checks the headers of a whole file.
///
/// # Errors
///
/// The first rule it breaks, with the place.
pub(crate) fn check(file: &[u8]) -> Result<Layout, FormatError> {
    match optional_header_magic(file) {
        Ok(IMAGE_NT_OPTIONAL_HDR32_MAGIC) => check_as::<ImageNtHeaders32>(file),
        Ok(_) => check_as::<ImageNtHeaders64>(file),
        Err(_) => Err(FormatError::new(0_u64, "this is not a PE file")),
    }
}

fn check_as<Headers: ImageNtHeaders>(file: &[u8]) -> Result<Layout, FormatError> {
    let start = ImageDosHeader::parse(file)
        .map_err(|_| FormatError::new(0_u64, "this is not a PE file"))?
        .nt_headers_offset();
    let mut end = u64::from(start);
    let (headers, directories) = Headers::parse(file, &mut end)
        .map_err(|_| FormatError::new(start, "the PE headers are damaged"))?;
    let table = headers
        .sections(file, end)
        .map_err(|_| FormatError::new(end, "the section table is cut off"))?;
    let at_headers = |what: &str| Err(FormatError::new(start, what));
    let fixed = headers.file_header();
    let optional = headers.optional_header();
    let table_end = end + 40 * u64::try_from(table.len()).unwrap_or(u64::MAX);

    if optional.subsystem() != IMAGE_SUBSYSTEM_EFI_APPLICATION {
        return at_headers("its subsystem is not EFI application");
    }
    if fixed
        .characteristics
        .get(LE)
        .contains(IMAGE_FILE_RELOCS_STRIPPED)
    {
        return at_headers("its relocations are stripped, so it cannot be loaded at any address");
    }
    let entries = optional.number_of_rva_and_sizes();
    if usize::try_from(entries).is_ok_and(|entries| entries > IMAGE_NUMBEROF_DIRECTORY_ENTRIES) {
        return at_headers("it has more than 16 data directories");
    }
    if end - u64::from(start) != optional_end::<Headers>(entries) {
        return at_headers("the size of the optional header does not fit its data directories");
    }
    let header_size = u64::from(optional.size_of_headers());
    if header_size < table_end || header_size > size(file) {
        return at_headers("SizeOfHeaders does not cover the section table, or is beyond the file");
    }
    let alignment = optional.section_alignment();
    if !alignment.is_power_of_two() || alignment < PAGE {
        return at_headers("its sections are not aligned to pages in memory");
    }
    let image = Image {
        file: size(file),
        headers: header_size,
        memory: optional.size_of_image().into(),
        alignment,
        entry: optional.address_of_entry_point(),
    };
    if image.memory > IMAGE_MAX as u64 * 2 {
        return at_headers("it takes more than 2 GiB of memory");
    }
    let sections: Vec<Place<'_>> = table
        .iter()
        .zip(0_u64..)
        .map(|(header, number)| Place::new(header, end + 40 * number))
        .collect();
    image.check(start, &sections)?;
    let signatures = directories.get(IMAGE_DIRECTORY_ENTRY_SECURITY);
    if let Some(directory) = signatures.filter(|directory| directory.size.get(LE) != 0) {
        let begin = u64::from(directory.virtual_address.get(LE));
        let behind = sections.iter().map(|place| place.raw.1).max();
        let ends = begin + u64::from(directory.size.get(LE));
        if ends != image.file || begin % 8 != 0 || behind.is_some_and(|end| begin < end) {
            return at_headers("the table of signatures is not what the file ends with");
        }
    }
    let nx_compat = IMAGE_DLLCHARACTERISTICS_NX_COMPAT;
    Ok(Layout {
        nx_compat: optional.dll_characteristics().contains(nx_compat),
    })
}

/// Signature, file header, optional header and its directories, in bytes.
fn optional_end<Headers: ImageNtHeaders>(entries: u32) -> u64 {
    size_of::<Headers>() as u64 + 8 * u64::from(entries)
}

fn size(file: &[u8]) -> u64 {
    file.len() as u64
}

/// What all sections have to fit into, in bytes.
struct Image {
    file: u64,
    headers: u64,
    memory: u64,
    alignment: u32,
    entry: u32,
}

/// One section: where its header is, and what it takes of file and memory, from and up to.
struct Place<'a> {
    header: &'a ImageSectionHeader,
    at: u64,
    raw: (u64, u64),
    memory: (u64, u64),
}

impl<'a> Place<'a> {
    fn new(header: &'a ImageSectionHeader, at: u64) -> Self {
        let [raw, raw_size, address, virtual_size] = [
            header.pointer_to_raw_data.get(LE),
            header.size_of_raw_data.get(LE),
            header.virtual_address.get(LE),
            header.virtual_size.get(LE),
        ]
        .map(u64::from);
        // EDK2 takes a virtual size of 0 for that in the file.
        let memory = if virtual_size == 0 {
            raw_size
        } else {
            virtual_size
        };
        Self {
            header,
            at,
            raw: if raw_size == 0 {
                (0, 0)
            } else {
                (raw, raw + raw_size)
            },
            memory: (address, address + memory),
        }
    }

    fn fault(&self, what: &str) -> FormatError {
        let name = String::from_utf8_lossy(self.header.raw_name());
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        FormatError::new(self.at, format!("section {name} {what}"))
    }
}

impl Image {
    fn check(&self, start: u32, sections: &[Place<'_>]) -> Result<(), FormatError> {
        if sections.is_empty() {
            return Err(FormatError::new(start, "it has no sections"));
        }
        for place in sections {
            self.check_section(place)?;
        }
        disjoint(sections, "overlaps another one in memory", |place| {
            place.memory
        })?;
        disjoint(sections, "overlaps another one in the file", |place| {
            place.raw
        })?;
        let entry = u64::from(self.entry);
        let inside = |place: &&Place<'_>| place.memory.0 <= entry && entry < place.memory.1;
        match sections.iter().find(inside) {
            Some(_) => Ok(()),
            None => Err(FormatError::new(start, "its entry point is in no section")),
        }
    }

    fn check_section(&self, place: &Place<'_>) -> Result<(), FormatError> {
        let (raw, memory) = (place.raw, place.memory);
        if raw.1 > self.file {
            return Err(place.fault("is cut off"));
        }
        if raw.1 > 0 && raw.0 < self.headers {
            return Err(place.fault("begins inside the headers"));
        }
        if memory.0 < self.headers || memory.1 > self.memory {
            return Err(place.fault("is not inside the image in memory"));
        }
        if memory.0 % u64::from(self.alignment) != 0 {
            return Err(place.fault("is not aligned in memory"));
        }
        let flags = place.header.characteristics.get(LE);
        if flags.contains(IMAGE_SCN_MEM_WRITE) && flags.contains(IMAGE_SCN_MEM_EXECUTE) {
            return Err(place.fault("can be written and run"));
        }
        Ok(())
    }
}

fn disjoint(
    sections: &[Place<'_>],
    what: &str,
    range: impl Fn(&Place<'_>) -> (u64, u64),
) -> Result<(), FormatError> {
    let mut sorted: Vec<&Place<'_>> = sections
        .iter()
        .filter(|place| range(place).0 < range(place).1)
        .collect();
    sorted.sort_by_key(|place| range(place).0);
    for pair in sorted.windows(2) {
        if let [first, second] = pair
            && range(first).1 > range(second).0
        {
            return Err(second.fault(what));
        }
    }
    Ok(())
}
