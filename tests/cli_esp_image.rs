//! `--esp-image=` from outside: an unmounted FAT partition, changed without root, as mkfs.fat, fsck.fat and mtools see it.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::fat::{Logged, assert_boots, assert_harmless, fsck, tree, tree_of, visible};
use support::uki::pe_file;
use support::{run, skip, succeed, text, ukikit};
use tempfile::TempDir;
use ukikit_esp::volume::Fat;
use ukikit_esp::{Changes, Error, Esp, File, Placing};

const UKI: &str = "EFI/Linux/vendor+3-0.efi";

/// A directory with images in it.
struct Room(TempDir);

impl Room {
    /// `None`, said aloud, without the tools.
    fn new() -> Option<Self> {
        for tool in ["mkfs.fat", "fsck.fat", "mcopy", "sfdisk"] {
            let found = Command::new(tool).arg("--help").output();
            if found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                skip(&format!(
                    "images: {tool} is not there, tests/run installs it"
                ));
                return None;
            }
        }
        Some(Self(TempDir::new().unwrap()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// An image of so many KiB with a FAT of this width, and the vendor's UKI on it.
    fn bare(&self, name: &str, kib: u64, width: &str) -> PathBuf {
        let path = self.path(name);
        let image = fs::File::create(&path).unwrap();
        image.set_len(kib * 1024).unwrap();
        let path_text = path.to_str().unwrap();
        run(
            "mkfs.fat",
            [
                "-F",
                width,
                "-i",
                "12345678",
                "-s",
                "1",
                "--invariant",
                path_text,
            ],
        );
        self.fill(path_text);
        path
    }

    /// The same inside of a disk: a partition of something else, XBOOTLDR, then the ESP.
    fn disk(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let disk = fs::File::create(&path).unwrap();
        disk.set_len(16 << 20).unwrap();
        let table = "label: gpt\nstart=2048, size=2048, type=linux\nstart=4096, size=8192, type=BC13C2FF-59E6-4262-A352-B275FD6F7172\n\
                     start=12288, size=16384, type=uefi\n";
        fs::write(self.path("table"), table).unwrap();
        let command = format!(
            "sfdisk --quiet {0} <{1}",
            path.display(),
            self.path("table").display()
        );
        run("sh", ["-ec", &command]);
        for (offset, kib) in [("4096", 4096_u64), ("12288", 8192)] {
            let place = path.to_str().unwrap();
            run(
                "mkfs.fat",
                [
                    "-F",
                    "16",
                    "-s",
                    "1",
                    "--invariant",
                    "--offset",
                    offset,
                    place,
                    &kib.to_string(),
                ],
            );
        }
        self.fill(&format!("{}@@{}", path.display(), 12288 * 512));
        path
    }

    fn fill(&self, inside: &str) {
        let uki = pe_file(&[(".linux", b"kernel"), (".initrd", b"")]);
        fs::write(self.path("uki"), uki).unwrap();
        run("mmd", ["-i", inside, "::EFI", "::EFI/Linux"]);
        run(
            "mcopy",
            [
                "-i",
                inside,
                self.path("uki").to_str().unwrap(),
                &format!("::{UKI}"),
            ],
        );
    }

    fn ukikit(&self, arguments: &[&str]) -> Output {
        ukikit()
            .current_dir(self.0.path())
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Makes `demo.cred`.
    fn credential(&self) {
        fs::write(self.path("plain"), b"9 letters").unwrap();
        self.done(&[
            "cred",
            "encrypt",
            "--with-key=null",
            "--name=demo",
            "plain",
            "demo.cred",
        ]);
    }

    fn done(&self, arguments: &[&str]) -> String {
        text(&succeed(arguments[1], self.ukikit(arguments)))
    }
}

#[test]
fn every_verb_works_on_an_image_as_on_a_directory() {
    let Some(room) = Room::new() else { return };
    room.credential();
    let image = room.bare("esp.img", 2048, "12");
    let (before, option) = (fs::read(&image).unwrap(), "--esp-image=esp.img");
    let uki = "--uki=EFI/Linux/vendor.efi";

    let placed = room.done(&["esp", "place", option, uki, "demo.cred"]);
    assert_eq!(
        placed,
        "add      EFI/Linux/vendor.efi.extra.d/demo.cred (134 bytes)\n"
    );
    assert_eq!(fsck(&image), Vec::<String>::new());
    let mtools = run(
        "mtype",
        [
            "-i",
            image.to_str().unwrap(),
            "::EFI/Linux/vendor.efi.extra.d/demo.cred",
        ],
    );
    assert_eq!(mtools, fs::read(room.path("demo.cred")).unwrap());
    let listed = room.done(&["esp", "list", option]);
    assert!(listed.contains("demo.cred   134  ukikit"), "{listed}");
    let (checked, predicted) = (
        room.ukikit(&["check", option]),
        room.done(&["predict", option, uki, "--bank=sha256"]),
    );
    assert!(text(&checked.stdout).ends_with(" notes\n"), "{checked:?}");
    assert!(predicted.contains("12"), "{predicted}");

    let again = room.path("again.img");
    fs::write(&again, &before).unwrap();
    room.done(&["esp", "place", "--esp-image=again.img", uki, "demo.cred"]);
    assert_eq!(
        fs::read(again).unwrap(),
        fs::read(&image).unwrap(),
        "the same change gives the same bytes"
    );

    room.done(&["esp", "remove", option, uki, "demo.cred"]);
    assert_eq!(fsck(&image), Vec::<String>::new());
    room.done(&["esp", "undo", option]);
    room.done(&["esp", "undo", option]);
    assert_eq!(fsck(&image), Vec::<String>::new());
    assert_eq!(tree(&image), tree_of(before.clone()));
    // The table, which says what is taken, is as it was.
    assert_eq!(fs::read(&image).unwrap()[..8192], before[..8192]);
}

#[test]
fn the_partition_is_found_in_a_disk() {
    let Some(room) = Room::new() else { return };
    room.credential();
    let disk = room.disk("disk.img");
    let outside = |bytes: &[u8]| [&bytes[..12288 * 512], &bytes[28672 * 512..]].concat();
    let before = outside(&fs::read(&disk).unwrap());
    let option = "--esp-image=disk.img";
    room.done(&[
        "esp",
        "place",
        option,
        "--uki=EFI/Linux/vendor.efi",
        "demo.cred",
    ]);
    assert_eq!(
        outside(&fs::read(&disk).unwrap()),
        before,
        "nothing outside of the partition changes"
    );
    let inside = format!("{}@@{}", disk.display(), 12288 * 512);
    let listed = text(&run(
        "mdir",
        ["-b", "-i", &inside, "::EFI/Linux/vendor.efi.extra.d"],
    ));
    assert_eq!(listed, "::/EFI/Linux/vendor.efi.extra.d/demo.cred\n");

    // On XBOOTLDR if the UKI is there.
    let xbootldr = format!("{}@@{}", disk.display(), 4096 * 512);
    run("mmd", ["-i", &xbootldr, "::EFI", "::EFI/Linux"]);
    let uki = room.path("uki").display().to_string();
    run("mcopy", ["-i", &xbootldr, &uki, "::EFI/Linux/other.efi"]);
    room.done(&[
        "esp",
        "place",
        option,
        "--uki=EFI/Linux/other.efi",
        "demo.cred",
    ]);
    let listed = text(&run(
        "mdir",
        ["-b", "-i", &xbootldr, "::EFI/Linux/other.efi.extra.d"],
    ));
    assert_eq!(listed, "::/EFI/Linux/other.efi.extra.d/demo.cred\n");
}

#[test]
fn one_sentence_for_what_is_no_image() {
    let Some(room) = Room::new() else { return };
    fs::write(room.path("empty.img"), b"").unwrap();
    fs::write(room.path("text.img"), vec![b'x'; 4096]).unwrap();
    let mut none = vec![0; 1 << 20];
    none[512..520].copy_from_slice(b"EFI PART");
    none[584..588].copy_from_slice(&2_u32.to_le_bytes());
    none[592..600].copy_from_slice(&[4, 0, 0, 0, 128, 0, 0, 0]);
    fs::write(room.path("none.img"), none).unwrap();
    for (image, reason) in [
        (
            "empty.img",
            "cannot find an EFI system partition in `empty.img`: it is not a FAT file system",
        ),
        (
            "text.img",
            "cannot find an EFI system partition in `text.img`: it is not a FAT file system",
        ),
        (
            "none.img",
            "cannot find an EFI system partition in `none.img`: it has no EFI system partition",
        ),
        (
            "gone.img",
            "cannot read `gone.img`: No such file or directory",
        ),
    ] {
        let refused = room.ukikit(&["esp", "list", &format!("--esp-image={image}")]);
        assert_eq!(text(&refused.stderr), format!("error: {reason}\n"));
        assert_eq!(refused.status.code(), Some(1));
    }
}

fn files(list: &[(&str, usize)]) -> Vec<File> {
    let file = |&(path, size): &(&str, usize)| {
        File::new(path, vec![u8::try_from(size % 251).unwrap(); size])
    };
    list.iter().map(file).collect()
}

/// Eight files come or change: companions, a UKI, an entry.
fn update(esp: &Esp) -> Result<Changes, Error> {
    let new = files(&[
        ("EFI/Linux/vendor.efi.extra.d/fstab.extra.cred", 700),
        ("EFI/Linux/vendor.efi.extra.d/iscsi.sysext.raw", 5000),
        ("EFI/Linux/new.efi", 3000),
        ("EFI/Linux/new.efi.extra.d/fstab.extra.cred", 300),
        ("loader/addons/quiet.addon.efi", 2048),
        ("loader/credentials/all.cred", 10),
        ("loader/entries/new.conf", 50),
        ("loader/extensions/all.sysext.raw", 1025),
    ]);
    esp.put(new, &Placing::new())
}

#[test]
fn after_each_write_it_is_the_old_or_the_new_set() {
    let Some(room) = Room::new() else { return };
    for (width, kib) in [("12", 1024), ("16", 4096), ("32", 36 * 1024)] {
        let image = room.bare("esp.img", kib, width);
        let first = Logged::new(fs::read(&image).unwrap());
        let esp = Esp::on(Fat::open(first.clone()).unwrap(), Path::new("esp")).keep_free(0);
        let ours = files(&[
            ("EFI/Linux/vendor.efi.extra.d/fstab.extra.cred", 1200),
            ("EFI/Linux/vendor.efi.extra.d/gone.cred", 20),
            ("loader/credentials/all.cred", 600),
        ]);
        esp.put(ours, &Placing::new()).unwrap().apply(&esp).unwrap();
        let start = first.bytes.lock().unwrap().clone();
        let old = tree_of(start.clone());

        let medium = Logged::new(start.clone());
        let esp = Esp::on(Fat::open(medium.clone()).unwrap(), Path::new("esp")).keep_free(0);
        update(&esp).unwrap().apply(&esp).unwrap();
        let new = tree_of(medium.bytes.lock().unwrap().clone());
        let log = medium.log.lock().unwrap().clone();
        assert!(log.len() > 150, "{}", log.len());

        // The wide one is a large image: it is enough to look at some of its states with fsck.fat.
        let every = if width == "32" { 8 } else { 1 };
        let mut state = start;
        let (mut as_old, mut as_new) = (0, 0);
        for (number, (place, bytes)) in log.iter().enumerate() {
            state[*place..place + bytes.len()].copy_from_slice(bytes);
            if number % every > 0 {
                continue;
            }
            assert_harmless(&image, &state, &format!("FAT{width}, write {number}"));
            let cut = Logged::new(state.clone());
            assert_boots(&tree_of(state.clone()), &old, &new);
            let esp = Esp::on(Fat::open(cut.clone()).unwrap(), Path::new("esp")).keep_free(0);
            esp.recover()
                .unwrap_or_else(|error| panic!("FAT{width}, write {number}: {error}"));
            let now = tree_of(cut.bytes.lock().unwrap().clone());
            if now == old {
                as_old += 1;
            } else {
                assert_eq!(
                    visible(now),
                    visible(new.clone()),
                    "FAT{width}, write {number}"
                );
                as_new += 1;
                esp.undo().unwrap().apply(&esp).unwrap();
                assert_eq!(
                    tree_of(cut.bytes.lock().unwrap().clone()),
                    old,
                    "FAT{width}, write {number}"
                );
            }
        }
        assert!(as_old > 5 && as_new > 2, "{as_old} old, {as_new} new");
        fs::write(&image, &state).unwrap();
        assert_eq!(fsck(&image), Vec::<String>::new());
    }
}
