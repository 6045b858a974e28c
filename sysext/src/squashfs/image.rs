//! The image as metadata and data blocks, unpacked.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::format::{DATA_STORED, METADATA, METADATA_STORED, SuperBlock};
use crate::window::Source;
use crate::{Error, FormatError};

/// How many metadata blocks are kept unpacked.
const CACHED: usize = 512;

/// An image whose superblock is valid.
pub(super) struct Image {
    source: Source,
    pub(super) superblock: SuperBlock,
    compression: Compression,
    /// Metadata blocks by their place.
    blocks: Mutex<HashMap<u64, Metadata>>,
}

/// A metadata block and the place of the next.
type Metadata = (Arc<[u8]>, u64);

/// A place in a table: a metadata block in the image and a byte in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) block: u64,
    pub(super) offset: usize,
}

#[derive(Debug, Clone, Copy)]
enum Compression {
    Zlib,
    Xz,
    Lz4,
    Zstd,
}

/// The codecs by their number in the superblock, from 1.
const CODECS: [&str; 6] = ["gzip", "lzma", "lzo", "xz", "lz4", "zstd"];

/// The codec of an image and the bytes it packs at a time, whether or not it can be unpacked here.
pub(super) fn compression(superblock: &SuperBlock) -> (&'static str, u32) {
    let number = usize::from(superblock.compressor.get());
    let codec = number.checked_sub(1).and_then(|index| CODECS.get(index));
    (
        codec.copied().unwrap_or("unknown"),
        superblock.block_size.get(),
    )
}

impl Place {
    /// What a reference says in a table that starts at byte `table`: block in the upper 48 bits, byte in the
    /// lower 16.
    pub(super) fn new(table: u64, reference: u64) -> Self {
        let offset = usize::try_from(reference & 0xffff).unwrap_or_default();
        Self {
            block: table.saturating_add(reference >> 16),
            offset,
        }
    }
}

impl Image {
    pub(super) fn new(source: Source) -> Result<Self, Error> {
        let mut bytes = [0; size_of::<SuperBlock>()];
        source
            .read_at(&mut bytes, 0)
            .map_err(|_| damaged(0, "no squashfs superblock"))?;
        let superblock = SuperBlock::read_from_bytes(&bytes)
            .map_err(|_| damaged(0, "no squashfs superblock"))?;
        let version = superblock.version.map(U16::get);
        if &superblock.magic != b"hsqs" || version != [4, 0] {
            return Err(damaged(0, "not a squashfs 4.0 image"));
        }
        let (size, bits) = (superblock.block_size.get(), superblock.block_bits.get());
        if !(12..=20).contains(&bits) || size != 1 << bits {
            return Err(damaged(
                12,
                "block size is not a power of two from 4 KiB to 1 MiB",
            ));
        }
        let compression = match superblock.compressor.get() {
            1 => Compression::Zlib,
            4 => Compression::Xz,
            5 => Compression::Lz4,
            6 => Compression::Zstd,
            other => return Err(damaged(20, format!("compression {other} is not supported"))),
        };
        Ok(Self {
            source,
            superblock,
            compression,
            blocks: Mutex::default(),
        })
    }

    /// Bytes of a data block.
    pub(super) fn block_size(&self) -> usize {
        usize::try_from(self.superblock.block_size.get()).unwrap_or_default()
    }

    /// The structure at `place`, which moves behind it.
    pub(super) fn read<T: FromBytes>(&self, place: &mut Place) -> Result<T, Error> {
        let at = place.block;
        let bytes = self.bytes(place, size_of::<T>())?;
        T::read_from_bytes(&bytes).map_err(|_| damaged(at, "metadata is truncated"))
    }

    /// `len` bytes at `place`, which moves behind them. The caller bounds `len`.
    pub(super) fn bytes(&self, place: &mut Place, len: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let (block, next) = self.metadata(place.block)?;
            let there = block.get(place.offset..).unwrap_or_default();
            if there.is_empty() && block.len() < METADATA {
                return Err(damaged(place.block, "metadata is truncated"));
            }
            let wanted = there.get(..len - bytes.len()).unwrap_or(there);
            bytes.extend_from_slice(wanted);
            place.offset += wanted.len();
            if place.offset >= METADATA {
                *place = Place {
                    block: next,
                    offset: place.offset - METADATA,
                };
            }
        }
        Ok(bytes)
    }

    /// Entry `index` of a table that is found through a list of its blocks at byte `list`.
    pub(super) fn entry<T: FromBytes>(&self, list: u64, index: u32) -> Result<T, Error> {
        let in_block = METADATA / size_of::<T>();
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let mut block = U64::ZERO;
        let at = list.saturating_add(8 * (index / in_block) as u64);
        self.source
            .read_at(block.as_mut_bytes(), at)
            .map_err(|error| unreadable(at, &error))?;
        self.read(&mut Place {
            block: block.get(),
            offset: index % in_block * size_of::<T>(),
        })
    }

    /// The structure at byte `at` outside of metadata blocks.
    pub(super) fn plain<T: FromBytes + IntoBytes>(&self, at: u64) -> Result<T, Error> {
        let mut value = T::new_zeroed();
        self.source
            .read_at(value.as_mut_bytes(), at)
            .map_err(|error| unreadable(at, &error))?;
        Ok(value)
    }

    /// The data block at byte `at` whose size field is `size`, `len` bytes unpacked.
    pub(super) fn data(&self, at: u64, size: u32, len: usize) -> Result<Vec<u8>, Error> {
        let packed_len = usize::try_from(size & !DATA_STORED).unwrap_or(usize::MAX);
        if packed_len == 0 {
            return Ok(vec![0; len]);
        }
        if packed_len > self.block_size() {
            return Err(damaged(at, "data block is larger than a block"));
        }
        let mut bytes = vec![0; packed_len];
        self.source
            .read_at(&mut bytes, at)
            .map_err(|error| unreadable(at, &error))?;
        if size & DATA_STORED == 0 {
            bytes = self.unpack(at, &bytes, self.block_size())?;
        }
        Ok(bytes)
    }

    /// The metadata block at byte `at`, and where the next one is.
    fn metadata(&self, at: u64) -> Result<Metadata, Error> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = blocks.get(&at) {
            return Ok(known.clone());
        }
        let size = self.plain::<U16>(at)?.get();
        let mut bytes = vec![0; usize::from(size & !METADATA_STORED)];
        self.source
            .read_at(&mut bytes, at.saturating_add(2))
            .map_err(|error| unreadable(at, &error))?;
        let next = at.saturating_add(2 + bytes.len() as u64);
        if size & METADATA_STORED == 0 {
            bytes = self.unpack(at, &bytes, METADATA)?;
        }
        if bytes.len() > METADATA {
            return Err(damaged(at, "metadata block is larger than 8 KiB"));
        }
        if blocks.len() >= CACHED {
            blocks.clear();
        }
        let block = (Arc::from(bytes), next);
        blocks.insert(at, block.clone());
        Ok(block)
    }

    fn unpack(&self, at: u64, bytes: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
        let unpacked = match self.compression {
            Compression::Zlib => all(flate2::read::ZlibDecoder::new(bytes), limit),
            Compression::Xz => all(liblzma::read::XzDecoder::new(bytes), limit),
            Compression::Zstd => {
                zstd::Decoder::with_buffer(bytes).and_then(|decoder| all(decoder, limit))
            }
            Compression::Lz4 => lz4_flex::block::decompress(bytes, limit).map_err(io::Error::other),
        };
        unpacked.map_err(|error| damaged(at, format!("cannot unpack: {error}")))
    }
}

fn all(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        Err(io::Error::other("holds more than a block"))
    } else {
        Ok(bytes)
    }
}

/// The rule `what` is broken at byte `at` of the image.
pub(super) fn damaged(at: u64, what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    let source = FormatError::new(at, what).into();
    Error::FileSystem {
        format: "squashfs",
        source,
    }
}

fn unreadable(at: u64, error: &io::Error) -> Error {
    damaged(at, format!("cannot read: {error}"))
}
