//! Writes a PE image that carries data and does nothing: an addon ("PE Format"; what the loaders of EDK2, shim
//! and systemd-stub ask of it is in `layout.rs`).
//!
//! ```text
//! DOS header | PE32+ headers | section table | pad to 512 | .text | data | data | …     each padded to 512
//! ```
//!
//! In memory each section begins at a page of its own. There are no relocations: nothing in the file is an
//! address, so it may be loaded anywhere. Dates and checksums are zero: same content, same bytes.

use object::pe::{
    IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE, IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA,
    IMAGE_DLLCHARACTERISTICS_NX_COMPAT, IMAGE_FILE_DEBUG_STRIPPED, IMAGE_FILE_EXECUTABLE_IMAGE,
    IMAGE_FILE_LARGE_ADDRESS_AWARE, IMAGE_FILE_LINE_NUMS_STRIPPED, IMAGE_FILE_LOCAL_SYMS_STRIPPED,
    IMAGE_NUMBEROF_DIRECTORY_ENTRIES, IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_MEM_READ,
    IMAGE_SUBSYSTEM_EFI_APPLICATION,
};
use object::write::pe::{NtHeaders, Writer};

use super::Architecture;
use super::layout::IMAGE_MAX;
use crate::Error;

/// In memory, in bytes: the page of the architectures EFI knows.
const SECTION_ALIGNMENT: u32 = 4096;
/// In the file, in bytes: the smallest that "PE Format" allows.
const FILE_ALIGNMENT: u32 = 512;

/// What runs when somebody starts it: `return EFI_UNSUPPORTED`. shim wants an entry point inside a section.
fn code(architecture: Architecture) -> Option<&'static [u8]> {
    Some(match architecture {
        // movabs rax, 0x8000000000000003; ret
        Architecture::X86_64 => &[0x48, 0xB8, 3, 0, 0, 0, 0, 0, 0, 0x80, 0xC3],
        // mov x0, #3; movk x0, #0x8000, lsl #48; ret
        Architecture::Arm64 => &[
            0x60, 0x00, 0x80, 0xD2, 0x00, 0x00, 0xF0, 0xF2, 0xC0, 0x03, 0x5F, 0xD6,
        ],
        _ => return None,
    })
}

/// The file of an image with these sections, in their order. Names have at most 8 bytes.
///
/// # Errors
///
/// [`Error::AddonArchitecture`] for a processor there is no code for, [`Error::AddonTooLarge`] over 1 GiB.
pub(crate) fn write(
    architecture: Architecture,
    sections: &[(&'static str, &[u8])],
) -> Result<Vec<u8>, Error> {
    let code = code(architecture).ok_or(Error::AddonArchitecture { architecture })?;
    let too_large = || Error::AddonTooLarge { limit: IMAGE_MAX };
    let size: usize = sections.iter().map(|(_, data)| data.len()).sum();
    if size > IMAGE_MAX {
        return Err(too_large());
    }
    let mut file = Vec::new();
    let mut writer = Writer::new(true, SECTION_ALIGNMENT, FILE_ALIGNMENT, &mut file);
    writer.reserve_dos_header();
    writer.reserve_nt_headers(IMAGE_NUMBEROF_DIRECTORY_ENTRIES);
    let count = u16::try_from(sections.len() + 1).map_err(|_| too_large())?;
    writer.reserve_section_headers(count);
    let text = writer.reserve_text_section(u32::try_from(code.len()).map_err(|_| too_large())?);
    let mut places = Vec::new();
    for (name, data) in sections {
        let size = u32::try_from(data.len()).map_err(|_| too_large())?;
        let flags = IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ;
        places.push((
            writer.reserve_section(padded(name), flags, size, size),
            data,
        ));
    }
    let written = writer.write_empty_dos_header();
    written.map_err(|_| too_large())?;
    writer.write_nt_headers(headers(architecture, text.virtual_address));
    writer.write_section_headers();
    writer.write_section(text.file_offset, code);
    for (place, data) in places {
        writer.write_section(place.file_offset, data);
    }
    Ok(file)
}

fn padded(name: &str) -> [u8; 8] {
    let mut padded = [0; 8];
    for (to, from) in padded.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    padded
}

fn headers(architecture: Architecture, entry: u32) -> NtHeaders {
    NtHeaders {
        machine: architecture.machine(),
        time_date_stamp: 0,
        characteristics: IMAGE_FILE_EXECUTABLE_IMAGE
            | IMAGE_FILE_LINE_NUMS_STRIPPED
            | IMAGE_FILE_LOCAL_SYMS_STRIPPED
            | IMAGE_FILE_LARGE_ADDRESS_AWARE
            | IMAGE_FILE_DEBUG_STRIPPED,
        major_linker_version: 0,
        minor_linker_version: 0,
        address_of_entry_point: entry,
        image_base: 0,
        major_operating_system_version: 0,
        minor_operating_system_version: 0,
        major_image_version: 0,
        minor_image_version: 0,
        major_subsystem_version: 1,
        minor_subsystem_version: 1,
        subsystem: IMAGE_SUBSYSTEM_EFI_APPLICATION,
        dll_characteristics: IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA
            | IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE
            | IMAGE_DLLCHARACTERISTICS_NX_COMPAT,
        size_of_stack_reserve: 0,
        size_of_stack_commit: 0,
        size_of_heap_reserve: 0,
        size_of_heap_commit: 0,
    }
}
