//! Taking plaintext away: what was read is overwritten, as far as a file system or disk lets that be promised.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use super::metadata::{self, Source};

/// Bytes of a volume that is overwritten whole: those for metadata are far smaller.
const VOLUME_MAX: u64 = 64 << 20;

/// Overwrites the files of a source with zeros and removes them; a volume is overwritten whole.
///
/// # Errors
///
/// A source that cannot be written, a volume of more than 64 MiB.
pub fn wipe(source: &Source, root: &Path) -> io::Result<()> {
    let Some(path) = source.path(root) else {
        return Err(io::Error::other("only the hypervisor can take it away"));
    };
    if !fs::metadata(&path)?.is_dir() {
        overwrite(&path)?;
        // A device keeps its name.
        return if fs::metadata(&path)?.is_file() {
            fs::remove_file(&path)
        } else {
            Ok(())
        };
    }
    for name in metadata::names() {
        let file = path.join(name);
        if file.is_file() {
            overwrite(&file)?;
            fs::remove_file(&file)?;
        }
    }
    fs::File::open(&path)?.sync_all()
}

fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut left = file.seek(SeekFrom::End(0))?;
    if left > VOLUME_MAX {
        return Err(io::Error::other("it is larger than 64 MiB"));
    }
    file.seek(SeekFrom::Start(0))?;
    let zeros = [0; 4096];
    while left > 0 {
        let size = left.min(zeros.len() as u64);
        file.write_all(
            zeros
                .get(..usize::try_from(size).unwrap_or(0))
                .unwrap_or_default(),
        )?;
        left -= size;
    }
    file.sync_all()
}
