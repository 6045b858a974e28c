//! Where the pieces of a compressed file lie: the map header and the index behind an inode.
//!
//! ```text
//! MapHeader │ one item for each 4096 bytes of the file
//!   full:     8 bytes: kind, address or distances
//!   compact:  packs of 2 items in 8 bytes, up to a multiple of 32; of 16 items in 32 bytes; of 2 again
//!             item: kind (2 bits) and a number (12 bits) │ … │ address (32 bits)
//! ```
//!
//! A compressed piece is a head, its number of blocks, then distances to the head; a plain one a head for
//! each of its blocks. In a compact index an address is that of the pack's first head, less the blocks that
//! are counted before it; others follow by counting, so pieces must follow each other. As `z_erofs_load_*`
//! in Linux's `fs/erofs/zmap.c` reads it.

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::format::{BLOCK, BLOCK_BITS, BLOCK_COUNT, DataLayout, FullItem, MAP_ALIGN, MapHeader};

/// Items in a large pack, and its bytes.
const LARGE_PACK: (usize, usize) = (16, 32);
/// The same for a small one.
const SMALL_PACK: (usize, usize) = (2, 8);

/// A piece of a file on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// First block.
    pub(super) start: u32,
    /// How many.
    pub(super) blocks: u32,
    /// Bytes of the file; only the last piece's may be no multiple of 4096.
    pub(super) len: u64,
    pub(super) compressed: bool,
}

/// Bytes at the end of a file, or all of it, that are in the packed inode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment {
    pub(super) offset: u32,
    pub(super) len: u64,
}

#[derive(Debug, Clone, Copy)]
enum Item {
    /// Where a compressed piece starts.
    Head { block: u32 },
    /// A plain block.
    Plain { block: u32 },
    /// Directly behind a head: its number of blocks.
    Count { blocks: u32, ahead: usize },
    /// Items back to the head and ahead to the next.
    Inner { back: usize, ahead: usize },
}

/// The layout and the bytes behind an inode whose own structures take `head` bytes.
pub(super) fn map(
    head: u64,
    extents: &[Extent],
    fragment: Option<Fragment>,
    algorithm: u8,
) -> (DataLayout, Vec<u8>) {
    let mut bytes = vec![0; padding(head)];
    let mut header = MapHeader {
        fragment: U32::new(fragment.map_or(0, |fragment| fragment.offset)),
        advise: U16::ZERO,
        algorithm,
        cluster_bits: 0,
    };
    if extents.is_empty() && fragment.is_some() {
        // All else in the header are higher bits of the offset then.
        header.algorithm = 0;
        header.cluster_bits = MapHeader::WHOLE;
        bytes.extend_from_slice(header.as_bytes());
        return (DataLayout::Compact, bytes);
    }
    let (layout, packing) = if follow_each_other(extents) {
        (DataLayout::Compact, MapHeader::COMPACT_2B)
    } else {
        (DataLayout::Full, 0)
    };
    let advise = fragment.map_or(0, |_| MapHeader::FRAGMENT);
    header.advise = U16::new(advise | packing | MapHeader::BIG_CLUSTERS);
    bytes.extend_from_slice(header.as_bytes());
    let items = items(extents, fragment);
    match layout {
        DataLayout::Full => full(&items, &mut bytes),
        _ => compact(&items, head, &mut bytes),
    }
    (layout, bytes)
}

/// The same for an uncompressed file, whose pieces have `chunk` bytes, and what stands in place of its start
/// block: how many more bits a chunk's size has than a block's.
pub(super) fn chunks(extents: &[Extent], chunk: u32) -> (DataLayout, u32, Vec<u8>) {
    let addresses = extents.iter().flat_map(|extent| extent.start.to_le_bytes());
    let bits = chunk.ilog2().saturating_sub(BLOCK_BITS);
    (DataLayout::Chunks, bits, addresses.collect())
}

/// Zeros between an inode's own structures and the map header.
fn padding(head: u64) -> usize {
    let over = usize::try_from(head % MAP_ALIGN as u64).unwrap_or_default();
    over.next_multiple_of(MAP_ALIGN) - over
}

pub(super) fn follow_each_other(extents: &[Extent]) -> bool {
    let pairs = extents.iter().zip(extents.iter().skip(1));
    pairs
        .into_iter()
        .all(|(one, next)| one.start + one.blocks == next.start)
}

fn items(extents: &[Extent], fragment: Option<Fragment>) -> Vec<Item> {
    let mut items = Vec::new();
    for extent in extents {
        if extent.compressed {
            push_cluster(&mut items, extent);
        } else {
            let blocks = (0..extent.blocks).map(|block| extent.start + block);
            items.extend(blocks.map(|block| Item::Plain { block }));
        }
    }
    // It is indexed as if it were a cluster without blocks; a full index has more bits of the offset in
    // place of the address.
    if let Some(fragment) = fragment {
        let cluster = Extent {
            start: 0,
            blocks: 0,
            len: fragment.len,
            compressed: true,
        };
        push_cluster(&mut items, &cluster);
    }
    items
}

fn push_cluster(items: &mut Vec<Item>, extent: &Extent) {
    // A file has as many items as memory held bytes of it before.
    let len = usize::try_from(extent.len.div_ceil(BLOCK)).unwrap_or_default();
    items.extend((0..len).map(|back| match back {
        0 => Item::Head {
            block: extent.start,
        },
        1 => Item::Count {
            blocks: extent.blocks,
            ahead: len - 1,
        },
        _ => Item::Inner {
            back,
            ahead: len - back,
        },
    }));
}

impl Item {
    /// How the index numbers what it is.
    fn kind(self) -> u16 {
        match self {
            Self::Plain { .. } => 0,
            Self::Head { .. } => 1,
            Self::Count { .. } | Self::Inner { .. } => 2,
        }
    }

    fn block(self) -> Option<u32> {
        match self {
            Self::Plain { block } | Self::Head { block } => Some(block),
            Self::Count { .. } | Self::Inner { .. } => None,
        }
    }

    /// What stands beside the kind in a pack; the last of a pack says how far it is to the next head.
    fn number(self, last: bool) -> u16 {
        match self {
            Self::Plain { .. } | Self::Head { .. } => 0,
            Self::Count { blocks, .. } => counted(blocks),
            Self::Inner { ahead, .. } if last => distance(ahead),
            Self::Inner { back, .. } => distance(back),
        }
    }
}

/// At most 256 blocks.
fn counted(blocks: u32) -> u16 {
    BLOCK_COUNT | u16::try_from(blocks).unwrap_or_default()
}

fn distance(items: usize) -> u16 {
    u16::try_from(items)
        .unwrap_or(u16::MAX)
        .min(BLOCK_COUNT - 1)
}

fn full(items: &[Item], bytes: &mut Vec<u8>) {
    // Older kernels look for the items 8 bytes behind the header.
    bytes.extend_from_slice(&[0; 8]);
    for item in items {
        let distances =
            |back: u16, ahead: usize| u32::from(back) | u32::from(distance(ahead)) << 16;
        let value = match *item {
            Item::Plain { block } | Item::Head { block } => block,
            Item::Count { blocks, ahead } => distances(counted(blocks), ahead),
            Item::Inner { back, ahead } => distances(distance(back), ahead),
        };
        let item = FullItem {
            kind: U16::new(item.kind()),
            cluster_offset: U16::ZERO,
            value: U32::new(value),
        };
        bytes.extend_from_slice(item.as_bytes());
    }
}

fn compact(items: &[Item], head: u64, bytes: &mut Vec<u8>) {
    // Inodes start at multiples of 32, so this is where the index starts up to such a multiple.
    let start = (head + bytes.len() as u64) % 32;
    let to_alignment = usize::try_from((32 - start) % 32 / 4).unwrap_or_default();
    let (first, rest) = items.split_at_checked(to_alignment).unwrap_or((items, &[]));
    let (large, last) = rest.split_at(rest.len() - rest.len() % LARGE_PACK.0);
    for (items, pack) in [(first, SMALL_PACK), (large, LARGE_PACK), (last, SMALL_PACK)] {
        for items in items.chunks(pack.0) {
            push_pack(items, pack, bytes);
        }
    }
}

fn push_pack(items: &[Item], (count, size): (usize, usize), bytes: &mut Vec<u8>) {
    let width = (size - size_of::<U32>()) * 8 / count;
    let end = bytes.len() + size - size_of::<U32>();
    let (mut bits, mut filled) = (0_u64, 0);
    for (at, item) in items.iter().enumerate() {
        bits |= u64::from(item.kind() << 12 | item.number(at + 1 == count)) << filled;
        filled += width;
        while filled >= 8 {
            bytes.push(bits.to_le_bytes()[0]);
            bits >>= 8;
            filled -= 8;
        }
    }
    // Only the last pack of all has fewer items.
    bytes.resize(end, 0);
    bytes.extend_from_slice(&base(items).to_le_bytes());
}

/// The address from which a pack's heads are counted. It only wraps when the first is in the packed inode,
/// so that nobody counts.
fn base(items: &[Item]) -> u32 {
    let mut counted = 0;
    for item in items {
        match *item {
            Item::Count { blocks, .. } => counted = blocks,
            _ => {
                if let Some(block) = item.block() {
                    return block.wrapping_sub(counted);
                }
            }
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPRESSED: Extent = Extent {
        start: 1,
        blocks: 3,
        len: 4 * BLOCK,
        compressed: true,
    };
    const PLAIN: Extent = Extent {
        start: 4,
        blocks: 2,
        len: 2 * BLOCK - 100,
        compressed: false,
    };

    #[test]
    fn packs_two_items_into_eight_bytes() {
        let (layout, bytes) = map(32, &[COMPRESSED, PLAIN], None, 3);
        assert_eq!(layout, DataLayout::Compact);
        // 3 packs of 2 reach byte 32 of the slot.
        let expected: [&[u8]; 4] = [
            b"\0\0\0\0\x07\0\x03\0",
            // Head; 0x800 | 3 blocks. The head lies in block 1.
            b"\0\x10\x03\x28\x01\0\0\0",
            // 2 back; last of its pack: 1 ahead. No head.
            b"\x02\x20\x01\x20\0\0\0\0",
            // Two plain ones.
            b"\0\0\0\0\x04\0\0\0",
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn packs_sixteen_items_into_32_bytes() {
        let long = Extent {
            len: 14 * BLOCK,
            ..COMPRESSED
        };
        // With attributes of 12 + 4 bytes the index starts at 56 + 8 = 64: aligned at once.
        let (_, bytes) = map(52, &[long, PLAIN], None, 0);
        assert_eq!(bytes[..4], [0; 4]);
        let pack = &bytes[12..];
        assert_eq!(pack.len(), 32);
        let mut bits = 0_u128;
        for (at, byte) in pack[..14].iter().enumerate() {
            bits |= u128::from(*byte) << (8 * at);
        }
        let items: Vec<u128> = (0..8).map(|at| bits >> (14 * at) & 0x3FFF).collect();
        assert_eq!(
            items,
            [
                0x1000, 0x2803, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007
            ]
        );
        // Item 13 is 13 back, at bit 182; two plain ones; the head lies in block 1.
        assert_eq!(pack[21..], *b"\x0C\x60\x03\x08\0\0\0\x01\0\0\0");
    }

    #[test]
    fn counts_from_the_first_head_of_a_pack() {
        // The count of the piece before stands in the pack of the next head.
        let three = Extent {
            len: 3 * BLOCK,
            ..COMPRESSED
        };
        let one = Extent {
            start: 0,
            blocks: 1,
            len: BLOCK,
            compressed: false,
        };
        let (_, bytes) = map(32, &[one, three, PLAIN], None, 0);
        let bases: Vec<u8> = bytes[8..].chunks(8).map(|pack| pack[4]).collect();
        // Plain 0 and head 1; count and inner: none; plain 4 and 5.
        assert_eq!(bases, [0, 0, 4]);
        let two = Extent {
            len: 2 * BLOCK,
            ..COMPRESSED
        };
        let (_, bytes) = map(32, &[one, two, PLAIN], None, 0);
        let bases: Vec<u8> = bytes[8..].chunks(8).map(|pack| pack[4]).collect();
        // Plain 0 and head 1; count 3 and plain 4, so 1; plain 5 alone.
        assert_eq!(bases, [0, 1, 5]);
    }

    #[test]
    fn takes_the_full_index_for_pieces_apart() {
        let apart = Extent { start: 9, ..PLAIN };
        let (layout, bytes) = map(32, &[COMPRESSED, apart], None, 3);
        assert_eq!(layout, DataLayout::Full);
        let expected: [&[u8]; 8] = [
            b"\0\0\0\0\x06\0\x03\0",
            b"\0\0\0\0\0\0\0\0",
            b"\x01\0\0\0\x01\0\0\0",
            b"\x02\0\0\0\x03\x08\x03\0",
            b"\x02\0\0\0\x02\0\x02\0",
            b"\x02\0\0\0\x03\0\x01\0",
            b"\0\0\0\0\x09\0\0\0",
            b"\0\0\0\0\x0A\0\0\0",
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn lists_the_chunks_of_an_uncompressed_file() {
        let at = |start| Extent {
            start,
            blocks: 64,
            len: 1 << 18,
            compressed: false,
        };
        // Chunks of 64 blocks: 6 more bits. A hole is all ones.
        let expected = b"\x02\x01\0\0\xff\xff\xff\xff\x07\0\0\0".to_vec();
        assert_eq!(
            chunks(&[at(0x102), at(u32::MAX), at(7)], 1 << 18),
            (DataLayout::Chunks, 6, expected)
        );
    }

    #[test]
    fn needs_no_index_for_a_file_in_the_packed_inode() {
        let fragment = Fragment {
            offset: 0x1234,
            len: 77,
        };
        let (layout, bytes) = map(48 + 4, &[], Some(fragment), 3);
        assert_eq!(layout, DataLayout::Compact);
        assert_eq!(bytes, b"\0\0\0\0\x34\x12\0\0\0\0\0\x80");
    }

    #[test]
    fn counts_no_blocks_for_an_end_in_the_packed_inode() {
        let fragment = Fragment {
            offset: 5,
            len: BLOCK + 1,
        };
        let (_, bytes) = map(32, &[COMPRESSED], Some(fragment), 3);
        assert_eq!(bytes[..8], *b"\x05\0\0\0\x27\0\x03\0");
        assert_eq!(bytes[24..], *b"\0\x10\0\x28\0\0\0\0");
    }
}
