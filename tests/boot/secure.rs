//! Secure Boot enforcing, with the keys of the test variables that Debian's firmware package brings.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::systemd::{Room, Systemd};
use crate::support::{run, setting, succeed, text, ukikit, vector};
use crate::{Scene, lab};

/// A signed addon brings trust; one that is not signed, and one that was changed, are as if they were not there.
#[test]
fn lab_secure_boot_takes_signed_addons_alone() {
    let (Some(lab), Some(systemd)) = (lab(), Systemd::find(262)) else {
        return;
    };
    let room = systemd.room();
    let secure = secure_lab(&lab, &room);
    let scene = Scene::new(secure.path());
    let signer = format!("--certificate={}", vector("ddi/keys/other.crt").display());
    let esp = format!("--esp={}", scene.esp().display());
    let target = "--uki=EFI/Linux/vendor.efi";
    let path = |name: &str| scene.path(name).display().to_string();
    let command = |arguments: &[&str]| {
        let output = ukikit().args(arguments).output().unwrap();
        text(&succeed(arguments[1], output))
    };
    command(&[
        "ext",
        "build",
        "--name=feature",
        &format!("--tree={}", path("tree")),
        &format!("--private-key={}", vector("ddi/keys/other.key").display()),
        &signer,
        &format!("--output={}", path("feature.sysext.raw")),
    ]);
    let trust = path("extension-trust.addon.efi");
    let other = vector("ddi/keys/other.crt").display().to_string();
    command(&[
        "trust",
        "add",
        target,
        &esp,
        &format!("--output={trust}"),
        &other,
    ]);
    sign(&room, Path::new(&trust));
    for name in ["signed", "unsigned", "tampered"] {
        let output = format!("--output={}", path(&format!("{name}.addon.efi")));
        let options = format!("--cmdline=lab.{name}=arrived");
        command(&["addon", "build", "--architecture=x86-64", &options, &output]);
    }
    let tampered = scene.path("tampered.addon.efi");
    sign(&room, &tampered);
    sign(&room, &scene.path("signed.addon.efi"));
    let mut bytes = fs::read(&tampered).unwrap();
    let at = bytes
        .windows(7)
        .position(|bytes| bytes == b"arrived")
        .unwrap();
    bytes[at] = b'A';
    fs::write(&tampered, bytes).unwrap();

    let files = [
        "feature.sysext.raw",
        "extension-trust.addon.efi",
        "signed.addon.efi",
        "unsigned.addon.efi",
        "tampered.addon.efi",
    ];
    let files = files.map(path);
    let mut place = vec!["esp", "place", target, &esp, &signer];
    place.extend(files.iter().map(String::as_str));
    command(&place);
    let status = command(&["trust", "status", target, &esp, &signer, "--secure-boot"]);
    assert!(
        status.contains("unsigned.addon.efi: it is not signed, which Secure Boot requires\n"),
        "{status}"
    );
    assert!(
        status.contains(": merged, by /usr/lib/verity.d/ukikit-"),
        "{status}"
    );

    let report = scene.boot();
    report.assert_initrd();
    let journal = report.fact("journal");
    assert!(
        journal.contains("Secure boot enabled")
            || journal.contains("secureboot: Secure boot enabled"),
        "{journal}"
    );
    let command_line = report.fact("proc/cmdline");
    assert!(
        command_line.contains("lab.signed=arrived"),
        "{command_line}"
    );
    for name in ["unsigned", "tampered"] {
        assert!(
            !command_line.contains(&format!("lab.{name}")),
            "{command_line}"
        );
    }
    assert_eq!(report.merged("/usr"), ["feature"], "journal:\n{journal}");
}

/// The kernel takes an image whose signer is in db, whatever `verity.d` says; `trust status` has said so.
#[test]
fn lab_a_signer_in_db_is_enough_for_the_kernel() {
    let (Some(lab), Some(systemd)) = (lab(), Systemd::find(262)) else {
        return;
    };
    let room = systemd.room();
    let secure = secure_lab(&lab, &room);
    let scene = Scene::new(secure.path());
    let signer = format!("--certificate={}", room.path("sb.crt").display());
    let esp = format!("--esp={}", scene.esp().display());
    let target = "--uki=EFI/Linux/vendor.efi";
    let path = |name: &str| scene.path(name).display().to_string();
    let command = |arguments: &[&str]| {
        let output = ukikit().args(arguments).output().unwrap();
        text(&succeed(arguments[1], output))
    };
    command(&[
        "ext",
        "build",
        "--name=feature",
        &format!("--tree={}", path("tree")),
        &format!("--private-key={}", room.path("sb.key").display()),
        &signer,
        &format!("--output={}", path("feature.sysext.raw")),
    ]);
    command(&[
        "esp",
        "place",
        target,
        &esp,
        &signer,
        &path("feature.sysext.raw"),
    ]);
    let kernel = fs::read_dir(PathBuf::from(setting("UKIKIT_ROOT_262").unwrap()).join("boot"));
    let mut files = kernel.unwrap().map(|entry| entry.unwrap().path());
    let is_config = |path: &PathBuf| path.to_string_lossy().contains("/config-");
    let config = files.find(is_config).unwrap();
    let status = command(&[
        "trust",
        "status",
        target,
        &esp,
        &signer,
        "--secure-boot",
        &format!("--db={}", room.path("sb.crt").display()),
        &format!("--kernel-config={}", config.display()),
    ]);
    assert!(
        status.contains(": merged, by the kernel, through db\n"),
        "{status}"
    );
    let report = scene.boot();
    report.assert_initrd();
    let journal = report.fact("journal");
    assert_eq!(report.merged("/usr"), ["feature"], "journal:\n{journal}");
}

/// The life of a key in four boots: the old one, both, the new one, and the old one withdrawn. The vendor trusts neither.
#[test]
fn lab_a_key_is_rotated_in_four_boots() {
    let (Some(lab), Some(systemd)) = (lab(), Systemd::find(262)) else {
        return;
    };
    let room = systemd.room();
    let secure = secure_lab(&lab, &room);
    let scene = Scene::new(secure.path());
    for (name, key) in [("old", "other"), ("new", "p384")] {
        let tree = scene.path(name);
        fs::create_dir_all(tree.join("usr/lib/rotation")).unwrap();
        fs::write(tree.join("usr/lib/rotation").join(name), name).unwrap();
        let mut build = ukikit();
        build.args(["ext", "build", "--name", name]);
        for (option, path) in [
            ("tree", tree),
            ("uki", scene.esp().join("EFI/Linux/vendor.efi")),
            ("private-key", vector(&format!("ddi/keys/{key}.key"))),
            ("certificate", vector(&format!("ddi/keys/{key}.crt"))),
            ("output", scene.path(&format!("{name}.sysext.raw"))),
        ] {
            build.arg(format!("--{option}={}", path.display()));
        }
        succeed("ext build", build.output().unwrap());
    }
    let on_esp = |verb: &str, rest: &[String]| {
        let mut command = ukikit();
        command.args(verb.split(' ')).arg("--esp").arg(scene.esp());
        command.arg("--uki=EFI/Linux/vendor.efi").args(rest);
        succeed(verb, command.output().unwrap());
    };
    let certificate = |name: &str| {
        vector(&format!("ddi/keys/{name}.crt"))
            .display()
            .to_string()
    };
    let trust = |change: String| {
        let signing = ["private-key", "certificate"].map(|option| {
            let file = room.path(if option == "certificate" {
                "sb.crt"
            } else {
                "sb.key"
            });
            format!("--secureboot-{option}={}", file.display())
        });
        on_esp("trust add", &[signing.as_slice(), &[change]].concat());
    };
    let place = |name: &str, key: &str, more: &[&str]| {
        let mut rest = vec![
            format!("--certificate={}", certificate(key)),
            scene.path(name).display().to_string(),
        ];
        rest.extend(more.iter().map(ToString::to_string));
        on_esp("esp place", &rest);
    };
    let merged = || {
        let report = scene.boot();
        report.assert_initrd();
        let mut merged = report.merged("/usr");
        merged.sort();
        merged
    };

    trust(certificate("other"));
    place("old.sysext.raw", "other", &[]);
    assert_eq!(merged(), ["old"]);
    trust(certificate("p384"));
    place("new.sysext.raw", "p384", &[]);
    assert_eq!(merged(), ["new", "old"]);
    on_esp("esp remove", &["old.sysext.raw".to_owned()]);
    trust(format!("--withdraw={}", certificate("other")));
    assert_eq!(merged(), ["new"]);
    on_esp("esp remove", &["new.sysext.raw".to_owned()]);
    place("old.sysext.raw", "other", &["--force"]);
    assert_eq!(merged(), [""; 0]);
}

/// The lab with firmware that enforces Secure Boot, and what it starts signed.
fn secure_lab(lab: &Path, room: &Room) -> TempDir {
    let secure = TempDir::new().unwrap();
    let root = PathBuf::from(setting("UKIKIT_ROOT_262").unwrap());
    let share = root.join("usr/share");
    for (from, to) in [
        (
            share.join("OVMF/OVMF_CODE_4M.secboot.fd"),
            "OVMF_CODE_4M.fd",
        ),
        (
            share.join("OVMF/OVMF_VARS_4M.snakeoil.fd"),
            "OVMF_VARS_4M.fd",
        ),
        (lab.join("systemd-boot.efi"), "systemd-boot.efi"),
        (lab.join("vendor.efi"), "vendor.efi"),
    ] {
        fs::copy(from, secure.path().join(to)).unwrap();
    }
    // This firmware keeps its variables from the operating system by system management mode.
    fs::write(secure.path().join("smm"), "").unwrap();
    fs::copy(share.join("ovmf/PkKek-1-snakeoil.pem"), room.path("sb.crt")).unwrap();
    let key = share
        .join("ovmf/PkKek-1-snakeoil.key")
        .display()
        .to_string();
    let plain = room.path("sb.key").display().to_string();
    run(
        "openssl",
        [
            "pkey",
            "-in",
            &key,
            "-passin",
            "pass:snakeoil",
            "-out",
            &plain,
        ],
    );
    for name in ["systemd-boot.efi", "vendor.efi"] {
        sign(room, &secure.path().join(name));
    }
    secure
}

/// Signs a PE file in place, by systemd's own tool.
fn sign(room: &Room, file: &Path) {
    fs::copy(file, room.path("unsigned.efi")).unwrap();
    let arguments = [
        "sign",
        "--private-key=sb.key",
        "--certificate=sb.crt",
        "--output=signed.efi",
        "unsigned.efi",
    ];
    succeed(
        "systemd-sbsign",
        room.run("/usr/lib/systemd/systemd-sbsign", &arguments),
    );
    fs::copy(room.path("signed.efi"), file).unwrap();
}
