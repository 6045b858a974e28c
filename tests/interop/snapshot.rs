//! A directory tree as a value: everything a file system image must carry over, comparable with `==`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// By path, escaped where it is not plain text.
pub(crate) type Snapshot = BTreeMap<String, Entry>;

/// One path. Times are left out: an image has its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    content: Content,
    mode: u32,
    owner: (u32, u32),
    xattrs: BTreeMap<String, Vec<u8>>,
    /// The first path, in order of names, of the same inode: hard links share it.
    inode: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq)]
enum Content {
    Directory,
    File { size: u64, sha256: String },
    Symlink(PathBuf),
    Device(u64),
    Fifo,
}

/// Reads a tree; all names, also those that are not UTF-8.
pub(crate) fn snapshot(root: &Path) -> Snapshot {
    let mut paths = Vec::new();
    list(root, root, &mut paths);
    paths.sort();
    let mut inodes = HashMap::new();
    let mut entries = BTreeMap::new();
    for path in paths {
        let full = root.join(&path);
        let found = fs::symlink_metadata(&full).unwrap();
        let first = inodes
            .entry(found.ino())
            .or_insert_with(|| path.clone())
            .clone();
        let entry = Entry {
            content: content(&full, &found),
            mode: found.mode(),
            owner: (found.uid(), found.gid()),
            xattrs: xattrs(&full),
            inode: (!found.is_dir() && found.nlink() > 1).then_some(first),
        };
        entries.insert(
            path.as_os_str().as_bytes().escape_ascii().to_string(),
            entry,
        );
    }
    entries
}

/// Fails with the entries that differ, not with the thousands that do not.
pub(crate) fn assert_same(left: &Snapshot, right: &Snapshot, what: impl Display) {
    let paths: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let differ = |path: &&String| left.get(*path) != right.get(*path);
    let show = |path: &String| format!("{path}: {:?}\n  {:?}", left.get(path), right.get(path));
    let differences: Vec<String> = paths.into_iter().filter(differ).map(show).collect();
    assert!(
        differences.is_empty(),
        "{what}:\n{}",
        differences.join("\n")
    );
}

/// Collects the paths below `root`, relative to it; the root itself is the empty path.
fn list(root: &Path, path: &Path, into: &mut Vec<PathBuf>) {
    into.push(path.strip_prefix(root).unwrap().to_owned());
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            list(root, &entry.unwrap().path(), into);
        }
    }
}

fn content(path: &Path, found: &Metadata) -> Content {
    let kind = found.file_type();
    if kind.is_dir() {
        Content::Directory
    } else if kind.is_file() {
        Content::File {
            size: found.size(),
            sha256: sha256(path),
        }
    } else if kind.is_symlink() {
        Content::Symlink(fs::read_link(path).unwrap())
    } else if kind.is_fifo() {
        Content::Fifo
    } else {
        Content::Device(found.rdev())
    }
}

fn sha256(path: &Path) -> String {
    let mut hash = Sha256::new();
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hex::encode(hash.finalize()),
            count => hash.update(&buffer[..count]),
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 4096];
    // A squashfs in which nothing has any says so in this way.
    let size = match llistxattr(path, &mut names[..]) {
        Err(Errno::NOTSUP) => 0,
        listed => listed.unwrap(),
    };
    let names = names[..size]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let size = lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            value.truncate(size);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect()
}
