//! What mksquashfs wrote is read, what is damaged is refused.

use std::io::Cursor;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;

use super::read;
use crate::tree::listing::{expected, listing_with_counts};
use crate::{Kind, Tree, vector};

/// The partition of the vector: it starts at sector 40; the superblock says how long it is.
static IMAGE: LazyLock<Vec<u8>> =
    LazyLock::new(|| vector::image("squashfs")[40 * 512..][..163_840].to_vec());

#[test]
fn reads_what_systemd_repart_has_written() {
    let mut tree = read(Cursor::new(IMAGE.clone())).unwrap();
    let notes = std::mem::take(&mut tree.get_mut("").unwrap().xattrs);
    assert!(
        notes
            .keys()
            .all(|name| name.starts_with(b"user.validatefs.")),
        "{notes:?}"
    );
    assert_eq!(listing_with_counts(&tree), expected("tree.json"));
}

#[test]
fn says_what_is_damaged() {
    let cases: [(usize, u8, &str); 4] = [
        (0, b'x', "at byte 0: not a squashfs 4.0 image"),
        (
            12,
            1,
            "at byte 12: block size is not a power of two from 4 KiB to 1 MiB",
        ),
        (20, 3, "at byte 20: compression 3 is not supported"),
        (26, 0, "at byte 26: owner 0 is not in the table of owners"),
    ];
    for (at, byte, expected) in cases {
        let mut image = IMAGE.clone();
        image[at] = byte;
        let error = read(Cursor::new(image)).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the squashfs file system");
        assert_eq!(
            std::error::Error::source(&error).unwrap().to_string(),
            expected
        );
    }
}

proptest! {
    /// A damaged image gives an error or a tree whose files give an error or bytes: never more.
    #[test]
    fn survives_damage(
        changes in vec((prop_oneof![0..96_usize, 159_191..163_840_usize, any::<usize>()], any::<u8>()), 1..8),
        cut in prop_oneof![9 => Just(usize::MAX), 1 => any::<usize>()],
    ) {
        let mut image = IMAGE.clone();
        for (at, byte) in changes {
            let at = at % image.len();
            image[at] = byte;
        }
        image.truncate(cut);
        if let Ok(tree) = read(Cursor::new(image)) {
            read_all(&tree);
        }
    }
}

fn read_all(tree: &Tree) {
    for (_, entry) in tree.iter() {
        if let Kind::File(content) = &entry.kind {
            let _ = content.read(1 << 20);
        }
    }
}
