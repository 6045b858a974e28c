//! `ukikit esp` from outside: exact output, status and effect of every verb.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::LazyLock;

use assert_cmd::Command;
use base64::Engine;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use sha2::{Digest, Sha256};
use support::uki::pe_file;
use support::vendor::{KERNEL, able_initrd};
use tempfile::TempDir;
use ukikit_creds::{Credential, Key, LINE, Secret, Timestamp};
use ukikit_esp::{AddonImage, Architecture, Archive, ArchiveKind, File, Sbat};

const UKI: &str = "--uki=EFI/Linux/vendor.efi";

/// A credential of this name under the null key.
fn credential(name: &str, secret: &[u8]) -> Vec<u8> {
    let made = Timestamp::from_micros(1_600_000_000_000_000);
    let credential = Credential::new(
        Some(name.parse().unwrap()),
        made,
        Secret::new(secret.to_vec()),
    );
    let encrypted = credential
        .encrypt(&Key::Null, &mut UnwrapErr(SysRng))
        .unwrap();
    encrypted.to_text(LINE).into_bytes()
}

/// That of `demo.cred`: always the same one.
fn demo() -> Vec<u8> {
    static DEMO: LazyLock<Vec<u8>> = LazyLock::new(|| credential("demo", b"9 letters"));
    DEMO.clone()
}

/// A room with an ESP in it, as `esp/`: one UKI, boot counted. Commands run in the room.
struct Room(TempDir);

impl Room {
    fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        let uki = pe_file(&[(".linux", b"kernel"), (".initrd", b"")]);
        room.write("esp/EFI/Linux/vendor+3-0.efi", &uki);
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn esp(&self, verb: &str, arguments: &[&str]) -> Output {
        Command::cargo_bin("ukikit")
            .unwrap()
            .current_dir(self.0.path())
            .args(["esp", verb, "--esp=esp"])
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Every file and directory of the ESP with its content, but for what the engine keeps for itself.
    fn tree(&self) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let mut found = self.whole_tree();
        let loader = self.path("esp/loader");
        found.retain(|(path, _)| !path.starts_with(loader.join("ukikit")));
        if !found.iter().any(|(path, _)| path.parent() == Some(&loader)) {
            found.retain(|(path, _)| *path != loader);
        }
        found
    }

    /// Every file and directory of the ESP with its content.
    fn whole_tree(&self) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        collect(&self.path("esp"), &mut found);
        found.sort();
        found
    }
}

fn collect(directory: &Path, found: &mut Vec<(PathBuf, Option<Vec<u8>>)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
            found.push((path, None));
        } else {
            let content = fs::read(&path).unwrap();
            found.push((path, Some(content)));
        }
    }
}

#[track_caller]
fn assert_done(output: &Output, stdout: &str, stderr: &str) {
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(output.status.code(), Some(0));
}

/// The output without the room on the file system the test happens to run on.
fn without_room(mut output: Output) -> Output {
    let text = String::from_utf8(output.stdout).unwrap();
    let (json, line) = (text.find(",\"room\""), text.find("free  "));
    output.stdout = match (json, line) {
        (Some(at), _) => format!("{}}}\n", &text[..at]).into_bytes(),
        (None, Some(at)) => text[..at].into(),
        (None, None) => text.into_bytes(),
    };
    output
}

#[track_caller]
fn assert_failed(output: &Output, stderr: &str) {
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(output.status.code(), Some(1));
}

fn vector(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    fs::read(root.join(name)).unwrap()
}

/// An addon with a command line.
fn addon() -> Vec<u8> {
    let sbat = Sbat::new("quiet", 1).unwrap();
    let mut addon = AddonImage::new(Architecture::X86_64, sbat);
    addon.cmdline = Some("quiet".to_owned());
    addon.to_bytes().unwrap()
}

/// The same, but what it carries is called otherwise.
fn renamed(section: &str) -> Vec<u8> {
    let mut file = addon();
    let at = file.windows(8).position(|bytes| bytes == b".cmdline");
    let at = at.unwrap();
    file[at..at + 8].copy_from_slice(section.as_bytes());
    file
}

#[test]
fn place_list_remove_and_everything_is_as_before() {
    let room = Room::new();
    room.write("demo.cred", &demo());
    let addon = addon();
    room.write("quiet.addon.efi", &addon);
    let before = room.tree();
    let files = [UKI, "demo.cred", "quiet.addon.efi"];

    let plan = "add      EFI/Linux/vendor.efi.extra.d/demo.cred (134 bytes)\n\
                add      EFI/Linux/vendor.efi.extra.d/quiet.addon.efi (2048 bytes)\n";
    let dry_run = [&files[..], &["--dry-run"]].concat();
    let shown = room.esp("place", &dry_run);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("at the worst moment"));
    assert_done(&without_room(shown), plan, "");
    assert_eq!(room.whole_tree(), before);

    assert_done(&room.esp("place", &files), plan, "");
    let placed = room.path("esp/EFI/Linux/vendor.efi.extra.d");
    assert_eq!(fs::read(placed.join("demo.cred")).unwrap(), demo());
    assert_eq!(fs::read(placed.join("quiet.addon.efi")).unwrap(), addon);
    let mode = fs::metadata(placed.join("demo.cred"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);

    let after = room.tree();
    assert_done(
        &room.esp("place", &files),
        &plan.replace("add ", "keep"),
        "",
    );
    assert_eq!(room.tree(), after);

    let table = "TARGET                KIND        NAME             SIZE  OWNER   NOTE\n\
                 EFI/Linux/vendor.efi  credential  demo.cred         134  ukikit\n\
                 EFI/Linux/vendor.efi  addon       quiet.addon.efi  2048  ukikit\n";
    assert_done(&room.esp("list", &[]), table, "");

    let names = [UKI, "demo.cred", "quiet.addon.efi"];
    let removal = plan.replace("add   ", "remove");
    assert_done(
        &without_room(room.esp("remove", &[&names[..], &["--dry-run"]].concat())),
        &removal,
        "",
    );
    assert_eq!(room.tree(), after);
    assert_done(&room.esp("remove", &names), &removal, "");
    assert_eq!(room.tree(), before);
    assert_done(
        &room.esp("remove", &names),
        "absent   EFI/Linux/vendor.efi.extra.d/demo.cred\n\
         absent   EFI/Linux/vendor.efi.extra.d/quiet.addon.efi\n",
        "",
    );
    assert_done(&room.esp("list", &[]), "", "");

    let again = "add      EFI/Linux/vendor.efi.extra.d/demo.cred (134 bytes)\n\
                 add      EFI/Linux/vendor.efi.extra.d/quiet.addon.efi (2048 bytes)\n";
    let mut lines: Vec<&str> = again.lines().rev().collect();
    lines.push("");
    assert_done(&room.esp("undo", &[]), &lines.join("\n"), "");
    assert_eq!(room.tree(), after_without_state(&room, &after));
    let undone = lines.join("\n").replace("add   ", "remove");
    assert_done(&room.esp("undo", &[]), &undone, "");
    assert_eq!(room.whole_tree(), before);
    assert_failed(
        &room.esp("undo", &[]),
        "error: there is no change to undo on the ESP `esp`\n",
    );
}

type Tree = Vec<(PathBuf, Option<Vec<u8>>)>;

/// What was to be seen then.
fn after_without_state(room: &Room, then: &Tree) -> Tree {
    let state = room.path("esp/loader");
    then.iter()
        .filter(|(path, _)| !path.starts_with(&state))
        .cloned()
        .collect()
}

#[test]
fn what_others_have_put_there_stays() {
    let room = Room::new();
    room.write("demo.cred", &demo());
    room.write("esp/loader/credentials/demo.cred", b"theirs");
    let before = room.whole_tree();
    let sentence = "error: `esp/loader/credentials/demo.cred` was not placed by ukikit, and what is not its own it leaves alone\n\n\
                    hint: --force does it all the same\n";
    assert_failed(&room.esp("place", &["--global", "demo.cred"]), sentence);
    assert_failed(&room.esp("remove", &["--global", "demo.cred"]), sentence);
    assert_done(&room.esp("gc", &[]), "", "");
    assert_eq!(room.whole_tree(), before);
    let removed = "remove   loader/credentials/demo.cred (6 bytes)\n";
    assert_done(
        &room.esp("remove", &["--global", "--force", "demo.cred"]),
        removed,
        "",
    );
}

#[test]
fn a_file_for_all_goes_with_the_last_uki_that_needs_it() {
    let room = Room::new();
    room.write("demo.cred", &demo());
    let needed = "--needed-by=EFI/Linux/vendor.efi";
    let added = "add      loader/credentials/demo.cred (134 bytes)\n";
    assert_done(
        &room.esp("place", &["--global", needed, "demo.cred"]),
        added,
        "",
    );
    assert_done(&room.esp("gc", &[]), "", "");
    fs::remove_file(room.path("esp/EFI/Linux/vendor+3-0.efi")).unwrap();
    assert_done(&room.esp("gc", &[]), &added.replace("add   ", "remove"), "");
    assert_done(&room.esp("list", &[]), "", "");
}

#[test]
fn several_partitions_are_made_alike() {
    let room = Room::new();
    room.write("demo.cred", &demo());
    room.write("second/loader/loader.conf", b"");
    let added = "add      loader/credentials/demo.cred (134 bytes)\n";
    let placed = room.esp("place", &["--esp=second", "--global", "demo.cred"]);
    assert_done(&placed, &added.repeat(2), "");
    for esp in ["esp", "second"] {
        let file = room.path(esp).join("loader/credentials/demo.cred");
        assert_eq!(fs::read(file).unwrap(), demo());
    }
}

#[test]
fn there_has_to_be_room() {
    let room = Room::new();
    room.write("demo.cred", &demo());
    let before = room.whole_tree();
    let refused = room.esp(
        "place",
        &["--global", "--keep-free=18446744073709551615", "demo.cred"],
    );
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.starts_with("error: no room for the change: the ESP `esp` has "),
        "{said}"
    );
    assert!(
        said.ends_with("hint: `ukikit esp gc` would free 0 bytes that nobody needs, `ukikit esp gc --forget-undo` 0 more\n"),
        "{said}"
    );
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(room.whole_tree(), before);
}

/// Whoever comes second is refused with a sentence, and of eight at once each has done all of its change or nothing.
#[test]
fn two_processes_at_once() {
    let room = Room::new();
    let busy =
        "error: another process is changing the ESP `esp`\n\nhint: try again when it is done\n";
    room.write("demo.cred", &demo());
    let before = room.tree();
    let lock = fs::File::open(room.path("esp")).unwrap();
    lock.lock().unwrap();
    for (verb, arguments) in [
        ("place", vec![UKI, "demo.cred"]),
        ("remove", vec![UKI, "demo.cred"]),
        ("undo", vec![]),
        ("gc", vec![]),
    ] {
        assert_failed(&room.esp(verb, &arguments), busy);
    }
    drop(lock);
    assert_eq!(room.tree(), before);

    let sets = (0..8).map(|number| [format!("a{number}.cred"), format!("b{number}.cred")]);
    let started = sets.map(|set| {
        for file in &set {
            room.write(file, &credential(file.trim_end_matches(".cred"), b"x"));
        }
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_ukikit"))
            .current_dir(room.0.path())
            .args(["esp", "place", "--esp=esp", UKI])
            .args(&set)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        (child, set)
    });
    let started: Vec<_> = started.collect();
    let mut placed = Vec::new();
    for (child, set) in started {
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            placed.extend(set);
        } else {
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(said, busy);
        }
    }
    assert!(!placed.is_empty(), "somebody comes first");
    let beside = fs::read_dir(room.path("esp/EFI/Linux/vendor.efi.extra.d")).unwrap();
    let mut beside: Vec<String> = beside
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    beside.sort();
    placed.sort();
    assert_eq!(beside, placed);
}

#[test]
fn undo_by_force_is_a_change_of_its_own() {
    let room = Room::new();
    room.write("demo.cred", &demo());
    let before = room.whole_tree();
    assert!(room.esp("place", &[UKI, "demo.cred"]).status.success());
    let file = "esp/EFI/Linux/vendor.efi.extra.d/demo.cred";
    room.write(file, b"theirs");
    assert_failed(
        &room.esp("undo", &[]),
        "error: `esp/EFI/Linux/vendor.efi.extra.d/demo.cred` was changed by something else since ukikit placed it\n\n\
         hint: --force does it all the same\n",
    );
    let removed = "remove   EFI/Linux/vendor.efi.extra.d/demo.cred (6 bytes)\n";
    let shown = room.esp("undo", &["--force", "--dry-run"]);
    assert_done(&without_room(shown), removed, "");
    assert_done(&room.esp("undo", &["--force"]), removed, "");
    assert_eq!(room.tree(), before);
    // Nothing is lost: what was there a moment ago comes back.
    let added = "add      EFI/Linux/vendor.efi.extra.d/demo.cred (6 bytes)\n";
    assert_done(&room.esp("undo", &[]), added, "");
    assert_eq!(fs::read(room.path(file)).unwrap(), b"theirs");
}

#[test]
fn only_takes_away_what_else_lies_beside_the_uki() {
    let room = Room::new();
    room.write("demo.cred", &demo());
    room.write("quiet.addon.efi", &addon());
    assert!(
        room.esp("place", &[UKI, "quiet.addon.efi"])
            .status
            .success()
    );
    let theirs = "esp/EFI/Linux/vendor.efi.extra.d/theirs.cred";
    room.write(theirs, &demo());
    room.write(
        "esp/EFI/Linux/vendor.efi.extra.d/README.txt",
        b"not a companion",
    );
    assert_failed(
        &room.esp("place", &[UKI, "--only", "demo.cred"]),
        "error: `esp/EFI/Linux/vendor.efi.extra.d/theirs.cred` was not placed by ukikit, and what is not its own it leaves alone\n\n\
         hint: --force does it all the same\n",
    );
    fs::remove_file(room.path(theirs)).unwrap();
    let changed = "add      EFI/Linux/vendor.efi.extra.d/demo.cred (134 bytes)\n\
                   remove   EFI/Linux/vendor.efi.extra.d/quiet.addon.efi (2048 bytes)\n";
    assert_done(
        &room.esp("place", &[UKI, "--only", "demo.cred"]),
        changed,
        "",
    );
    assert!(
        room.path("esp/EFI/Linux/vendor.efi.extra.d/README.txt")
            .exists()
    );
}

/// What the kernel unpacks: the archives of the stub, each byte; and trusted credentials only when they are asked for.
#[test]
fn exports_what_the_stub_would_make() {
    let room = Room::new();
    room.write("demo.cred", &demo());
    room.write("quiet.addon.efi", &addon());
    room.write("plain", b"secret");
    assert_failed(
        &room.esp("export", &[UKI, "--cpio", "-"]),
        "error: `EFI/Linux/vendor.efi` has no companions to export\n",
    );
    assert!(
        room.esp("place", &[UKI, "demo.cred", "quiet.addon.efi"])
            .status
            .success()
    );
    assert!(
        room.esp("place", &["--global", "demo.cred"])
            .status
            .success()
    );

    let exported = room.esp(
        "export",
        &[UKI, "--cpio", "out.cpio", "--load-credential=trusted:plain"],
    );
    assert_done(
        &exported,
        "",
        "warning: `EFI/Linux/vendor.efi.extra.d/quiet.addon.efi` adds to the kernel's command line, so pass it there: quiet\n\
         warning: the archive holds credentials in plain text: it is as secret as they are, and who can change it is trusted\n",
    );
    let archive = |kind, path: &str, content: &[u8]| {
        let file = File::new(path, content.to_vec());
        Archive::pack(kind, &[&file]).unwrap().as_bytes().to_vec()
    };
    let credential = demo();
    let expected = [
        archive(ArchiveKind::Credentials, "demo.cred", &credential),
        archive(ArchiveKind::GlobalCredentials, "demo.cred", &credential),
        archive(ArchiveKind::System, "trusted.cred", b"secret"),
    ];
    assert_eq!(fs::read(room.path("out.cpio")).unwrap(), expected.concat());
    let mode = fs::metadata(room.path("out.cpio")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let piped = room.esp("export", &[UKI, "--cpio", "-"]);
    assert_eq!(piped.stdout, expected[..2].concat());
}

/// What a run does that strace can stop: the calls that open, write, flush, rename, link and remove.
const CALLS: [&str; 8] = [
    "openat",
    "write",
    "fsync",
    "rename",
    "renameat2",
    "unlink",
    "mkdir",
    "rmdir",
];

/// The real program, its real system calls: each of them in turn kills it or fails.
#[test]
fn killed_or_failing_at_every_system_call() {
    let strace = std::process::Command::new("strace").arg("-V").output();
    if !strace.is_ok_and(|output| output.status.success()) {
        return support::skip("strace is not there, tests/run installs it");
    }
    let names = ["1.cred", "2.cred", "3.cred", "4.cred", "5.cred", "6.cred"];
    let place = [&[UKI, "--force"][..], &names].concat();
    let room = Room::new();
    let old = room.tree();
    for name in names {
        room.write(name, &demo());
    }
    assert!(room.esp("place", &place).status.success());
    let new = room.tree();
    assert!(room.esp("undo", &[]).status.success());
    let (mut cases, mut as_old, mut as_new) = (0, 0, 0);
    for fault in ["signal=KILL", "error=ENOSPC", "error=EIO"] {
        for call in CALLS {
            for when in 1.. {
                let inject = format!("inject={call}:{fault}:when={when}");
                let run = std::process::Command::new("strace")
                    .current_dir(room.0.path())
                    .args([
                        "-f",
                        "-qq",
                        "-o",
                        "trace",
                        "-e",
                        &inject,
                        "-e",
                        &format!("trace={call}"),
                    ])
                    .arg(env!("CARGO_BIN_EXE_ukikit"))
                    .args(["esp", "place", "--esp=esp"])
                    .args(&place)
                    .output()
                    .unwrap();
                let trace = fs::read_to_string(room.path("trace")).unwrap();
                if !trace.contains("INJECTED") && !trace.contains("killed by SIGKILL") {
                    break;
                }
                cases += 1;
                for (path, content) in room.tree() {
                    assert!(new.contains(&(path, content)), "{inject}: {run:?}");
                }
                let next = room.esp("gc", &[]);
                assert!(next.status.success(), "{inject}: {next:?}");
                if room.tree() == new {
                    as_new += 1;
                    assert!(room.esp("undo", &[]).status.success());
                } else {
                    as_old += 1;
                }
                assert_eq!(room.whole_tree(), old, "{inject}");
            }
        }
    }
    assert!(
        cases > 150 && as_old > 0 && as_new > 0,
        "{cases}: {as_old} old, {as_new} new"
    );
}

#[test]
fn what_cannot_be_verified_is_not_placed() {
    let room = Room::new();
    room.write("text.cred", b"secret!");
    room.write("binary.cred", &binary(&credential("binary", b"x")));
    room.write("big.cred", &vec![b'A'; 1024 * 1024 + 1]);
    room.write("none.addon.efi", &renamed(".osrel\0\0"));
    room.write("uki.addon.efi", &renamed(".linux\0\0"));
    room.write("junk.addon.efi", b"junk");
    let before = room.tree();
    for (file, reason) in [
        ("text.cred", "at byte 6: not a Base64 character\n"),
        (
            "binary.cred",
            "at byte 0: not a Base64 character\n\n\
             hint: this is a binary credential; for an initrd of systemd up to 261 add --encoding=binary\n",
        ),
        (
            "big.cred",
            "it has 1048577 bytes, and PID 1 takes credentials of up to 1 MiB\n",
        ),
        (
            "none.addon.efi",
            "it has none of .cmdline, .dtb, .dtbauto, .initrd and .ucode, so the stub passes over it\n",
        ),
        (
            "uki.addon.efi",
            "it has a .linux section, so it is a UKI and no addon\n",
        ),
        (
            "junk.addon.efi",
            "firmware would not load it: at byte 0: this is not a PE file\n",
        ),
    ] {
        let refused = room.esp("place", &[UKI, file]);
        assert_failed(
            &refused,
            &format!("error: cannot verify `{file}`: {reason}"),
        );
    }
    assert_eq!(room.tree(), before);
}

#[test]
fn force_and_encoding_say_what_they_let_through() {
    let room = Room::new();
    room.write("text.cred", b"secret!");
    room.write("binary.cred", &binary(&credential("binary", b"x")));
    assert_done(
        &room.esp("place", &["--global", "--force", "text.cred"]),
        "add      loader/credentials/text.cred (7 bytes)\n",
        "warning: cannot verify `text.cred`: at byte 6: not a Base64 character\n",
    );
    assert_done(
        &room.esp("place", &["--global", "--encoding=binary", "binary.cred"]),
        "add      loader/credentials/binary.cred (97 bytes)\n",
        "",
    );
    assert_done(
        &room.esp("list", &["--global"]),
        "TARGET  KIND        NAME         SIZE  OWNER   NOTE\n\
         global  credential  binary.cred    97  ukikit  binary, which initrds of systemd 262 and later do not read\n\
         global  credential  text.cred       7  ukikit  not an encrypted credential: at byte 6: not a Base64 character\n",
        "",
    );
}

#[test]
fn places_for_all_and_tells_programs() {
    let room = Room::new();
    room.write("demo.cred", &demo());
    let change = |action: &str, before: &str, after: &str, applied: bool| {
        format!(
            "{{\"schema\":1,\"applied\":{applied},\"esp\":\"esp\",\"changes\":[{{\"action\":\"{action}\",\
             \"path\":\"loader/credentials/demo.cred\",\"kind\":\"credential\",\
             \"before\":{before},\"after\":{after}}}]}}\n"
        )
    };
    let place = ["--global", "demo.cred", "--json=short"];
    assert_done(
        &without_room(room.esp("place", &place)),
        &change("add", "null", "134", true),
        "",
    );
    assert_done(
        &without_room(room.esp("place", &place)),
        &change("keep", "134", "134", true),
        "",
    );
    room.write("esp/loader/credentials/demo.cred", b"other");
    let place = ["--global", "demo.cred", "--json=short", "--force"];
    let dry_run = [&place[..], &["--dry-run"]].concat();
    assert_done(
        &without_room(room.esp("place", &dry_run)),
        &change("replace", "5", "134", false),
        "",
    );
    assert_done(
        &without_room(room.esp("place", &place)),
        &change("replace", "5", "134", true),
        "",
    );
    assert_done(
        &room.esp("list", &["--json=short"]),
        &format!(
            "{{\"schema\":1,\"companions\":[{{\"target\":\"global\",\"path\":\"loader/credentials/demo.cred\",\
             \"kind\":\"credential\",\"size\":134,\"sha256\":\"{}\",\"owner\":\"ukikit\",\"note\":null}}]}}\n",
            hex::encode(Sha256::digest(demo()))
        ),
        "",
    );
    assert_done(
        &without_room(room.esp("remove", &place)),
        &change("remove", "134", "null", true),
        "",
    );
    assert_done(
        &without_room(room.esp("remove", &place)),
        &change("absent", "null", "null", true),
        "",
    );
}

#[test]
fn one_sentence_for_each_mistake() {
    let room = Room::new();
    room.write("demo.cred", &demo());
    room.write("DEMO.CRED", &demo());
    room.write("notes.txt", b"");
    room.write("again/demo.cred", &demo());
    room.write("esp/EFI/Linux/grub.efi", &pe_file(&[(".text", b"code")]));
    room.write("esp/EFI/Linux/script.efi", b"#!/bin/sh\n");
    room.write("esp/loader/credentials/Demo.cred", b"");
    let no_suffix = "it ends in none of .cred, .sysext.raw, .raw, .confext.raw and .addon.efi";
    let hint = "\nhint: --uki= takes a path from the root of the ESP, here \
                EFI/Linux/grub.efi or EFI/Linux/script.efi or EFI/Linux/vendor+3-0.efi\n";
    let before = room.tree();
    for (verb, arguments, sentence) in [
        (
            "place",
            &[UKI, "DEMO.CRED"][..],
            "`DEMO.CRED` cannot be a companion: its suffix has to be `.cred`, in lower case\n"
                .to_owned(),
        ),
        (
            "place",
            &[UKI, "notes.txt"],
            format!("`notes.txt` cannot be a companion: {no_suffix}\n"),
        ),
        (
            "place",
            &[UKI, "gone.cred"],
            "cannot read `gone.cred`: No such file or directory\n".to_owned(),
        ),
        (
            "place",
            &[UKI, "demo.cred", "again/demo.cred"],
            "`demo.cred` is given twice\n".to_owned(),
        ),
        (
            "place",
            &["--global", "demo.cred"],
            "`demo.cred` and `Demo.cred` differ only in case, which FAT does not tell apart\n"
                .to_owned(),
        ),
        (
            "place",
            &["--uki=EFI/Linux/x.efi", "demo.cred"],
            format!("there is no UKI `EFI/Linux/x.efi` on the ESP `esp`\n{hint}"),
        ),
        (
            "list",
            &["--uki=EFI/Linux/x.efi"],
            format!("there is no UKI `EFI/Linux/x.efi` on the ESP `esp`\n{hint}"),
        ),
        (
            "place",
            &["--uki=EFI/Linux/grub.efi", "demo.cred"],
            "cannot use `esp/EFI/Linux/grub.efi`: not a UKI: it has no .linux section\n".to_owned(),
        ),
        (
            "place",
            &["--uki=EFI/Linux/script.efi", "demo.cred"],
            "cannot use `esp/EFI/Linux/script.efi`: at byte 0: this is not a PE file\n".to_owned(),
        ),
        (
            "remove",
            &[UKI, "notes.txt"],
            format!("`notes.txt` cannot be a companion: {no_suffix}\n"),
        ),
    ] {
        assert_failed(&room.esp(verb, arguments), &format!("error: {sentence}"));
    }
    assert_eq!(room.tree(), before);
}

#[test]
fn an_esp_that_is_none() {
    let room = Room::new();
    fs::rename(room.path("esp"), room.path("elsewhere")).unwrap();
    assert_failed(
        &room.esp("list", &[]),
        "error: cannot read `esp`: No such file or directory\n",
    );
    room.write("esp", b"");
    assert_failed(&room.esp("list", &[]), "error: `esp` is not a directory\n");
}

#[test]
fn wrong_usage() {
    let room = Room::new();
    let usage = "\n\nUsage: ukikit esp place --esp <DIR> <--uki <PATH>|--global> <FILE>...\
                 \n\nFor more information, try '--help'.\n";
    for (arguments, message) in [
        (
            &["demo.cred"][..],
            format!(
                "the following required arguments were not provided:\n  <--uki <PATH>|--global>{usage}"
            ),
        ),
        (
            &[UKI],
            format!("the following required arguments were not provided:\n  <FILE>...{usage}"),
        ),
        (
            &[UKI, "--global", "demo.cred"],
            format!("the argument '--uki <PATH>' cannot be used with '--global'{usage}"),
        ),
        (
            &["--uki=../x.efi", "demo.cred"],
            "invalid value '../x.efi' for '--uki <PATH>': `../x.efi` cannot be the path of a UKI: \
             it has to go down from the root of the ESP, without `.` and `..`\
             \n\nFor more information, try '--help'.\n"
                .to_owned(),
        ),
    ] {
        let refused = room.esp("place", arguments);
        assert_eq!(
            String::from_utf8_lossy(&refused.stderr),
            format!("error: {message}")
        );
        assert_eq!(refused.status.code(), Some(2));
    }
}

/// The bytes behind Base64 text.
fn binary(text: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

/// An image and the certificate of its signer, made by systemd-repart 262, as files of the room.
fn write_image(room: &Room) {
    let packed = vector("ddi/erofs/tiny-a.raw.xz");
    let mut image = Vec::new();
    liblzma::read::XzDecoder::new(&packed[..])
        .read_to_end(&mut image)
        .unwrap();
    room.write("tiny-a.sysext.raw", &image);
    room.write("rsa.crt", &vector("ddi/keys/rsa2048.crt"));
    room.write("other.crt", &vector("ddi/keys/other.crt"));
}

/// Why the image is refused where only another certificate is trusted.
const FOREIGN: &str = "signature: is by issuer `CN=ddi test vector a rsa2048` serial \
    7A:58:B1:4E:B6:15:ED:FE:24:D9:A2:DF:50:15:B5:1A:64:36:20:F3, which is no trusted certificate (and 1 more)\n";

#[test]
fn an_image_is_verified_against_the_given_certificate() {
    let room = Room::new();
    write_image(&room);
    let before = room.tree();
    assert_failed(
        &room.esp("place", &["--global", "tiny-a.sysext.raw"]),
        "error: cannot verify `tiny-a.sysext.raw`: no certificate is given, and no UKI to take one from\n\n\
         hint: name the signer's with --certificate=FILE\n",
    );
    let foreign = ["--global", "--certificate=other.crt", "tiny-a.sysext.raw"];
    let refused = room.esp("place", &foreign);
    assert_failed(
        &refused,
        &format!("error: cannot verify `tiny-a.sysext.raw`: {FOREIGN}"),
    );
    assert_eq!(room.tree(), before);
    let signed = ["--global", "--certificate=rsa.crt", "tiny-a.sysext.raw"];
    assert_done(
        &room.esp("place", &signed),
        "add      loader/extensions/tiny-a.sysext.raw (1991168 bytes)\n",
        "",
    );
}

#[test]
fn an_image_is_verified_against_the_initrd_of_its_uki() {
    let room = Room::new();
    write_image(&room);
    let uki = |certificates: &[&str]| {
        let initrd = able_initrd(262, "ID=vendor\n", certificates);
        pe_file(&[
            (".linux", b"kernel"),
            (".initrd", &initrd),
            (".uname", KERNEL.as_bytes()),
        ])
    };
    let place = [UKI, "tiny-a.sysext.raw"];
    let file = "esp/EFI/Linux/vendor+3-0.efi";
    for (certificates, sentence) in [
        (
            &[][..],
            "the initrd of the UKI has no certificate for images\n\n\
             hint: name the signer's with --certificate=FILE\n",
        ),
        (&["other.crt"], FOREIGN),
    ] {
        room.write(file, &uki(certificates));
        let refused = room.esp("place", &place);
        assert_failed(
            &refused,
            &format!("error: cannot verify `tiny-a.sysext.raw`: {sentence}"),
        );
    }
    room.write(file, &uki(&["other.crt", "rsa2048.crt"]));
    assert_done(
        &room.esp("place", &place),
        "add      EFI/Linux/vendor.efi.extra.d/tiny-a.sysext.raw (1991168 bytes)\n",
        "",
    );
}
