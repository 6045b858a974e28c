//! Boots that fail: what the console says, and who gets a shell there.

use std::fs;
use std::path::PathBuf;

use super::{CARD, Stage, apply, apply_for, drive};
use crate::machine::{Deed, Exchange};
use crate::report::Report;
use crate::support::swtpm::{Swtpm, unpacked};
use crate::support::{succeed, text, ukikit};
use crate::tpm_identity;

const PASSWORD: &str = "left horse battery";

/// What sulogin ends its question with.
const QUESTION: &str = "Control-D to continue): ";

/// Typed into a shell of root: it could not report otherwise. The shell's words are not those that were typed.
const SHELL: &str = "mkdir -p /run/lab/results; cp /run/log/systemd/tpm2-measure.log /run/lab/results/measured; echo \"shell of $((6 * 7))\" >/run/lab/results/shell; /usr/lib/lab/report emergency";

/// Somebody who first mistypes the password.
const ADMINISTRATOR: [Exchange<'_>; 3] = [
    (QUESTION, Deed::Type("a guess")),
    (QUESTION, Deed::Type(PASSWORD)),
    ("# ", Deed::Type(SHELL)),
];

const WRONG_DEVICE: &str = r#"
[seal]
bind = "none"
[root]
device = "UUID=11111111-2222-4333-8444-555555555555"
options = ["x-systemd.device-timeout=1min"]
[recovery]
password-hash = { file = "hash" }
measure = true
"#;

/// As `mkpasswd` or `openssl passwd` make it.
fn hash(stage: &Stage) -> String {
    let arguments = ["passwd", "-6", "-salt", "saltsaltsaltsalt", PASSWORD];
    let made = stage.features.room().run("openssl", &arguments);
    text(&succeed("openssl passwd", made))
}

/// The disk is not there: the console says which, and the shell opens to the password alone.
#[test]
fn lab_host_wrong_device_ends_in_recovery() {
    let Some(stage) = Stage::new() else { return };
    stage.speak();
    apply(&stage, WRONG_DEVICE, &[("hash", &hash(&stage))]);
    let report = stage.attend(CARD, &ADMINISTRATOR);
    assert_recovered(&report);
    // Whether the name of the device is whole hangs on the width of the console.
    assert_said(&report, "Timed out waiting for device ");
    assert_said(&report, "-2222-4333-8444-555555555555");
    // What a signed PCR 11 policy binds stays closed in this shell.
    let measured = report.fact("result/measured");
    assert!(measured.contains("ukikit-recovery"), "{measured}");
}

/// The target refuses the secret.
#[test]
fn lab_host_wrong_secret_ends_in_recovery() {
    let Some(stage) = Stage::new() else { return };
    let disk = stage.storage.ext4("96M");
    let target = super::servers::iscsi(&stage.room, &disk);
    stage.extension("iscsi", &["--recipe=network", "--recipe=iscsi"]);
    stage.speak();
    let host = super::ISCSI.replace("PORT", &target.port())
        + "[recovery]\npassword-hash = { file = \"hash\" }\n";
    let hash = hash(&stage);
    let secrets = [&super::WRONG[..], &[("hash", &hash)]].concat();
    apply(&stage, &host, &secrets);
    let report = stage.attend(CARD, &ADMINISTRATOR);
    assert_recovered(&report);
    assert_said(&report, &super::refusal(&target));
    assert_eq!(report.fact("result/iscsi"), "");
}

/// The ESP of one host in another one, whose TPM opens nothing of it: the console says so, and root stays locked.
#[test]
fn lab_host_file_of_another_host_opens_nothing() {
    let Some(stage) = Stage::new() else { return };
    stage.extension("cryptsetup", &["--recipe=cryptsetup"]);
    stage.speak();
    let other = tpm_identity(unpacked("b").path());
    let (disk, host, secrets) = volume(&stage);
    apply_for(
        &stage,
        &other,
        &host,
        &secrets.each_ref().map(borrowed),
        &[],
    );
    let locked = "the root account is locked";
    let report = stage.attend(&drive(&disk), &[(locked, Deed::SwitchOff)]);
    assert_eq!(report.stage, None);
    assert_said(&report, "fstab.extra");
}

/// The TPM was cleared: the addon opens the shell, the new key goes out, and one command makes the host boot again.
#[test]
fn lab_host_restored_after_its_tpm_was_cleared() {
    let Some(stage) = Stage::new() else { return };
    stage.extension("cryptsetup", &["--recipe=cryptsetup"]);
    stage.speak();
    let (disk, host, secrets) = volume(&stage);
    apply(&stage, &host, &secrets.each_ref().map(borrowed));
    place_recovery_addon(&stage);
    Swtpm::start_on(stage.scene.tpm.path()).clear();
    let shell = format!("mkdir -p /run/lab/results; cp {NEW_KEY} /run/lab/results/srk; {SHELL}");
    let mut exchanges = ADMINISTRATOR;
    exchanges[2].1 = Deed::Type(&shell);
    let report = stage.attend(&drive(&disk), &exchanges);
    assert_recovered(&report);

    let key = stage.scene.path("srk");
    fs::write(&key, &report.facts["result/srk"]).unwrap();
    let mut identity = ukikit();
    identity.args(["tpm", "identity"]);
    identity.arg(format!("--storage-root-key={}", key.display()));
    let identity = succeed("tpm identity", identity.output().unwrap());
    apply_for(
        &stage,
        &identity,
        &host,
        &secrets.each_ref().map(borrowed),
        &[],
    );
    let report = stage.start(&drive(&disk));
    stage.assert_root(&report, "ext4 /dev/mapper/root");
}

/// Where systemd-tpm2-setup keeps the storage root key.
const NEW_KEY: &str = "/run/systemd/tpm2-srk-public-key.tpm2b_public";

/// An encrypted root, its host file, and the secrets beside it.
fn volume(stage: &Stage) -> (PathBuf, String, [(&'static str, String); 2]) {
    let (disk, uuid) = super::encrypted(stage);
    let host =
        super::LUKS.replace("DISK", &uuid) + "[recovery]\npassword-hash = { file = \"hash\" }\n";
    let secrets = [
        ("passphrase", "correct horse\n".to_owned()),
        ("hash", hash(stage)),
    ];
    (disk, host, secrets)
}

fn borrowed<'a>((name, content): &'a (&'static str, String)) -> (&'a str, &'a str) {
    (name, content)
}

/// What opens the shell without the TPM, beside the UKI.
fn place_recovery_addon(stage: &Stage) {
    let scene = &stage.scene;
    let (tree, addon) = (scene.path("recovery"), scene.path("recovery.addon.efi"));
    let mut recovery = ukikit();
    recovery.args(["host", "recovery"]);
    recovery.arg(scene.path("HOST.toml")).arg(&tree);
    succeed("host recovery", recovery.output().unwrap());
    let mut build = ukikit();
    build.args(["addon", "build"]);
    build.arg(format!("--tree={}", tree.display()));
    build.arg(format!("--output={}", addon.display()));
    succeed("addon build", build.output().unwrap());
    scene.place(&["recovery.addon.efi"]);
}

/// The wrong password did not open the shell, the right one did.
fn assert_recovered(report: &Report) {
    let shown = || format!("{}\n{}", report.console, report.fact("journal"));
    assert_eq!(report.stage.as_deref(), Some("emergency"), "{}", shown());
    assert_eq!(report.fact("result/shell"), "shell of 42\n", "{}", shown());
    assert_said(report, "Login incorrect");
}

fn assert_said(report: &Report, sentence: &str) {
    let shown = || format!("{}\n{}", report.console, report.fact("journal"));
    assert!(report.console.contains(sentence), "{sentence}: {}", shown());
}
