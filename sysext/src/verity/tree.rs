//! Builds a hash tree while the data goes by.

use std::io::{self, Seek, SeekFrom, Write};

use rayon::prelude::*;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::{BLOCK, BLOCK_SIZE, HASH, RootHash, Salted, Superblock};
use crate::Guid;
use crate::erofs::Output;

/// In bytes; dm-verity takes up to 256.
const SALT_SIZE: u16 = 32;

/// Blocks below which one thread hashes them all.
const MANY: usize = 32;

/// A writer that hands everything on and hashes it on the way, in parallel. It remembers 32 bytes for each
/// block. One may go back to the start of a block and write it again, or for the first time.
#[derive(Debug)]
pub(crate) struct HashTree<W> {
    inner: W,
    salt: [u8; SALT_SIZE as usize],
    salted: Salted,
    /// What came since the last full block.
    partial: Vec<u8>,
    leaves: Vec<u8>,
    /// The block that is written next.
    next: usize,
}

impl<W: Write> HashTree<W> {
    /// Hashes what is written to `inner` from its present position on.
    pub(crate) fn new(inner: W, salt: [u8; SALT_SIZE as usize]) -> Self {
        Self {
            inner,
            salt,
            salted: Salted::new(&salt),
            partial: Vec::with_capacity(BLOCK),
            leaves: Vec::new(),
            next: 0,
        }
    }

    /// The root hash and the verity partition for what was written, whose last block is filled up with
    /// zeros first.
    pub(crate) fn finish(mut self, uuid: Guid) -> io::Result<(RootHash, Vec<u8>)> {
        if !self.partial.is_empty() || self.leaves.is_empty() {
            let missing = BLOCK - self.partial.len();
            self.write_all(&vec![0; missing])?;
        }
        let mut partition = self.superblock(uuid).as_bytes().to_vec();
        partition.resize(BLOCK, 0);
        let (root_hash, levels) = self.levels();
        for level in levels.iter().rev() {
            partition.extend_from_slice(level);
        }
        Ok((root_hash, partition))
    }

    /// The root hash and all levels, the leaves first, each in whole blocks.
    fn levels(self) -> (RootHash, Vec<Vec<u8>>) {
        let mut levels = Vec::new();
        let mut hashes = self.leaves;
        while hashes.len() > size_of::<RootHash>() {
            hashes.resize(hashes.len().next_multiple_of(BLOCK), 0);
            let above = hashes
                .chunks(BLOCK)
                .flat_map(|block| self.salted.hash(block));
            let above = above.collect();
            levels.push(std::mem::replace(&mut hashes, above));
        }
        let mut root_hash = [0; size_of::<RootHash>()];
        root_hash.copy_from_slice(&hashes);
        (RootHash::from_bytes(root_hash), levels)
    }

    fn superblock(&self, uuid: Guid) -> Superblock {
        let mut superblock = Superblock {
            signature: Superblock::SIGNATURE,
            version: U32::new(Superblock::VERSION),
            hash_type: U32::new(Superblock::HASH_TYPE),
            uuid: *uuid.as_bytes(),
            algorithm: [0; 32],
            data_block_size: U32::new(BLOCK_SIZE),
            hash_block_size: U32::new(BLOCK_SIZE),
            data_blocks: U64::new((self.leaves.len() / HASH) as u64),
            salt_size: U16::new(SALT_SIZE),
            reserved: [0; 6],
            salt: [0; 256],
            padding: [0; 168],
        };
        for (to, from) in superblock.algorithm.iter_mut().zip(Superblock::ALGORITHM) {
            *to = *from;
        }
        for (to, from) in superblock.salt.iter_mut().zip(self.salt) {
            *to = from;
        }
        superblock
    }

    /// Takes whole blocks out of `bytes`, keeps the rest for later.
    fn digest(&mut self, mut bytes: &[u8]) {
        if !self.partial.is_empty() {
            let take = bytes.len().min(BLOCK - self.partial.len());
            let (head, tail) = bytes.split_at(take);
            self.partial.extend_from_slice(head);
            bytes = tail;
            if self.partial.len() == BLOCK {
                let block = std::mem::replace(&mut self.partial, Vec::with_capacity(BLOCK));
                self.hash(&block);
            }
        }
        let (blocks, rest) = bytes.split_at(bytes.len() - bytes.len() % BLOCK);
        self.hash(blocks);
        self.partial.extend_from_slice(rest);
    }

    /// Hashes whole blocks.
    fn hash(&mut self, blocks: &[u8]) {
        let salted = &self.salted;
        let hashes: Vec<[u8; HASH]> = blocks
            .par_chunks_exact(BLOCK)
            .with_min_len(MANY)
            .map(|block| salted.hash(block))
            .collect();
        self.put(hashes.as_flattened());
    }

    /// Puts the hashes of the next blocks into their places.
    fn put(&mut self, hashes: &[u8]) {
        let start = self.next * HASH;
        let end = start + hashes.len();
        if self.leaves.len() < end {
            self.leaves.resize(end, 0);
        }
        if let Some(places) = self.leaves.get_mut(start..end) {
            places.copy_from_slice(hashes);
        }
        self.next += hashes.len() / HASH;
    }
}

impl<W: Write + Seek + Send> Output for HashTree<W> {
    type Digest = Vec<u8>;

    fn digester(&self) -> impl Fn(&[u8]) -> Self::Digest + Send + Sync + 'static {
        let salted = self.salted.clone();
        move |blocks| {
            let hashes = blocks.chunks(BLOCK).flat_map(|block| salted.hash(block));
            hashes.collect()
        }
    }

    /// Between blocks, as all writing of whole ones.
    fn write_blocks(&mut self, blocks: &[u8], hashes: &Self::Digest) -> io::Result<()> {
        if !self.partial.is_empty() {
            return Err(io::Error::other("is inside a block"));
        }
        self.inner.write_all(blocks)?;
        self.put(hashes);
        Ok(())
    }
}

impl<W: Write> Write for HashTree<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write + Seek> Seek for HashTree<W> {
    /// Only from the start, between blocks.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let block = BLOCK as u64;
        let SeekFrom::Start(to) = to else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        if !self.partial.is_empty() || !to.is_multiple_of(block) {
            return Err(io::Error::other("is inside a block"));
        }
        let next = usize::try_from(to / block).map_err(io::Error::other)?;
        let byte = |block: usize| i64::try_from(block * BLOCK).map_err(io::Error::other);
        let distance = byte(next)? - byte(self.next)?;
        self.inner.seek(SeekFrom::Current(distance))?;
        self.next = next;
        Ok(to)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn blocks_may_be_written_in_any_order() {
        let data: Vec<u8> = (0..=250).cycle().take(300 * BLOCK).collect();
        let uuid = Guid::from_bytes([1; 16]);
        let mut ordered = HashTree::new(Vec::new(), [7; 32]);
        ordered.write_all(&data).unwrap();

        let mut place = Cursor::new(Vec::new());
        // Its start is where it began.
        place.seek(SeekFrom::Start(100)).unwrap();
        let mut later = HashTree::new(&mut place, [7; 32]);
        later.seek(SeekFrom::Start(BLOCK as u64)).unwrap();
        later.write_all(&data[BLOCK..]).unwrap();
        later.seek(SeekFrom::Start(0)).unwrap();
        later.write_all(&data[..BLOCK]).unwrap();
        assert_eq!(later.finish(uuid).unwrap(), ordered.finish(uuid).unwrap());
        assert!(place.into_inner()[100..] == data);
    }

    #[test]
    fn does_not_leave_a_block_halfway() {
        let mut tree = HashTree::new(Cursor::new(Vec::new()), [7; 32]);
        let message = |error: io::Error| error.to_string();
        let inside = tree.seek(SeekFrom::Start(1)).map_err(message);
        assert_eq!(inside, Err("is inside a block".into()));
        tree.write_all(&[1]).unwrap();
        let halfway = tree.seek(SeekFrom::Start(0)).map_err(message);
        assert_eq!(halfway, Err("is inside a block".into()));
    }
}
