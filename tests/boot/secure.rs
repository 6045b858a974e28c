//! Secure Boot enforcing, with a PK, a KEK and a db of our own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::machine::Machine;
use crate::support::swtpm::unpacked;
use crate::support::systemd::{Room, Systemd};
use crate::support::{setting, succeed, text, ukikit, vector};
use crate::{Scene, lab};

/// A signed addon brings trust; one that is not signed, and one that was changed, are as if they were not there.
#[test]
fn lab_secure_boot_takes_signed_addons_alone() {
    let (Some(lab), Some(systemd)) = (lab(), Systemd::find(262)) else {
        return;
    };
    let room = systemd.room();
    let secure = secure_lab(&lab, "vendor.efi", &room);
    let scene = Scene::new(secure.path());
    let [key, certificate] = signer("other");
    let trusted = format!("--certificate={}", certificate.display());
    scene.build_signed("feature", "tree", [key, certificate.clone()], &[]);
    let path = |name: &str| scene.path(name).display().to_string();
    let trust = path("extension-trust.addon.efi");
    let output = format!("--output={trust}");
    on_esp(
        &scene,
        "trust add",
        &[output, certificate.display().to_string()],
    );
    sign(&room, Path::new(&trust));
    for name in ["signed", "unsigned", "tampered"] {
        let output = format!("--output={}", path(&format!("{name}.addon.efi")));
        let options = format!("--cmdline=lab.{name}=arrived");
        let mut build = ukikit();
        build.args(["addon", "build", "--architecture=x86-64", &options, &output]);
        succeed("addon build", build.output().unwrap());
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
    let mut place = vec![trusted.clone()];
    place.extend(files.map(path));
    on_esp(&scene, "esp place", &place);
    let status = on_esp(
        &scene,
        "trust status",
        &[trusted, "--secure-boot".to_owned()],
    );
    for line in [
        "unsigned.addon.efi: it is not signed, which Secure Boot requires\n",
        "tampered.addon.efi: it was changed after it was signed\n",
        ": merged, by /usr/lib/verity.d/ukikit-",
    ] {
        assert!(status.contains(line), "{line:?} in {status}");
    }

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
    let secure = secure_lab(&lab, "vendor.efi", &room);
    let scene = Scene::new(secure.path());
    let certificate = room.path("sb.crt");
    let signer = [room.path("sb.key"), certificate.clone()];
    scene.build_signed("feature", "tree", signer, &[]);
    let trusted = format!("--certificate={}", certificate.display());
    let image = scene.path("feature.sysext.raw").display().to_string();
    on_esp(&scene, "esp place", &[trusted.clone(), image]);
    let kernel = fs::read_dir(PathBuf::from(setting("UKIKIT_ROOT_262").unwrap()).join("boot"));
    let mut files = kernel.unwrap().map(|entry| entry.unwrap().path());
    let is_config = |path: &PathBuf| path.to_string_lossy().contains("/config-");
    let config = files.find(is_config).unwrap();
    let status = on_esp(
        &scene,
        "trust status",
        &[
            trusted,
            "--secure-boot".to_owned(),
            format!("--db={}", certificate.display()),
            format!("--kernel-config={}", config.display()),
        ],
    );
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
    let secure = secure_lab(&lab, "vendor.efi", &room);
    let scene = Scene::new(secure.path());
    for (name, key) in [("old", "other"), ("new", "p384")] {
        let files = scene.path(name).join("usr/lib/rotation");
        fs::create_dir_all(&files).unwrap();
        fs::write(files.join(name), name).unwrap();
        scene.build_signed(name, name, signer(key), &[]);
    }
    let certificate = |name: &str| signer(name)[1].display().to_string();
    let trust = |change: String| {
        let [key, certificate] = [("private-key", "sb.key"), ("certificate", "sb.crt")]
            .map(|(option, file)| format!("--secureboot-{option}={}", room.path(file).display()));
        on_esp(&scene, "trust add", &[key, certificate, change]);
    };
    let place = |name: &str, key: &str, more: &[&str]| {
        let image = scene.path(name).display().to_string();
        let mut rest = vec![format!("--certificate={}", certificate(key)), image];
        rest.extend(more.iter().map(ToString::to_string));
        on_esp(&scene, "esp place", &rest);
    };
    let remove = |name: &str| {
        on_esp(&scene, "esp remove", &[name.to_owned()]);
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
    remove("old.sysext.raw");
    trust(format!("--withdraw={}", certificate("other")));
    assert_eq!(merged(), ["new"]);
    remove("new.sysext.raw");
    place("old.sysext.raw", "other", &["--force"]);
    assert_eq!(merged(), [""; 0]);
}

/// Key and certificate of the vectors.
pub(crate) fn signer(name: &str) -> [PathBuf; 2] {
    ["key", "crt"].map(|kind| vector(&format!("ddi/keys/{name}.{kind}")))
}

/// Runs a verb for the UKI of the scene, and returns what it said.
pub(crate) fn on_esp(scene: &Scene<'_>, verb: &str, rest: &[String]) -> String {
    let mut command = ukikit();
    command.args(verb.split(' ')).arg("--esp").arg(scene.esp());
    command.arg("--uki=EFI/Linux/vendor.efi").args(rest);
    text(&succeed(verb, command.output().unwrap()))
}

/// The lab with firmware that enforces Secure Boot, and a vendor's UKI and a boot loader that are signed for it. The key that
/// db has lies in the room, as `sb.key` and `sb.crt`.
pub(crate) fn secure_lab(lab: &Path, uki: &str, room: &Room) -> TempDir {
    let secure = TempDir::new().unwrap();
    let owner = owner(lab);
    room.write("sb.key", &owner.key);
    room.write("sb.crt", &owner.certificate);
    for (from, to) in [
        (firmware(), "OVMF_CODE_4M.fd"),
        (lab.join("systemd-boot.efi"), "systemd-boot.efi"),
        (lab.join(uki), "vendor.efi"),
    ] {
        fs::copy(from, secure.path().join(to)).unwrap();
    }
    fs::write(secure.path().join("OVMF_VARS_4M.fd"), &owner.variables).unwrap();
    // This firmware keeps its variables from the operating system by system management mode.
    fs::write(secure.path().join("smm"), "").unwrap();
    for name in ["systemd-boot.efi", "vendor.efi"] {
        sign(room, &secure.path().join(name));
    }
    secure
}

fn firmware() -> PathBuf {
    let root = PathBuf::from(setting("UKIKIT_ROOT_262").unwrap());
    root.join("usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
}

/// Whose machines these are: the key that db has, and the variables of firmware that has PK, KEK and db.
struct Owner {
    key: Vec<u8>,
    certificate: Vec<u8>,
    variables: Vec<u8>,
}

/// Made once: three keys, enrolled by systemd-boot as on a new machine.
fn owner(lab: &Path) -> &'static Owner {
    static OWNER: OnceLock<Owner> = OnceLock::new();
    OWNER.get_or_init(|| enrol(lab))
}

/// Key and certificate of a variable, and the signed list with the certificate alone. `signer` signs for it.
const VARIABLE: &str = r#"
    name=$1 signer=$2
    openssl req -x509 -newkey rsa:2048 -noenc -subj "/CN=ukikit test $name" -days 36500 -keyout $name.key -out $name.crt
    openssl x509 -in $name.crt -outform DER -out $name.der
    sbsiglist --owner 6a6b9d5e-9f0c-4c4e-9f6e-3f1f0c1d2e3f --type x509 --output $name.esl $name.der
    sbvarsign --key $signer.key --cert $signer.crt --output keys/$name.auth $name $name.esl
"#;

fn enrol(lab: &Path) -> Owner {
    let place = TempDir::new().unwrap();
    let path = |name: &str| place.path().join(name);
    fs::create_dir(path("keys")).unwrap();
    for (name, signer) in [("PK", "PK"), ("KEK", "PK"), ("db", "KEK")] {
        let mut make = std::process::Command::new("sh");
        make.current_dir(place.path());
        make.args(["-euc", VARIABLE, "-", name, signer]);
        succeed("keys of Secure Boot", make.output().unwrap());
    }
    let esp = path("esp");
    Machine::esp_tree(lab, &esp);
    fs::create_dir_all(esp.join("loader/keys")).unwrap();
    fs::rename(path("keys"), esp.join("loader/keys/auto")).unwrap();
    let loader = "timeout 0\nsecure-boot-enroll force\n";
    fs::write(esp.join("loader/loader.conf"), loader).unwrap();
    let open = path("lab");
    fs::create_dir(&open).unwrap();
    fs::copy(firmware(), open.join("OVMF_CODE_4M.fd")).unwrap();
    fs::copy(lab.join("OVMF_VARS_4M.fd"), open.join("OVMF_VARS_4M.fd")).unwrap();
    fs::write(open.join("smm"), "").unwrap();
    let tpm = unpacked("a");
    let machine = Machine {
        lab: open,
        esp,
        tpm: tpm.path().to_owned(),
        timeout: Duration::from_secs(300),
        direct: None,
    };
    Owner {
        variables: machine.enrol(),
        key: fs::read(path("db.key")).unwrap(),
        certificate: fs::read(path("db.crt")).unwrap(),
    }
}

/// Signs a PE file in place, by systemd's own tool.
pub(crate) fn sign(room: &Room, file: &Path) {
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
