//! A finished image: what is in it, and whether a boot would take it. Needs no root and no loop device.

mod attach;
mod data;
mod describe;
mod partitions;
mod shared;
mod verify;

use std::io::{Read, Seek, SeekFrom};

pub use data::FileSystemDescription;
pub use describe::{
    CertificateDescription, Description, PartitionDescription, Parts, SignatureDescription,
    VerityDescription,
};
use partitions::{Found, Partitions};
use shared::Shared;
pub use verify::Requirements;

use crate::gpt::{self, Table};
use crate::signature::{SIZE_MAX, SignedRootHash};
use crate::{Check, Error, Finding, Tree, Window};

/// An image that is read from `R`, for instance a file or bytes in a `Cursor`.
#[derive(Debug)]
pub struct Image<R> {
    reader: Shared<R>,
    /// In bytes.
    size: u64,
    /// `None` for a file system without partitions.
    table: Option<Table>,
    /// What is wrong with the table although it can be used.
    findings: Vec<Finding>,
}

impl<R: Read + Seek + Send + 'static> Image<R> {
    /// Reads the partition table. A file system without one is an image too, which nobody can have signed.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when it is no file system and neither copy of the table can be used,
    /// [`Error::ReadImage`].
    pub fn open(mut reader: R) -> Result<Self, Error> {
        let size = reader
            .seek(SeekFrom::End(0))
            .map_err(|source| Error::ReadImage { source })?;
        let (table, findings) = match gpt::read(&mut reader, size) {
            Ok(gpt::Copies { table, findings }) => (Some(table), findings),
            Err(Error::Refused { .. }) if is_bare(&mut reader)? => (None, Vec::new()),
            Err(error) => return Err(error),
        };
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
        match self.data(&self.partitions()) {
            Some(data) => data.files().map(|(_, tree)| tree),
            None => Err(Finding::new(Check::Partitions, "image", "has no data partition").into()),
        }
    }

    /// Those that mean something.
    pub(crate) fn partitions(&self) -> Partitions {
        let table = self.table.as_ref();
        table.map_or_else(Partitions::default, |table| {
            Partitions::of(table, self.size)
        })
    }

    fn window(&self, found: &Found) -> Window<Shared<R>> {
        Window::new(
            self.reader.clone(),
            found.partition.offset,
            found.partition.size,
        )
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

/// Whether a file system starts at byte 0.
fn is_bare(image: &mut (impl Read + Seek)) -> Result<bool, Error> {
    let found = data::file_system(image).map_err(|source| Error::ReadImage { source })?;
    Ok(found.is_some())
}
