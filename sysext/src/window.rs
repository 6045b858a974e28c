//! Parts of a file: a partition read as if it were a file of its own, and bytes by their position.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

/// The bytes `start..start + len` of a reader. Whatever else moves the reader's position between two
/// reads does no harm, as long as it does not happen at the same time.
#[derive(Debug, Clone)]
pub struct Window<R> {
    inner: R,
    start: u64,
    len: u64,
    position: u64,
}

impl<R> Window<R> {
    /// A window of `len` bytes from byte `start` of `inner`. A window that reaches past the end of
    /// `inner` reads as if it ended there.
    pub fn new(inner: R, start: u64, len: u64) -> Self {
        Self {
            inner,
            start,
            len,
            position: 0,
        }
    }
}

impl<R: Read + Seek> Read for Window<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(self.position);
        let take = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let (Some(buffer), Some(at)) = (
            buffer.get_mut(..take),
            self.start.checked_add(self.position),
        ) else {
            return Ok(0);
        };
        self.inner.seek(SeekFrom::Start(at))?;
        let read = self.inner.read(buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<R> Seek for Window<R> {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let position = match target {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// The bytes of an image by their position, for several readers.
pub(crate) struct Source(Mutex<BufReader<Box<dyn Input>>>);

trait Input: Read + Seek + Send {}

impl<R: Read + Seek + Send> Input for R {}

impl Source {
    pub(crate) fn new(image: impl Read + Seek + Send + 'static) -> Self {
        Self(Mutex::new(BufReader::new(Box::new(image))))
    }

    /// Fills `buffer` from byte `offset`.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut image = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        image.seek(SeekFrom::Start(offset))?;
        image.read_exact(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn shows_its_part_and_nothing_else() {
        let mut window = Window::new(Cursor::new(b"0123456789"), 3, 4);
        let mut text = String::new();
        window.read_to_string(&mut text).unwrap();
        assert_eq!(text, "3456");
        assert_eq!(window.seek(SeekFrom::End(-1)).unwrap(), 3);
        text.clear();
        window.read_to_string(&mut text).unwrap();
        assert_eq!(text, "6");
        assert_eq!(window.seek(SeekFrom::Start(100)).unwrap(), 100);
        assert_eq!(window.read(&mut [0; 8]).unwrap(), 0);
        assert!(window.seek(SeekFrom::Current(-101)).is_err());
    }

    #[test]
    fn ends_with_the_file_when_it_reaches_past_it() {
        let mut bytes = Vec::new();
        Window::new(Cursor::new(b"0123"), 2, u64::MAX)
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(bytes, b"23");
    }
}
