//! The packed inode: small files and the ends of large ones, one behind the other, compressed together.
//!
//! Each file by itself would lose half a block, and its codec knows nothing of the file beside it. So files
//! of one kind, told by the end of their names, stand together here.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::format::{BLOCK, SLOT};
use super::index::Fragment;
use super::inode::Inode;
use super::pieces::Piece;
use crate::Error;
use crate::tree::Content;

/// The ends of files wait in memory for the rest, up to this many bytes.
const ENDS_MAX: u64 = 16 << 20;

/// Which files, by the index of their inode.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// Those that are packed as a whole.
    pub(super) whole: HashSet<usize>,
    /// Those whose last piece is.
    pub(super) ends: HashSet<usize>,
}

impl Selection {
    /// Takes files below a cluster and, the smallest first, what does not fill one of the others.
    pub(super) fn of(inodes: &[Inode<'_>], cluster: u64) -> Self {
        let mut selection = Self::default();
        let (mut total, mut ends) = (0_u64, Vec::new());
        for (index, inode) in inodes.iter().enumerate() {
            let end = inode.size % cluster;
            if inode.file().is_none() || end == 0 {
                continue;
            } else if inode.size > cluster {
                ends.push((end, index));
            // The slot of an inode holds this much anyway; and an offset has 32 bits.
            } else if inode.size > SLOT && total + inode.size < u64::from(u32::MAX) - ENDS_MAX {
                total += inode.size;
                selection.whole.insert(index);
            }
        }
        ends.sort_unstable();
        let mut waiting = 0;
        for (end, index) in ends {
            waiting += end;
            if waiting <= ENDS_MAX {
                selection.ends.insert(index);
            }
        }
        // Behind their inodes they take less.
        if total + waiting <= BLOCK {
            return Self::default();
        }
        selection
    }
}

/// What is packed of one file.
pub(super) enum Part<'t> {
    Whole(&'t Content),
    End(Vec<u8>),
}

/// What is packed, in order.
pub(super) struct Packing<'t> {
    parts: std::vec::IntoIter<(usize, Part<'t>, bool)>,
    /// Index of the packed inode.
    inode: usize,
    cluster: usize,
    /// What is not yet a piece.
    buffer: Vec<u8>,
    seen: HashMap<[u8; 32], u32>,
    /// Bytes so far.
    pub(super) size: u64,
    /// By inode, where its part went.
    pub(super) fragments: HashMap<usize, Fragment>,
}

impl<'t> Packing<'t> {
    /// `parts` by the index of their inode and whether the same may come again.
    pub(super) fn new(
        mut parts: Vec<(usize, Part<'t>, bool)>,
        inodes: &[Inode<'t>],
        cluster: u32,
    ) -> Self {
        parts.sort_by_key(|(index, ..)| {
            let name = inodes.get(*index).map_or(&b""[..], |inode| inode.name);
            (kind(name), *index)
        });
        Self {
            parts: parts.into_iter(),
            inode: inodes.len(),
            cluster: usize::try_from(cluster).unwrap_or_default(),
            buffer: Vec::new(),
            seen: HashMap::new(),
            size: 0,
            fragments: HashMap::new(),
        }
    }

    /// The next cluster, the last one when nothing is left to read.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, Error> {
        while self.buffer.len() < self.cluster
            && let Some((index, part, shared)) = self.parts.next()
        {
            self.add(index, part, shared)?;
        }
        let rest = self.buffer.split_off(self.buffer.len().min(self.cluster));
        let bytes = std::mem::replace(&mut self.buffer, rest);
        Ok((!bytes.is_empty()).then_some(Piece {
            inode: self.inode,
            bytes,
            shared: false,
            sparse: false,
        }))
    }

    fn add(&mut self, index: usize, part: Part<'_>, shared: bool) -> Result<(), Error> {
        let bytes = match part {
            Part::Whole(content) => content.read(self.cluster)?,
            Part::End(bytes) => bytes,
        };
        // The selection ends before 32 bits do.
        let here = u32::try_from(self.size).unwrap_or(u32::MAX);
        let offset = if shared {
            *self
                .seen
                .entry(Sha256::digest(&bytes).into())
                .or_insert(here)
        } else {
            here
        };
        let len = bytes.len() as u64;
        if offset == here {
            self.size += len;
            self.buffer.extend_from_slice(&bytes);
        }
        self.fragments.insert(index, Fragment { offset, len });
        Ok(())
    }
}

/// What stands behind the last dot of a name that is no number: files of one kind compress well together.
fn kind(name: &[u8]) -> &[u8] {
    let mut parts = name.rsplit(|&byte| byte == b'.');
    let kind = parts.find(|part| !part.iter().all(u8::is_ascii_digit));
    kind.filter(|kind| kind.len() < name.len())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::inode::collect;
    use super::super::xattr::Shared;
    use super::*;
    use crate::{Entry, Kind, Tree};

    fn tree(files: &[(&str, u64)]) -> Tree {
        let mut tree = Tree::new();
        for (path, size) in files {
            let content = Content::from_file("never opened", *size);
            let entry = Entry::new(0o644, Kind::File(content));
            tree.insert(path, entry).unwrap();
        }
        tree
    }

    #[test]
    fn takes_small_files_and_ends() {
        let files = [
            ("1", 0),
            ("2", 32),
            ("3", 33),
            ("4", 65535),
            ("5", 65536),
            ("6", 65537),
            ("7", 131_072),
        ];
        let tree = tree(&files);
        let selection = Selection::of(&collect(&tree, 0, &Shared::default()).unwrap(), 65536);
        assert_eq!(selection.whole, HashSet::from([3, 4]));
        assert_eq!(selection.ends, HashSet::from([6]));
    }

    #[test]
    fn leaves_a_block_in_all_where_it_is() {
        for (size, packed) in [(4000, 0), (4001, 2)] {
            let tree = tree(&[("a", 96), ("b", size)]);
            let selection = Selection::of(&collect(&tree, 0, &Shared::default()).unwrap(), 65536);
            assert_eq!(selection.whole.len(), packed, "{size}");
        }
    }

    #[test]
    fn keeps_few_ends_in_memory() {
        let cluster = 1 << 20;
        let files: Vec<(String, u64)> = (0..40)
            .map(|n| (format!("{n:02}"), 2 * cluster - 40 + n))
            .collect();
        let files: Vec<(&str, u64)> = files
            .iter()
            .map(|(name, size)| (name.as_str(), *size))
            .collect();
        let tree = tree(&files);
        let selection = Selection::of(&collect(&tree, 0, &Shared::default()).unwrap(), cluster);
        // 16 of them are less than 16 MiB; the smallest come first in the tree, too.
        assert_eq!(selection.ends, (1..=16).collect());
    }

    #[test]
    fn tells_kinds_of_files_by_their_names() {
        let cases = [
            ("a.py", "py"),
            ("libc.so.6", "so"),
            ("libc.so.6.1", "so"),
            ("bash", ""),
            ("nf_nat.ko.xz", "xz"),
            ("7", ""),
            ("", ""),
            (".hidden", "hidden"),
        ];
        for (name, expected) in cases {
            assert_eq!(kind(name.as_bytes()), expected.as_bytes(), "{name}");
        }
    }
}
