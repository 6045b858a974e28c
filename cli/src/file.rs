//! Files and pipes: read whole within a limit, written whole or not at all. `-` is standard input or output.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use tempfile::{NamedTempFile, TempPath};
use ukikit::{read_wiped, read_wiped_of};
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
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            read_wiped_of(file, size, limit)
        }
    };
    let bytes = read().with_context(|| format!("cannot read {shown}"))?;
    if bytes.len() > limit {
        bail!("{shown} is longer than {limit} bytes");
    }
    Ok(bytes)
}

/// A file that gets its name when it is complete. Until then it has none, where the file system can do that, so
/// that nothing stays behind even of a program that is killed.
#[derive(Debug)]
pub(crate) struct Draft<'p> {
    path: &'p Path,
    directory: &'p Path,
    file: File,
    /// Its name where it must have one.
    name: Option<TempPath>,
}

impl<'p> Draft<'p> {
    /// An empty file that is to be at `path`.
    pub(crate) fn of(path: &'p Path) -> io::Result<Self> {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let (file, name) = match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
            Ok(unnamed) if Path::new(OPEN_FILES).exists() => (unnamed.into(), None),
            _ => {
                let (file, name) = NamedTempFile::new_in(directory)?.into_parts();
                (file, Some(name))
            }
        };
        Ok(Self {
            path,
            directory,
            file,
            name,
        })
    }

    /// What it holds so far.
    pub(crate) fn content(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it its mode, flushes it and puts it in place of what was there.
    pub(crate) fn finish(self, mode: u32) -> io::Result<()> {
        self.file
            .set_permissions(fs::Permissions::from_mode(mode))?;
        self.file.sync_all()?;
        let name = match self.name {
            Some(name) => name,
            None => name_in(self.directory, &self.file)?,
        };
        name.persist(self.path)?;
        File::open(self.directory)?.sync_all()
    }
}

/// Where Linux lists what a program has open.
const OPEN_FILES: &str = "/proc/self/fd";

/// Gives an unnamed file a temporary name: a link never takes the place of a file, as a rename does.
fn name_in(directory: &Path, file: &File) -> io::Result<TempPath> {
    let unnamed = format!("{OPEN_FILES}/{}", file.as_raw_fd());
    let link = |path: &Path| {
        rustix::fs::linkat(CWD, &unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
        Ok(())
    };
    let named = tempfile::Builder::new().make_in(directory, link)?;
    Ok(named.into_temp_path())
}

/// Writes a file of mode 0600 that is there whole or not at all; or writes to standard output.
pub(crate) fn write(path: &Path, bytes: &[u8], out: &mut Output) -> Result<()> {
    if is_pipe(path) {
        return out.bytes(bytes);
    }
    let write = || -> io::Result<()> {
        let mut draft = Draft::of(path)?;
        draft.content().write_all(bytes)?;
        draft.finish(0o600)
    };
    write().with_context(|| format!("cannot write {}", shown_output(path)))
}
