//! Trees to build extensions from. Making devices, capabilities and owners needs root.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::support::run;

/// The least an extension has: its release file and one file.
pub(crate) fn small(tree: &Path) {
    write(
        tree,
        "usr/lib/extension-release.d/extension-release.feature",
        b"ID=_any\nSYSEXT_SCOPE=initrd\n",
    );
    write(tree, "usr/lib/feature/data", b"a feature\n");
}

/// All a file system can hold and an extension may. Everything can be read by every user.
pub(crate) fn everything(tree: &Path) {
    small(tree);
    files_of_every_size(tree);
    files_to_compress(tree);
    files_with_holes(tree);
    links(tree);
    names(tree);
    special_files(tree);
    attributes(tree);
}

fn write(tree: &Path, path: impl AsRef<Path>, content: &[u8]) {
    let path = tree.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Around the block size, where tails go inline or not, and one of several MiB.
pub(crate) fn files_of_every_size(tree: &Path) {
    for size in [0, 1, 4000, 4095, 4096, 4097, 8192, 12_345, 65_536, 9 << 20] {
        write(tree, format!("usr/lib/feature/sizes/{size}"), &noise(size));
    }
}

/// Small and large ones, alone and in several copies; the large one is noise, text and noise again.
pub(crate) fn files_to_compress(tree: &Path) {
    let text = |size: usize| -> Vec<u8> {
        let lines = (0..).flat_map(|line| format!("line {line} of many\n").into_bytes());
        lines.take(size).collect()
    };
    for size in [1, 40, 5000, 40_000, 300_000, 1 << 20, (1 << 20) + 1] {
        write(tree, format!("usr/lib/feature/text/{size}"), &text(size));
        write(tree, format!("usr/lib/feature/again/{size}"), &text(size));
    }
    let mixed = [noise(700_000), text(3_000_000), noise(700_001)].concat();
    write(tree, "usr/lib/feature/mixed", &mixed);
    write(tree, "usr/lib/feature/mixed-again", &mixed);
}

/// Zeros between data, at the end and alone, once more in a copy, and the ends of files that are no multiples of anything.
pub(crate) fn files_with_holes(tree: &Path) {
    let zeros = |size| vec![0; size];
    let parts = [
        noise(100_000),
        zeros(5 << 20),
        noise(300_000),
        zeros(3 << 20),
    ];
    let holes = parts.concat();
    for name in ["holes", "holes-again"] {
        write(tree, format!("usr/lib/feature/{name}"), &holes);
    }
    for size in [4096, 65_536, 2 << 20, (2 << 20) + 77] {
        write(tree, format!("usr/lib/feature/zeros/{size}"), &zeros(size));
    }
}

/// Bytes that repeat nothing, from a small generator of their own: the same every time.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..size.div_ceil(8))
        .flat_map(|_| next())
        .take(size)
        .collect()
}

pub(crate) fn links(tree: &Path) {
    let feature = tree.join("usr/lib/feature");
    symlink("data", feature.join("relative")).unwrap();
    symlink("/usr/lib/nowhere", feature.join("dangling")).unwrap();
    symlink("../../share", feature.join("upwards")).unwrap();
    symlink("x".repeat(4000), feature.join("long")).unwrap();
    fs::hard_link(feature.join("data"), feature.join("hard")).unwrap();
    fs::create_dir_all(tree.join("usr/share")).unwrap();
    fs::hard_link(feature.join("data"), tree.join("usr/share/hard-elsewhere")).unwrap();
}

pub(crate) fn names(tree: &Path) {
    for number in 0..3000 {
        write(
            tree,
            format!("usr/share/many/entry-{number:04}-with-a-name-of-some-length"),
            b"",
        );
    }
    fs::create_dir_all(tree.join("usr/share/empty")).unwrap();
    write(
        tree,
        OsStr::from_bytes(b"usr/share/names/latin1-\xe4\xf6\xfc"),
        b"1",
    );
    write(
        tree,
        OsStr::from_bytes(b"usr/share/names/bytes-\xff\xfe"),
        b"2",
    );
    write(tree, "usr/share/names/white space\nand line", b"3");
    write(tree, format!("usr/share/names/{}", "n".repeat(255)), b"4");
}

pub(crate) fn special_files(tree: &Path) {
    let at = |name: &str| {
        tree.join("usr/share/special")
            .join(name)
            .display()
            .to_string()
    };
    fs::create_dir_all(tree.join("usr/share/special")).unwrap();
    run("mknod", [&at("null"), "c", "1", "3"]);
    run("mknod", [&at("block"), "b", "259", "65537"]);
    run("mkfifo", [&at("fifo")]);
}

pub(crate) fn attributes(tree: &Path) {
    let file = |name: &str, mode: u32| {
        write(tree, format!("usr/bin/{name}"), b"#!/bin/sh\n");
        let path = tree.join("usr/bin").join(name);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    file("setuid", 0o4755);
    file("setgid", 0o2755);
    run(
        "setcap",
        ["cap_net_raw,cap_net_admin+ep", &file("capable", 0o755)],
    );
    let attributed = file("attributed", 0o755);
    run(
        "setfattr",
        ["--name=user.note", "--value=hello", &attributed],
    );
    let empty = file("empty-attribute", 0o755);
    run("setfattr", ["--name=user.empty", "--value=", &empty]);
    run(
        "setfattr",
        [
            "--name=user.long",
            &format!("--value={}", "v".repeat(2000)),
            &attributed,
        ],
    );
    for number in 0..5 {
        let same = file(&format!("same-attribute-{number}"), 0o755);
        run("setfattr", ["--name=user.same", "--value=as others", &same]);
    }
    let directory = tree.join("usr/share/sticky");
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o1777)).unwrap();
    run(
        "setfattr",
        [
            "--name=user.directory",
            "--value=yes",
            &directory.display().to_string(),
        ],
    );
}
