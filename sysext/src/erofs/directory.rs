//! Directories as blocks: 12 bytes for each entry from the front, then the names, sorted over all blocks.

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U64};

use super::format::{BLOCK, BLOCK_LEN, DirectoryEntry};

/// One name in a directory; `.` and `..` stand in every one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'t> {
    pub(super) bytes: &'t [u8],
    /// Which of the layout's inodes it names.
    pub(super) inode: usize,
    /// The inode's type as directories say it.
    pub(super) file_type: u8,
}

/// Bytes a name takes in a block.
fn cost(name: &Name<'_>) -> u64 {
    size_of::<DirectoryEntry>() as u64 + name.bytes.len() as u64
}

/// The names of each block: as many as fit, in order.
fn blocks<'a, 't>(names: &'a [Name<'t>]) -> impl Iterator<Item = &'a [Name<'t>]> {
    let mut rest = names;
    std::iter::from_fn(move || {
        let mut used = 0;
        let fits = |name: &&Name<'t>| {
            used += cost(name);
            used <= BLOCK
        };
        let (block, behind) = rest.split_at_checked(rest.iter().take_while(fits).count())?;
        rest = behind;
        (!block.is_empty()).then_some(block)
    })
}

/// The size of a directory: all its blocks in full, but the last only as far as it is used.
pub(super) fn size(names: &[Name<'_>]) -> u64 {
    blocks(names).fold(0, |before, block| {
        before.next_multiple_of(BLOCK) + block.iter().map(cost).sum::<u64>()
    })
}

/// The bytes of a directory; `nid` numbers the layout's inodes.
pub(super) fn bytes(names: &[Name<'_>], nid: impl Fn(usize) -> u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in blocks(names) {
        bytes.resize(bytes.len().next_multiple_of(BLOCK_LEN), 0);
        let mut name_offset = block.len() * size_of::<DirectoryEntry>();
        for name in block {
            let entry = DirectoryEntry {
                nid: U64::new(nid(name.inode)),
                // Less than a block.
                name_offset: U16::new(u16::try_from(name_offset).unwrap_or(u16::MAX)),
                file_type: name.file_type,
                reserved: 0,
            };
            bytes.extend_from_slice(entry.as_bytes());
            name_offset += name.bytes.len();
        }
        bytes.extend(block.iter().flat_map(|name| name.bytes));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &[u8]) -> Name<'_> {
        Name {
            bytes,
            inode: bytes.len(),
            file_type: 1,
        }
    }

    #[test]
    fn packs_as_many_names_as_fit() {
        // (length of each name, how many there are, names in each block, size)
        let cases: [(usize, usize, &[usize], u64); 6] = [
            (1, 0, &[], 0),
            (4, 256, &[256], 4096),
            (4, 257, &[256, 1], 4096 + 16),
            (255, 15, &[15], 15 * 267),
            (255, 16, &[15, 1], 4096 + 267),
            (52, 5000, &[64; 79].map(|n| n)[..], 78 * 4096 + 8 * 64),
        ];
        for (length, count, expected, bytes) in cases {
            let long = vec![b'n'; length];
            let names = vec![name(&long); count];
            let found: Vec<usize> = blocks(&names).map(<[_]>::len).collect();
            let mut expected = expected.to_vec();
            if count == 5000 {
                expected[78] = 8;
            }
            assert_eq!((found, size(&names)), (expected, bytes), "{length} {count}");
            assert_eq!(
                self::bytes(&names, |inode| inode as u64).len() as u64,
                bytes
            );
        }
    }

    #[test]
    fn puts_names_behind_all_entries() {
        let bytes = bytes(&[name(b"."), name(b"..")], |inode| inode as u64 * 0x100);
        let expected = b"\0\x01\0\0\0\0\0\0\x18\0\x01\0\0\x02\0\0\0\0\0\0\x19\0\x01\0...";
        assert_eq!(bytes, expected);
    }
}
