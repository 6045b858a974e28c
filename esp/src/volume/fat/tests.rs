//! FAT in memory: what is written reads back, and each prefix of the writes is a file system.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use super::Fat;
use crate::volume::{Blocks, NodeKind, Volume};

/// A medium in memory that remembers what was written; a clone is the same one.
#[derive(Debug, Clone)]
struct Medium(Arc<Mutex<Vec<u8>>>);

impl Blocks for Medium {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn read_at(&self, place: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.lock().unwrap();
        let found = bytes
            .get(at(place)..)
            .and_then(|bytes| bytes.get(..buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, place: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap()[at(place)..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }
}

fn at(place: u64) -> usize {
    usize::try_from(place).unwrap()
}

/// An empty file system of so many sectors in clusters of one.
fn formatted(sectors: u32, wide: bool) -> Medium {
    let table = sectors.div_ceil(if wide { 128 } else { 256 }) + 1;
    let mut bytes = vec![0; at(u64::from(sectors) * 512)];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(11, &512_u16.to_le_bytes());
    put(13, &[1]);
    put(14, &32_u16.to_le_bytes());
    put(16, &[2]);
    put(32, &sectors.to_le_bytes());
    put(510, &[0x55, 0xaa]);
    if wide {
        put(36, &table.to_le_bytes());
        put(44, &2_u32.to_le_bytes());
        put(48, &1_u16.to_le_bytes());
        put(512, b"RRaA");
        put(512 + 484, b"rrAa");
        put(512 + 488, &u32::MAX.to_le_bytes());
        put(32 * 512 + 8, &0x0fff_ffff_u32.to_le_bytes());
    } else {
        put(17, &64_u16.to_le_bytes());
        put(22, &u16::try_from(table).unwrap().to_le_bytes());
    }
    Medium(Arc::new(Mutex::new(bytes)))
}

/// FAT12, FAT16 and FAT32.
fn all() -> [Medium; 3] {
    [
        formatted(2000, false),
        formatted(6000, false),
        formatted(70_000, true),
    ]
}

type Tree = BTreeMap<String, Option<Vec<u8>>>;

fn tree(fat: &Fat) -> Tree {
    let mut found = Tree::new();
    let mut left = vec![String::new()];
    while let Some(directory) = left.pop() {
        for node in fat.list(&directory).unwrap() {
            let path = crate::esp::join(&directory, &node.name);
            if node.kind == NodeKind::Directory {
                left.push(path.clone());
                found.insert(path, None);
            } else {
                found.insert(path.clone(), Some(read(fat, &path)));
            }
        }
    }
    found
}

fn read(fat: &Fat, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    fat.open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn write(fat: &Fat, path: &str, content: &[u8]) -> io::Result<()> {
    let mut sink = fat.create(path, false)?;
    sink.write_all(content)?;
    sink.sync()
}

#[test]
fn everything_reads_back_and_goes_without_a_trace() {
    for medium in all() {
        let empty = medium.0.lock().unwrap().clone();
        let fat = Fat::open(medium.clone()).unwrap();
        let free = fat.space().unwrap();
        let lock = fat.lock().unwrap();
        let long = format!("{}.sysext.raw", "n".repeat(240));
        let mut expected = Tree::new();
        for (directory, name, size) in [
            ("EFI", "BOOTX64.EFI", 0),
            ("EFI/Linux", "vendor+3-0.efi", 1300),
            ("loader", "loader.conf", 512),
            ("EFI/Linux/vendor.efi.extra.d", "fstab.extra.cred", 5),
            ("EFI/Linux/vendor.efi.extra.d", long.as_str(), 9000),
            ("EFI/Linux/vendor.efi.extra.d", "\u{e9}\u{1f600}.txt", 1),
        ] {
            if !expected.contains_key(directory) {
                fat.make_directory(directory).unwrap();
                expected.insert(directory.into(), None);
            }
            let path = format!("{directory}/{name}");
            let content: Vec<u8> = (0..size).map(|byte: u32| byte.to_le_bytes()[0]).collect();
            write(&fat, &path, &content).unwrap();
            expected.insert(path, Some(content));
        }
        assert_eq!(tree(&fat), expected);
        assert_eq!(tree(&Fat::open(medium.clone()).unwrap()), expected);

        let again = write(&fat, "loader/LOADER.conf", b"").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let full = fat.remove_directory("loader").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::DirectoryNotEmpty);
        fat.rename(
            "EFI/Linux/vendor.efi.extra.d/fstab.extra.cred",
            "loader/loader.conf",
        )
        .unwrap();
        assert_eq!(read(&fat, "loader/loader.conf"), [0, 1, 2, 3, 4]);
        fat.rename("loader/loader.conf", "moved").unwrap();
        assert_eq!(read(&fat, "moved"), [0, 1, 2, 3, 4]);

        let mut paths: Vec<(String, bool)> = tree(&fat)
            .into_iter()
            .map(|(path, content)| (path, content.is_some()))
            .collect();
        paths.reverse();
        for (path, file) in paths {
            let removed = if file {
                fat.remove(&path)
            } else {
                fat.remove_directory(&path)
            };
            removed.unwrap();
        }
        assert_eq!(tree(&fat), Tree::new());
        drop(lock);
        assert_eq!(fat.space().unwrap(), free);
        // The table and the boot sector are as they were; names and contents are left where they are free.
        assert_eq!(medium.0.lock().unwrap()[..500], empty[..500]);
        let (table, end) = (32 * 512, 40 * 512);
        assert_eq!(medium.0.lock().unwrap()[table..end], empty[table..end]);
    }
}

/// One process looks, another changes, then the first does: on what is there by then.
#[test]
fn what_others_changed_before_it_was_locked_is_seen() {
    for medium in all() {
        let (first, second) = (
            Fat::open(medium.clone()).unwrap(),
            Fat::open(medium.clone()).unwrap(),
        );
        let free = first.space().unwrap();
        let lock = second.lock().unwrap();
        write(&second, "theirs", &[1; 2000]).unwrap();
        drop(lock);
        let lock = first.lock().unwrap();
        write(&first, "ours", &[2; 2000]).unwrap();
        drop(lock);
        let expected = [("ours", 2), ("theirs", 1)];
        let expected = expected.map(|(name, byte)| (name.to_owned(), Some(vec![byte; 2000])));
        assert_eq!(tree(&Fat::open(medium).unwrap()), Tree::from(expected));
        assert_eq!(free.free - first.space().unwrap().free, 8 * 512);
    }
}

#[test]
fn a_directory_grows_and_the_medium_fills() {
    for medium in all() {
        let fat = Fat::open(medium.clone()).unwrap();
        fat.make_directory("d").unwrap();
        for number in 0..100 {
            write(&fat, &format!("d/a long name of a file {number}"), b"x").unwrap();
        }
        assert_eq!(fat.list("d").unwrap().len(), 100);
        let before = tree(&fat);
        let free = fat.space().unwrap().free;
        let error = write(&fat, "d/too large", &vec![0; at(free) + 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(fat.space().unwrap().free, free);
        assert_eq!(tree(&fat), before);
    }
}

#[test]
fn what_is_no_file_system_is_refused() {
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let medium = formatted(2000, false);
        change(&mut medium.0.lock().unwrap());
        Fat::open(medium).unwrap_err().to_string()
    };
    let none = "it is not a FAT file system";
    assert_eq!(refused(&|bytes| bytes[510] = 0), none);
    assert_eq!(refused(&|bytes| bytes[13] = 3), none);
    assert_eq!(refused(&|bytes| bytes.truncate(511)), none);
    let parts = "its parts do not fit in it";
    assert_eq!(refused(&|bytes| bytes.truncate(1024)), parts);
    assert_eq!(refused(&|bytes| bytes[16] = 0), parts);
    assert_eq!(
        refused(&|bytes| bytes[22..24].copy_from_slice(&[1, 0])),
        "its table is too small for its clusters"
    );
}

/// A chain without an end, a directory in itself: one sentence each, and no endless work.
#[test]
fn circles_are_found() {
    let medium = formatted(6000, false);
    let fat = Fat::open(medium.clone()).unwrap();
    fat.make_directory("a").unwrap();
    fat.make_directory("a/b").unwrap();
    write(&fat, "a/file", &[7; 1024]).unwrap();
    let table = 32 * 512;
    // Clusters 2 and 3 are the directories, 4 and 5 the file.
    medium.0.lock().unwrap()[table + 10..table + 12].copy_from_slice(&4_u16.to_le_bytes());
    let fat = Fat::open(medium.clone()).unwrap();
    let error = fat.open("a/file").map(drop).unwrap_err();
    assert_eq!(error.to_string(), "a chain of clusters has no end");

    let start = fat.list("").unwrap().len();
    assert_eq!(start, 1);
    let data = {
        let bytes = medium.0.lock().unwrap();
        bytes
            .windows(4)
            .position(|window| window == b"B~1 ")
            .unwrap()
    };
    medium.0.lock().unwrap()[data + 26] = 2;
    let error = Fat::open(medium).unwrap().list("a/b").unwrap_err();
    assert_eq!(error.to_string(), "a directory lies in itself");
}
