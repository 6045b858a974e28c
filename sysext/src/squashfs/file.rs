//! What a regular file in an image holds, block after block.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{DATA_STORED, Fragment, NONE};
use super::image::{Image, damaged};
use crate::Error;
use crate::tree::Open;

/// A regular file that knows where it is.
pub(super) struct ImageFile {
    pub(super) image: Arc<Image>,
    pub(super) path: PathBuf,
    pub(super) size: u64,
    /// Where its first block starts; the others follow.
    pub(super) start: u64,
    /// The size field of each block.
    pub(super) blocks: Vec<u32>,
    /// Number of the fragment with its tail, or [`NONE`], and the byte in it.
    pub(super) fragment: (u32, u32),
}

impl Open for ImageFile {
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        let block = Vec::new();
        Ok(Box::new(Reader {
            file: self,
            blocks: self.blocks.iter(),
            at: self.start,
            left: self.size,
            block,
            used: 0,
        }))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

struct Reader<'a> {
    file: &'a ImageFile,
    /// Blocks still to come, the first at byte `at`, with `left` bytes of file in them and the fragment.
    blocks: std::slice::Iter<'a, u32>,
    at: u64,
    left: u64,
    block: Vec<u8>,
    used: usize,
}

impl Reader<'_> {
    /// Unpacks the next block, or the tail.
    fn load(&mut self) -> Result<(), Error> {
        let image = &self.file.image;
        let len = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(image.block_size());
        self.block = match self.blocks.next() {
            Some(&size) => {
                let block = image.data(self.at, size, len)?;
                self.at = self.at.saturating_add(u64::from(size & !DATA_STORED));
                block
            }
            None => self.tail(len)?,
        };
        if self.block.len() < len {
            return Err(damaged(self.at, "data block is too short"));
        }
        self.block.truncate(len);
        self.left -= len as u64;
        self.used = 0;
        Ok(())
    }

    fn tail(&self, len: usize) -> Result<Vec<u8>, Error> {
        let image = &self.file.image;
        let (number, offset) = self.file.fragment;
        if number == NONE || number >= image.superblock.fragments.get() {
            return Err(damaged(self.at, "file has fewer blocks than bytes"));
        }
        let fragment: Fragment = image.entry(image.superblock.fragment_table.get(), number)?;
        let block = image.data(fragment.start.get(), fragment.size.get(), 0)?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let tail = offset
            .checked_add(len)
            .and_then(|end| block.get(offset..end));
        tail.map(<[u8]>::to_vec)
            .ok_or_else(|| damaged(fragment.start.get(), "fragment is too short"))
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.block.len() && self.left > 0 {
            self.load().map_err(io::Error::other)?;
        }
        let mut rest = self.block.get(self.used..).unwrap_or_default();
        let read = rest.read(buffer)?;
        self.used += read;
        Ok(read)
    }
}
