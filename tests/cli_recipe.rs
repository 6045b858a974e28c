//! Recipes as a user meets them: what is taken of a system, what is refused, what is said.

#![cfg(test)]

#[path = "support/uki.rs"]
mod uki;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use tempfile::TempDir;
use uki::{initrd, pe_file};

/// A system, a UKI made from it, and a recipe of one's own.
struct Room(TempDir);

const RECIPE: &str = "summary = \"A tool\"\nprograms = [\"tool\"]\nfiles = [\"etc/tool.conf\"]\nstart = [\"tool.service\"]\n";
const UNIT: &str =
    "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/usr/bin/tool\n";

impl Room {
    fn new() -> Self {
        let room = Self(TempDir::new().unwrap());
        room.write("root/usr/bin/tool", "#!/bin/sh\n");
        room.write("root/usr/bin/sh", "shell");
        room.write("root/etc/tool.conf", "x=1\n");
        room.write("recipes/tool/recipe.toml", RECIPE);
        room.write(
            "recipes/tool/tree/usr/lib/systemd/system/tool.service",
            UNIT,
        );
        let archive = initrd(&[
            ("bin/sh", b"shell"),
            ("etc/os-release", b"ID=vendor\nVERSION_ID=1\n"),
            ("usr/bin/sh", b"shell"),
        ]);
        let uki = pe_file(&[(".linux", b"kernel"), (".initrd", &archive)]);
        fs::write(room.0.path().join("vendor.efi"), uki).unwrap();
        room
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Standard output and error, and the status.
    fn run(&self, arguments: &str) -> (String, String, i32) {
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/ddi/keys");
        let arguments = arguments.replace("KEYS", keys.to_str().unwrap());
        let output = Command::cargo_bin("ukikit")
            .unwrap()
            .current_dir(self.0.path())
            .args(arguments.split(' '))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            text(output.stdout),
            text(output.stderr),
            output.status.code().unwrap(),
        )
    }

    fn build(&self, more: &str) -> (String, String, i32) {
        self.run(&format!(
            "ext build --name=tool --root=root --recipes=recipes --uki=vendor.efi --private-key=KEYS/rsa2048.key \
             --certificate=KEYS/rsa2048.crt --output=tool.sysext.raw {more}"
        ))
    }
}

#[test]
fn a_recipe_of_ones_own_becomes_an_extension() {
    let room = Room::new();
    let (shown, notes, status) = room.build("--recipe=tool --explain");
    assert_eq!(
        notes,
        "copy  etc/tool.conf -> usr/share/factory/etc/tool.conf, from there by systemd-tmpfiles\n\
         keep  usr/bin/tool\n\
         keep  usr/lib/systemd/system/tool.service\n"
    );
    assert_eq!(status, 0);
    for line in [
        "release    ID=vendor\n",
        "           VERSION_ID=1\n",
        "           EXTENSION_RELOAD_MANAGER=1\n",
    ] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
    let verified =
        room.run("ext verify --certificate=KEYS/rsa2048.crt --base=vendor.efi tool.sysext.raw");
    assert_eq!(verified.2, 0, "{}", verified.0);
}

#[test]
fn what_would_not_work_is_refused() {
    let refused = |change: &dyn Fn(&Room), sentence: &str| {
        let room = Room::new();
        change(&room);
        let (shown, notes, status) = room.build("--recipe=tool");
        assert_eq!((shown.as_str(), notes.as_str(), status), ("", sentence, 1));
        assert!(!room.0.path().join("tool.sysext.raw").exists());
    };
    refused(
        &|room| {
            room.write(
                "recipes/tool/recipe.toml",
                "summary = \"x\"\nprogram = []\n",
            )
        },
        "error: `recipes/tool/recipe.toml`: unknown field `program`, expected one of `summary`, `documentation`, `needs`, `dracut`, \
         `programs`, `files`, `drivers`, `optional-drivers`, `start`, `credential`\n\nhint: see ukikit recipe list\n",
    );
    refused(
        &|room| fs::remove_file(room.0.path().join("root/usr/bin/tool")).unwrap(),
        "error: recipe `tool`: the system at `root` has no program tool\n",
    );
    refused(
        &|room| {
            room.write(
                "recipes/tool/recipe.toml",
                "summary = \"x\"\nprograms = [\"sh\"]\n",
            );
            room.write("root/usr/bin/sh", "newer");
        },
        "error: not an extension of this base:\n  usr/bin/sh: differs from the base's: a changed copy would replace it for all; \
         it was built from another version, or needs a drop-in\n",
    );
    refused(
        &|room| {
            let unit = "[Service]\nExecStart=/usr/bin/nothing\n";
            room.write(
                "recipes/tool/tree/usr/lib/systemd/system/tool.service",
                unit,
            );
        },
        "error: would not work in this base:\n  usr/lib/systemd/system/tool.service: starts /usr/bin/nothing, which neither the base nor the extension has\n",
    );
}

#[test]
fn a_recipe_needs_a_base() {
    let room = Room::new();
    let (_, notes, status) = room.run(
        "ext build --name=tool --recipe=lvm --private-key=KEYS/rsa2048.key --certificate=KEYS/rsa2048.crt --output=tool.raw",
    );
    assert_eq!(
        notes,
        "error: what an extension has to bring depends on the initrd it is for\n\nhint: give --uki= or, with an initrd, --base=\n"
    );
    assert_eq!(status, 1);
}

#[test]
fn the_shipped_ones_are_listed() {
    let (shown, _, status) = Room::new().run("recipe list");
    assert_eq!(
        shown,
        "btrfs      Btrfs, on one disk or several\n\
         iscsi      Disks over iSCSI, with CHAP in both directions\n\
         lvm        Logical volumes, activated as their disks appear\n\
         mdraid     Linux software RAID, assembled as its disks appear\n\
         nbd        A disk over the network block device protocol\n\
         network    Ethernet, configured by systemd-networkd\n\
         recovery   Tools for the emergency shell: editor, disks, file systems, network\n"
    );
    assert_eq!(status, 0);
    let (shown, _, _) = Room::new().run("recipe show nbd");
    assert!(shown.contains("\ncredential nbd.target\n"), "{shown}");
    let (_, notes, status) = Room::new().run("recipe show fire");
    let expected = "error: there is no recipe `fire`\n\nhint: see ukikit recipe list\n";
    assert_eq!((notes.as_str(), status), (expected, 1));
}
