//! A FAT as it is after each of its writes: a medium in memory with a log, what stands on it, and what fsck.fat says of it.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use ukikit_esp::volume::{Blocks, Fat, FilePart, NodeKind, Volume};

use super::text;

/// What fsck.fat says of it without changing it, less its heading, its sum and what it would do.
pub(crate) fn fsck(image: &Path) -> Vec<String> {
    let checked = Command::new("fsck.fat")
        .arg("-n")
        .arg(image)
        .output()
        .unwrap();
    let said = text(&checked.stdout) + &text(&checked.stderr);
    let around = [
        "fsck.fat ",
        "Leaving filesystem unchanged",
        "  Auto-correcting",
    ];
    let finding = |line: &&str| {
        let none = line.is_empty() || line.contains(" files, ");
        !none && !around.iter().any(|start| line.starts_with(start))
    };
    said.lines().filter(finding).map(str::to_owned).collect()
}

/// What was written where.
pub(crate) type Write = (usize, Vec<u8>);

/// A medium in memory with a log of all writes.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) bytes: Arc<Mutex<Vec<u8>>>,
    pub(crate) log: Arc<Mutex<Vec<Write>>>,
}

impl Logged {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Arc::new(Mutex::new(bytes)),
            log: Arc::default(),
        }
    }
}

impl Blocks for Logged {
    fn length(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.bytes.lock().unwrap().len()).unwrap())
    }

    fn read_at(&self, place: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.lock().unwrap();
        let found = bytes
            .get(usize::try_from(place).unwrap()..)
            .and_then(|bytes| bytes.get(..buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, place: u64, bytes: &[u8]) -> io::Result<()> {
        let place = usize::try_from(place).unwrap();
        self.bytes.lock().unwrap()[place..place + bytes.len()].copy_from_slice(bytes);
        self.log.lock().unwrap().push((place, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }
}

pub(crate) type Tree = BTreeMap<String, Option<Vec<u8>>>;

pub(crate) fn tree(image: &Path) -> Tree {
    tree_on(&Fat::open(FilePart::boot_partitions(image).unwrap().remove(0)).unwrap())
}

pub(crate) fn tree_of(bytes: Vec<u8>) -> Tree {
    tree_on(&Fat::open(Logged::new(bytes)).unwrap())
}

pub(crate) fn tree_on(fat: &Fat) -> Tree {
    let mut found = Tree::new();
    let mut left = vec![String::new()];
    while let Some(directory) = left.pop() {
        for node in fat.list(&directory).unwrap() {
            let path = format!("{directory}/{}", node.name);
            let path = path.trim_start_matches('/').to_owned();
            if node.kind == NodeKind::Directory {
                left.push(path.clone());
                found.insert(path, None);
            } else {
                let mut content = Vec::new();
                fat.open(&path).unwrap().read_to_end(&mut content).unwrap();
                found.insert(path, Some(content));
            }
        }
    }
    found
}

/// Less what the engine keeps for itself.
pub(crate) fn visible(mut tree: Tree) -> Tree {
    tree.retain(|path, _| !path.starts_with("loader/ukikit") && path != "loader");
    tree
}

/// What fsck.fat may say of a state in between: clusters without an owner, a mark of being in use, and sums and copies that lag.
pub(crate) const HARMLESS: [&str; 10] = [
    "Dirty bit is set",
    "Automatically removing dirty bit",
    "There are differences between boot sector and its backup",
    "This is mostly harmless. Differences: (offset:original/backup)",
    "65:01/00",
    "Not automatically fixing this",
    "Reclaimed ",
    "Free cluster summary wrong",
    "FATs differ but appear to be intact",
    "Using first FAT",
];

pub(crate) fn assert_harmless(image: &Path, state: &[u8], when: &str) {
    fs::write(image, state).unwrap();
    for line in fsck(image) {
        let harmless = HARMLESS
            .iter()
            .any(|start| line.trim_start().starts_with(start));
        assert!(harmless, "{when}: {:?}", fsck(image));
    }
}

/// Every file is whole, old or new; what both sets have is there; what is new and can be started has its companions.
#[track_caller]
pub(crate) fn assert_boots(now: &Tree, old: &Tree, new: &Tree) {
    let (now, old, new) = (
        visible(now.clone()),
        visible(old.clone()),
        visible(new.clone()),
    );
    for (path, content) in &now {
        assert!(
            [old.get(path), new.get(path)].contains(&Some(content)),
            "{path}"
        );
    }
    for path in old.keys().filter(|path| new.contains_key(*path)) {
        assert!(now.contains_key(path), "{path} is missing");
    }
    let companions = |tree: &Tree| {
        let mut tree = tree.clone();
        tree.retain(|path, _| {
            path.contains(".extra.d/") || path.starts_with("loader/e") && path.ends_with(".raw")
        });
        tree
    };
    if now.contains_key("EFI/Linux/new.efi") {
        assert_eq!(companions(&now), companions(&new));
    }
    if now.contains_key("loader/entries/new.conf") {
        assert!(now.contains_key("EFI/Linux/new.efi"));
    }
}
