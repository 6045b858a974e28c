//! What is written is read back, what systemd's tools wrote is read, and what is damaged is refused.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::LazyLock;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{Compression, Options, read, write};
use crate::tree::listing::{expected, listing, listing_with_counts};
use crate::{Content, Entry, Kind, Tree, Window, vector};

/// Where the partition with the files starts in the vectors.
const DATA_AT: usize = 40 * 512;

fn image(tree: &Tree, epoch: u64) -> Vec<u8> {
    image_with(tree, &Options::new([7; 16], epoch))
}

fn image_with(tree: &Tree, options: &Options) -> Vec<u8> {
    let mut image = Cursor::new(Vec::new());
    let size = write(tree, options, &mut image, &mut |_| {}).unwrap();
    assert_eq!((size, size % 4096), (image.position(), 0));
    image.into_inner()
}

#[test]
fn reads_what_others_have_written() {
    let cases = [
        ("erofs", DATA_AT, "tree.json"),
        ("erofs-zstd", DATA_AT, "tree.json"),
        ("erofs-p256", DATA_AT, "tree.json"),
        ("erofs-257", DATA_AT, "tree.json"),
        ("sector4096", 24576, "tree.json"),
        ("confext", DATA_AT, "tree-confext.json"),
    ];
    for (name, start, manifest) in cases {
        let data = Window::new(Cursor::new(vector::image(name)), start as u64, u64::MAX);
        let mut tree = read(data).unwrap();
        // Where systemd-repart notes which partitions the files are for; the manifest does not.
        let notes = std::mem::take(&mut tree.get_mut("").unwrap().xattrs);
        assert!(
            notes
                .keys()
                .all(|name| name.starts_with(b"user.validatefs.")),
            "{name}"
        );
        assert_eq!(listing_with_counts(&tree), expected(manifest), "{name}");
    }
}

#[test]
fn takes_fewer_blocks_than_mkfs_erofs() {
    let theirs = vector::image("erofs")[DATA_AT..].to_vec();
    let tree = read(Cursor::new(theirs)).unwrap();
    // It took 892,928 bytes, where two files of the same content share none, and holes are stored.
    assert_eq!(image(&tree, 1_700_000_000).len(), 675_840);
}

#[test]
fn writes_a_small_tree_into_one_block() {
    let mut tree = Tree::new();
    tree.insert("etc/os-release", Entry::file("ID=x\n"))
        .unwrap();
    tree.link("etc/os-release", "etc/again").unwrap();
    let image = image(&tree, 0);
    assert_eq!(image.len(), 4096);
    assert_eq!(listing(&read(Cursor::new(image)).unwrap()), listing(&tree));
}

#[test]
fn notices_a_file_that_changed_its_size() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    for (before, after) in [
        (3, 4),
        (4, 3),
        (0, 1),
        (5000, 5001),
        (5001, 5000),
        (4096, 8192),
        (4096, 4095),
    ] {
        std::fs::write(&path, vec![0; before]).unwrap();
        let tree = Tree::read(directory.path()).unwrap();
        std::fs::write(&path, vec![0; after]).unwrap();
        let error = write(
            &tree,
            &Options::new([0; 16], 0),
            &mut std::io::empty(),
            &mut |_| {},
        )
        .unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(
            error.to_string(),
            format!("cannot read `{}`", path.display())
        );
        assert_eq!(
            cause, "its size changed since it was listed",
            "{before} {after}"
        );
    }
}

#[test]
fn holds_a_directory_of_thousands() {
    let mut tree = Tree::new();
    for number in 0..5000 {
        tree.insert(
            format!("many/{number:x}-\u{fc}"),
            Entry::new(0o600, Kind::Fifo),
        )
        .unwrap();
    }
    assert_eq!(
        listing_of_names(&read(Cursor::new(image(&tree, 0))).unwrap()),
        listing_of_names(&tree)
    );
}

fn listing_of_names(tree: &Tree) -> Vec<Vec<u8>> {
    tree.iter().map(|(path, _)| path.to_vec()).collect()
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    let strange = vec(
        any::<u8>().prop_filter("not in names", |byte| ![0, b'/'].contains(byte)),
        1..255,
    );
    let path = vec(select(vec!["a", "b", "-", "a.b"]), 1..5)
        .prop_map(|names| names.join("/").into_bytes());
    prop_oneof![4 => path, 1 => strange.prop_filter("not a name", |name| name != b"." && name != b"..")]
}

fn contents() -> impl Strategy<Value = Content> {
    let sizes = prop_oneof![
        0..200_usize,
        3900..4200_usize,
        8000..8300_usize,
        0..70_000_usize,
        select(vec![65_536, 131_072, 139_999])
    ];
    // Some can be compressed, some cannot, some are the same.
    (sizes, any::<bool>(), 0..4_u8).prop_map(|(size, noise, seed)| {
        let mut state = u32::from(seed) + 1;
        let bytes = (0..=u8::MAX).cycle().map(|byte| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let pattern = byte.rotate_left(3) ^ seed;
            if noise {
                state.to_le_bytes()[3]
            } else {
                pattern
            }
        });
        Content::from_bytes(bytes.take(size).collect::<Vec<u8>>())
    })
}

fn kinds() -> impl Strategy<Value = Kind> {
    let device = (0..4096_u32, 0..1_u32 << 20);
    prop_oneof![
        6 => contents().prop_map(Kind::File),
        2 => Just(Kind::Directory),
        2 => vec(1..=255_u8, 1..4096).prop_map(Kind::Symlink),
        1 => device.clone().prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
        1 => device.prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
        1 => Just(Kind::Fifo),
    ]
}

fn xattrs() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let prefix = select(vec!["user.", "trusted.", "security."]);
    let name =
        (prefix, "[a-z]{1,200}").prop_map(|(prefix, name)| [prefix, &name].concat().into_bytes());
    // Those that repeat stand where all inodes find them.
    let common =
        select(vec!["user.common", "security.label"]).prop_map(|name| name.as_bytes().to_vec());
    let value = select(vec![vec![1; 30], vec![2; 5000], vec![]]);
    prop_oneof![
        3 => Just(BTreeMap::new()),
        1 => btree_map(name, vec(any::<u8>(), 0..3000), 0..4),
        2 => btree_map(common, value, 0..3),
    ]
}

prop_compose! {
    fn entries()(
        mode in 0..=0o7777_u16,
        uid in prop_oneof![0..2000_u32, any::<u32>()],
        gid in prop_oneof![0..2000_u32, any::<u32>()],
        mtime in prop_oneof![Just(1000), any::<i64>()],
        xattrs in xattrs(),
        kind in kinds(),
    ) -> Entry {
        Entry { mode, uid, gid, mtime, xattrs, kind }
    }
}

prop_compose! {
    /// Entries that do not fit to each other are left out.
    fn trees()(
        entries in vec((names(), entries()), 0..40),
        links in vec((any::<Index>(), names()), 0..6),
    ) -> Tree {
        let mut tree = Tree::new();
        for (path, entry) in &entries {
            let _ = tree.insert(path, entry.clone());
        }
        for (from, path) in links.iter().filter(|_| !entries.is_empty()) {
            let _ = tree.link(&from.get(&entries).0, path);
        }
        tree
    }
}

/// Codecs and clusters, their levels fast.
fn compressions() -> impl Strategy<Value = Options> {
    let compressions = [
        Compression::None,
        Compression::Lz4 { level: 1 },
        Compression::Zstd { level: 1 },
    ];
    let clusters = (12..=20).map(|bits| Some(1 << bits)).chain([None]);
    let clusters: Vec<Option<u32>> = clusters.collect();
    (select(compressions.to_vec()), select(clusters)).prop_map(|(compression, cluster)| {
        let mut options = Options::new([7; 16], 1000);
        (options.compression, options.cluster) = (compression, cluster);
        options
    })
}

fn on_threads(count: usize, tree: &Tree, options: &Options) -> Vec<u8> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build();
    pool.unwrap().install(|| image_with(tree, options))
}

/// Images to damage, and how many bytes from their start are not only data of files.
static DAMAGED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let vectors =
        ["erofs", "erofs-zstd", "confext"].map(|name| vector::image(name)[DATA_AT..].to_vec());
    let mut tree = Tree::new();
    tree.insert("a/b/c", Entry::file(vec![1; 5000])).unwrap();
    tree.insert("a/link", Entry::symlink("b/c")).unwrap();
    tree.link("a/b/c", "d").unwrap();
    tree.get_mut("d")
        .unwrap()
        .xattrs
        .insert(b"user.x".to_vec(), b"value".to_vec());
    let ours = [Compression::None, Compression::LZ4, Compression::ZSTD].map(|compression| {
        let mut options = Options::new([7; 16], 0);
        options.compression = compression;
        image_with(&tree, &options)
    });
    vectors.into_iter().chain(ours).collect()
});

proptest! {
    #[test]
    fn reads_back_what_it_wrote(tree in trees(), epoch in select(vec![0, 1000])) {
        let image = image(&tree, epoch);
        prop_assert_eq!(listing(&read(Cursor::new(image.clone())).unwrap()), listing(&tree));
        prop_assert!(image == self::image(&tree, epoch), "not the same bytes twice");
    }

    #[test]
    fn reads_back_what_it_compressed(tree in trees(), options in compressions()) {
        let image = on_threads(2, &tree, &options);
        prop_assert_eq!(listing(&read(Cursor::new(image)).unwrap()), listing(&tree));
    }

    #[test]
    fn any_number_of_threads_writes_the_same(tree in trees(), options in compressions()) {
        let image = on_threads(1, &tree, &options);
        for count in [2, 4] {
            prop_assert!(image == on_threads(count, &tree, &options), "{} threads", count);
        }
    }

    /// A damaged image gives an error or a tree whose files give an error or bytes: never more.
    #[test]
    fn survives_damage(
        which in any::<Index>(),
        changes in vec((prop_oneof![1024..1160_usize, 1160..8192_usize, any::<usize>()], any::<u8>()), 1..12),
        cut in prop_oneof![9 => Just(usize::MAX), 1 => 0..20_000_usize],
    ) {
        let mut image = which.get(&DAMAGED).clone();
        for (at, byte) in changes {
            let at = at % image.len();
            image[at] = byte;
        }
        reseal(&mut image);
        image.truncate(cut);
        if let Ok(tree) = read(Cursor::new(image)) {
            read_all(&tree);
        }
    }
}

/// Makes the checksum right again, or it alone would tell.
fn reseal(image: &mut [u8]) {
    image[1028..1032].fill(0);
    super::format::seal(&mut image[..4096]);
}

fn read_all(tree: &Tree) {
    for (_, entry) in tree.iter() {
        if let Kind::File(content) = &entry.kind {
            let _ = content.read(1 << 20);
        }
    }
}
