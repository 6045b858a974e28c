//! The inodes of a tree, before anything has a place.

use std::collections::HashMap;

use super::directory::{self, Name};
use super::format::{BLOCK, CompactInode, DataLayout, ExtendedInode, NO_BLOCK, device_number};
use super::xattr::{Shared, Xattrs};
use crate::Error;
use crate::tree::{Content, Entry, Kind, Tree, name, parent};

/// The longest target of a symbolic link that the kernel follows.
const TARGET_MAX: usize = 4095;

/// One inode. What is said here of its data holds once its data is written.
#[derive(Debug)]
pub(super) struct Inode<'t> {
    pub(super) entry: &'t Entry,
    /// Its first name.
    pub(super) name: &'t [u8],
    pub(super) nlink: u32,
    /// Whether it needs the larger structure.
    pub(super) extended: bool,
    pub(super) xattrs: Xattrs,
    pub(super) size: u64,
    pub(super) layout: DataLayout,
    /// Start block, number of compressed blocks, or device number.
    pub(super) data: u32,
    /// What follows the attributes: the end of the data, or where compressed data is.
    pub(super) behind: Vec<u8>,
    /// Byte in the image.
    pub(super) offset: u64,
    /// What a directory holds.
    pub(super) names: Vec<Name<'t>>,
}

impl<'t> Inode<'t> {
    /// An inode that nothing names yet.
    pub(super) fn new(
        path: &'t [u8],
        entry: &'t Entry,
        shared: &Shared<'_>,
    ) -> Result<Self, Error> {
        check(path, entry)?;
        let data = match entry.kind {
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                device_number(major, minor)
            }
            Kind::Fifo => 0,
            _ => NO_BLOCK,
        };
        Ok(Self {
            entry,
            name: name(path),
            nlink: 0,
            extended: false,
            xattrs: Xattrs::new(path, entry, shared)?,
            size: 0,
            layout: DataLayout::Flat,
            data,
            behind: Vec::new(),
            offset: 0,
            names: Vec::new(),
        })
    }

    /// Chooses the structure, now that all links and the size are known. Older kernels give every compact
    /// inode the time of the image, `epoch`.
    pub(super) fn shape(&mut self, epoch: u64) {
        let Entry {
            uid, gid, mtime, ..
        } = *self.entry;
        let fits = |number| number <= u32::from(u16::MAX);
        let small = fits(uid) && fits(gid) && fits(self.nlink) && self.size <= u64::from(u32::MAX);
        self.extended = !small || u64::try_from(mtime) != Ok(epoch);
    }

    /// Bytes of the inode and its attributes.
    pub(super) fn head(&self) -> u64 {
        let inode = if self.extended {
            size_of::<ExtendedInode>()
        } else {
            size_of::<CompactInode>()
        };
        (inode + self.xattrs.len()) as u64
    }

    /// Bytes that do not fill a block and find place behind the inode, in its block.
    pub(super) fn tail(&self) -> u64 {
        let tail = self.size % BLOCK;
        if self.head() + tail <= BLOCK { tail } else { 0 }
    }

    /// What a regular file holds.
    pub(super) fn file(&self) -> Option<&'t Content> {
        match &self.entry.kind {
            Kind::File(content) => Some(content),
            _ => None,
        }
    }

    /// Puts the data into blocks from `start` on, `tail` behind the inode.
    pub(super) fn place(&mut self, start: u32, tail: Vec<u8>) {
        self.data = if self.size > tail.len() as u64 {
            start
        } else {
            NO_BLOCK
        };
        self.layout = if tail.is_empty() {
            DataLayout::Flat
        } else {
            DataLayout::Inline
        };
        self.behind = tail;
    }
}

/// The inodes in the order of their first path, the root first, and what the directories among them hold.
pub(super) fn collect<'t>(
    tree: &'t Tree,
    epoch: u64,
    shared: &Shared<'_>,
) -> Result<Vec<Inode<'t>>, Error> {
    let mut inodes = Vec::new();
    let mut numbers = HashMap::new();
    let mut directories = HashMap::new();
    for (path, number, entry) in tree.inodes() {
        let index = *numbers.entry(number).or_insert(inodes.len());
        if index == inodes.len() {
            inodes.push(Inode::new(path, entry, shared)?);
        }
        let file_type = file_type(&entry.kind);
        let named = |bytes, inode| Name {
            bytes,
            inode,
            file_type,
        };
        let up = directories.get(parent(path)).copied().unwrap_or(index);
        if entry.is_directory() {
            directories.insert(path, index);
            add_name(&mut inodes, index, named(b".", index));
            add_name(&mut inodes, index, named(b"..", up));
        }
        if !path.is_empty() {
            add_name(&mut inodes, up, named(name(path), index));
        }
    }
    for inode in &mut inodes {
        inode.names.sort_unstable_by_key(|name| name.bytes);
        inode.size = size(inode);
        inode.shape(epoch);
    }
    Ok(inodes)
}

/// Puts a name into a directory and counts the link.
fn add_name<'t>(inodes: &mut [Inode<'t>], directory: usize, name: Name<'t>) {
    if let Some(named) = inodes.get_mut(name.inode) {
        named.nlink += 1;
    }
    if let Some(directory) = inodes.get_mut(directory) {
        directory.names.push(name);
    }
}

fn size(inode: &Inode<'_>) -> u64 {
    match &inode.entry.kind {
        Kind::Directory => directory::size(&inode.names),
        Kind::File(content) => content.size(),
        Kind::Symlink(target) => target.len() as u64,
        _ => 0,
    }
}

/// Refuses what no inode can say.
fn check(path: &[u8], entry: &Entry) -> Result<(), Error> {
    match &entry.kind {
        Kind::Symlink(target) if target.is_empty() => {
            Err(Error::entry(path, "is a symbolic link to nothing"))
        }
        Kind::Symlink(target) if target.len() > TARGET_MAX => Err(Error::entry(
            path,
            "is a symbolic link to more than 4095 bytes",
        )),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor }
            if major >> 12 | minor >> 20 != 0 =>
        {
            let what = format!("device number {major}:{minor} is larger than 4095:1048575");
            Err(Error::entry(path, what))
        }
        _ => Ok(()),
    }
}

/// An inode's type as directories say it.
fn file_type(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Directory => 2,
        Kind::CharDevice { .. } => 3,
        Kind::BlockDevice { .. } => 4,
        Kind::Fifo => 5,
        Kind::Symlink(_) => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64) -> Entry {
        Entry::new(0o644, Kind::File(Content::from_file("never opened", size)))
    }

    fn tree(entries: Vec<(&str, Entry)>) -> Tree {
        let mut tree = Tree::new();
        for (path, entry) in entries {
            tree.insert(path, entry).unwrap();
        }
        tree
    }

    #[test]
    fn keeps_tails_that_fit_into_the_block_of_their_inode() {
        let xattrs = |entry: Entry| {
            let xattrs = [(b"user.a".to_vec(), b"v".to_vec())].into();
            Entry { xattrs, ..entry }
        };
        let late = |entry: Entry| Entry { mtime: 1, ..entry };
        let cases = [
            (file(0), 0),
            (file(1), 1),
            (file(4064), 4064),
            (file(4065), 0),
            (file(4096), 0),
            (file(4097), 1),
            (file(8192 + 4064), 4064),
            (file(8192 + 4065), 0),
            (xattrs(file(4044)), 4044),
            (xattrs(file(4045)), 0),
            (late(file(4032)), 4032),
            (late(file(4033)), 0),
            (Entry::symlink(vec![b'a'; 4064]), 4064),
            (Entry::symlink(vec![b'a'; 4065]), 0),
            (Entry::new(0o600, Kind::Fifo), 0),
        ];
        for (entry, tail) in cases {
            let tree = tree(vec![("x", entry)]);
            let inode = &collect(&tree, 0, &Shared::default()).unwrap()[1];
            assert_eq!(inode.tail(), tail, "{inode:?}");
        }
    }

    #[test]
    fn takes_the_larger_inode_only_when_needed() {
        let owned = |uid, gid| Entry {
            uid,
            gid,
            ..file(0)
        };
        let at = |mtime| Entry { mtime, ..file(0) };
        let cases = [
            (file(u64::from(u32::MAX)), false),
            (file(1 << 32), true),
            (owned(65535, 65535), false),
            (owned(65536, 0), true),
            (owned(0, 65536), true),
            (at(1), true),
            (at(-1), true),
        ];
        for (entry, extended) in cases {
            let tree = tree(vec![("x", entry)]);
            assert_eq!(
                collect(&tree, 0, &Shared::default()).unwrap()[1].extended,
                extended,
                "{tree:?}"
            );
        }
    }

    #[test]
    fn counts_links_of_directories() {
        let tree = tree(vec![
            ("a/b/c", file(0)),
            ("a/d", Entry::directory()),
            ("a/e", Entry::symlink("b")),
        ]);
        let inodes = collect(&tree, 0, &Shared::default()).unwrap();
        let links: Vec<u32> = inodes.iter().map(|inode| inode.nlink).collect();
        assert_eq!(links, [3, 4, 2, 1, 2, 1]);
    }

    #[test]
    fn refuses_what_has_no_place() {
        let device = |major, minor| Entry::new(0o600, Kind::CharDevice { major, minor });
        let cases = [
            (Entry::symlink(""), "`x`: is a symbolic link to nothing"),
            (
                Entry::symlink(vec![b'a'; 4096]),
                "`x`: is a symbolic link to more than 4095 bytes",
            ),
            (
                device(4096, 0),
                "`x`: device number 4096:0 is larger than 4095:1048575",
            ),
            (
                device(0, 1 << 20),
                "`x`: device number 0:1048576 is larger than 4095:1048575",
            ),
        ];
        for (entry, expected) in cases {
            let tree = tree(vec![("x", entry)]);
            assert_eq!(
                collect(&tree, 0, &Shared::default())
                    .unwrap_err()
                    .to_string(),
                expected
            );
        }
    }
}
