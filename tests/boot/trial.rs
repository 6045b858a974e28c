//! A set of companions on trial: one that does not boot is given up by itself, without hands.

use std::fs;

use super::{SECRET, Scene, lab, succeed, tpm_identity, ukikit};

/// The set of before, and one whose file system never appears.
const BEFORE: &str =
    "[seal]\nbind = \"none\"\n[credentials]\n\"lab.secret\" = { file = \"secret\" }\n";
const BROKEN: &str = "[[mount]]\npath = \"/never\"\ndevice = \"LABEL=nowhere\"\ntype = \"ext4\"\n\
                      options = [\"x-systemd.device-timeout=3s\"]\n";

#[test]
fn lab_a_set_that_fails_gives_way_to_the_one_before() {
    let Some(lab) = lab() else { return };
    let scene = Scene::new(&lab);
    let apply = |host: &str, secret: &[u8], more: &[&str]| {
        fs::write(scene.path("HOST.toml"), host).unwrap();
        fs::write(scene.path("secret"), secret).unwrap();
        let mut apply = ukikit();
        apply.args(["host", "apply", "--uki=EFI/Linux/vendor.efi"]);
        apply.arg(format!("--esp={}", scene.esp().display()));
        apply.arg(format!("--for={}", scene.path("web1.json").display()));
        apply.args(more).arg(scene.path("HOST.toml"));
        succeed("host apply", apply.output().unwrap());
    };
    fs::write(scene.path("web1.json"), tpm_identity(scene.tpm.path())).unwrap();
    apply(BEFORE, SECRET, &[]);
    apply(&format!("{BEFORE}{BROKEN}"), b"another", &["--tries=1"]);

    let machine = scene.machine();
    let failed = machine.boot();
    assert_eq!(failed.stage, None, "it ends by itself: {}", failed.console);
    let counted = scene.esp().join("loader/entries/vendor.efi-tried+0-1.conf");
    assert!(counted.exists(), "{}", failed.console);

    let report = machine.boot();
    report.assert_initrd();
    let journal = report.fact("journal");
    assert_eq!(
        report.fact("credential/lab.secret").as_bytes(),
        SECRET,
        "journal:\n{journal}"
    );
    assert!(!report.fact("proc/mountinfo").contains("/never"));
}
