//! Where everything in an image goes: a pure step, so that bytes are only written once all is decided.
//!
//! ```text
//! with data blocks:     superblock │ data of each inode … │ inodes, attributes, tails …
//! without any:          superblock, inodes, attributes, tails …
//! ```
//!
//! Data stands in front so that every file is read once, from its start, while the image is written in
//! one go: its tail is only needed later.

use std::collections::HashMap;

use super::directory::{self, Name};
use super::format::{
    BLOCK, CompactInode, ExtendedInode, NO_BLOCK, SLOT, SUPERBLOCK_END, device_number,
};
use super::xattr;
use crate::Error;
use crate::tree::{Content, Entry, Kind, Tree, name, parent};

/// The longest target of a symbolic link that the kernel follows.
const TARGET_MAX: usize = 4095;

/// An image that only needs to be written down.
#[derive(Debug)]
pub(super) struct Layout<'t> {
    /// In the order of their data and of themselves; the root is the first.
    pub(super) inodes: Vec<Inode<'t>>,
    /// The block from which nids are counted.
    pub(super) meta_block: u32,
    /// Blocks in the image.
    pub(super) blocks: u32,
}

/// One inode and its place.
#[derive(Debug)]
pub(super) struct Inode<'t> {
    pub(super) entry: &'t Entry,
    pub(super) nlink: u32,
    /// Whether it needs the larger structure.
    pub(super) extended: bool,
    pub(super) xattrs: Vec<u8>,
    /// The bytes of a file, directory or symbolic link, nothing for the rest.
    pub(super) content: Content,
    pub(super) size: u64,
    /// Whether what does not fill a block stands behind the inode.
    pub(super) inline: bool,
    /// Start block, or device number.
    pub(super) data: u32,
    /// Byte in the image.
    pub(super) offset: u64,
    /// What a directory holds.
    names: Vec<Name<'t>>,
}

impl<'t> Layout<'t> {
    /// Finds a place for everything in `tree`. An inode whose time is not `epoch` takes twice the space.
    pub(super) fn new(tree: &'t Tree, epoch: u64) -> Result<Self, Error> {
        let mut inodes = collect(tree)?;
        for inode in &mut inodes {
            inode.shape(epoch);
        }
        let data_end = place_data(&mut inodes)?;
        // Nid 0 stays free: programs take an inode number 0 in a directory for a deleted entry.
        let (meta_block, first) = match data_end {
            1 => (0, SUPERBLOCK_END),
            _ => (data_end, u64::from(data_end) * BLOCK + SLOT),
        };
        let end = place_inodes(&mut inodes, first);
        let blocks = u32::try_from(end.div_ceil(BLOCK)).map_err(|_| too_large())?;
        let mut layout = Self {
            inodes,
            meta_block,
            blocks,
        };
        layout.fill_directories();
        Ok(layout)
    }

    /// The number of an inode, which says where it stands.
    pub(super) fn nid(&self, inode: &Inode<'_>) -> u64 {
        inode
            .offset
            .saturating_sub(u64::from(self.meta_block) * BLOCK)
            / SLOT
    }

    /// Writes down the directories, now that all inodes have their number.
    fn fill_directories(&mut self) {
        let nids: Vec<u64> = self.inodes.iter().map(|inode| self.nid(inode)).collect();
        for inode in self
            .inodes
            .iter_mut()
            .filter(|inode| inode.entry.is_directory())
        {
            let nid = |index| nids.get(index).copied().unwrap_or_default();
            inode.content = Content::from_bytes(directory::bytes(&inode.names, nid));
        }
    }
}

impl<'t> Inode<'t> {
    /// An inode that nothing names yet, with no place.
    fn new(path: &[u8], entry: &'t Entry) -> Result<Self, Error> {
        Ok(Self {
            entry,
            nlink: 0,
            extended: false,
            xattrs: xattr::body(path, &entry.xattrs)?,
            content: content(path, entry)?,
            size: 0,
            inline: false,
            data: 0,
            offset: 0,
            names: Vec::new(),
        })
    }

    /// Chooses structure and data layout, now that all links are known. Older
    /// kernels give every compact inode the time of the image.
    fn shape(&mut self, epoch: u64) {
        self.size = if self.names.is_empty() {
            self.content.size()
        } else {
            directory::size(&self.names)
        };
        let Entry {
            uid, gid, mtime, ..
        } = *self.entry;
        let fits = |number| number <= u32::from(u16::MAX);
        let small = fits(uid) && fits(gid) && fits(self.nlink) && self.size <= u64::from(u32::MAX);
        self.extended = !small || u64::try_from(mtime) != Ok(epoch);
        let tail = self.size % BLOCK;
        self.inline = tail != 0 && self.head() + tail <= BLOCK;
    }

    /// Bytes of the inode and its attributes.
    fn head(&self) -> u64 {
        let inode = if self.extended {
            size_of::<ExtendedInode>()
        } else {
            size_of::<CompactInode>()
        };
        (inode + self.xattrs.len()) as u64
    }

    /// Bytes that stand in blocks of their own.
    pub(super) fn in_blocks(&self) -> u64 {
        self.size - self.in_line()
    }

    /// Bytes that stand behind the inode: less than a block.
    pub(super) fn in_line(&self) -> u64 {
        if self.inline { self.size % BLOCK } else { 0 }
    }
}

/// The inodes in the order of their first path, and what the directories among them hold.
fn collect(tree: &Tree) -> Result<Vec<Inode<'_>>, Error> {
    let mut inodes = Vec::new();
    let mut numbers = HashMap::new();
    let mut directories = HashMap::new();
    for (path, number, entry) in tree.inodes() {
        let index = *numbers.entry(number).or_insert(inodes.len());
        if index == inodes.len() {
            inodes.push(Inode::new(path, entry)?);
        }
        let file_type = file_type(&entry.kind);
        let up = directories.get(parent(path)).copied().unwrap_or(index);
        if entry.is_directory() {
            directories.insert(path, index);
            add_name(
                &mut inodes,
                index,
                Name {
                    bytes: b".",
                    inode: index,
                    file_type,
                },
            );
            add_name(
                &mut inodes,
                index,
                Name {
                    bytes: b"..",
                    inode: up,
                    file_type,
                },
            );
        }
        if !path.is_empty() {
            add_name(
                &mut inodes,
                up,
                Name {
                    bytes: name(path),
                    inode: index,
                    file_type,
                },
            );
        }
    }
    for inode in &mut inodes {
        inode.names.sort_unstable_by_key(|name| name.bytes);
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

/// What stands in an inode's data. A directory's can only be written when all inodes have their place.
fn content(path: &[u8], entry: &Entry) -> Result<Content, Error> {
    match &entry.kind {
        Kind::File(content) => Ok(content.clone()),
        Kind::Symlink(target) if target.is_empty() => {
            Err(Error::entry(path, "is a symbolic link to nothing"))
        }
        Kind::Symlink(target) if target.len() > TARGET_MAX => Err(Error::entry(
            path,
            "is a symbolic link to more than 4095 bytes",
        )),
        Kind::Symlink(target) => Ok(Content::from_bytes(target.as_slice())),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor }
            if major >> 12 | minor >> 20 != 0 =>
        {
            Err(Error::entry(
                path,
                format!("device number {major}:{minor} is larger than 4095:1048575"),
            ))
        }
        _ => Ok(Content::from_bytes([])),
    }
}

/// Gives every inode its start block or device number; returns the first block after all data.
fn place_data(inodes: &mut [Inode<'_>]) -> Result<u32, Error> {
    let mut next: u32 = 1;
    for inode in inodes {
        let blocks = inode.in_blocks().div_ceil(BLOCK);
        inode.data = match inode.entry.kind {
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                device_number(major, minor)
            }
            Kind::Fifo => 0,
            _ if blocks == 0 => NO_BLOCK,
            _ => next,
        };
        let end = u32::try_from(blocks)
            .ok()
            .and_then(|blocks| next.checked_add(blocks));
        next = end.ok_or_else(too_large)?;
    }
    Ok(next)
}

/// Places inodes one after the other from byte `at`, those with a tail so that it does not cross a block;
/// returns the end of the last.
fn place_inodes(inodes: &mut [Inode<'_>], mut at: u64) -> u64 {
    for inode in inodes {
        let len = inode.head() + inode.in_line();
        at = at.next_multiple_of(SLOT);
        if inode.inline && at % BLOCK + len > BLOCK {
            at = at.next_multiple_of(BLOCK);
        }
        inode.offset = at;
        at += len;
    }
    at
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

fn too_large() -> Error {
    Error::entry(b".", "is larger than 16 TiB")
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
    fn puts_tails_behind_their_inode_when_a_block_holds_both() {
        let xattrs = |entry: Entry| {
            let xattrs = [(b"user.a".to_vec(), b"v".to_vec())].into();
            Entry { xattrs, ..entry }
        };
        // entry, inline, bytes in blocks
        let cases = [
            (file(0), false, 0),
            (file(1), true, 0),
            (file(4064), true, 0),
            (file(4065), false, 4065),
            (file(4096), false, 4096),
            (file(4097), true, 4096),
            (file(8192 + 4064), true, 8192),
            (file(8192 + 4065), false, 8192 + 4065),
            (xattrs(file(4044)), true, 0),
            (xattrs(file(4045)), false, 4045),
            (
                Entry {
                    mtime: 1,
                    ..file(4032)
                },
                true,
                0,
            ),
            (
                Entry {
                    mtime: 1,
                    ..file(4033)
                },
                false,
                4033,
            ),
            (Entry::symlink(vec![b'a'; 4064]), true, 0),
            (Entry::symlink(vec![b'a'; 4065]), false, 4065),
            (Entry::new(0o600, Kind::Fifo), false, 0),
        ];
        for (entry, inline, in_blocks) in cases {
            let tree = tree(vec![("x", entry)]);
            let layout = Layout::new(&tree, 0).unwrap();
            let inode = &layout.inodes[1];
            assert_eq!(
                (inode.inline, inode.in_blocks()),
                (inline, in_blocks),
                "{inode:?}"
            );
        }
    }

    #[test]
    fn takes_the_larger_inode_only_when_needed() {
        let cases = [
            (file(u64::from(u32::MAX)), false),
            (file(1 << 32), true),
            (
                Entry {
                    uid: 65535,
                    gid: 65535,
                    ..file(0)
                },
                false,
            ),
            (
                Entry {
                    uid: 65536,
                    ..file(0)
                },
                true,
            ),
            (
                Entry {
                    gid: 65536,
                    ..file(0)
                },
                true,
            ),
            (
                Entry {
                    mtime: 1,
                    ..file(0)
                },
                true,
            ),
            (
                Entry {
                    mtime: -1,
                    ..file(0)
                },
                true,
            ),
        ];
        for (entry, extended) in cases {
            let tree = tree(vec![("x", entry)]);
            assert_eq!(
                Layout::new(&tree, 0).unwrap().inodes[1].extended,
                extended,
                "{tree:?}"
            );
        }
    }

    #[test]
    fn stays_in_block_0_without_data_blocks() {
        let tree = tree(vec![("a/b", file(100)), ("c", file(2600))]);
        let layout = Layout::new(&tree, 0).unwrap();
        let offsets: Vec<u64> = layout.inodes.iter().map(|inode| inode.offset).collect();
        // The root has 4 names: 48 + 1 + 2 + 1 + 1 bytes; a: 3 names.
        assert_eq!(offsets, [1152, 1248, 1344, 4096]);
        assert_eq!((layout.meta_block, layout.blocks), (0, 2));
        let nids: Vec<u64> = layout
            .inodes
            .iter()
            .map(|inode| layout.nid(inode))
            .collect();
        assert_eq!(nids, [36, 39, 42, 128]);
    }

    #[test]
    fn puts_data_in_front_of_inodes() {
        let mut tree = tree(vec![
            ("a", file(4096)),
            ("b", file(8193)),
            ("c", file(4090)),
        ]);
        tree.link("a", "d").unwrap();
        let layout = Layout::new(&tree, 0).unwrap();
        let found: Vec<_> = layout
            .inodes
            .iter()
            .map(|inode| (inode.data, layout.nid(inode), inode.nlink))
            .collect();
        assert_eq!(found, [(NO_BLOCK, 1, 2), (1, 5, 2), (2, 6, 1), (4, 8, 1)]);
        assert_eq!((layout.meta_block, layout.blocks), (5, 6));
    }

    #[test]
    fn counts_links_of_directories() {
        let tree = tree(vec![
            ("a/b/c", file(0)),
            ("a/d", Entry::directory()),
            ("a/e", Entry::symlink("b")),
        ]);
        let links: Vec<u32> = Layout::new(&tree, 0)
            .unwrap()
            .inodes
            .iter()
            .map(|inode| inode.nlink)
            .collect();
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
            (file(1 << 44), "`.`: is larger than 16 TiB"),
            (file(u64::MAX), "`.`: is larger than 16 TiB"),
        ];
        for (entry, expected) in cases {
            let message = Layout::new(&tree(vec![("x", entry)]), 0)
                .unwrap_err()
                .to_string();
            assert_eq!(message, expected);
        }
    }
}
