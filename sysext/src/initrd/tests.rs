//! Archives made here, packed in every way, whole and damaged.

use std::io::Read;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{read, read_limited};
use crate::tree::listing::listing;
use crate::{Entry, Kind, Tree};

/// One item of an archive: inode, mode, number of names, path and content.
fn item(ino: u32, mode: u32, nlink: u32, path: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = b"070701".to_vec();
    let numbers = [
        ino,
        mode,
        1,
        2,
        nlink,
        1000,
        length(content),
        8,
        1,
        4,
        70000,
        length(path.as_bytes()) + 1,
        0,
    ];
    bytes.extend(
        numbers
            .iter()
            .flat_map(|number| format!("{number:08X}").into_bytes()),
    );
    bytes.extend(path.bytes().chain([0]));
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn length(bytes: &[u8]) -> u32 {
    bytes.len().try_into().unwrap()
}

fn file(path: &str, content: &str) -> Vec<u8> {
    item(1, 0o100644, 1, path, content.as_bytes())
}

fn archive(items: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = items.concat();
    bytes.extend(item(0, 0, 1, "TRAILER!!!", b""));
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// The same bytes in every compression.
fn packed(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let all = |mut reader: Box<dyn Read + '_>| {
        let mut packed = Vec::new();
        reader.read_to_end(&mut packed).unwrap();
        packed
    };
    let options = liblzma::stream::LzmaOptions::new_preset(6).unwrap();
    let lzma = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
    let mut lz4 = b"\x02\x21\x4c\x18".to_vec();
    let block = lz4_flex::block::compress(bytes);
    lz4.extend(length(&block).to_le_bytes());
    lz4.extend(block);
    vec![
        ("plain", bytes.to_vec()),
        (
            "gzip",
            all(Box::new(flate2::read::GzEncoder::new(
                bytes,
                flate2::Compression::fast(),
            ))),
        ),
        (
            "bzip2",
            all(Box::new(bzip2::read::BzEncoder::new(
                bytes,
                bzip2::Compression::fast(),
            ))),
        ),
        ("xz", all(Box::new(liblzma::read::XzEncoder::new(bytes, 6)))),
        (
            "LZMA",
            all(Box::new(liblzma::read::XzEncoder::new_stream(bytes, lzma))),
        ),
        ("LZ4", lz4),
        ("zstd", zstd::encode_all(bytes, 3).unwrap()),
    ]
}

fn text(tree: &Tree, path: &str) -> String {
    let Kind::File(content) = &tree.get(path).unwrap().kind else {
        panic!("{path} is not a file")
    };
    String::from_utf8(content.read(100).unwrap()).unwrap()
}

#[test]
fn reads_every_kind_of_file() {
    let items = [
        item(1, 0o040755, 2, ".", b""),
        item(2, 0o041777, 2, "./dir", b""),
        item(3, 0o104750, 1, "dir/file", b"text"),
        item(4, 0o120777, 1, "link", b"dir/file"),
        item(5, 0o020600, 1, "char", b""),
        item(6, 0o060600, 1, "block", b""),
        item(7, 0o010600, 1, "fifo", b""),
        item(8, 0o100600, 2, "twin-1", b""),
        item(8, 0o100600, 2, "twin-2", b"both"),
    ];
    let owned = |entry: Entry| Entry {
        uid: 1,
        gid: 2,
        mtime: 1000,
        ..entry
    };
    let device = (4, 70000);
    let (major, minor) = device;
    let mut expected = Tree::new();
    for (path, entry) in [
        ("", Entry::directory()),
        ("dir", Entry::new(0o1777, Kind::Directory)),
        (
            "dir/file",
            Entry {
                mode: 0o4750,
                ..Entry::file("text")
            },
        ),
        ("link", Entry::symlink("dir/file")),
        ("char", Entry::new(0o600, Kind::CharDevice { major, minor })),
        (
            "block",
            Entry::new(0o600, Kind::BlockDevice { major, minor }),
        ),
        ("fifo", Entry::new(0o600, Kind::Fifo)),
        (
            "twin-1",
            Entry {
                mode: 0o600,
                ..Entry::file("both")
            },
        ),
    ] {
        expected.insert(path, owned(entry)).unwrap();
    }
    expected.link("twin-1", "twin-2").unwrap();
    for (name, bytes) in packed(&archive(&items)) {
        assert_eq!(
            listing(&read(&bytes).unwrap()),
            listing(&expected),
            "{name}"
        );
    }
}

#[test]
fn reads_any_sequence_of_archives() {
    let first = archive(&[file("a", "first"), file("b", "kept")]);
    let second = archive(&[file("a", "second"), file("c", "new")]);
    for (name, first) in packed(&first) {
        for (other, second) in packed(&second) {
            // Legacy LZ4 has no end mark: what is directly behind it could be the size of a block.
            let least = if name == "LZ4" { 4 } else { 0 };
            for zeros in [least, least + 1, 4, 512] {
                let bytes = [first.as_slice(), &vec![0; zeros], &second, &[0; 3]].concat();
                let tree = read(&bytes).unwrap();
                let found = ["a", "b", "c"].map(|path| text(&tree, path));
                assert_eq!(found, ["second", "kept", "new"], "{name} {zeros} {other}");
            }
        }
    }
    assert_eq!(listing(&read(b"").unwrap()), listing(&Tree::new()));
}

#[test]
fn follows_links_on_the_way_to_a_file() {
    let base = archive(&[
        item(1, 0o040755, 2, "usr/lib", b""),
        item(1, 0o120777, 1, "lib", b"usr/lib"),
        item(1, 0o120777, 1, "etc/initrd-release", b"/lib/initrd-release"),
        item(1, 0o120777, 1, "etc/os-release", b"initrd-release"),
    ]);
    let more = archive(&[file("lib/initrd-release", "ID=x\n")]);
    let tree = read(&[base, more].concat()).unwrap();
    let found = tree.resolve("etc/os-release").unwrap();
    assert_eq!(found, b"usr/lib/initrd-release");
    assert_eq!(text(&tree, "usr/lib/initrd-release"), "ID=x\n");
}

#[test]
fn refuses_paths_that_lead_outside() {
    for path in [
        "/etc/passwd",
        "../a",
        "a/../../b",
        "a/..",
        "..",
        "./../a",
        "",
    ] {
        let error = read(&archive(&[file(path, "")])).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{path}`: ")), "{error}");
    }
    let cases = [
        (
            item(1, 0o140755, 1, "s", b""),
            "`s`: is a socket, which no image can hold",
        ),
        (
            item(1, 0o150755, 1, "s", b""),
            "`s`: file type 150000 is unknown",
        ),
    ];
    for (item, expected) in cases {
        assert_eq!(read(&archive(&[item])).unwrap_err().to_string(), expected);
    }
}

#[test]
fn says_where_it_breaks() {
    let mut not_hexadecimal = archive(&[file("a", "")]);
    not_hexadecimal[14] = b'+';
    let good = archive(&[file("a", "content")]);
    let cases = [
        (
            b"hello".to_vec(),
            "at byte 0: archive ends without its trailer",
        ),
        (
            [b"\0\0\0\0".as_slice(), &[b'x'; 200]].concat(),
            "at byte 4: neither a newc cpio archive nor a known compression",
        ),
        (
            not_hexadecimal,
            "at byte 0: a number in the header is not hexadecimal",
        ),
        (good[..111].to_vec(), "at byte 110: path is truncated"),
        (good[..115].to_vec(), "at byte 112: content is truncated"),
        (
            good[..150].to_vec(),
            "at byte 120: archive ends without its trailer",
        ),
        (
            [good.as_slice(), b"070707"].concat(),
            "at byte 512: archive ends without its trailer",
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(read(&bytes).unwrap_err().to_string(), expected);
    }
    let inner = zstd::encode_all(&good[..115], 3).unwrap();
    let message = read(&[good.as_slice(), &inner].concat())
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "at byte 512: zstd archive, at byte 112 when unpacked: content is truncated"
    );
}

#[test]
fn refuses_damaged_and_endless_streams() {
    let good = archive(&[
        file("a", "content"),
        item(1, 0o100644, 1, "zeros", &[0; 100_000]),
    ]);
    for (name, bytes) in packed(&good).into_iter().skip(1) {
        let error = read(&bytes[..bytes.len() / 2]).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("at byte 0: {name} archive: ")),
            "{error}"
        );
        let error = read_limited(&bytes, good.len() - 1)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            format!("at byte 0: {name} archive: unpacks to more than 2 GiB in all")
        );
        assert!(read_limited(&bytes, good.len()).is_ok(), "{name}");
        let twice = [bytes.as_slice(), &[0; 4], &bytes].concat();
        assert!(read_limited(&twice, good.len()).is_err(), "{name}");
    }
}

proptest! {
    /// Any bytes after any magic give a tree or an error, never more.
    #[test]
    fn survives_any_bytes(which in 0..8_usize, bytes in vec(any::<u8>(), 0..300)) {
        let magics: [&[u8]; 8] = [
            b"",
            b"070701",
            b"\x1f\x8b\x08",
            b"BZh9",
            b"\x5d\0\0\x80",
            b"\xfd7zXZ\0",
            b"\x02\x21\x4c\x18",
            b"\x28\xb5\x2f\xfd",
        ];
        let _ = read(&[magics[which], &bytes].concat());
    }

    /// The same for a damaged archive.
    #[test]
    fn survives_damage(
        which in 0..7_usize,
        changes in vec((any::<usize>(), any::<u8>()), 0..6),
        cut in any::<usize>(),
    ) {
        let items = [item(1, 0o040755, 2, "a", b""), item(2, 0o120777, 1, "l", b"a"), item(3, 0o100644, 2, "l/b", b"c")];
        let (_, mut bytes) = packed(&archive(&items)).swap_remove(which);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(cut % (2 * bytes.len()));
        let _ = read(&bytes);
    }
}
