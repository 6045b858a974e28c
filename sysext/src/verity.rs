//! dm-verity: a hash tree over blocks of data, and the root hash that stands for all of them. As
//! `cryptsetup` documents its on-disk format, version 1.
//!
//! ```text
//! data   0 1 … 127 | 128 …      a block is 4096 bytes, its hash SHA-256(salt ‖ block)
//!         \  |  /     \ | /
//! leaves    0            1 …    128 hashes to a block, zeros behind the last
//!             \     |     /
//! top               0           root hash = SHA-256(salt ‖ top block)
//!
//! partition: superblock | top | … | leaves
//! ```
//!
//! A single block of data has no tree: its hash is the root hash.

mod check;
mod tree;

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub(crate) use check::{check, superblock};
pub(crate) use tree::HashTree;

use crate::{Error, Guid};

/// Data and hash blocks alike, in bytes.
pub(crate) const BLOCK_SIZE: u32 = 4096;
const BLOCK: usize = BLOCK_SIZE as usize;
/// A SHA-256, in bytes.
const HASH: usize = 32;
/// Hashes in one block.
const FANOUT: usize = BLOCK / HASH;

/// What a signature stands for: the hash of the top of the hash tree. Shown and parsed as 64 lower-case
/// hex digits, the form that is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootHash([u8; HASH]);

impl RootHash {
    /// From its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What is signed: its 64 lower-case hex digits, without a line feed.
    pub fn to_be_signed(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }

    /// The one that a data and a verity partition are named after.
    pub(crate) fn of_partition_guids(data: Guid, verity: Guid) -> Self {
        let mut bytes = [0; HASH];
        let (first, last) = bytes.split_at_mut(16);
        first.copy_from_slice(data.as_bytes());
        last.copy_from_slice(verity.as_bytes());
        Self(bytes)
    }

    /// The UUIDs of the data and of the verity partition: its first and last 16 bytes.
    pub(crate) fn partition_guids(&self) -> (Guid, Guid) {
        let (mut data, mut verity) = ([0; 16], [0; 16]);
        let (first, last) = self.0.split_at(16);
        data.copy_from_slice(first);
        verity.copy_from_slice(last);
        (Guid::from_bytes(data), Guid::from_bytes(verity))
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for RootHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = || Error::value("root hash is not 64 lower-case hex digits");
        let mut bytes = [0; HASH];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| error())?;
        let hash = Self(bytes);
        // The digits are what is signed; upper-case ones would be other bytes.
        if hash.to_string() == text {
            Ok(hash)
        } else {
            Err(error())
        }
    }
}

impl Serialize for RootHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Hashes blocks: the salt goes in first, once.
#[derive(Debug, Clone)]
struct Salted(Sha256);

impl Salted {
    fn new(salt: &[u8]) -> Self {
        Self(Sha256::new_with_prefix(salt))
    }

    fn hash(&self, block: &[u8]) -> [u8; HASH] {
        self.0.clone().chain_update(block).finalize().into()
    }
}

/// The start of a verity partition; zeros follow to the end of the block.
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Superblock {
    signature: [u8; 8],
    version: U32,
    hash_type: U32,
    uuid: [u8; 16],
    algorithm: [u8; 32],
    data_block_size: U32,
    hash_block_size: U32,
    pub(crate) data_blocks: U64,
    salt_size: U16,
    reserved: [u8; 6],
    salt: [u8; 256],
    padding: [u8; 168],
}

const _: () = assert!(size_of::<Superblock>() == 512);

impl Superblock {
    const SIGNATURE: [u8; 8] = *b"verity\0\0";
    const VERSION: u32 = 1;
    /// The salt goes in front of the block.
    const HASH_TYPE: u32 = 1;
    const ALGORITHM: &[u8] = b"sha256";

    /// The salt, `None` when its size is impossible.
    pub(crate) fn salt(&self) -> Option<&[u8]> {
        self.salt.get(..usize::from(self.salt_size.get()))
    }

    /// How many bytes of data the tree is over; what comes behind does not exist for the kernel.
    pub(crate) fn data_size(&self) -> u64 {
        self.data_blocks.get().saturating_mul(u64::from(BLOCK_SIZE))
    }

    pub(crate) fn guid(&self) -> Guid {
        Guid::from_bytes(self.uuid)
    }
}

/// How many blocks of hashes each level has, the top first; empty for a single block of data.
fn levels(data_blocks: u64) -> Vec<u64> {
    let mut levels = Vec::new();
    let mut blocks = data_blocks;
    while blocks > 1 {
        blocks = blocks.div_ceil(FANOUT as u64);
        levels.push(blocks);
    }
    levels.reverse();
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_narrow_to_one_block() {
        for (data_blocks, expected) in [
            (0, vec![]),
            (1, vec![]),
            (2, vec![1]),
            (128, vec![1]),
            (129, vec![1, 2]),
            (504, vec![1, 4]),
            (128 * 128, vec![1, 128]),
            (128 * 128 + 1, vec![1, 2, 129]),
        ] {
            assert_eq!(levels(data_blocks), expected, "{data_blocks} blocks");
        }
    }

    #[test]
    fn root_hashes_are_lower_case_digits() {
        let text = "0cfc167ea7334b3705f00a8d14ccb2200a88002d4995111d8881c78834ba2327";
        let hash: RootHash = text.parse().unwrap();
        assert_eq!(hash.to_string(), text);
        let (data, verity) = hash.partition_guids();
        assert_eq!(data.to_string(), "0cfc167e-a733-4b37-05f0-0a8d14ccb220");
        assert_eq!(verity.to_string(), "0a88002d-4995-111d-8881-c78834ba2327");
        for bad in [&text[1..], &text.to_uppercase(), "", "zz"] {
            assert_eq!(
                bad.parse::<RootHash>().unwrap_err().to_string(),
                "root hash is not 64 lower-case hex digits"
            );
        }
    }
}
