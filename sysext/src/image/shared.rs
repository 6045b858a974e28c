//! One reader with several users.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, MutexGuard};

/// A reader that can be handed out any number of times; all move one position.
#[derive(Debug)]
pub(crate) struct Shared<R>(Arc<Mutex<R>>);

impl<R> Shared<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> io::Result<MutexGuard<'_, R>> {
        self.0
            .lock()
            .map_err(|_| io::Error::other("another thread failed while it read"))
    }
}

impl<R> Clone for Shared<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: Read> Read for Shared<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.lock()?.read(buffer)
    }
}

impl<R: Seek> Seek for Shared<R> {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        self.lock()?.seek(target)
    }
}
