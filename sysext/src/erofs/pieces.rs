//! Files in pieces: read one after the other, encoded many at once, written in their order.
//!
//! ```text
//! read ──▶ batch ──▶ compress, digest (all threads) ──▶ write
//!   whoever reads and writes encodes too, while the batch that is written next is not ready
//! ```
//!
//! Only what a piece holds decides what becomes of it, so the number of threads never shows. A few clusters
//! for each thread are in memory at once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rayon::Yield;
use sha2::{Digest, Sha256};

use super::compress::{Compression, Encoder};
use super::format::{BLOCK, BLOCK_LEN, NO_BLOCK};
use super::image::Image;
use super::index::Extent;
use super::layout::after;
use super::output::Output;
use crate::Error;

/// Batches that are read ahead, for each thread.
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
    /// Whether zeros need not be stored, or only once.
    pub(super) sparse: bool,
}

/// A piece as blocks.
struct Blocks<D> {
    inode: usize,
    len: u64,
    bytes: Vec<u8>,
    compressed: bool,
    found: Found,
    digest: D,
}

/// What an encoder has found in a piece.
enum Found {
    /// Nothing to be stored.
    Hole,
    /// What may have been stored before.
    Hash([u8; 32]),
    /// What is stored now.
    Data,
}

/// Memory that is used again.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// A buffer of `len` bytes of anything, perhaps one that was given back.
    pub(super) fn take(&self, len: usize) -> Vec<u8> {
        let mut buffer = lock(&self.0).pop().unwrap_or_default();
        buffer.resize(len, 0);
        buffer
    }

    /// Few are kept: small files come by the hundred.
    fn give_back(&self, buffer: Vec<u8>) {
        let mut kept = lock(&self.0);
        if kept.len() < DEPTH {
            kept.push(buffer);
        }
    }
}

/// Encoders at rest: each thread takes one for each piece.
pub(super) struct Encoders<D> {
    compression: Compression,
    cluster: u32,
    digester: D,
    idle: Mutex<Vec<Encoder>>,
    pub(super) buffers: Buffers,
}

impl<D> Encoders<D> {
    /// `digester` is that of the output.
    pub(super) fn new(compression: Compression, cluster: u32, digester: D) -> Self {
        Self {
            compression,
            cluster,
            digester,
            idle: Mutex::default(),
            buffers: Buffers::default(),
        }
    }

    fn encode_all<T>(&self, pieces: Vec<Piece>) -> Result<Vec<Blocks<T>>, Error>
    where
        D: Fn(&[u8]) -> T,
    {
        pieces.into_iter().map(|piece| self.encode(piece)).collect()
    }

    fn encode<T>(&self, piece: Piece) -> Result<Blocks<T>, Error>
    where
        D: Fn(&[u8]) -> T,
    {
        let len = piece.bytes.len() as u64;
        let zeros = piece.sparse && is_zero(&piece.bytes);
        let found = match self.compression {
            Compression::None if zeros => Found::Hole,
            _ if zeros || piece.shared => Found::Hash(Sha256::digest(&piece.bytes).into()),
            _ => Found::Data,
        };
        let compressed = match self.compression {
            Compression::None => None,
            _ => self.with_encoder(|encoder| encoder.encode(&piece.bytes))?,
        };
        let is_compressed = compressed.is_some();
        let mut bytes = match compressed {
            Some(bytes) => {
                self.buffers.give_back(piece.bytes);
                bytes
            }
            None => piece.bytes,
        };
        bytes.resize(bytes.len().next_multiple_of(BLOCK_LEN), 0);
        Ok(Blocks {
            inode: piece.inode,
            len,
            compressed: is_compressed,
            digest: (self.digester)(&bytes),
            bytes,
            found,
        })
    }

    fn with_encoder<T>(&self, work: impl FnOnce(&mut Encoder) -> T) -> Result<T, Error> {
        let taken = lock(&self.idle).pop();
        let mut encoder = match taken {
            Some(encoder) => encoder,
            None => Encoder::new(self.compression, self.cluster)?,
        };
        let result = work(&mut encoder);
        lock(&self.idle).push(encoder);
        Ok(result)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_zero(bytes: &[u8]) -> bool {
    let zeros = [0; BLOCK_LEN];
    bytes
        .chunks(BLOCK_LEN)
        .all(|chunk| Some(chunk) == zeros.get(..chunk.len()))
}

/// A value that another thread brings.
struct Promise<T> {
    value: Mutex<Option<T>>,
    brought: Condvar,
}

impl<T> Promise<T> {
    fn new() -> Self {
        Self {
            value: Mutex::new(None),
            brought: Condvar::new(),
        }
    }

    fn bring(&self, value: T) {
        *lock(&self.value) = Some(value);
        self.brought.notify_one();
    }

    /// Does other work until the value is there; waits when there is none, as then somebody is at this.
    fn wait(&self) -> T {
        loop {
            if let Some(value) = lock(&self.value).take() {
                return value;
            }
            if rayon::yield_now() != Some(Yield::Executed) {
                break;
            }
        }
        let mut value = lock(&self.value);
        loop {
            match value.take() {
                Some(value) => return value,
                None => {
                    value = self
                        .brought
                        .wait(value)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// Where pieces go, and where they went.
pub(super) struct Store<'a, 'o, W> {
    image: &'a mut Image<'o, W>,
    progress: Progress<'a>,
    /// By inode, the pieces in their order.
    pub(super) extents: HashMap<usize, Vec<Extent>>,
    seen: HashMap<[u8; 32], Extent>,
}

impl<'a, 'o, W: Output> Store<'a, 'o, W> {
    pub(super) fn new(image: &'a mut Image<'o, W>, progress: Progress<'a>) -> Self {
        Self {
            image,
            progress,
            extents: HashMap::new(),
            seen: HashMap::new(),
        }
    }

    /// Writes all pieces that `next` gives.
    pub(super) fn write<D>(
        &mut self,
        encoders: &Encoders<D>,
        mut next: impl FnMut() -> Result<Option<Piece>, Error> + Send,
    ) -> Result<(), Error>
    where
        D: Fn(&[u8]) -> W::Digest + Sync,
    {
        rayon::scope_fifo(|scope| {
            let most = rayon::current_num_threads() * DEPTH;
            let mut ahead = VecDeque::new();
            loop {
                while ahead.len() < most
                    && let Some(batch) = self.read(encoders.cluster, &mut next)?
                {
                    let ours = Arc::new(Promise::new());
                    let theirs = Arc::clone(&ours);
                    scope.spawn_fifo(move |_| theirs.bring(encoders.encode_all(batch)));
                    ahead.push_back(ours);
                }
                let Some(first) = ahead.pop_front() else {
                    return Ok(());
                };
                for blocks in first.wait()? {
                    encoders.buffers.give_back(self.put(blocks)?);
                }
            }
        })
    }

    /// As many pieces as make a cluster, or one. `None` behind the last.
    fn read(
        &mut self,
        cluster: u32,
        next: &mut impl FnMut() -> Result<Option<Piece>, Error>,
    ) -> Result<Option<Vec<Piece>>, Error> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < u64::from(cluster)
            && let Some(piece) = next()?
        {
            bytes += piece.bytes.len() as u64;
            batch.push(piece);
        }
        (self.progress)(bytes);
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// Writes a piece, or finds where the same one was written; returns its buffer.
    fn put(&mut self, blocks: Blocks<W::Digest>) -> Result<Vec<u8>, Error> {
        let known = match blocks.found {
            Found::Hole => Some(Extent {
                start: NO_BLOCK,
                blocks: 0,
                len: blocks.len,
                compressed: false,
            }),
            Found::Hash(hash) => self.seen.get(&hash).copied(),
            Found::Data => None,
        };
        let extent = match known {
            Some(extent) => extent,
            None => self.append(&blocks)?,
        };
        if let Found::Hash(hash) = blocks.found {
            self.seen.insert(hash, extent);
        }
        self.extents.entry(blocks.inode).or_default().push(extent);
        Ok(blocks.bytes)
    }

    fn append(&mut self, blocks: &Blocks<W::Digest>) -> Result<Extent, Error> {
        // The end of an image is checked to be below 2^32 blocks each time.
        let start = u32::try_from(self.image.at() / BLOCK).unwrap_or(u32::MAX);
        let end = after(start, blocks.bytes.len() as u64)?;
        self.image.put_blocks(&blocks.bytes, &blocks.digest)?;
        Ok(Extent {
            start,
            blocks: end - start,
            len: blocks.len,
            compressed: blocks.compressed,
        })
    }
}
