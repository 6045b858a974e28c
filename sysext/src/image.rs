//! A finished image: what is in it, and whether a boot would take it. Needs no root and no loop device.

mod attach;
mod describe;
mod partitions;
mod shared;
mod verify;

use std::io::{Read, Seek, SeekFrom};

pub use describe::{
    CertificateDescription, Description, PartitionDescription, SignatureDescription,
    VerityDescription,
};
use partitions::{Found, Partitions};
use shared::Shared;
pub use verify::Requirements;

use crate::content::with_cause;
use crate::gpt::{self, Table};
use crate::signature::{SIZE_MAX, SignedRootHash};
use crate::{Check, Error, Finding, Tree, Window, erofs, squashfs, verity};

/// At byte 0 of a squashfs.
const SQUASHFS: &[u8] = b"hsqs";
/// At byte 1024 of an EROFS.
const EROFS: &[u8] = &[0xE2, 0xE1, 0xF5, 0xE0];
const SIGNATURES_SIZE: u64 = 1028;

/// An image that is read from `R`, for instance a file or bytes in a `Cursor`.
#[derive(Debug)]
pub struct Image<R> {
    reader: Shared<R>,
    /// In bytes.
    size: u64,
    table: Table,
    /// What is wrong with the table although it can be used.
    findings: Vec<Finding>,
}

impl<R: Read + Seek + Send + 'static> Image<R> {
    /// Reads the partition table.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when neither copy of it can be used, [`Error::ReadImage`].
    pub fn open(mut reader: R) -> Result<Self, Error> {
        let size = reader
            .seek(SeekFrom::End(0))
            .map_err(|source| Error::ReadImage { source })?;
        let gpt::Copies { table, findings } = gpt::read(&mut reader, size)?;
        Ok(Self {
            reader: Shared::new(reader),
            size,
            table,
            findings,
        })
    }

    /// The files in the data partition. They are read when they are wanted, nothing is verified.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is no data partition, or its file system is neither EROFS nor squashfs,
    /// or damaged.
    pub fn tree(&self) -> Result<Tree, Error> {
        let partitions = Partitions::of(&self.table, self.size);
        match partitions.data {
            Some(data) => self
                .files(&data, partitions.verity.as_ref())
                .map(|(_, tree)| tree),
            None => Err(Finding::new(Check::Partitions, "image", "has no data partition").into()),
        }
    }

    fn window(&self, found: &Found) -> Window<Shared<R>> {
        Window::new(
            self.reader.clone(),
            found.partition.offset,
            found.partition.size,
        )
    }

    /// As much of the data partition as the hash tree covers: where the kernel's device ends.
    fn data_window(&self, data: &Found, verity: Option<&Found>) -> Window<Shared<R>> {
        let superblock = verity.and_then(|found| verity::superblock(&mut self.window(found)).ok());
        let covered = superblock.map_or(u64::MAX, |superblock| superblock.data_size());
        let size = data.partition.size.min(covered);
        Window::new(self.reader.clone(), data.partition.offset, size)
    }

    /// The kind of file system and its files.
    fn files(&self, data: &Found, verity: Option<&Found>) -> Result<(&'static str, Tree), Error> {
        let mut window = self.data_window(data, verity);
        let mut start = Vec::new();
        let read = window
            .by_ref()
            .take(SIGNATURES_SIZE)
            .read_to_end(&mut start);
        read.map_err(|source| Error::ReadImage { source })?;
        let (kind, tree) = if start.starts_with(SQUASHFS) {
            ("squashfs", squashfs::read(window))
        } else if start.ends_with(EROFS) {
            ("erofs", erofs::read(window))
        } else {
            let what = "holds neither EROFS nor squashfs";
            return Err(Finding::new(Check::FileSystem, data.place(), what).into());
        };
        let tree = tree.map_err(|error| {
            Error::from(Finding::new(
                Check::FileSystem,
                data.place(),
                with_cause(&error),
            ))
        })?;
        Ok((kind, tree))
    }

    fn signed_root_hash(&self, signature: &Found) -> Result<SignedRootHash, Error> {
        let refused = |what: String| {
            Error::from(Finding::new(
                Check::SignaturePartition,
                signature.place(),
                what,
            ))
        };
        let size = signature.partition.size;
        if size > SIZE_MAX {
            return Err(refused(format!(
                "has {size} bytes; systemd reads {SIZE_MAX} at most"
            )));
        }
        let mut text = Vec::new();
        self.window(signature)
            .read_to_end(&mut text)
            .map_err(|source| Error::ReadImage { source })?;
        SignedRootHash::parse(&text).map_err(refused)
    }
}
