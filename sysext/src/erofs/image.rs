//! The output: one block after the other, but block 0, which speaks of all others, last.

use std::io::SeekFrom;

use super::format::{self, BLOCK, BLOCK_LEN};
use super::output::Output;
use crate::Error;

/// An image that grows from block 1 on.
pub(super) struct Image<'o, W> {
    out: &'o mut W,
    at: u64,
    block_0: Vec<u8>,
}

impl<'o, W: Output> Image<'o, W> {
    /// An image at the start of `out`.
    pub(super) fn new(out: &'o mut W) -> Result<Self, Error> {
        out.seek(SeekFrom::Start(BLOCK)).map_err(Error::write)?;
        Ok(Self {
            out,
            at: BLOCK,
            block_0: vec![0; BLOCK_LEN],
        })
    }

    /// Computes what goes with blocks.
    pub(super) fn digester(&self) -> impl Fn(&[u8]) -> W::Digest + Send + Sync + 'static {
        self.out.digester()
    }

    /// The byte that comes next.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// What lies in block 0 is kept for the end.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let in_block_0 = usize::try_from(self.at).unwrap_or(BLOCK_LEN);
        let room = self.block_0.get_mut(in_block_0..).unwrap_or_default();
        let (first, rest) = bytes.split_at_checked(room.len()).unwrap_or((bytes, &[]));
        for (to, from) in room.iter_mut().zip(first) {
            *to = *from;
        }
        self.out.write_all(rest).map_err(Error::write)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Whole blocks of data, behind block 0, and what the output's digester says of them.
    pub(super) fn put_blocks(&mut self, blocks: &[u8], digest: &W::Digest) -> Result<(), Error> {
        self.out
            .write_blocks(blocks, digest)
            .map_err(Error::write)?;
        self.at += blocks.len() as u64;
        Ok(())
    }

    /// Zeros up to byte `end`; back into block 0 as long as nothing stands behind it.
    pub(super) fn go_to(&mut self, end: u64) -> Result<(), Error> {
        if self.at == BLOCK && end < BLOCK {
            self.at = end;
        }
        let zeros = [0; BLOCK_LEN];
        while let Some(missing) = end.checked_sub(self.at).filter(|&missing| missing > 0) {
            let missing = usize::try_from(missing).unwrap_or(usize::MAX);
            self.put(zeros.get(..missing).unwrap_or(&zeros))?;
        }
        Ok(())
    }

    /// Zeros up to the next block.
    pub(super) fn fill_block(&mut self) -> Result<(), Error> {
        self.go_to(self.at.next_multiple_of(BLOCK))
    }

    /// Writes block 0 with `front` from the superblock on, and returns the size of the image.
    pub(super) fn finish(mut self, front: &[u8]) -> Result<u64, Error> {
        self.fill_block()?;
        let room = self.block_0.iter_mut().skip(1024);
        for (to, from) in room.zip(front) {
            *to = *from;
        }
        format::seal(&mut self.block_0);
        let mut write = || {
            self.out.seek(SeekFrom::Start(0))?;
            self.out.write_all(&self.block_0)?;
            self.out.seek(SeekFrom::Start(self.at)).map(drop)
        };
        write().map_err(Error::write)?;
        Ok(self.at)
    }
}
