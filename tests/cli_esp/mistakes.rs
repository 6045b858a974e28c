//! One sentence for each mistake, and the status of wrong usage.

use std::fs;

use super::room::*;
use super::support::uki::pe_file;

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
