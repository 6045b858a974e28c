//! Files and pipes: read whole within a limit, written whole or not at all. `-` is standard input or output.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use zeroize::Zeroizing;

use crate::output::Output;

/// Whether `path` stands for a pipe.
pub(crate) fn is_pipe(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// An input's name in a sentence.
pub(crate) fn shown_input(path: &Path) -> String {
    shown(path, "standard input")
}

/// An output's name in a sentence.
pub(crate) fn shown_output(path: &Path) -> String {
    shown(path, "standard output")
}

fn shown(path: &Path, pipe: &str) -> String {
    if is_pipe(path) {
        pipe.to_owned()
    } else {
        format!("`{}`", path.display())
    }
}

/// The content of a file or of standard input, refused over `limit` bytes. Wiped when dropped: it may be a secret.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>> {
    let shown = shown_input(path);
    let read = || -> io::Result<Zeroizing<Vec<u8>>> {
        if is_pipe(path) {
            read_at_most(io::stdin().lock(), limit)
        } else {
            read_at_most(File::open(path)?, limit)
        }
    };
    let bytes = read().with_context(|| format!("cannot read {shown}"))?;
    if bytes.len() > limit {
        bail!("{shown} is longer than {limit} bytes");
    }
    Ok(bytes)
}

/// Up to one byte more than `limit`, in a buffer that grows by copying into a new one, so that no unwiped copy stays behind.
fn read_at_most(mut source: impl Read, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(8192));
    let mut chunk = Zeroizing::new([0; 8192]);
    while bytes.len() <= limit {
        let size = match source.read(&mut *chunk) {
            Ok(0) => break,
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.len() + size > bytes.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(2 * bytes.capacity() + size));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        bytes.extend_from_slice(chunk.get(..size).unwrap_or_default());
    }
    Ok(bytes)
}

/// Writes a file of mode 0600 under a temporary name, flushes it and renames it; or writes to standard output.
pub(crate) fn write(path: &Path, bytes: &[u8], out: &mut Output) -> Result<()> {
    if is_pipe(path) {
        return out.bytes(bytes);
    }
    let write = || -> io::Result<()> {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(bytes)?;
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o600))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(directory)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", shown_output(path)))
}
