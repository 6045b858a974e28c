//! A volume in memory that knows what of it is on the medium: a power cut takes the rest, as on FAT.
//!
//! Each change of a name in a directory reaches the medium on its own and in any order, unless the directory
//! is flushed. So a rename may leave both names, whose clusters are then shared, or neither. The repair that
//! follows, `fsck.fat -a`, empties one of two files that share clusters; that is done here too.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Node, NodeKind, Sink, Space, Volume};
use crate::esp::parent;

/// A volume; a clone is the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Clone, Default)]
struct State {
    files: Vec<File>,
    names: BTreeMap<String, Entry>,
    /// The names that are on the medium.
    safe: BTreeMap<String, Entry>,
    /// What happened to names since their directory was flushed.
    loose: Vec<(String, Option<Entry>)>,
    locked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Directory,
    File(usize),
}

#[derive(Debug, Clone, Default)]
struct File {
    content: Vec<u8>,
    safe: Vec<u8>,
}

impl Memory {
    /// A volume with these files, all of them on the medium.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let volume = Self::default();
        for (path, content) in files {
            let mut at = String::new();
            for name in parent(path).split('/').filter(|name| !name.is_empty()) {
                at = crate::esp::join(&at, name);
                let _ = volume.make_directory(&at);
            }
            let mut sink = volume.create(path, false).unwrap();
            sink.write_all(content.as_bytes()).unwrap();
            sink.sync().unwrap();
        }
        volume.flush_all();
        volume
    }

    /// Another volume with the same content.
    pub(crate) fn copy(&self) -> Self {
        let mut state = self.state().clone();
        state.locked = false;
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn flush_all(&self) {
        let mut state = self.state();
        state.loose.clear();
        state.safe = state.names.clone();
        for file in &mut state.files {
            file.safe = file.content.clone();
        }
    }

    /// Every path with its content, `None` for a directory.
    pub(crate) fn tree(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let state = self.state();
        let content = |entry: &Entry| match entry {
            Entry::Directory => None,
            Entry::File(file) => Some(state.files[*file].content.clone()),
        };
        let all = state.names.iter();
        all.map(|(path, entry)| (path.clone(), content(entry)))
            .collect()
    }

    /// The power goes; what was loose decides by the bits of `chance` whether it made it.
    pub(crate) fn power_cut(&self, mut chance: u64) {
        let mut coin = move || {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            chance >> 62
        };
        let mut state = self.state();
        for (path, entry) in std::mem::take(&mut state.loose) {
            if coin() & 1 == 1 {
                set(&mut state.safe, &path, entry);
            }
        }
        state.names = state.safe.clone();
        let lost: Vec<String> = (state.names.keys())
            .filter(|path| !is_reachable(&state.names, path))
            .cloned()
            .collect();
        for path in lost {
            state.names.remove(&path);
        }
        for file in &mut state.files {
            if file.content != file.safe && coin() > 0 {
                let half = file.content.len() / 2;
                file.content
                    .truncate(if coin() & 1 == 1 { half } else { 0 });
            }
            file.safe = file.content.clone();
        }
        repair(&mut state, coin() & 1 == 1);
        state.safe = state.names.clone();
        state.locked = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

fn is_reachable(names: &BTreeMap<String, Entry>, path: &str) -> bool {
    let above = parent(path);
    above.is_empty() || (names.get(above) == Some(&Entry::Directory) && is_reachable(names, above))
}

/// Empties all but one of the names of a file.
fn repair(state: &mut State, last_wins: bool) {
    let mut by_file: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (path, entry) in &state.names {
        if let Entry::File(file) = entry {
            by_file.entry(*file).or_default().push(path.clone());
        }
    }
    for (_, mut paths) in by_file {
        if last_wins {
            paths.reverse();
        }
        for path in paths.drain(1..) {
            state.files.push(File::default());
            let empty = Entry::File(state.files.len() - 1);
            state.names.insert(path, empty);
        }
    }
}

fn set(names: &mut BTreeMap<String, Entry>, path: &str, entry: Option<Entry>) {
    match entry {
        Some(entry) => names.insert(path.to_owned(), entry),
        None => names.remove(path),
    };
}

impl State {
    fn change(&mut self, path: &str, entry: Option<Entry>) {
        set(&mut self.names, path, entry);
        self.loose.push((path.to_owned(), entry));
    }

    fn file(&self, path: &str) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Entry::File(file)) => Ok(*file),
            Some(Entry::Directory) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn directory(&self, path: &str) -> io::Result<()> {
        match self.names.get(path) {
            _ if path.is_empty() => Ok(()),
            Some(Entry::Directory) => Ok(()),
            Some(_) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn new_name(&self, path: &str) -> io::Result<()> {
        self.directory(parent(path))?;
        match self.names.get(path) {
            None => Ok(()),
            Some(_) => Err(ErrorKind::AlreadyExists.into()),
        }
    }

    fn below(&self, directory: &str) -> impl Iterator<Item = (&String, &Entry)> {
        let all = self.names.iter();
        all.filter(move |(path, _)| parent(path) == directory)
    }
}

impl Volume for Memory {
    fn list(&self, directory: &str) -> io::Result<Vec<Node>> {
        let state = self.state();
        state.directory(directory)?;
        let node = |(path, entry): (&String, &Entry)| {
            let name = path.rsplit('/').next().unwrap().to_owned();
            match entry {
                Entry::Directory => Node::new(name, NodeKind::Directory, 0),
                Entry::File(file) => {
                    let size = state.files[*file].content.len() as u64;
                    Node::new(name, NodeKind::File, size)
                }
            }
        };
        Ok(state.below(directory).map(node).collect())
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>> {
        let state = self.state();
        let file = state.file(path)?;
        Ok(Box::new(Cursor::new(state.files[file].content.clone())))
    }

    fn create(&self, path: &str, _private: bool) -> io::Result<Box<dyn Sink + '_>> {
        let mut state = self.state();
        state.new_name(path)?;
        state.files.push(File::default());
        let file = state.files.len() - 1;
        state.change(path, Some(Entry::File(file)));
        drop(state);
        Ok(Box::new(Open(self, file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let file = state.file(from)?;
        state.directory(parent(to))?;
        state.change(to, Some(Entry::File(file)));
        state.change(from, None);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        state.file(path)?;
        state.change(path, None);
        Ok(())
    }

    fn make_directory(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        state.new_name(path)?;
        state.change(path, Some(Entry::Directory));
        Ok(())
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        state.directory(path)?;
        if state.below(path).next().is_some() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        state.change(path, None);
        Ok(())
    }

    fn sync(&self, directory: &str) -> io::Result<()> {
        let mut state = self.state();
        state.directory(directory)?;
        for (path, entry) in std::mem::take(&mut state.loose) {
            if parent(&path) == directory {
                set(&mut state.safe, &path, entry);
            } else {
                state.loose.push((path, entry));
            }
        }
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space {
            free: 1 << 30,
            cluster: 512,
        })
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        if std::mem::replace(&mut self.state().locked, true) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Unlock(self.clone())))
    }
}

struct Unlock(Memory);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

struct Open<'a>(&'a Memory, usize);

impl Write for Open<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.state().files[self.1].content.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Open<'_> {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.0.state();
        let file = &mut state.files[self.1];
        file.safe = file.content.clone();
        Ok(())
    }
}
