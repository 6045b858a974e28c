//! Extension images and file systems that other tools make - systemd-repart 257 and 262, mkfs.erofs and mksquashfs with the
//! options packagers use - through `ukikit ext`; and trees that only root can make through `ext build`.

#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod trees;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::Value;
use support::systemd::{Room, Systemd};
use support::{succeed, text, ukikit, vector};

/// Options of mkfs.erofs, each for another form of image.
const EROFS: [&str; 12] = [
    "",
    "-zlz4",
    "-zlz4hc,12 -C65536",
    "-zzstd,3 -C65536",
    "-zdeflate,6",
    "-zlzma,6 -C65536",
    "-zlz4hc -Eztailpacking",
    "-zlz4hc -Efragments,dedupe -C16384",
    "-zzstd -Eall-fragments,ztailpacking",
    "-Enoinline_data",
    "--chunksize=8192",
    "--all-root -T1700000000 -Eforce-inode-extended",
];

/// The same of mksquashfs.
const SQUASHFS: [&str; 7] = [
    "-comp gzip",
    "-comp xz -b 1M",
    "-comp lz4 -Xhc",
    "-comp zstd -b 256K",
    "-comp zstd -no-fragments",
    "-comp gzip -noI -noD -noF -noX",
    "-comp zstd -always-use-fragments -no-duplicates",
];

/// Versions of systemd-repart, and the file systems it is told to make.
const REPART: [(u32, &str); 4] = [
    (262, "erofs"),
    (262, "squashfs"),
    (257, "erofs"),
    (257, "squashfs"),
];

#[test]
fn images_of_systemd_repart_verify_and_hold_their_tree() {
    for (version, format) in REPART {
        let Some(systemd) = Systemd::find(version) else {
            return;
        };
        let room = systemd.room();
        let case = format!("systemd-repart {version}, {format}");
        trees::everything(&room.path("tree"));
        repart(&room, "sysext", format);
        assert_same(&room, "feature.raw", &case);
        let verified = ext(
            &room,
            &["verify", CERTIFICATE, "--base=os-release", "feature.raw"],
        );
        let root_hash = described(&room, "feature.raw")["rootHash"].clone();
        let expected = format!(
            "feature.raw: good, root hash {}\n",
            root_hash.as_str().unwrap()
        );
        assert_eq!(
            (text(&verified.stdout), text(&verified.stderr)),
            (expected, String::new()),
            "{case}"
        );
        let shown = described(&room, "feature.raw");
        assert_eq!(
            (&shown["fileSystem"]["kind"], &shown["class"]),
            (&format.into(), &"sysext".into()),
            "{case}"
        );

        // Each thing that makes it bad is found in it, too.
        let image = room.read("feature.raw");
        let data = usize::try_from(shown["partitions"][0]["offset"].as_u64().unwrap()).unwrap();
        let mut flipped = image.clone();
        flipped[data + 5000] ^= 1;
        room.write("feature.raw", &flipped);
        refused(
            &room,
            "feature.raw: data block 1: does not match its hash\n",
            &case,
        );
        room.write("feature.raw", &image[..image.len() - 512]);
        refused(&room, "feature.raw: backup GPT header: ", &case);
    }
}

#[test]
fn a_confext_of_systemd_repart_verifies() {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let room = systemd.room();
    let release = room.path("tree/etc/extension-release.d/extension-release.feature");
    fs::create_dir_all(release.parent().unwrap()).unwrap();
    fs::write(release, "ID=_any\nCONFEXT_SCOPE=system\n").unwrap();
    repart(&room, "confext", "erofs");
    fs::rename(room.path("feature.raw"), room.path("feature.confext.raw")).unwrap();
    let arguments = [
        "verify",
        CERTIFICATE,
        "--base=os-release",
        "--scope=system",
        "feature.confext.raw",
    ];
    succeed("ext verify", ext(&room, &arguments));
    assert_same(&room, "feature.confext.raw", "confext");
}

#[test]
fn file_systems_of_every_form_are_read() {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let room = systemd.room();
    trees::everything(&room.path("tree"));
    for options in EROFS {
        let mut arguments: Vec<&str> = options.split_whitespace().collect();
        arguments.extend(["--quiet", "made.raw", "tree"]);
        succeed(
            &format!("mkfs.erofs {options}"),
            room.run("mkfs.erofs", &arguments),
        );
        assert_same(&room, "made.raw", options);
        fs::remove_file(room.path("made.raw")).unwrap();
    }
    for options in SQUASHFS {
        let mut arguments = vec!["tree", "made.raw", "-quiet", "-no-progress", "-noappend"];
        arguments.extend(options.split_whitespace());
        succeed(
            &format!("mksquashfs {options}"),
            room.run("mksquashfs", &arguments),
        );
        assert_same(&room, "made.raw", options);
    }
}

/// Unreadable files need a user who is not root, and a full disk one of its own.
#[test]
fn what_the_system_refuses_gets_one_sentence_and_no_image() {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let room = systemd.room();
    trees::small(&room.path("tree"));
    fs::write(room.path("tree/usr/lib/feature/noise"), vec![7; 200_000]).unwrap();
    fs::set_permissions(
        room.path("tree/usr/lib/feature/noise"),
        Permissions::from_mode(0o600),
    )
    .unwrap();
    let program = room.path("ukikit");
    fs::copy(env!("CARGO_BIN_EXE_ukikit"), &program).unwrap();
    for name in ["rsa2048.key", "rsa2048.crt"] {
        room.write(name, &fs::read(vector("ddi/keys").join(name)).unwrap());
    }
    let build = "ext build --name=feature --tree=tree --private-key=rsa2048.key --certificate=rsa2048.crt --compress=none";
    fs::create_dir(room.path("out")).unwrap();
    fs::set_permissions(room.path("out"), Permissions::from_mode(0o777)).unwrap();
    let mut nobody = Command::new("setpriv");
    nobody
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program);
    nobody
        .args(build.split(' '))
        .arg("--output=out/feature.raw");
    failed(
        &room,
        nobody.current_dir(room.directory()).output().unwrap(),
        "error: cannot read `tree/usr/lib/feature/noise`: Permission denied\n",
    );
    let script = format!(
        "mount -t tmpfs -o size=64k none out; ./ukikit {build} --output=out/feature.raw; s=$?; ls -A out; exit $s"
    );
    let mut full = Command::new("unshare");
    full.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    failed(
        &room,
        full.current_dir(room.directory()).output().unwrap(),
        "error: cannot write `out/feature.raw`: No space left on device\n",
    );
}

const CERTIFICATE: &str = "--certificate=rsa2048.crt";

/// Makes `feature.raw` of `tree`, signed.
fn repart(room: &Room, class: &str, format: &str) {
    for name in ["rsa2048.key", "rsa2048.crt"] {
        room.write(name, &fs::read(vector("ddi/keys").join(name)).unwrap());
    }
    room.write("os-release", b"ID=debian\n");
    let mut command = room.command("systemd-repart");
    command.env("SYSTEMD_REPART_OVERRIDE_FSTYPE", format);
    command.arg(format!("--make-ddi={class}"));
    command.args([
        "--offline=yes",
        "--private-key=rsa2048.key",
        CERTIFICATE,
        "--copy-source=tree",
        "feature.raw",
    ]);
    succeed("systemd-repart", command.output().unwrap());
}

fn ext(room: &Room, arguments: &[&str]) -> Output {
    let mut command = ukikit();
    command
        .arg("ext")
        .args(arguments)
        .current_dir(room.directory());
    command.output().unwrap()
}

fn described(room: &Room, image: &str) -> Value {
    let shown = succeed(
        "ext inspect",
        ext(room, &["inspect", "--json=short", image]),
    );
    serde_json::from_slice(&shown).unwrap()
}

/// `image` holds what `tree` does, and can be listed.
fn assert_same(room: &Room, image: &str, case: &str) {
    let same = ext(room, &["diff", "--preserve-owner", image, "tree"]);
    let (said, error) = (text(&same.stdout), text(&same.stderr));
    // systemd-repart 262 leaves attributes on the root, which is not merged.
    let mut differing = said
        .lines()
        .filter(|line| !line.starts_with("/: xattr user.validatefs."));
    assert_eq!((differing.next(), error.as_str()), (None, ""), "{case}");
    succeed(case, ext(room, &["list", "--long", image]));
}

fn refused(room: &Room, first: &str, case: &str) {
    let verified = ext(
        room,
        &["verify", CERTIFICATE, "--base=os-release", "feature.raw"],
    );
    let said = text(&verified.stdout);
    assert!(
        verified.status.code() == Some(1) && said.starts_with(first),
        "{case}: {said}"
    );
}

/// One sentence, status 1, nothing written.
fn failed(room: &Room, output: Output, error: &str) {
    let said = (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    );
    assert_eq!(said, (Some(1), String::new(), error.to_owned()));
    assert_eq!(fs::read_dir(room.path("out")).unwrap().count(), 0);
}
