//! A volume that fails at one chosen call: what a power cut, a full or a broken medium does to the engine.

use std::any::Any;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::memory::Memory;
use super::{Node, Sink, Space, Volume};

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process ends in front of it.
    Kill,
    /// The process ends in the middle of it: half of the bytes are written.
    KillInside,
    /// It alone fails for want of room.
    Full,
    /// It alone fails.
    Broken,
    /// It and everything behind it that changes something fails, while reading goes on.
    BrokenForGood,
}

pub(crate) const FAULTS: [Fault; 5] = [
    Fault::Kill,
    Fault::KillInside,
    Fault::Full,
    Fault::Broken,
    Fault::BrokenForGood,
];

/// A volume behind a counter of calls.
#[derive(Debug, Clone)]
pub(crate) struct Faulty {
    inner: Memory,
    calls: Arc<AtomicUsize>,
    at: usize,
    fault: Fault,
}

impl Faulty {
    /// Call number `at`, from 0, meets the fault.
    pub(crate) fn new(inner: Memory, at: usize, fault: Fault) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        Self {
            inner,
            calls,
            at,
            fault,
        }
    }

    /// How many calls there were.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    /// Whether the next call may go on; `Ok(true)` if it has to end half-way.
    fn next(&self, changes: bool) -> io::Result<bool> {
        let call = self.calls.fetch_add(1, SeqCst);
        let killed = || io::Error::other("killed");
        match (self.fault, call.cmp(&self.at)) {
            (_, std::cmp::Ordering::Less) => Ok(false),
            (Fault::Kill, _) | (Fault::KillInside, std::cmp::Ordering::Greater) => Err(killed()),
            (Fault::KillInside, _) => Ok(true),
            (Fault::Full, std::cmp::Ordering::Equal) => Err(io::ErrorKind::StorageFull.into()),
            (Fault::Broken, std::cmp::Ordering::Equal) => Err(io::Error::from_raw_os_error(5)),
            (Fault::BrokenForGood, _) if changes => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(false),
        }
    }

    fn change(&self, change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let ends = self.next(true)?;
        change()?;
        if ends {
            return Err(io::Error::other("killed"));
        }
        Ok(())
    }
}

impl Volume for Faulty {
    fn list(&self, directory: &str) -> io::Result<Vec<Node>> {
        self.next(false)?;
        self.inner.list(directory)
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>> {
        self.next(false)?;
        self.inner.open(path)
    }

    fn create(&self, path: &str, private: bool) -> io::Result<Box<dyn Sink + '_>> {
        let ends = self.next(true)?;
        let sink = self.inner.create(path, private)?;
        if ends {
            return Err(io::Error::other("killed"));
        }
        Ok(Box::new(FaultySink { volume: self, sink }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|| self.inner.rename(from, to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.change(|| self.inner.remove(path))
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        self.change(|| self.inner.make_directory(path))
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        self.change(|| self.inner.remove_directory(path))
    }

    fn sync(&self, directory: &str) -> io::Result<()> {
        self.change(|| self.inner.sync(directory))
    }

    fn space(&self) -> io::Result<Space> {
        self.next(false)?;
        Ok(Space {
            free: 1 << 30,
            cluster: 512,
        })
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.next(false)?;
        self.inner.lock()
    }
}

struct FaultySink<'a> {
    volume: &'a Faulty,
    sink: Box<dyn Sink + 'a>,
}

impl Write for FaultySink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.volume.next(true)? {
            let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
            self.sink.write_all(half)?;
            return Err(io::Error::other("killed"));
        }
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl Sink for FaultySink<'_> {
    fn sync(&mut self) -> io::Result<()> {
        self.volume.change(|| self.sink.sync())
    }
}
