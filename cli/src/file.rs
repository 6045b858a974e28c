//! Files and pipes: read whole within a limit, written whole or not at all. `-` is standard input or output.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ukikit::read_wiped;
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
            read_wiped(io::stdin().lock(), limit)
        } else {
            read_wiped(File::open(path)?, limit)
        }
    };
    let bytes = read().with_context(|| format!("cannot read {shown}"))?;
    if bytes.len() > limit {
        bail!("{shown} is longer than {limit} bytes");
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
