//! Where an image keeps its files, and in what: the data partition, or a file system without partitions.

use std::io::{self, Read, Seek, SeekFrom};

use serde::Serialize;

use super::Image;
use super::partitions::Partitions;
use super::shared::Shared;
use crate::content::with_cause;
use crate::{
    Architecture, Check, Designator, Error, Finding, Tree, Window, erofs, squashfs, verity,
};

/// The bytes a file system is told by: those up to the superblock of btrfs.
const FRONT: u64 = 0x10048;

/// Signatures of file systems: the byte they stand at, they, the name.
const SIGNATURES: [(usize, &[u8], &str); 6] = [
    (0, b"hsqs", "squashfs"),
    (1024, &[0xE2, 0xE1, 0xF5, 0xE0], "erofs"),
    (1080, &[0x53, 0xEF], "ext4"),
    (1024, &[0x10, 0x20, 0xF5, 0xF2], "f2fs"),
    (0, b"XFSB", "xfs"),
    (0x10040, b"_BHRfS_M", "btrfs"),
];

/// A file system, how it is compressed and how much that saves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FileSystemDescription {
    /// `erofs` or `squashfs`.
    pub kind: &'static str,
    /// The codecs it may use: none, or some of `lz4`, `lzma`, `deflate`, `zstd`, `gzip`, `lzo`, `xz`.
    pub compression: Vec<&'static str>,
    /// Bytes that are compressed together at most, if it says so.
    pub cluster: Option<u32>,
    /// Paths in it, without its root.
    pub entries: usize,
    /// Bytes in its regular files, each file counted once.
    pub content_size: u64,
}

/// The bytes that hold the files of an image.
pub(crate) struct Data<R> {
    /// What they are called in a finding.
    pub(crate) place: String,
    pub(crate) designator: Designator,
    /// As the type of the partition says.
    pub(crate) architecture: Option<Architecture>,
    /// In bytes.
    pub(crate) size: u64,
    window: Window<Shared<R>>,
}

impl<R: Read + Seek + Send + 'static> Image<R> {
    /// The data of an image: as much of the data partition as the hash tree covers, where the kernel's device
    /// ends; the whole image where it has no partitions.
    pub(crate) fn data(&self, partitions: &Partitions) -> Option<Data<R>> {
        if self.table.is_none() {
            return Some(Data {
                place: "image".into(),
                designator: Designator::Root,
                architecture: None,
                size: self.size,
                window: Window::new(self.reader.clone(), 0, self.size),
            });
        }
        let found = partitions.data.as_ref()?;
        let superblock = partitions
            .verity
            .as_ref()
            .and_then(|found| verity::superblock(&mut self.window(found)).ok());
        let covered = superblock.map_or(u64::MAX, |superblock| superblock.data_size());
        let size = found.partition.size.min(covered);
        Some(Data {
            place: found.place(),
            designator: found.kind.designator,
            architecture: Some(found.kind.architecture),
            size,
            window: Window::new(self.reader.clone(), found.partition.offset, size),
        })
    }
}

impl<R: Read + Seek + Send + 'static> Data<R> {
    /// The bytes, from the first one on.
    pub(crate) fn window(&self) -> Window<Shared<R>> {
        self.window.clone()
    }

    /// The name of the file system, and its files.
    pub(crate) fn files(&self) -> Result<(&'static str, Tree), Error> {
        let refused =
            |what: String| Error::from(Finding::new(Check::FileSystem, self.place.as_str(), what));
        let kind = file_system(&mut self.window()).map_err(|source| Error::ReadImage { source })?;
        let tree = match kind {
            Some("erofs") => erofs::read(self.window()),
            Some("squashfs") => squashfs::read(self.window()),
            Some(other) => {
                return Err(refused(format!(
                    "holds {other}; only EROFS and squashfs can be read"
                )));
            }
            None => return Err(refused("holds neither EROFS nor squashfs".into())),
        };
        let tree = tree.map_err(|error| refused(with_cause(&error)))?;
        Ok((kind.unwrap_or_default(), tree))
    }

    /// What the file system says about itself. Its files could be read.
    pub(super) fn describe(
        &self,
        kind: &'static str,
        tree: &Tree,
    ) -> Result<FileSystemDescription, Error> {
        let (compression, cluster) = match kind {
            "erofs" => {
                let facts = erofs::Facts::read(&mut self.window())?;
                (facts.codecs(), facts.cluster)
            }
            _ => {
                let (codec, block) = squashfs::compression(&mut self.window())?;
                (vec![codec], Some(block))
            }
        };
        Ok(FileSystemDescription {
            kind,
            compression,
            cluster,
            entries: tree.iter().count().saturating_sub(1),
            content_size: tree.content_size(),
        })
    }
}

/// The file system that starts at byte 0, known by its signature.
pub(super) fn file_system(image: &mut (impl Read + Seek)) -> io::Result<Option<&'static str>> {
    let mut front = Vec::new();
    image.seek(SeekFrom::Start(0))?;
    image.take(FRONT).read_to_end(&mut front)?;
    let found = SIGNATURES.iter().find(|(at, signature, _)| {
        front
            .get(*at..)
            .is_some_and(|bytes| bytes.starts_with(signature))
    });
    Ok(found.map(|(.., name)| *name))
}
