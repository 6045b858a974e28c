//! `ukikit uki` as a user meets it.

#![cfg(test)]

#[path = "support/uki.rs"]
mod uki;

use std::fs;

use assert_cmd::Command;
use tempfile::TempDir;
use uki::{initrd, pe_file};

/// Runs `uki inspect` on these bytes; standard output, standard error and the status.
fn inspect(bytes: &[u8], json: &str) -> (String, String, i32) {
    let room = TempDir::new().unwrap();
    fs::write(room.path().join("vendor.efi"), bytes).unwrap();
    let output = Command::cargo_bin("ukikit")
        .unwrap()
        .current_dir(room.path())
        .args(["uki", "inspect", json, "vendor.efi"])
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code().unwrap(),
    )
}

/// Made like Fedora's for virtual machines: no certificate of ours, a driver missing.
fn vendor() -> Vec<u8> {
    let archive = initrd(&[
        ("etc/os-release", b"ID=fedora\nVERSION_ID=43\n"),
        ("usr/bin/systemd-sysext", b""),
        ("usr/lib/dracut/dracut-107", b""),
        (
            "usr/lib/dracut/modules.txt",
            b"systemd\nsystemd-sysext\ntpm2-tss\n",
        ),
        (
            "usr/lib/modules/6.17.1/modules.builtin",
            b"kernel/drivers/block/loop.ko\n",
        ),
        (
            "usr/lib/modules/6.17.1/kernel/drivers/md/dm-verity.ko.xz",
            b"",
        ),
        (
            "usr/lib/modules/6.17.1/kernel/fs/overlayfs/overlay.ko.xz",
            b"",
        ),
        ("usr/lib64/libcryptsetup.so.12", b""),
        ("usr/lib64/libtss2-esys.so.0", b""),
        ("usr/lib64/libtss2-mu.so.0", b""),
        ("usr/lib64/systemd/libsystemd-shared-258-1.fc43.so", b""),
    ]);
    pe_file(&[
        (".linux", b"kernel"),
        (".initrd", &archive),
        (".uname", b"6.17.1"),
        (".cmdline", b"quiet"),
    ])
}

#[test]
fn tells_what_a_vendors_image_can_do_and_what_it_lacks() {
    let (shown, notes, status) = inspect(&vendor(), "--json=off");
    assert_eq!(
        shown,
        "architecture   x86-64\n\
         kernel         6.17.1\n\
         command line   quiet\n\
         release        ID=fedora\n               VERSION_ID=43\n\
         systemd        258\n\
         dracut         107: systemd systemd-sysext tpm2-tss\n\
         modules for    6.17.1\n               dm_verity: module\n               erofs: missing\n               \
         loop: built in\n               overlay: module\n               squashfs: missing\n               tpm: missing\n\
         TPM libraries  yes\n\
         lacks          the driver erofs, the file system of extensions\n                 \
         add it with dracut's --add-drivers=erofs, or bring it by ukikit addon build --recipe=extensions\n\
         lacks          a certificate in usr/lib/verity.d/*.crt: only images that the kernel's keyrings know are merged\n                 \
         put the signer's certificate there, or into a signed addon beside the UKI\n"
    );
    assert_eq!((notes.as_str(), status), ("", 0));
}

#[test]
fn tells_programs_the_same() {
    let (shown, _, _) = inspect(&vendor(), "--json=short");
    let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["release"]["ID"], "fedora");
    assert_eq!(json["kernels"][0]["support"]["overlay"], "module");
    assert_eq!(json["kernels"][0]["index"], "none");
    assert_eq!(json["certificates"], serde_json::json!([]));
    assert_eq!(json["lacks"].as_array().unwrap().len(), 2);
}

#[test]
fn says_what_is_no_initrd() {
    let cases = [
        (b"hello".to_vec(), "it is neither a UKI nor an initrd"),
        (
            pe_file(&[(".linux", b"kernel")]),
            "not a UKI: it has no .initrd section",
        ),
        (
            pe_file(&[(".linux", b"kernel"), (".initrd", b"070701")]),
            "cannot read the initrd: at byte 0: archive ends without its trailer",
        ),
    ];
    for (bytes, sentence) in cases {
        let (shown, notes, status) = inspect(&bytes, "--json=off");
        let expected = format!("error: cannot inspect `vendor.efi`: {sentence}\n");
        assert_eq!(
            (shown.as_str(), notes.as_str(), status),
            ("", expected.as_str(), 1)
        );
    }
}
