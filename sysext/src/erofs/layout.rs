//! Where the metadata goes, once the data of all files is written: a pure step.
//!
//! ```text
//! with data blocks:     superblock │ files … │ large directories and links … │ inodes, attributes, tails … shared attributes
//! without any:          superblock, inodes, attributes, tails … shared attributes
//! ```
//!
//! Data stands in front so that every file is read once, from its start, and its size when compressed need
//! not be known before.

use super::directory;
use super::format::{BLOCK, BLOCK_LEN, DataLayout, SLOT, SUPERBLOCK_END};
use super::inode::Inode;
use super::xattr::WORD;
use crate::Error;
use crate::tree::Kind;

/// Metadata that only needs to be written down.
#[derive(Debug)]
pub(super) struct Layout<'t> {
    /// The root is the first.
    pub(super) inodes: Vec<Inode<'t>>,
    /// What stands between the files and the inodes, in blocks.
    pub(super) late: Vec<u8>,
    /// The block from which nids are counted.
    pub(super) meta_block: u32,
    /// The byte at which the shared attributes begin.
    pub(super) shared: u64,
    /// Blocks in the image.
    pub(super) blocks: u32,
}

impl<'t> Layout<'t> {
    /// Finds a place for all `inodes` and `shared` bytes of attributes when the data of files ends before block
    /// `data_end`.
    pub(super) fn new(
        mut inodes: Vec<Inode<'t>>,
        shared: usize,
        data_end: u32,
    ) -> Result<Self, Error> {
        let meta_block = place_late(&mut inodes, data_end)?;
        // Nid 0 stays free: programs take an inode number 0 in a directory for a deleted entry.
        let (meta_block, first) = match meta_block {
            1 => (0, SUPERBLOCK_END),
            _ => (meta_block, u64::from(meta_block) * BLOCK + SLOT),
        };
        let end = place_inodes(&mut inodes, first).next_multiple_of(WORD);
        let blocks = (end + shared as u64).div_ceil(BLOCK);
        let blocks = u32::try_from(blocks).map_err(|_| too_large())?;
        let mut layout = Self {
            inodes,
            late: Vec::new(),
            meta_block,
            shared: end,
            blocks,
        };
        layout.fill();
        Ok(layout)
    }

    /// The number of an inode, which says where it stands.
    pub(super) fn nid(&self, inode: &Inode<'_>) -> u64 {
        inode
            .offset
            .saturating_sub(u64::from(self.meta_block) * BLOCK)
            / SLOT
    }

    /// Writes down directories, now that all inodes have their number, and symbolic links.
    fn fill(&mut self) {
        let nids: Vec<u64> = self.inodes.iter().map(|inode| self.nid(inode)).collect();
        let nid = |index| nids.get(index).copied().unwrap_or_default();
        for inode in &mut self.inodes {
            let mut bytes = match &inode.entry.kind {
                Kind::Directory => directory::bytes(&inode.names, nid),
                Kind::Symlink(target) => target.clone(),
                _ => continue,
            };
            inode.behind = bytes.split_off(bytes.len() - inode.behind.len());
            bytes.resize(bytes.len().next_multiple_of(BLOCK_LEN), 0);
            self.late.append(&mut bytes);
        }
    }
}

/// Gives directories and symbolic links their blocks and room behind their inodes; returns the first block
/// after all.
fn place_late(inodes: &mut [Inode<'_>], data_end: u32) -> Result<u32, Error> {
    let mut next = data_end;
    for inode in inodes {
        if matches!(inode.entry.kind, Kind::Directory | Kind::Symlink(_)) {
            let tail = inode.tail();
            inode.place(next, vec![0; usize::try_from(tail).unwrap_or_default()]);
            next = after(next, inode.size - tail)?;
        }
    }
    Ok(next)
}

/// The block after `size` bytes that start at block `start`.
pub(super) fn after(start: u32, size: u64) -> Result<u32, Error> {
    let blocks = u32::try_from(size.div_ceil(BLOCK)).ok();
    let end = blocks.and_then(|blocks| start.checked_add(blocks));
    end.ok_or_else(too_large)
}

/// Places inodes one after the other from byte `at`, those with a tail so that it does not cross a block;
/// returns the end of the last.
fn place_inodes(inodes: &mut [Inode<'_>], mut at: u64) -> u64 {
    for inode in inodes {
        let len = inode.head() + inode.behind.len() as u64;
        at = at.next_multiple_of(SLOT);
        if inode.layout == DataLayout::Inline && at % BLOCK + len > BLOCK {
            at = at.next_multiple_of(BLOCK);
        }
        inode.offset = at;
        at += len;
    }
    at
}

fn too_large() -> Error {
    Error::entry(b".", "is larger than 16 TiB")
}

#[cfg(test)]
mod tests {
    use super::super::inode::collect;
    use super::super::xattr::Shared;
    use super::*;
    use crate::{Entry, Tree};

    #[test]
    fn stays_in_block_0_without_data_blocks() {
        let mut tree = Tree::new();
        tree.insert("a/b", Entry::symlink([b'x'; 100])).unwrap();
        tree.insert("c", Entry::symlink([b'x'; 2600])).unwrap();
        let layout = Layout::new(collect(&tree, 0, &Shared::default()).unwrap(), 0, 1).unwrap();
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
    fn puts_large_links_in_front_of_inodes() {
        let mut tree = Tree::new();
        tree.insert("a", Entry::symlink([b'x'; 4090])).unwrap();
        tree.link("a", "b").unwrap();
        let layout = Layout::new(collect(&tree, 0, &Shared::default()).unwrap(), 0, 7).unwrap();
        let found: Vec<_> = layout
            .inodes
            .iter()
            .map(|inode| (inode.data, layout.nid(inode), inode.nlink))
            .collect();
        assert_eq!(found, [(u32::MAX, 1, 2), (7, 4, 2)]);
        assert_eq!((layout.meta_block, layout.blocks), (8, 9));
        assert_eq!(layout.late[..4090], [b'x'; 4090]);
        assert_eq!(layout.late[4090..], [0; 6]);
    }

    #[test]
    fn counts_blocks_up_to_16_tib() {
        assert_eq!(after(1, 0).unwrap(), 1);
        assert_eq!(after(1, 4097).unwrap(), 3);
        for size in [1 << 44, u64::MAX] {
            let message = after(1, size).unwrap_err().to_string();
            assert_eq!(message, "`.`: is larger than 16 TiB");
        }
    }
}
