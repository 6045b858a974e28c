//! Builds a hash tree while the data goes by.

use std::io::{self, Write};

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::{BLOCK, BLOCK_SIZE, RootHash, Salted, Superblock};
use crate::Guid;

/// In bytes; dm-verity takes up to 256.
const SALT_SIZE: u16 = 32;

/// A writer that hands everything on and hashes it on the way. It remembers 32 bytes for each block.
#[derive(Debug)]
pub(crate) struct HashTree<W> {
    inner: W,
    salt: [u8; SALT_SIZE as usize],
    salted: Salted,
    /// What came since the last full block.
    partial: Vec<u8>,
    leaves: Vec<u8>,
    blocks: u64,
}

impl<W: Write> HashTree<W> {
    pub(crate) fn new(inner: W, salt: [u8; SALT_SIZE as usize]) -> Self {
        Self {
            inner,
            salt,
            salted: Salted::new(&salt),
            partial: Vec::with_capacity(BLOCK),
            leaves: Vec::new(),
            blocks: 0,
        }
    }

    /// The root hash and the verity partition for what was written, whose last block is filled up with
    /// zeros first.
    pub(crate) fn finish(mut self, uuid: Guid) -> io::Result<(RootHash, Vec<u8>)> {
        if !self.partial.is_empty() || self.blocks == 0 {
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
            data_blocks: U64::new(self.blocks),
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
                self.push(&block);
            }
        }
        let mut blocks = bytes.chunks_exact(BLOCK);
        for block in &mut blocks {
            self.push(block);
        }
        self.partial.extend_from_slice(blocks.remainder());
    }

    fn push(&mut self, block: &[u8]) {
        self.leaves.extend_from_slice(&self.salted.hash(block));
        self.blocks += 1;
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
