//! The seam between the engine and a file system: everything that touches an ESP goes through [`Volume`].
//!
//! Paths go down from the root of the file system, with slashes and none in front; the root itself is "".
//! Nothing here decides anything: the order of the calls, and with it what a power cut leaves, is the engine's.

mod blocks;
mod directory;
mod fat;
#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
pub(crate) mod memory;
mod table;

use std::any::Any;
use std::fmt;
use std::io::{self, Read, Write};

pub use blocks::{Blocks, FilePart};
pub use directory::Directory;
pub use fat::Fat;

/// A file system the engine can work on.
pub trait Volume: fmt::Debug + Send + Sync {
    /// What lies in a directory, sorted by name.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotADirectory`, or what the medium says.
    fn list(&self, directory: &str) -> io::Result<Vec<Node>>;

    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// `NotFound`, or what the medium says.
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>>;

    /// The bytes of a file.
    ///
    /// # Errors
    ///
    /// As [`Volume::open`].
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Makes a new, empty file; one for root alone where the file system can tell.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `StorageFull`, or what the medium says.
    fn create(&self, path: &str, private: bool) -> io::Result<Box<dyn Sink + '_>>;

    /// Gives a file another path, in place of a file that has it.
    ///
    /// # Errors
    ///
    /// What the medium says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// `NotFound`, or what the medium says.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes a directory.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `StorageFull`, or what the medium says.
    fn make_directory(&self, path: &str) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// `NotFound`, `DirectoryNotEmpty`, or what the medium says.
    fn remove_directory(&self, path: &str) -> io::Result<()>;

    /// Returns when what happened to the names in a directory is on the medium.
    ///
    /// # Errors
    ///
    /// What the medium says.
    fn sync(&self, directory: &str) -> io::Result<()>;

    /// How much room there is.
    ///
    /// # Errors
    ///
    /// What the medium says.
    fn space(&self) -> io::Result<Space>;

    /// Keeps every other process out until the value is dropped. It leaves no trace on the medium.
    ///
    /// # Errors
    ///
    /// `WouldBlock` while another one has it.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;
}

/// A file being written.
pub trait Sink: Write {
    /// Returns when all bytes are on the medium.
    ///
    /// # Errors
    ///
    /// What the medium says.
    fn sync(&mut self) -> io::Result<()>;
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// The name; what is not UTF-8 is replaced.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// Its size in bytes, 0 for what is not a regular file.
    pub size: u64,
}

impl Node {
    /// A name of this kind and size.
    pub fn new(name: String, kind: NodeKind, size: u64) -> Self {
        Self { name, kind, size }
    }
}

/// What a name in a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, which FAT does not have.
    Link,
    /// Something else that FAT does not have.
    Other,
}

/// The room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What is free.
    pub free: u64,
    /// What is given out at once: each file takes a multiple of it.
    pub cluster: u64,
}

impl Space {
    /// What a file of this size takes.
    pub fn taken(self, size: u64) -> u64 {
        size.checked_next_multiple_of(self.cluster.max(1))
            .unwrap_or(size)
    }
}
