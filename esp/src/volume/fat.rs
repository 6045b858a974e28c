//! A FAT file system that is not mounted, as a [`Volume`]: in an image file, or any [`Blocks`].
//!
//! Every call is a few writes in an order in which each prefix leaves nothing worse than clusters without an owner:
//!
//! ```text
//! new file   clusters ─ their chain ─ the name
//! rename     the old name goes ─ the new one comes, or the one that is there is redirected ─ its old chain goes
//! removal    the name ─ its chain
//! ```
//!
//! The standard's other bits are kept: the file system is marked as in use while it is changed, and the number of free
//! clusters is brought up to date at the end. All times are the first day FAT knows, so the same change gives the same bytes.

mod directory;
mod geometry;
mod name;
mod table;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Blocks, Node, NodeKind, Sink, Space, Volume};
use directory::{Content, Directory, Entry};
use geometry::{BOOT_SECTOR, Geometry};

/// A FAT file system: FAT12, FAT16 or FAT32, with long names.
#[derive(Debug, Clone)]
pub struct Fat(Arc<Inner>);

struct Inner {
    blocks: Box<dyn Blocks>,
    geometry: Geometry,
    /// A piece of the table, as it is now.
    window: Mutex<Window>,
    state: Mutex<State>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} on {:?}", self.geometry, self.blocks)
    }
}

/// What is remembered between calls.
#[derive(Debug)]
struct State {
    /// No cluster before this one is free.
    first_free: u32,
    /// How many are free, once they were counted.
    free: Option<u32>,
    /// Whether the file system is marked as in use, by whomever.
    in_use: bool,
    /// Whether something was written since it was opened or settled.
    written: bool,
}

#[derive(Debug, Default)]
struct Window {
    place: u64,
    bytes: Vec<u8>,
}

/// In bytes.
const WINDOW: u64 = 32 * 1024;

impl Default for State {
    fn default() -> Self {
        Self {
            first_free: 2,
            free: None,
            in_use: false,
            written: false,
        }
    }
}

impl Fat {
    /// The file system on these blocks.
    ///
    /// # Errors
    ///
    /// `InvalidData` if it is none, or its parts do not fit; and what the medium says.
    pub fn open(blocks: impl Blocks + 'static) -> io::Result<Self> {
        let length = blocks.length()?;
        let mut boot = [0; BOOT_SECTOR];
        if length < 512 {
            return Err(damaged("it is not a FAT file system"));
        }
        blocks.read_at(0, &mut boot)?;
        let inner = Inner {
            geometry: Geometry::parse(&boot, length)?,
            blocks: Box::new(blocks),
            window: Mutex::default(),
            state: Mutex::default(),
        };
        inner.forget()?;
        Ok(Self(Arc::new(inner)))
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was remembered may be of before another process changed it.
    fn forget(&self) -> io::Result<()> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        *window = Window::default();
        let mut in_use = [0];
        self.blocks.read_at(self.geometry.in_use, &mut in_use)?;
        *self.state() = State {
            in_use: in_use[0] & 1 != 0,
            ..State::default()
        };
        Ok(())
    }

    /// Up to four bytes of the table.
    fn cached(&self, place: u64, size: usize) -> io::Result<[u8; 4]> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = |window: &Window| {
            let at = usize::try_from(place.checked_sub(window.place)?).ok()?;
            let found = window.bytes.get(at..at + size)?;
            let mut bytes = [0; 4];
            bytes
                .iter_mut()
                .zip(found)
                .for_each(|(to, from)| *to = *from);
            Some(bytes)
        };
        if let Some(found) = inside(&window) {
            return Ok(found);
        }
        // An entry of twelve bits may begin in the last byte of a window.
        let start = place - place % WINDOW;
        let end = (start + WINDOW + 4).min(self.geometry.root);
        window.bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or_default()];
        window.place = start;
        self.blocks.read_at(start, &mut window.bytes)?;
        inside(&window).ok_or_else(|| damaged("its table is too small for its clusters"))
    }

    /// Every write goes through here.
    fn patch(&self, state: &mut State, place: u64, bytes: &[u8]) -> io::Result<()> {
        state.written = true;
        if !state.in_use {
            self.mark_in_use(true)?;
            state.in_use = true;
        }
        self.blocks.write_at(place, bytes)?;
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let Window {
            place: start,
            bytes: cached,
        } = &mut *window;
        for (at, byte) in (place..).zip(bytes) {
            let at = at
                .checked_sub(*start)
                .and_then(|at| usize::try_from(at).ok());
            if let Some(cached) = at.and_then(|at| cached.get_mut(at)) {
                *cached = *byte;
            }
        }
        Ok(())
    }

    fn mark_in_use(&self, in_use: bool) -> io::Result<()> {
        let mut byte = [0];
        self.blocks.read_at(self.geometry.in_use, &mut byte)?;
        let [old] = byte;
        let new = if in_use { old | 1 } else { old & !1 };
        self.blocks.write_at(self.geometry.in_use, &[new])
    }

    /// What has to be true when nobody works on it: how much is free, and that nobody does.
    fn settle(&self, leave_in_use: bool) -> io::Result<()> {
        let mut state = self.state();
        if !state.written {
            return Ok(());
        }
        let free = self.free_clusters(&mut state)?;
        self.count(&mut state, free)?;
        self.blocks.sync()?;
        if !leave_in_use {
            self.mark_in_use(false)?;
            state.in_use = false;
            self.blocks.sync()?;
        }
        state.written = false;
        Ok(())
    }

    /// Writes how many clusters are free, where the file system says so.
    fn count(&self, state: &mut State, free: u32) -> io::Result<()> {
        let place = self.geometry.summary;
        if place == 0 {
            return Ok(());
        }
        let mut sector = [0; 512];
        self.blocks.read_at(place, &mut sector)?;
        let is_summary = sector.starts_with(b"RRaA") && sector.get(484..488) == Some(b"rrAa");
        if is_summary && sector.get(488..492) != Some(&free.to_le_bytes()) {
            self.patch(state, place + 488, &free.to_le_bytes())?;
        }
        Ok(())
    }

    /// A directory by its path.
    fn walk(&self, path: &str) -> io::Result<Directory> {
        let mut directory = self.root()?;
        let mut way = vec![directory.cluster];
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let entry = directory.find(name).ok_or(ErrorKind::NotFound)?;
            if !entry.is_directory() {
                return Err(ErrorKind::NotADirectory.into());
            }
            if way.contains(&entry.cluster) {
                return Err(damaged("a directory lies in itself"));
            }
            way.push(entry.cluster);
            directory = self.directory(entry.cluster)?;
        }
        Ok(directory)
    }

    /// A file or directory by its path, with the directory it lies in.
    fn look_up(&self, path: &str) -> io::Result<(Directory, Option<Entry>)> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = self.walk(directory)?;
        let entry = directory.find(name);
        Ok((directory, entry))
    }

    fn add(&self, state: &mut State, path: &str, content: Content) -> io::Result<()> {
        let (directory, entry) = self.look_up(path)?;
        if entry.is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let place = self.make_room(state, directory, name_of(path), &content)?;
        self.insert(state, &place)
    }

    /// A directory in a cluster that was taken for it.
    fn add_directory(
        &self,
        state: &mut State,
        path: &str,
        cluster: u32,
        above: u32,
    ) -> io::Result<()> {
        let mut bytes = Content::first_slots(cluster, above);
        bytes.resize(
            usize::try_from(self.geometry.cluster).unwrap_or_default(),
            0,
        );
        self.patch(state, self.geometry.place(cluster), &bytes)?;
        let content = Content {
            directory: true,
            cluster,
            size: 0,
        };
        self.add(state, path, content)
    }
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

impl Volume for Fat {
    fn list(&self, directory: &str) -> io::Result<Vec<Node>> {
        let entries = self.0.walk(directory)?.entries();
        let mut nodes: Vec<Node> = entries
            .into_iter()
            .map(|entry| {
                let kind = if entry.is_directory() {
                    NodeKind::Directory
                } else {
                    NodeKind::File
                };
                Node::new(entry.name, kind, u64::from(entry.size))
            })
            .collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>> {
        let (_, entry) = self.0.look_up(path)?;
        let entry = entry.ok_or(ErrorKind::NotFound)?;
        if entry.is_directory() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let chain = if entry.size == 0 {
            Vec::new()
        } else {
            self.0.chain(entry.cluster)?
        };
        Ok(Box::new(Reader {
            fat: &self.0,
            chain,
            at: 0,
            size: u64::from(entry.size),
        }))
    }

    fn create(&self, path: &str, _private: bool) -> io::Result<Box<dyn Sink + '_>> {
        if self.0.look_up(path)?.1.is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        Ok(Box::new(Writer {
            fat: &self.0,
            path: path.to_owned(),
            buffer: Vec::new(),
            first: 0,
            last: 0,
            size: 0,
            named: false,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let fat = &self.0;
        let mut state = fat.state();
        let (source, moved) = fat.look_up(from)?;
        let moved = moved.ok_or(ErrorKind::NotFound)?;
        let (target, replaced) = fat.look_up(to)?;
        let content = Content {
            directory: moved.is_directory(),
            cluster: moved.cluster,
            size: moved.size,
        };
        if moved.is_directory() || replaced.as_ref().is_some_and(Entry::is_directory) {
            return Err(ErrorKind::IsADirectory.into());
        }
        let Some(replaced) = replaced else {
            let place = fat.make_room(&mut state, target, name_of(to), &content)?;
            fat.erase(&mut state, &source, &moved)?;
            fat.blocks.sync()?;
            return fat.insert(&mut state, &place);
        };
        if source.cluster == target.cluster && moved == replaced {
            return Ok(());
        }
        fat.erase(&mut state, &source, &moved)?;
        fat.blocks.sync()?;
        fat.redirect(&mut state, &target, &replaced, &content)?;
        fat.blocks.sync()?;
        fat.release(&mut state, replaced.cluster)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.0.state();
        let (directory, entry) = self.0.look_up(path)?;
        let entry = entry.ok_or(ErrorKind::NotFound)?;
        if entry.is_directory() {
            return Err(ErrorKind::IsADirectory.into());
        }
        self.0.erase(&mut state, &directory, &entry)?;
        self.0.release(&mut state, entry.cluster)
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        let fat = &self.0;
        let mut state = fat.state();
        let (parent, entry) = fat.look_up(path)?;
        if entry.is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let above = if parent.cluster == fat.geometry.root_cluster {
            0
        } else {
            parent.cluster
        };
        let cluster = fat.allocate(&mut state)?;
        let made = fat.add_directory(&mut state, path, cluster, above);
        if made.is_err() {
            fat.release(&mut state, cluster)?;
        }
        made
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        let mut state = self.0.state();
        let (parent, entry) = self.0.look_up(path)?;
        let entry = entry.ok_or(ErrorKind::NotFound)?;
        if !entry.is_directory() {
            return Err(ErrorKind::NotADirectory.into());
        }
        if !self.0.directory(entry.cluster)?.entries().is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.0.erase(&mut state, &parent, &entry)?;
        self.0.release(&mut state, entry.cluster)
    }

    fn sync(&self, _directory: &str) -> io::Result<()> {
        self.0.blocks.sync()
    }

    fn space(&self) -> io::Result<Space> {
        let mut state = self.0.state();
        let free = u64::from(self.0.free_clusters(&mut state)?);
        let cluster = self.0.geometry.cluster;
        Ok(Space {
            free: free.saturating_mul(cluster),
            cluster,
        })
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let lock = self.0.blocks.lock()?;
        self.0.forget()?;
        Ok(Box::new(AtWork {
            fat: self.0.clone(),
            was_in_use: self.0.state().in_use,
            _lock: lock,
        }))
    }
}

/// Somebody works on it; until this goes.
struct AtWork {
    fat: Arc<Inner>,
    was_in_use: bool,
    _lock: Box<dyn Any + Send + Sync>,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        // What cannot be written stays as a power cut would leave it, which is what the mark says.
        let _ = self.fat.settle(self.was_in_use);
    }
}

struct Reader<'a> {
    fat: &'a Inner,
    chain: Vec<u32>,
    at: u64,
    size: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let cluster_size = self.fat.geometry.cluster;
        let (number, inside) = (self.at / cluster_size, self.at % cluster_size);
        let left = (cluster_size - inside).min(self.size - self.at);
        let count = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if count == 0 {
            return Ok(0);
        }
        let cluster = usize::try_from(number)
            .ok()
            .and_then(|number| self.chain.get(number));
        let cluster = cluster.ok_or_else(|| damaged("a file is shorter than its size"))?;
        let place = self.fat.geometry.place(*cluster) + inside;
        self.fat
            .blocks
            .read_at(place, buffer.get_mut(..count).unwrap_or_default())?;
        self.at += u64::try_from(count).unwrap_or_default();
        Ok(count)
    }
}

/// A file that has no name yet.
struct Writer<'a> {
    fat: &'a Inner,
    path: String,
    /// What does not fill a cluster yet.
    buffer: Vec<u8>,
    first: u32,
    last: u32,
    size: u32,
    named: bool,
}

impl Writer<'_> {
    /// Puts what there is into a cluster.
    fn put(&mut self) -> io::Result<()> {
        let mut state = self.fat.state();
        let size = u32::try_from(self.buffer.len()).map_err(|_| ErrorKind::FileTooLarge)?;
        let total = self.size.checked_add(size).ok_or(ErrorKind::FileTooLarge)?;
        let cluster = self.fat.allocate(&mut state)?;
        if self.first == 0 {
            self.first = cluster;
        }
        self.buffer.resize(
            usize::try_from(self.fat.geometry.cluster).unwrap_or_default(),
            0,
        );
        let place = self.fat.geometry.place(cluster);
        self.fat.patch(&mut state, place, &self.buffer)?;
        if self.last != 0 {
            self.fat.link(&mut state, self.last, cluster)?;
        }
        self.last = cluster;
        self.size = total;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let cluster = usize::try_from(self.fat.geometry.cluster).unwrap_or_default();
        let count = bytes.len().min(cluster - self.buffer.len());
        self.buffer
            .extend_from_slice(bytes.get(..count).unwrap_or_default());
        if self.buffer.len() == cluster {
            self.put()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Writer<'_> {
    fn sync(&mut self) -> io::Result<()> {
        if self.named {
            return Ok(());
        }
        if !self.buffer.is_empty() {
            self.put()?;
        }
        self.fat.blocks.sync()?;
        let content = Content {
            directory: false,
            cluster: self.first,
            size: self.size,
        };
        self.fat.add(&mut self.fat.state(), &self.path, content)?;
        self.named = true;
        self.fat.blocks.sync()
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if !self.named && self.first != 0 {
            // Its clusters have no owner, whether this works or not.
            let _ = self.fat.release(&mut self.fat.state(), self.first);
        }
    }
}
