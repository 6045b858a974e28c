//! What an unmounted file system lies on: bytes by their place.

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

use super::table::{self, Partition};

/// Bytes that can be read and written at any place.
pub trait Blocks: fmt::Debug + Send + Sync {
    /// How many there are.
    ///
    /// # Errors
    ///
    /// What the medium says.
    fn length(&self) -> io::Result<u64>;

    /// Fills the buffer with what is at this place.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` behind the end, and what the medium says.
    fn read_at(&self, place: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes these bytes at this place.
    ///
    /// # Errors
    ///
    /// What the medium says.
    fn write_at(&self, place: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything is on the medium.
    ///
    /// # Errors
    ///
    /// What the medium says.
    fn sync(&self) -> io::Result<()>;

    /// Keeps every other process out until the value is dropped.
    ///
    /// # Errors
    ///
    /// `WouldBlock` while another one has it.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;
}

/// A part of a file, or of a block device.
#[derive(Debug, Clone)]
pub struct FilePart {
    file: Arc<File>,
    path: PathBuf,
    start: u64,
    length: u64,
}

impl FilePart {
    /// The EFI system partition in an image of a disk, then its XBOOTLDR partition, if it has them; an image without a
    /// partition table is one part.
    ///
    /// # Errors
    ///
    /// What the system says; `InvalidData` for a damaged partition table.
    pub fn boot_partitions(path: &Path) -> io::Result<Vec<Self>> {
        let writable = File::options().read(true).write(true).open(path);
        let file = writable.or_else(|_| File::open(path))?;
        let length = io::Seek::seek(&mut &file, io::SeekFrom::End(0))?;
        let whole = Self {
            file: Arc::new(file),
            path: path.into(),
            start: 0,
            length,
        };
        let Some(partitions) = table::boot_partitions(&whole)? else {
            return Ok(vec![whole]);
        };
        let part = |Partition { start, length }| Self {
            start,
            length,
            ..whole.clone()
        };
        Ok(partitions.into_iter().map(part).collect())
    }

    fn at(&self, place: u64, count: usize) -> io::Result<u64> {
        let end = u64::try_from(count)
            .ok()
            .and_then(|count| place.checked_add(count));
        match end {
            Some(end) if end <= self.length => Ok(self.start + place),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Blocks for FilePart {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_at(&self, place: u64, buffer: &mut [u8]) -> io::Result<()> {
        let at = self.at(place, buffer.len())?;
        self.file.read_exact_at(buffer, at)
    }

    fn write_at(&self, place: u64, bytes: &[u8]) -> io::Result<()> {
        let at = self.at(place, bytes.len())?;
        self.file.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        // A lock of its own: one that is cloned would be the same.
        let file = File::open(&self.path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }
}
