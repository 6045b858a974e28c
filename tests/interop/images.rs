//! Our extension images through every real checker: systemd-dissect, sfdisk, fsck.erofs, unsquashfs, veritysetup, openssl
//! and the kernel's own mount, compared with the tree they were built from.

#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod addons;
mod matrix;
mod snapshot;
mod trees;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use snapshot::{assert_same, snapshot};
use support::systemd::{Room, Systemd};
use support::{run, succeed, text, ukikit, vector};
use tempfile::TempDir;

/// What the initrd demands of an image that lies beside the UKI.
const INITRD_POLICY: &str = "--image-policy=root=signed+absent:usr=signed+absent";

/// A signing key and its certificate.
struct Signer {
    name: &'static str,
    key: PathBuf,
    certificate: PathBuf,
}

/// All at once, at more levels of the codecs than the matrix has.
#[test]
fn the_kernel_and_fsck_read_back_the_whole_tree() {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let place = TempDir::new().unwrap();
    let tree = place.path().join("tree");
    trees::everything(&tree);
    let expected = snapshot(&tree);
    let mut expected_of_fsck = expected.clone();
    // fsck.erofs 1.9.4 gives up on an attribute without a value, in images of its own mkfs too.
    expected_of_fsck.remove("usr/bin/empty-attribute").unwrap();
    for codec in ["none", "lz4,12", "zstd", "zstd,19"] {
        let room = systemd.room();
        let signer = vector_signer("rsa2048");
        build(&tree, &signer, codec, &room.path("feature.sysext.raw"));
        check(&room, &signer, "erofs");
        assert_same(&snapshot(&mounted(&room, "erofs")), &expected, codec);
        let mut extracted = snapshot(&extracted(&room, "erofs"));
        extracted.remove("usr/bin/empty-attribute").unwrap();
        assert_same(&extracted, &expected_of_fsck, codec);
    }
}

/// Over 4 GiB, nearly all of it a hole: neither the image nor the time has this size.
#[test]
fn full_a_file_of_more_than_4_gib_takes_no_room() {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let place = TempDir::new().unwrap();
    let tree = place.path().join("tree");
    trees::small(&tree);
    let size = (4 << 30) + 12_345;
    let large = tree.join("usr/lib/feature/large");
    let file = fs::File::create(&large).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(b"in the middle", 3 << 30).unwrap();
    file.write_all_at(b"the end", size - 7).unwrap();
    let signer = vector_signer("rsa2048");
    for (codec, limit) in [("none", 2 << 20), ("lz4", 16 << 20), ("zstd", 16 << 20)] {
        let room = systemd.room();
        let image = room.path("feature.sysext.raw");
        build(&tree, &signer, codec, &image);
        assert!(fs::metadata(&image).unwrap().len() < limit, "{codec}");
        check(&room, &signer, "erofs");
        let script = "mkdir mount; mount -t erofs -o ro,loop data mount; cmp \"$1\" mount/usr/lib/feature/large";
        in_private_mounts(&room, script, large.to_str().unwrap());
    }
}

/// On a file system of one megabyte: for the image, and for what mksquashfs makes on the way.
#[test]
fn a_full_disk_gets_one_sentence_and_no_file() {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let room = systemd.room();
    let tree = room.path("tree");
    trees::small(&tree);
    trees::files_of_every_size(&tree);
    let signer = vector_signer("rsa2048");
    let build = |place: &str, format: &str| {
        let mut build = Command::new("unshare");
        build.args(["--mount", "--propagation", "private", "sh", "-euc"]);
        let script = "mount -t tmpfs -o size=1m tmpfs disk; status=0; \"$@\" || status=$?; ls -A disk; exit $status";
        build.args([script, "-", env!("CARGO_BIN_EXE_ukikit")]);
        let image = room.path(place).join("feature.sysext.raw");
        let mut build = build_command(build, &tree, &signer, "zstd", &image);
        build.arg(format!("--format={format}"));
        build.current_dir(room.directory());
        build.env("TMPDIR", room.path("disk"));
        build.output().unwrap()
    };
    fs::create_dir(room.path("disk")).unwrap();
    let image = room.path("disk/feature.sysext.raw");
    for (place, format, error) in [
        (
            "disk",
            "erofs",
            format!(
                "cannot write `{}`: No space left on device",
                image.display()
            ),
        ),
        (
            ".",
            "squashfs",
            "mksquashfs: Write failed because No space left on device".to_owned(),
        ),
    ] {
        let output = build(place, format);
        assert_eq!(
            (
                output.status.code(),
                text(&output.stdout),
                text(&output.stderr)
            ),
            (Some(1), String::new(), format!("error: {error}\n")),
        );
        assert!(!room.path(place).join("feature.sysext.raw").exists());
    }
}

#[test]
fn the_same_tree_gives_the_same_squashfs() {
    let place = TempDir::new().unwrap();
    let (tree, other) = (place.path().join("tree"), place.path().join("other"));
    trees::everything(&tree);
    copy_in_reverse(&tree, &other);
    let signer = vector_signer("rsa2048");
    let images = [(&tree, "first"), (&other, "second")].map(|(tree, name)| {
        let directory = place.path().join(name);
        fs::create_dir(&directory).unwrap();
        let image = directory.join("feature.sysext.raw");
        let mut build = build_command(ukikit(), tree, &signer, "zstd", &image);
        succeed(name, build.arg("--format=squashfs").output().unwrap());
        fs::read(image).unwrap()
    });
    assert!(images[0] == images[1]);
}

#[test]
fn the_same_tree_gives_the_same_bytes_whoever_builds_it() {
    let Some(_) = Systemd::find(262) else { return };
    let place = TempDir::new().unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    let (tree, other) = (place.path().join("tree"), place.path().join("other"));
    trees::everything(&tree);
    copy_in_reverse(&tree, &other);
    // Both users must get at the program, the key and the certificate.
    let program = place.path().join("ukikit");
    fs::copy(env!("CARGO_BIN_EXE_ukikit"), &program).unwrap();
    let signer = vector_signer("rsa2048");
    let key = place.path().join("key");
    fs::copy(&signer.key, &key).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let signer = Signer { key, ..signer };

    let images =
        ["first", "second", "third"].map(|name| place.path().join(name).join("feature.sysext.raw"));
    for image in &images {
        let directory = image.parent().unwrap();
        fs::create_dir(directory).unwrap();
        fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
    }
    build(&tree, &signer, "zstd", &images[0]);
    build(&other, &signer, "zstd", &images[1]);
    let mut nobody = Command::new("setpriv");
    nobody
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program);
    succeed(
        "ukikit as another user",
        build_command(nobody, &tree, &signer, "zstd", &images[2])
            .output()
            .unwrap(),
    );

    let bytes = images.map(|image| fs::read(image).unwrap());
    assert!(
        bytes[0] == bytes[1],
        "another listing order gives other bytes"
    );
    assert!(bytes[0] == bytes[2], "another user gives other bytes");
}

fn build(tree: &Path, signer: &Signer, codec: &str, image: &Path) {
    let mut command = build_command(ukikit(), tree, signer, codec, image);
    let output = command.output().unwrap();
    succeed(&format!("ext build with {}, {codec}", signer.name), output);
}

fn build_command(
    mut program: Command,
    tree: &Path,
    signer: &Signer,
    codec: &str,
    image: &Path,
) -> Command {
    program.args(["ext", "build", "--name=feature"]);
    program.arg(format!("--compress={codec}"));
    for (option, path) in [
        ("output", image),
        ("tree", tree),
        ("private-key", &signer.key),
        ("certificate", &signer.certificate),
    ] {
        program.arg(format!("--{option}={}", path.display()));
    }
    program
}

/// Runs the checkers over `feature.sysext.raw` of the room, and leaves its pieces there: `data`, `hash`.
fn check(room: &Room, signer: &Signer, format: &str) {
    let image = "feature.sysext.raw";
    let pass = |program: &str, arguments: &[&str]| {
        text(&succeed(
            &format!("{program} ({})", signer.name),
            room.run(program, arguments),
        ))
    };
    pass("systemd-dissect", &["--validate", INITRD_POLICY, image]);
    let seen: Value =
        serde_json::from_str(&pass("systemd-dissect", &["--json=short", image])).unwrap();
    assert_eq!(seen["useInitRDSystemExtension"], true, "{seen}");
    let data = seen["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|mount| mount["designator"] == "root");
    assert_eq!(data.unwrap()["verity"], "signed", "{seen}");

    let verified = pass("sfdisk", &["--verify", image]);
    assert!(verified.contains("No errors detected"), "{verified}");
    let signature = split(room, image, &pass("sfdisk", &["--json", image]));
    let root_hash = signature["rootHash"].as_str().unwrap();
    pass("veritysetup", &["verify", "data", "hash", root_hash]);
    if format == "erofs" {
        pass("fsck.erofs", &["data"]);
    }

    fs::copy(&signer.certificate, room.path("certificate")).unwrap();
    room.write("root-hash", root_hash.as_bytes());
    room.write(
        "signature",
        &STANDARD
            .decode(signature["signature"].as_str().unwrap())
            .unwrap(),
    );
    let smime = "smime -verify -binary -inform DER -in signature -content root-hash -certfile certificate -nointern -noverify";
    pass("openssl", &smime.split(' ').collect::<Vec<_>>());
}

/// Writes the partitions to `data` and `hash`, and returns the JSON of the third.
fn split(room: &Room, image: &str, table: &str) -> Value {
    let image = room.read(image);
    let table: Value = serde_json::from_str(table).unwrap();
    let partitions = table["partitiontable"]["partitions"].as_array().unwrap();
    let content = |index: usize| {
        let number = |field: &str| {
            usize::try_from(partitions[index][field].as_u64().unwrap()).unwrap() * 512
        };
        let start = number("start");
        &image[start..start + number("size")]
    };
    assert_eq!(partitions.len(), 3);
    room.write("data", content(0));
    room.write("hash", content(1));
    let signature = content(2).split(|&byte| byte == 0).next().unwrap();
    serde_json::from_slice(signature).unwrap()
}

/// What the kernel reads from the data partition, copied out of the mount with everything it has.
fn mounted(room: &Room, format: &str) -> PathBuf {
    let script = "mkdir mount kernel; mount -t $1 -o ro,loop data mount; cp -a mount/. kernel/";
    in_private_mounts(room, script, format);
    room.path("kernel")
}

fn in_private_mounts(room: &Room, script: &str, argument: &str) {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc", script]);
    command.args(["-", argument]);
    succeed(
        script,
        command.current_dir(room.directory()).output().unwrap(),
    );
}

/// What the file system's own program extracts from it.
fn extracted(room: &Room, format: &str) -> PathBuf {
    let arguments = match format {
        "squashfs" => "unsquashfs -quiet -no-progress -dest extracted data",
        // Not the owner: it would set that last, and so take capabilities away again.
        _ => "fsck.erofs --extract=extracted --preserve-perms --no-preserve-owner --xattrs data",
    };
    let (program, arguments) = arguments.split_once(' ').unwrap();
    let arguments: Vec<&str> = arguments.split(' ').collect();
    succeed(program, room.run(program, &arguments));
    room.path("extracted")
}

fn vector_signer(name: &'static str) -> Signer {
    let keys = vector("ddi/keys");
    Signer {
        name,
        key: keys.join(format!("{name}.key")),
        certificate: keys.join(format!("{name}.crt")),
    }
}

/// Copies a tree entry by entry in reverse order, so that directories list differently.
fn copy_in_reverse(tree: &Path, copy: &Path) {
    let script = "find . -mindepth 1 -print0 | sort -zr | tar --create --format=posix --null --no-recursion --files-from=- --xattrs --xattrs-include='*' \
                  | tar --extract --directory=\"$1\" --preserve-permissions --xattrs --xattrs-include='*' --same-owner";
    fs::create_dir(copy).unwrap();
    let script = format!("cd \"$0\"; {script}; chmod --reference=. \"$1\"");
    run(
        "sh",
        [
            OsStr::new("-euc"),
            OsStr::new(&script),
            tree.as_os_str(),
            copy.as_os_str(),
        ],
    );
}
