//! The host secret: `/var/lib/systemd/credential.secret`, read and created as systemd does it.
//!
//! ```text
//! machine id, hashed for this purpose (16 bytes) | secret (4096 bytes)
//! ```
//!
//! systemd *deletes* a secret whose hash is not this machine's, even when only asked to decrypt.
//! Here that is an error and the file stays.

use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use rand_core::CryptoRng;
use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::machine::MachineId;
use crate::secret::Secret;

/// Where the host secret lies below a root.
pub const HOST_SECRET_PATH: &str = "var/lib/systemd/credential.secret";
const HASH_SIZE: usize = 16;
const SECRET_SIZE: usize = 4096;
const FILE_MIN: u64 = HASH_SIZE as u64 + 1;
/// systemd 257 and 262 abort on a longer file.
const FILE_MAX: u64 = (HASH_SIZE + SECRET_SIZE) as u64;
/// Losing the race to create the file means reading the winner's.
const ATTEMPTS: usize = 3;

/// The machine's secret, 1 to 4096 bytes.
#[derive(Debug)]
pub struct HostSecret(Secret);

impl HostSecret {
    /// The secret alone, without the hash before it.
    pub(crate) fn secret(&self) -> &Secret {
        &self.0
    }

    /// Reads the secret at `path`. `machine` is checked against the file when given.
    ///
    /// # Errors
    ///
    /// [`Error::HostSecret`] unless it is a regular file, not a link, with one name, of mode 0400 and 17 to 4112 bytes;
    /// [`Error::ForeignHostSecret`] when it was made for another machine.
    pub fn read(path: &Path, machine: Option<MachineId>) -> Result<Self, Error> {
        Self::read_existing(path, machine)?.ok_or_else(|| Error::Read {
            path: path.to_owned(),
            source: rustix::io::Errno::NOENT.into(),
        })
    }

    /// Reads the secret at `path`, or makes one there when none exists: directory 0755, file 0400, linked into place without
    /// overwriting, so that two makers end with the same secret.
    ///
    /// # Errors
    ///
    /// As [`HostSecret::read`], and [`Error::Write`].
    pub fn read_or_create(
        path: &Path,
        machine: MachineId,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, Error> {
        for _ in 0..ATTEMPTS {
            if let Some(secret) = Self::read_existing(path, Some(machine))? {
                return Ok(secret);
            }
            create(path, machine, rng).map_err(|source| Error::Write {
                path: path.to_owned(),
                source,
            })?;
        }
        Self::read(path, Some(machine))
    }

    fn read_existing(path: &Path, machine: Option<MachineId>) -> Result<Option<Self>, Error> {
        let refuse = |reason: String| {
            Err(Error::HostSecret {
                path: path.to_owned(),
                reason,
            })
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(descriptor) => fs::File::from(descriptor),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP) => return refuse("it is a symbolic link".into()),
            Err(source) => {
                return Err(Error::Read {
                    path: path.to_owned(),
                    source: source.into(),
                });
            }
        };
        let unreadable = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let metadata = file.metadata().map_err(unreadable)?;
        if let Some(reason) = unusable(&metadata) {
            return refuse(reason);
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(HASH_SIZE + SECRET_SIZE + 1));
        file.take(FILE_MAX)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        Self::from_bytes(&bytes, path, machine).map(Some)
    }

    fn from_bytes(bytes: &[u8], path: &Path, machine: Option<MachineId>) -> Result<Self, Error> {
        let Some((found, secret)) = bytes
            .split_first_chunk::<HASH_SIZE>()
            .filter(|(_, secret)| !secret.is_empty())
        else {
            return Err(Error::HostSecret {
                path: path.to_owned(),
                reason: "it has no secret after the hash".into(),
            });
        };
        if let Some(machine) = machine
            && machine.host_secret_hash() != *found
        {
            let (found, wanted) = (hex::encode(found), hex::encode(machine.host_secret_hash()));
            return Err(Error::ForeignHostSecret {
                path: path.to_owned(),
                found,
                wanted,
            });
        }
        Ok(Self(Secret::copied_from(secret)))
    }
}

/// The rule of systemd that the file breaks, if it breaks one. The owner is not among them.
fn unusable(metadata: &fs::Metadata) -> Option<String> {
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_file() {
        Some("it is not a regular file".into())
    } else if metadata.nlink() != 1 {
        Some(format!(
            "it has {} names, and may have one",
            metadata.nlink()
        ))
    } else if mode != 0o400 {
        Some(format!("its mode is {mode:04o}, not 0400"))
    } else if !(FILE_MIN..=FILE_MAX).contains(&metadata.size()) {
        Some(format!(
            "it has {} bytes, not {FILE_MIN} to {FILE_MAX}",
            metadata.size()
        ))
    } else {
        None
    }
}

/// Makes the file, complete and flushed, under a temporary name; then links it into place. Found there already: nothing to do.
fn create(path: &Path, machine: MachineId, rng: &mut impl CryptoRng) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)?;
    let mut bytes = Zeroizing::new([0; HASH_SIZE + SECRET_SIZE]);
    let (hash, secret) = bytes.split_at_mut(HASH_SIZE);
    hash.copy_from_slice(&machine.host_secret_hash());
    rng.fill_bytes(secret);

    let mut suffix = [0; 8];
    rng.fill_bytes(&mut suffix);
    let temporary =
        Temporary(directory.join(format!(".#credential.secret{}", hex::encode(suffix))));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = fs::File::from(rustix::fs::open(&temporary.0, flags, Mode::RUSR)?);
    protect(&file);
    file.write_all(&*bytes)?;
    file.sync_all()?;
    match fs::hard_link(&temporary.0, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => drop(temporary),
    }
    fs::File::open(directory)?.sync_all()
}

/// Asks the file system to wipe the file when it is deleted and not to dump or copy it. Most cannot; that is fine.
fn protect(file: &fs::File) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    for wanted in [
        IFlags::SECURE_REMOVAL,
        IFlags::NODUMP,
        IFlags::NOCOW,
        IFlags::NOATIME,
    ] {
        if let Ok(flags) = ioctl_getflags(file) {
            let _ = ioctl_setflags(file, flags | wanted);
        }
    }
}

/// A file that goes when this does.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
