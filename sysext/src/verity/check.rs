//! Checks a hash tree from the root hash down to every block of data.

use std::io::{self, Read, Seek, SeekFrom};

use zerocopy::FromBytes;

use super::{BLOCK, BLOCK_SIZE, FANOUT, HASH, RootHash, Salted, Superblock, levels};
use crate::{Check, Error, Finding};

/// The superblock of a verity partition.
///
/// # Errors
///
/// [`Error::Refused`] when it is not one that is written here and by systemd: SHA-256, blocks of 4096
/// bytes, salt first.
pub(crate) fn superblock(partition: &mut (impl Read + Seek)) -> Result<Superblock, Error> {
    let mut bytes = [0; size_of::<Superblock>()];
    let whole = fill(partition, 0, &mut bytes)? == bytes.len();
    let what = match Superblock::read_from_bytes(&bytes) {
        Ok(superblock) if whole => match defect(&superblock) {
            None => return Ok(superblock),
            Some(what) => what,
        },
        _ => "is cut short".into(),
    };
    Err(tree_finding("verity superblock", what).into())
}

fn defect(superblock: &Superblock) -> Option<String> {
    let (name, rest) = superblock.algorithm.split_at(Superblock::ALGORITHM.len());
    if superblock.signature != Superblock::SIGNATURE {
        Some("at byte 0: does not start with `verity`".into())
    } else if superblock.version.get() != Superblock::VERSION {
        Some(format!(
            "at byte 8: version is {}, not 1",
            superblock.version
        ))
    } else if superblock.hash_type.get() != Superblock::HASH_TYPE {
        Some(format!(
            "at byte 12: hash type is {}, not 1",
            superblock.hash_type
        ))
    } else if name != Superblock::ALGORITHM || rest.iter().any(|&byte| byte != 0) {
        Some("at byte 32: algorithm is not `sha256`".into())
    } else if superblock.data_block_size.get() != BLOCK_SIZE {
        Some(format!(
            "at byte 64: data blocks have {} bytes, not 4096",
            superblock.data_block_size
        ))
    } else if superblock.hash_block_size.get() != BLOCK_SIZE {
        Some(format!(
            "at byte 68: hash blocks have {} bytes, not 4096",
            superblock.hash_block_size
        ))
    } else if superblock.salt().is_none() {
        Some(format!(
            "at byte 80: salt has {} bytes, more than 256",
            superblock.salt_size
        ))
    } else {
        None
    }
}

/// Reads every block of `hashes` and of `data` (`data_size` bytes) that the tree covers, the top first,
/// and stops at the first that does not match its hash.
///
/// # Errors
///
/// [`Error::Refused`] with that block, or when the tree covers nothing or more than there is.
pub(crate) fn check(
    data: &mut (impl Read + Seek),
    data_size: u64,
    hashes: &mut (impl Read + Seek),
    superblock: &Superblock,
    root_hash: &RootHash,
) -> Result<(), Error> {
    let data_blocks = superblock.data_blocks.get();
    let there = data_size / u64::from(BLOCK_SIZE);
    if !(1..=there).contains(&data_blocks) {
        let what =
            format!("at byte 72: covers {data_blocks} data blocks, the partition has {there}");
        return Err(tree_finding("verity superblock", what).into());
    }
    let mut tree = Tree {
        data,
        hashes,
        salted: Salted::new(superblock.salt().unwrap_or_default()),
        root_hash,
    };
    let mut above = None;
    // The superblock has the first block for itself.
    let mut start = 1;
    for blocks in levels(data_blocks) {
        let level = Level::Hashes { start, blocks };
        tree.check_level(level, above)?;
        above = Some(level);
        start += blocks;
    }
    tree.check_level(
        Level::Data {
            blocks: data_blocks,
        },
        above,
    )
}

#[derive(Clone, Copy)]
enum Level {
    Hashes { start: u64, blocks: u64 },
    Data { blocks: u64 },
}

impl Level {
    fn blocks(self) -> u64 {
        match self {
            Self::Hashes { blocks, .. } | Self::Data { blocks } => blocks,
        }
    }

    fn start(self) -> u64 {
        match self {
            Self::Hashes { start, .. } => start,
            Self::Data { .. } => 0,
        }
    }

    fn place(self, index: u64) -> String {
        match self {
            Self::Hashes { start, .. } => format!("hash block {}", start + index),
            Self::Data { .. } => format!("data block {index}"),
        }
    }
}

struct Tree<'a, D, H> {
    data: &'a mut D,
    hashes: &'a mut H,
    salted: Salted,
    root_hash: &'a RootHash,
}

impl<D: Read + Seek, H: Read + Seek> Tree<'_, D, H> {
    /// Checks every block of `level` against the level above it, at the top against the root hash.
    fn check_level(&mut self, level: Level, above: Option<Level>) -> Result<(), Error> {
        let mut group = vec![0; FANOUT * BLOCK];
        for (number, first) in (0..level.blocks()).step_by(FANOUT).enumerate() {
            let mut hashes = vec![0; BLOCK];
            match above {
                Some(above) => self.read(above, number as u64, &mut hashes)?,
                // The root hash is as good as a block with one hash.
                None => hashes
                    .splice(..HASH, *self.root_hash.as_bytes())
                    .for_each(drop),
            }
            let left = usize::try_from(level.blocks() - first).unwrap_or(FANOUT);
            let size = left.min(FANOUT) * BLOCK;
            let blocks = group.get_mut(..size).unwrap_or_default();
            self.read(level, first, blocks)?;
            self.check_group(level, first, blocks, &hashes)?;
            check_spare(above, number as u64, hashes.get(left.min(FANOUT) * HASH..))?;
        }
        Ok(())
    }

    fn read(&mut self, level: Level, index: u64, blocks: &mut [u8]) -> Result<(), Error> {
        let offset = (level.start() + index).saturating_mul(u64::from(BLOCK_SIZE));
        let read = match level {
            Level::Hashes { .. } => fill(self.hashes, offset, blocks)?,
            Level::Data { .. } => fill(self.data, offset, blocks)?,
        };
        if read == blocks.len() {
            return Ok(());
        }
        let missing = index + (read / BLOCK) as u64;
        Err(tree_finding(level.place(missing), "is past the end of its partition").into())
    }

    fn check_group(
        &self,
        level: Level,
        first: u64,
        blocks: &[u8],
        hashes: &[u8],
    ) -> Result<(), Error> {
        let pairs = blocks.chunks_exact(BLOCK).zip(hashes.chunks_exact(HASH));
        for (index, (block, hash)) in (first..).zip(pairs) {
            if self.salted.hash(block) != hash {
                let what = match level {
                    // Nothing tells which of the three was changed.
                    Level::Hashes { start: 1, .. } => "does not match the root hash and the salt",
                    _ => "does not match its hash",
                };
                return Err(tree_finding(level.place(index), what).into());
            }
        }
        Ok(())
    }
}

/// What stands behind the last hash of a block has to be zero, or `veritysetup` refuses it.
fn check_spare(level: Option<Level>, index: u64, spare: Option<&[u8]>) -> Result<(), Error> {
    match level {
        Some(level) if spare.unwrap_or_default().iter().any(|&byte| byte != 0) => {
            Err(tree_finding(level.place(index), "is not zero behind its last hash").into())
        }
        _ => Ok(()),
    }
}

/// Fills `buffer` from `offset` on; returns how many bytes there were.
fn fill(
    partition: &mut (impl Read + Seek),
    offset: u64,
    buffer: &mut [u8],
) -> Result<usize, Error> {
    let failed = |source| Error::ReadImage { source };
    partition.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match partition.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(filled)
}

fn tree_finding(place: impl Into<String>, what: impl Into<String>) -> Finding {
    Finding::new(Check::HashTree, place, what)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;
    use crate::Guid;
    use crate::verity::HashTree;

    fn tree(data: &[u8]) -> (RootHash, Vec<u8>) {
        let mut tree = HashTree::new(Vec::new(), [7; 32]);
        tree.write_all(data).unwrap();
        tree.finish(Guid::from_bytes([1; 16])).unwrap()
    }

    fn data(blocks: usize) -> Vec<u8> {
        (0..=250).cycle().take(blocks * BLOCK).collect()
    }

    fn verdict(data: &[u8], partition: &[u8], root_hash: &RootHash) -> Result<(), String> {
        let mut hashes = Cursor::new(partition);
        let size = data.len() as u64;
        superblock(&mut hashes)
            .and_then(|found| check(&mut Cursor::new(data), size, &mut hashes, &found, root_hash))
            .map_err(|error| match error {
                Error::Refused { findings } => findings[0].to_string(),
                other => other.to_string(),
            })
    }

    #[test]
    fn a_tree_checks_against_its_data() {
        for blocks in [1, 2, 127, 128, 129, 300] {
            let data = data(blocks);
            let (root_hash, partition) = tree(&data);
            assert_eq!(
                verdict(&data, &partition, &root_hash),
                Ok(()),
                "{blocks} blocks"
            );
        }
    }

    #[test]
    fn every_damage_is_named_where_it_is() {
        let good = data(300);
        let (root_hash, partition) = tree(&good);
        // Superblock, top, three leaves.
        assert_eq!(partition.len(), 5 * BLOCK);
        let cases = [
            (
                0,
                "verity superblock: at byte 0: does not start with `verity`",
            ),
            (8, "verity superblock: at byte 8: version is 0, not 1"),
            (12, "verity superblock: at byte 12: hash type is 0, not 1"),
            (
                33,
                "verity superblock: at byte 32: algorithm is not `sha256`",
            ),
            (
                65,
                "verity superblock: at byte 64: data blocks have 4352 bytes, not 4096",
            ),
            (
                69,
                "verity superblock: at byte 68: hash blocks have 4352 bytes, not 4096",
            ),
            (
                72,
                "verity superblock: at byte 72: covers 301 data blocks, the partition has 300",
            ),
            (
                81,
                "verity superblock: at byte 80: salt has 288 bytes, more than 256",
            ),
            (
                90,
                "hash block 1: does not match the root hash and the salt",
            ),
            (
                BLOCK,
                "hash block 1: does not match the root hash and the salt",
            ),
            (4 * BLOCK, "hash block 4: does not match its hash"),
        ];
        for (at, expected) in cases {
            let mut bad = partition.clone();
            bad[at] ^= 1;
            assert_eq!(
                verdict(&good, &bad, &root_hash),
                Err(expected.into()),
                "byte {at}"
            );
        }
        let mut short = partition.clone();
        short[72..74].copy_from_slice(&299_u16.to_le_bytes());
        assert_eq!(
            verdict(&good, &short, &root_hash),
            Err("hash block 4: is not zero behind its last hash".into())
        );
        let mut bad = good.clone();
        bad[299 * BLOCK] ^= 1;
        assert_eq!(
            verdict(&bad, &partition, &root_hash),
            Err("data block 299: does not match its hash".into())
        );
        assert_eq!(
            verdict(&good, &partition[..4 * BLOCK], &root_hash),
            Err("hash block 4: is past the end of its partition".into())
        );
    }
}
