//! Metadata that a hypervisor gives through firmware: SMBIOS strings of type 11, and files of QEMU's fw_cfg, as Linux shows both in sysfs.
//!
//! ```text
//! sys/firmware/dmi/entries/11-*/raw                              io.ukikit.first-boot:user-data=TEXT
//!                                                                io.ukikit.first-boot.binary:user-data=BASE64
//! sys/firmware/qemu_fw_cfg/by_name/opt/io.ukikit.first-boot/user-data/raw
//! ```

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::metadata::{FILE_MAX, Files, is_known};
use crate::read_wiped;

/// What our strings begin with.
const TEXT: &str = "io.ukikit.first-boot:";
const BINARY: &str = "io.ukikit.first-boot.binary:";
const ENTRIES: &str = "sys/firmware/dmi/entries";
const FW_CFG: &str = "sys/firmware/qemu_fw_cfg/by_name/opt/io.ukikit.first-boot";
/// The specification has room for 64 KiB of a table, 3.0 for a bit more.
const STRUCTURE_MAX: usize = 1 << 20;

/// The files in all type 11 structures below `root`.
///
/// # Errors
///
/// What reading says, but for structures that are not there.
pub(super) fn smbios(root: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    for number in 0.. {
        let path = root.join(ENTRIES).join(format!("11-{number}/raw"));
        let structure = match fs::File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            opened => read_wiped(opened?, STRUCTURE_MAX)?,
        };
        files.extend(strings(&structure).filter_map(file));
    }
    Ok(files)
}

/// The strings of a structure: behind its formatted part, whose length is its second byte, each ended by a zero.
pub fn strings(structure: &[u8]) -> impl Iterator<Item = &str> {
    let length = structure.get(1).map_or(0, |length| usize::from(*length));
    let strings = structure.get(length.max(4)..).unwrap_or_default();
    let strings = strings.split(|byte| *byte == 0);
    strings
        .take_while(|string| !string.is_empty())
        .filter_map(|string| str::from_utf8(string).ok())
}

/// The file that a string brings.
pub fn file(string: &str) -> Option<(String, Zeroizing<Vec<u8>>)> {
    let (name, content) = match string.strip_prefix(TEXT) {
        Some(rest) => {
            let (name, text) = rest.split_once('=')?;
            (name, Zeroizing::new(text.as_bytes().to_vec()))
        }
        None => {
            let (name, text) = string.strip_prefix(BINARY)?.split_once('=')?;
            (name, Zeroizing::new(STANDARD.decode(text).ok()?))
        }
    };
    is_known(name).then(|| (name.to_owned(), content))
}

/// The files that fw_cfg has for us below `root`.
///
/// # Errors
///
/// What reading says, but for files that are not there.
pub(super) fn fw_cfg(root: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    let directory = match fs::read_dir(root.join(FW_CFG)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(files),
        read => read?,
    };
    for entry in directory {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_known(&name) {
            let content = read_wiped(fs::File::open(entry.path().join("raw"))?, FILE_MAX)?;
            files.insert(name, content);
        }
    }
    Ok(files)
}
