//! The bytes of a regular file, opened only when they are wanted.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use crate::Error;

/// What a regular file holds: its size is known, its bytes come from memory, a file or an image.
#[derive(Clone)]
pub struct Content {
    size: u64,
    source: Source,
}

/// Something that can be read from its start any number of times.
pub(crate) trait Open: Send + Sync {
    /// A reader at the first byte.
    fn open(&self) -> io::Result<Box<dyn Read + Send + '_>>;
    /// What is opened, for errors.
    fn path(&self) -> &Path;
}

#[derive(Clone)]
enum Source {
    /// Part of what other contents share.
    Bytes(Arc<Vec<u8>>, Range<usize>),
    File(PathBuf),
    Image(Arc<dyn Open>),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Bytes(..) => write!(f, "{} bytes", self.size),
            Source::File(path) => write!(f, "{} bytes of {}", self.size, path.display()),
            Source::Image(file) => write!(
                f,
                "{} bytes of {} in an image",
                self.size,
                file.path().display()
            ),
        }
    }
}

impl Content {
    /// These bytes.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = Arc::new(bytes.into());
        let all = 0..bytes.len();
        Self::from_part(bytes, all)
    }

    /// These of the bytes, which are not copied; those that are not there are left out.
    pub(crate) fn from_part(bytes: Arc<Vec<u8>>, part: Range<usize>) -> Self {
        let size = bytes.get(part.clone()).map_or(0, <[u8]>::len);
        Self {
            size: size as u64,
            source: Source::Bytes(bytes, part),
        }
    }

    /// The file at `path`, which must be regular and still have `size` bytes when it is read.
    pub fn from_file(path: impl Into<PathBuf>, size: u64) -> Self {
        Self {
            size,
            source: Source::File(path.into()),
        }
    }

    /// A file inside an image that says it has `size` bytes.
    pub(crate) fn from_image(size: u64, file: Arc<dyn Open>) -> Self {
        Self {
            size,
            source: Source::Image(file),
        }
    }

    /// Bytes. From an image this is its word, not to be trusted with an allocation.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Opens it at its first byte.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when the file cannot be opened or is not a regular file any more.
    pub fn open(&self) -> Result<ContentReader<'_>, Error> {
        let path = self.path();
        let opened: io::Result<Box<dyn Read + Send + '_>> = match &self.source {
            Source::Bytes(bytes, part) => {
                let part = bytes.get(part.clone()).unwrap_or_default();
                Ok(Box::new(part))
            }
            Source::File(path) => open_regular(path).map(|file| Box::new(file) as _),
            Source::Image(file) => file.open(),
        };
        let inner = opened.map_err(|source| self.error(source))?;
        Ok(ContentReader {
            inner,
            path,
            left: self.size,
        })
    }

    /// All bytes, when they are `limit` at most.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when there are more, or they cannot be read.
    pub fn read(&self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut reader = self.open()?;
        let fail = |source| self.error(source);
        if self.size > limit as u64 {
            return Err(fail(io::Error::other(format!(
                "is longer than {limit} bytes"
            ))));
        }
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(fail)?;
        Ok(bytes)
    }

    /// An [`Error::Read`] of this.
    pub(crate) fn error(&self, source: io::Error) -> Error {
        Error::Read {
            path: self.path().to_owned(),
            source,
        }
    }

    /// The first bytes, `limit` at most.
    pub(crate) fn start(&self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let read = self.open()?.take(limit as u64).read_to_end(&mut bytes);
        read.map_err(|source| self.error(source))?;
        Ok(bytes)
    }

    fn path(&self) -> &Path {
        match &self.source {
            Source::Bytes(..) => Path::new("(memory)"),
            Source::File(path) => path,
            Source::Image(file) => file.path(),
        }
    }
}

/// Yields exactly as many bytes as [`Content::size`] says, or fails.
pub struct ContentReader<'a> {
    inner: Box<dyn Read + Send + 'a>,
    path: &'a Path,
    left: u64,
}

impl fmt::Debug for ContentReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes left of {}", self.left, self.path.display())
    }
}

impl ContentReader<'_> {
    /// Bytes that are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Fills `buffer`.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] with the path, also when the file has become shorter.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        self.read_exact(buffer).map_err(|source| Error::Read {
            path: self.path.to_owned(),
            source,
        })
    }

    /// Checks that nothing follows.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when something does: the file has become longer.
    pub fn finish(mut self) -> Result<(), Error> {
        let end = self.read(&mut [0]);
        let at_end = end.and_then(|read| if read == 0 { Ok(()) } else { Err(changed()) });
        at_end.map_err(|source| Error::Read {
            path: self.path.to_owned(),
            source,
        })
    }
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            return match self.inner.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(changed()),
            };
        }
        let take = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self
            .inner
            .read(buffer.get_mut(..take).unwrap_or_default())?;
        if read == 0 {
            return Err(changed());
        }
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

fn changed() -> io::Error {
    io::Error::other("its size changed since it was listed")
}

/// Opens a file that was regular when it was listed; whatever took its place since must neither lead
/// elsewhere nor block.
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = File::options()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is not a regular file any more"));
    }
    Ok(file)
}
