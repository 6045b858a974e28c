//! Files in pieces: read one after the other, compressed many at once, written in their order.
//!
//! ```text
//! read ──▶ batch ──▶ compress (all threads) ──▶ batch ──▶ write
//!   while one batch is compressed, the one before is written and the next is read
//! ```
//!
//! Only what a piece holds decides what becomes of it, so the number of threads never shows. Two batches
//! are in memory at once: a few clusters for each thread.

use std::collections::HashMap;
use std::io::{Seek, Write};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::compress::{Compression, Encoder};
use super::format::{BLOCK, BLOCK_LEN};
use super::image::Image;
use super::index::Extent;
use super::layout::after;
use crate::Error;

/// Clusters in a batch, for each thread.
const DEPTH: usize = 4;

/// Told of bytes that were read since it was last told.
pub(super) type Progress<'p> = &'p mut (dyn FnMut(u64) + Send);

/// Bytes of a file that are stored by themselves.
pub(super) struct Piece {
    /// Whose they are.
    pub(super) inode: usize,
    pub(super) bytes: Vec<u8>,
    /// Whether others may hold the same.
    pub(super) shared: bool,
}

/// A piece as blocks.
struct Blocks {
    inode: usize,
    len: u64,
    bytes: Vec<u8>,
    compressed: bool,
    hash: Option<[u8; 32]>,
}

/// Encoders at rest: each thread takes one for each piece.
pub(super) struct Encoders {
    compression: Compression,
    cluster: u32,
    idle: Mutex<Vec<Encoder>>,
}

impl Encoders {
    pub(super) fn new(compression: Compression, cluster: u32) -> Self {
        Self {
            compression,
            cluster,
            idle: Mutex::default(),
        }
    }

    /// Bytes in a batch.
    fn batch(&self) -> usize {
        let cluster = usize::try_from(self.cluster).unwrap_or_default();
        rayon::current_num_threads() * DEPTH * cluster
    }

    fn encode_all(&self, pieces: Vec<Piece>) -> Result<Vec<Blocks>, Error> {
        let pieces = pieces.into_par_iter().with_max_len(1);
        pieces.map(|piece| self.encode(piece)).collect()
    }

    fn encode(&self, piece: Piece) -> Result<Blocks, Error> {
        let hash = piece.shared.then(|| Sha256::digest(&piece.bytes).into());
        let compressed = match self.compression {
            Compression::None => None,
            _ => self.with_encoder(|encoder| encoder.encode(&piece.bytes))?,
        };
        Ok(Blocks {
            inode: piece.inode,
            len: piece.bytes.len() as u64,
            compressed: compressed.is_some(),
            bytes: compressed.unwrap_or(piece.bytes),
            hash,
        })
    }

    fn with_encoder<T>(&self, work: impl FnOnce(&mut Encoder) -> T) -> Result<T, Error> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle().pop();
        let mut encoder = match taken {
            Some(encoder) => encoder,
            None => Encoder::new(self.compression, self.cluster)?,
        };
        let result = work(&mut encoder);
        idle().push(encoder);
        Ok(result)
    }
}

/// Where pieces go, and where they went.
pub(super) struct Store<'a, W: Write + Seek> {
    pub(super) image: &'a mut Image<W>,
    progress: Progress<'a>,
    /// By inode, the pieces in their order.
    pub(super) extents: HashMap<usize, Vec<Extent>>,
    seen: HashMap<[u8; 32], Extent>,
}

impl<'a, W: Write + Seek + Send> Store<'a, W> {
    pub(super) fn new(image: &'a mut Image<W>, progress: Progress<'a>) -> Self {
        Self {
            image,
            progress,
            extents: HashMap::new(),
            seen: HashMap::new(),
        }
    }

    /// Writes all pieces that `next` gives.
    pub(super) fn write(
        &mut self,
        encoders: &Encoders,
        mut next: impl FnMut() -> Result<Option<Piece>, Error> + Send,
    ) -> Result<(), Error> {
        let size = encoders.batch();
        let mut read = self.read(size, &mut next)?;
        let mut encoded = Vec::new();
        while !read.is_empty() || !encoded.is_empty() {
            let (pieces, blocks) = (std::mem::take(&mut read), std::mem::take(&mut encoded));
            let (encoding, reading) = rayon::join(
                || encoders.encode_all(pieces),
                || {
                    blocks.into_iter().try_for_each(|blocks| self.put(blocks))?;
                    self.read(size, &mut next)
                },
            );
            encoded = encoding?;
            read = reading?;
        }
        Ok(())
    }

    fn read(
        &mut self,
        size: usize,
        next: &mut impl FnMut() -> Result<Option<Piece>, Error>,
    ) -> Result<Vec<Piece>, Error> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < size
            && let Some(piece) = next()?
        {
            bytes += piece.bytes.len();
            batch.push(piece);
        }
        (self.progress)(bytes as u64);
        Ok(batch)
    }

    /// Writes a piece, or finds where the same one was written.
    fn put(&mut self, blocks: Blocks) -> Result<(), Error> {
        let known = blocks.hash.and_then(|hash| self.seen.get(&hash).copied());
        let extent = match known {
            Some(extent) => extent,
            None => self.append(&blocks)?,
        };
        if let Some(hash) = blocks.hash {
            self.seen.insert(hash, extent);
        }
        self.extents.entry(blocks.inode).or_default().push(extent);
        Ok(())
    }

    fn append(&mut self, blocks: &Blocks) -> Result<Extent, Error> {
        // The end of an image is checked to be below 2^32 blocks each time.
        let start = u32::try_from(self.image.at() / BLOCK).unwrap_or(u32::MAX);
        let end = after(start, blocks.bytes.len() as u64)?;
        self.image.put(&blocks.bytes)?;
        if !blocks.bytes.len().is_multiple_of(BLOCK_LEN) {
            self.image.fill_block()?;
        }
        Ok(Extent {
            start,
            blocks: end - start,
            len: blocks.len,
            compressed: blocks.compressed,
        })
    }
}
