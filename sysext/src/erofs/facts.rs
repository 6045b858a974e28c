//! What the superblock of an image says about how it was written.

use std::io::{Read, Seek, SeekFrom};

use zerocopy::FromBytes;

use super::compress::CLUSTER_MAX;
use super::format::{Features, Lz4Config, SUPERBLOCK_AT, SuperBlock, ZstdConfig};
use crate::Error;

/// The codecs by their number, which is also their bit in the superblock.
const CODECS: [&str; 4] = ["lz4", "lzma", "deflate", "zstd"];

/// What was chosen when an image was written, as far as the image tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// File system UUID, in text order.
    pub uuid: [u8; 16],
    /// Time of the build in seconds since 1970.
    pub epoch: u64,
    /// Volume name, NUL padded.
    pub volume_name: [u8; 16],
    /// Bytes that are compressed together at most, if the first codec says so.
    pub cluster: Option<u32>,
    /// One bit for each codec.
    codecs: u16,
}

impl Facts {
    /// Reads the superblock of an image; its checksum is not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::ReadImage`], [`Error::FileSystem`] when it ends before the superblock does.
    pub fn read(image: &mut (impl Read + Seek)) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        image
            .seek(SeekFrom::Start(SUPERBLOCK_AT))
            .and_then(|_| image.take(1024).read_to_end(&mut bytes))
            .map_err(|source| Error::ReadImage { source })?;
        let (superblock, behind) =
            SuperBlock::read_from_prefix(&bytes).map_err(|_| Error::FileSystem {
                format: "EROFS",
                source: "it ends before its superblock does".into(),
            })?;
        let incompatible = superblock.feature_incompat.get();
        let codecs = match incompatible {
            // Configurations follow, and the field names the codecs; before that there was only LZ4.
            bits if bits & Features::CONFIGURATIONS != 0 => superblock.compression.get(),
            bits if bits & Features::ZERO_PADDING != 0 => 1,
            _ => 0,
        };
        let configured = incompatible & Features::CONFIGURATIONS != 0;
        Ok(Self {
            uuid: superblock.uuid,
            epoch: superblock.epoch.get(),
            volume_name: superblock.volume_name,
            cluster: configured.then(|| cluster(codecs, behind)).flatten(),
            codecs,
        })
    }

    /// The names of its codecs.
    pub fn codecs(&self) -> Vec<&'static str> {
        let named = CODECS.iter().enumerate();
        named
            .filter(|(bit, _)| self.codecs >> bit & 1 == 1)
            .map(|(_, name)| *name)
            .collect()
    }
}

/// The size of a cluster in the first configuration, in bytes.
fn cluster(codecs: u16, configuration: &[u8]) -> Option<u32> {
    let size = match codecs.trailing_zeros() {
        0 => {
            u32::from(
                Lz4Config::read_from_prefix(configuration)
                    .ok()?
                    .0
                    .max_blocks
                    .get(),
            ) * 4096
        }
        3 => 1_u32.checked_shl(
            u32::from(ZstdConfig::read_from_prefix(configuration).ok()?.0.window) + 10,
        )?,
        _ => return None,
    };
    (4096..=CLUSTER_MAX).contains(&size).then_some(size)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::{Compression, Options, write};
    use super::*;
    use crate::{Entry, Tree};

    #[test]
    fn what_was_chosen_is_read_back() {
        let mut tree = Tree::new();
        tree.insert("zeros", Entry::file(vec![0; 1 << 20])).unwrap();
        for (compression, cluster, codecs, expected) in [
            (Compression::None, None, vec![], None),
            (Compression::LZ4, None, vec!["lz4"], Some(128 * 1024)),
            (Compression::LZ4, Some(16384), vec!["lz4"], Some(16384)),
            (Compression::ZSTD, None, vec!["zstd"], Some(512 * 1024)),
        ] {
            let mut options = Options::new([7; 16], 42);
            (options.compression, options.cluster) = (compression, cluster);
            let mut image = Cursor::new(Vec::new());
            write(&tree, &options, &mut image, &mut |_| {}).unwrap();
            let facts = Facts::read(&mut image).unwrap();
            assert_eq!(
                (facts.uuid, facts.epoch, facts.codecs(), facts.cluster),
                ([7; 16], 42, codecs, expected)
            );
        }
    }
}
