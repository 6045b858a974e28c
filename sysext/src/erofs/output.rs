//! Where an image goes.

use std::io::{self, Seek, SeekFrom, Write};

/// An output that may want to know something of its blocks that is best computed by whoever has just made
/// them, on any thread: a hash.
pub(crate) trait Output: Write + Seek + Send {
    /// What it wants to know of some blocks.
    type Digest: Send;

    /// Computes that for whole blocks.
    fn digester(&self) -> impl Fn(&[u8]) -> Self::Digest + Send + Sync + 'static;

    /// Writes blocks with what was computed for them.
    fn write_blocks(&mut self, blocks: &[u8], digest: &Self::Digest) -> io::Result<()>;
}

/// An output that wants to know nothing.
#[derive(Debug)]
pub(super) struct Plain<W>(pub(super) W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Seek> Seek for Plain<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl<W: Write + Seek + Send> Output for Plain<W> {
    type Digest = ();

    fn digester(&self) -> impl Fn(&[u8]) -> Self::Digest + Send + Sync + 'static {
        |_| ()
    }

    fn write_blocks(&mut self, blocks: &[u8], (): &()) -> io::Result<()> {
        self.0.write_all(blocks)
    }
}
