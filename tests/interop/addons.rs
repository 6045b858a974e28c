//! Our addons through ukify, and ukify's through ours.

use std::fs;

use serde_json::Value;

use crate::support::systemd::Systemd;
use crate::support::uki::pe_file;
use crate::support::{run, succeed, text, ukikit, vector};

/// ukify reads ours; we read, and find nothing against, what ukify makes.
#[test]
fn ukify_and_we_agree() {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let room = systemd.room();
    let addon = |arguments: &str| {
        let mut command = ukikit();
        command
            .arg("addon")
            .args(arguments.split(' '))
            .current_dir(room.directory());
        text(&succeed(arguments, command.output().unwrap()))
    };
    fs::create_dir_all(room.path("tree/usr/lib")).unwrap();
    room.write("tree/usr/lib/greeting", b"hello");
    addon(
        "build --architecture=x86-64 --output=feature.addon.efi --tree=tree --cmdline=quiet --uname=6.18.0",
    );
    let read = room.run(
        "ukify",
        &["inspect", "feature.addon.efi", "--json=short", "--all"],
    );
    let theirs: Value = serde_json::from_slice(&succeed("ukify inspect", read)).unwrap();
    let json: Value =
        serde_json::from_str(&addon("inspect --json=short feature.addon.efi")).unwrap();
    for section in json["sections"].as_array().unwrap() {
        let name = section["name"].as_str().unwrap();
        assert_eq!(theirs[name]["size"], section["size"], "{name}: {theirs}");
        assert_eq!(
            theirs[name]["sha256"], section["sha256"],
            "{name}: {theirs}"
        );
    }

    let build = [
        "build",
        "--cmdline=quiet splash",
        "--uname=6.18.0",
        "--output=theirs.addon.efi",
    ];
    succeed("ukify build", room.run("ukify", &build));
    let json: Value =
        serde_json::from_str(&addon("inspect --json=short theirs.addon.efi")).unwrap();
    assert_eq!(json["cmdline"], "quiet splash");
    // ukify does not terminate the version.
    assert_eq!(
        addon("verify theirs.addon.efi"),
        "theirs.addon.efi: good, signatures not looked at\n\
         theirs.addon.efi: warning: its kernel version has no NUL at its end, so it fits every version that begins with 6.18.0\n"
    );
}

/// Our approvals of a kernel are those that systemd-measure signs, byte for byte, and the vendor's stay.
#[test]
fn systemd_measure_and_we_sign_the_same() {
    let Some(systemd) = Systemd::find(262) else {
        return;
    };
    let room = systemd.room();
    fs::copy(vector("ddi/keys/rsa2048.key"), room.path("private.pem")).unwrap();
    let private = room.path("private.pem").display().to_string();
    let public = room.path("public.pem").display().to_string();
    run(
        "openssl",
        ["pkey", "-in", &private, "-pubout", "-out", &public],
    );
    let sections: [(&str, &[u8]); 4] = [
        ("linux", b"kernel"),
        ("osrel", b"ID=vendor\n"),
        ("cmdline", b"quiet"),
        ("initrd", b"070701"),
    ];
    let mut sign: Vec<String> = [
        "sign",
        "--bank=sha256",
        "--private-key=private.pem",
        "--public-key=public.pem",
    ]
    .map(str::to_owned)
    .to_vec();
    for (name, content) in sections {
        room.write(name, content);
        sign.push(format!("--{name}={name}"));
    }
    let initrd = "enter-initrd:leave-initrd";
    let phases = [
        "",
        "enter-initrd",
        initrd,
        &format!("{initrd}:sysinit"),
        &format!("{initrd}:sysinit:ready"),
    ];
    sign.extend(phases.iter().map(|phase| format!("--phase={phase}")));
    let theirs = succeed(
        "systemd-measure",
        room.run("/usr/lib/systemd/systemd-measure", &sign),
    );
    let theirs: Value = serde_json::from_slice(&theirs).unwrap();

    let vendor = r#"{"sha256":[{"pcrs":[11],"pkfp":"aa","pol":"bb","sig":"cc"}]}"#;
    for (pcrsig, before) in [(None, 0), (Some(vendor), 1)] {
        let named = sections.map(|(name, content)| (format!(".{name}"), content));
        let mut all: Vec<(&str, &[u8])> = named
            .iter()
            .map(|(name, content)| (name.as_str(), *content))
            .collect();
        all.extend(pcrsig.map(|text| (".pcrsig", text.as_bytes())));
        fs::create_dir_all(room.path("esp/EFI/Linux")).unwrap();
        room.write("esp/EFI/Linux/vendor.efi", &pe_file(&all));
        let approve = "trust approve --esp=esp --uki=EFI/Linux/vendor.efi --private-key=private.pem \
                       --public-key=public.pem --signature=ours.json";
        let output = ukikit()
            .args(approve.split_whitespace())
            .current_dir(room.directory())
            .output();
        succeed(approve, output.unwrap());
        let ours: Value = serde_json::from_slice(&room.read("ours.json")).unwrap();
        let entries = ours["sha256"].as_array().unwrap();
        assert_eq!(entries[before..], *theirs["sha256"].as_array().unwrap());
        assert_eq!(entries.len(), before + phases.len());
    }
}
