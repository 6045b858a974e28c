//! `ukikit esp` from outside: exact output, status and effect of every verb.

#![cfg(test)]

mod faults;
mod mistakes;
mod room;
#[path = "../support/mod.rs"]
mod support;
mod verified;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use ukikit_esp::{Archive, ArchiveKind, File};

use room::*;

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
