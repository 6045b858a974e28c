//! Writes a tree as a newc cpio archive, which the kernel unpacks over what the initrd has (the kernel's
//! `early-userspace/buffer-format`).
//!
//! ```text
//! usr │ usr/lib │ usr/lib/a │ …  │ TRAILER!!!        every parent in front of what it holds, in the order of bytes
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::{Content, Entry, Error, Kind, Tree};

/// How the archive is packed. Parsed from and shown as `none` or `zstd`, with `,LEVEL` behind when the level
/// is not the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    None,
    /// Zstandard; every kernel from 5.9 on with `RD_ZSTD` unpacks it.
    Zstd {
        /// 1 to 22.
        level: u8,
    },
}

/// As much as pays for small archives.
const LEVEL: u8 = 15;

impl Default for Packing {
    fn default() -> Self {
        Self::Zstd { level: LEVEL }
    }
}

impl FromStr for Packing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, level) = match text.split_once(',') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let level = level.map(str::parse::<u8>).transpose().ok();
        match (name, level) {
            ("none", Some(None)) => Ok(Self::None),
            ("zstd", Some(None)) => Ok(Self::default()),
            ("zstd", Some(Some(level @ 1..=22))) => Ok(Self::Zstd { level }),
            _ => Err("is not none, zstd or zstd,LEVEL with a level from 1 to 22".to_owned()),
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Zstd { level: LEVEL } => f.write_str("zstd"),
            Self::Zstd { level } => write!(f, "zstd,{level}"),
        }
    }
}

/// The archive of a tree. The root itself is not in it: the kernel has one. The same tree, whatever it was read
/// from, gives the same bytes.
///
/// # Errors
///
/// [`Error::Entry`] for what a cpio archive cannot hold - extended attributes, a file of 4 GiB or more, a time
/// before 1970 or after 2106 - or a file that changed since the tree was read.
pub fn write(tree: &Tree, packing: Packing) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::default();
    let mut names: BTreeMap<usize, u32> = BTreeMap::new();
    for (_, inode, _) in tree.inodes() {
        *names.entry(inode).or_default() += 1;
    }
    // Numbered as they come, so that it does not show in which order the tree was made.
    let mut numbers: BTreeMap<usize, u32> = BTreeMap::new();
    for (path, inode, entry) in tree.inodes().filter(|(path, ..)| !path.is_empty()) {
        let next = u32::try_from(numbers.len() + 1)
            .map_err(|_| Error::entry(path, "is one inode too many"))?;
        let number = *numbers.entry(inode).or_insert(next);
        let item = Item {
            inode: number,
            names: names.get(&inode).copied().unwrap_or(1),
            content: number == next,
        };
        archive.add(path, entry, &item)?;
    }
    archive.end();
    match packing {
        Packing::None => Ok(archive.bytes),
        Packing::Zstd { level } => Ok(pack(&archive.bytes, level)),
    }
}

fn pack(bytes: &[u8], level: u8) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "into memory it fails only without memory"
    )]
    zstd::bulk::compress(bytes, level.into()).expect("compression into memory")
}

/// What a name says of its inode.
struct Item {
    inode: u32,
    names: u32,
    /// Whether the content stands here: the kernel takes it from any one of the hard links.
    content: bool,
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
}

const TRAILER: &[u8] = b"TRAILER!!!";

impl Archive {
    fn add(&mut self, path: &[u8], entry: &Entry, item: &Item) -> Result<(), Error> {
        if !entry.xattrs.is_empty() {
            return Err(Error::entry(
                path,
                "has extended attributes, which no initrd can hold",
            ));
        }
        let mtime = u32::try_from(entry.mtime)
            .map_err(|_| Error::entry(path, "has a time that no initrd can hold"))?;
        let (kind, device) = match &entry.kind {
            Kind::Directory => (0o040_000, (0, 0)),
            Kind::File(_) => (0o100_000, (0, 0)),
            Kind::Symlink(_) => (0o120_000, (0, 0)),
            Kind::CharDevice { major, minor } => (0o020_000, (*major, *minor)),
            Kind::BlockDevice { major, minor } => (0o060_000, (*major, *minor)),
            Kind::Fifo => (0o010_000, (0, 0)),
        };
        let content = match &entry.kind {
            Kind::File(content) if item.content => read(path, content)?,
            Kind::Symlink(target) => target.clone(),
            _ => Vec::new(),
        };
        // A directory's links are counted by the kernel.
        let names = if entry.is_directory() { 1 } else { item.names };
        let mode = kind | u32::from(entry.mode);
        let numbers = [item.inode, mode, entry.uid, entry.gid, names, mtime];
        self.item(path, numbers, device, &content);
        Ok(())
    }

    fn end(&mut self) {
        self.item(TRAILER, [0, 0, 0, 0, 1, 0], (0, 0), &[]);
    }

    /// inode, mode, owner, group, names and time; then path and content, which are below 4 GiB.
    fn item(&mut self, path: &[u8], numbers: [u32; 6], device: (u32, u32), content: &[u8]) {
        self.bytes.extend(b"070701");
        for number in numbers {
            self.number(number.into());
        }
        self.number(content.len() as u64);
        // The device of the file system, then that of a device file.
        for number in [0, 0, device.0, device.1] {
            self.number(number.into());
        }
        self.number(path.len() as u64 + 1);
        self.number(0);
        self.bytes.extend(path);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn number(&mut self, number: u64) {
        self.bytes.extend(format!("{number:08x}").bytes());
    }

    fn pad(&mut self) {
        let end = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(end, 0);
    }
}

fn read(path: &[u8], content: &Content) -> Result<Vec<u8>, Error> {
    const LIMIT: usize = u32::MAX as usize;
    if content.size() > LIMIT as u64 {
        return Err(Error::entry(
            path,
            "has 4 GiB or more, which no initrd can hold",
        ));
    }
    content.read(LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initrd::read;
    use crate::tree::listing::listing;

    fn tree() -> Tree {
        let mut tree = Tree::new();
        for (path, entry) in [
            ("usr/lib/a", Entry::file("content")),
            ("usr/lib/empty", Entry::file("")),
            ("usr/lib/link", Entry::symlink("a")),
            (
                "dev/null",
                Entry::new(0o666, Kind::CharDevice { major: 1, minor: 3 }),
            ),
            ("run/pipe", Entry::new(0o600, Kind::Fifo)),
        ] {
            tree.insert(path, entry).unwrap();
        }
        tree.link("usr/lib/a", "usr/lib/z").unwrap();
        tree
    }

    #[test]
    fn comes_back_as_it_was() {
        for packing in ["none", "zstd", "zstd,1"] {
            let packing: Packing = packing.parse().unwrap();
            let bytes = write(&tree(), packing).unwrap();
            assert_eq!(listing(&read(&bytes).unwrap()), listing(&tree()));
        }
    }

    #[test]
    fn does_not_tell_how_the_tree_was_made() {
        let mut other = Tree::new();
        for (path, entry) in tree().iter().collect::<Vec<_>>().into_iter().rev() {
            if path != b"usr/lib/z" && path != b"" {
                other.insert(path, entry.clone()).unwrap();
            }
        }
        other.link("usr/lib/a", "usr/lib/z").unwrap();
        let archive = |tree: &Tree| write(tree, Packing::None).unwrap();
        assert_eq!(archive(&other), archive(&tree()));
    }

    #[test]
    fn is_newc() {
        let mut tree = Tree::new();
        tree.insert("a", Entry::file("b")).unwrap();
        let zeros = "00000000";
        let expected = format!(
            "070701{}{}{zeros}{zeros}{}{zeros}{}{zeros}{zeros}{zeros}{zeros}{}{zeros}a\0b\0\0\0\
             070701{zeros}{zeros}{zeros}{zeros}{}{zeros}{zeros}{zeros}{zeros}{zeros}{zeros}{}{zeros}TRAILER!!!\0\0\0\0",
            "00000001", "000081a4", "00000001", "00000001", "00000002", "00000001", "0000000b"
        );
        let archive = write(&tree, Packing::None).unwrap();
        assert_eq!(String::from_utf8(archive).unwrap(), expected);
    }

    #[test]
    fn refuses_what_cpio_cannot_hold() {
        let refused = |change: fn(&mut Entry)| {
            let mut entry = Entry::file("b");
            change(&mut entry);
            let mut tree = Tree::new();
            tree.insert("a", entry).unwrap();
            write(&tree, Packing::None).unwrap_err().to_string()
        };
        let labelled = refused(|entry| drop(entry.xattrs.insert(b"user.a".to_vec(), Vec::new())));
        assert_eq!(
            labelled,
            "`a`: has extended attributes, which no initrd can hold"
        );
        assert_eq!(
            refused(|entry| entry.mtime = -1),
            "`a`: has a time that no initrd can hold"
        );
        assert_eq!(
            "zstd,23".parse::<Packing>().unwrap_err(),
            "is not none, zstd or zstd,LEVEL with a level from 1 to 22"
        );
    }
}
