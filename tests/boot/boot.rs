//! Real boots: UEFI firmware, a software TPM, an unmodified systemd 262 UKI, and companions beside it.
//!
//! `tests/run` makes the lab (`UKIKIT_BOOT_LAB`) and runs these one at a time.

#[path = "../support/mod.rs"]
mod support;

mod machine;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use machine::Machine;
use report::Report;
use support::swtpm::{Swtpm, unpacked};
use support::systemd::Systemd;
use support::{setting, skip, succeed, vector};

const SECRET: &[u8] = b"correct horse battery staple";
const FSTAB: &[u8] = b"tmpfs /from-fstab-extra tmpfs x-initrd.mount,size=1m,mode=0750 0 0\n";
const COMPANIONS: &str = "EFI/Linux/vendor.efi.extra.d";

/// The lab itself: what real systemd tools made is merged and decrypted, so a failure of ours is ours.
#[test]
fn boots_with_companions_systemd_made() {
    let (Some(lab), Some(systemd)) = (lab(), Systemd::find(262)) else {
        return;
    };
    if setting("UKIKIT_MATRIX").as_deref() != Some("full") {
        return; // costs a boot and proves nothing about this project
    }
    let esp = tempfile::tempdir().unwrap();
    Machine::esp_tree(&lab, esp.path());
    let companions = esp.path().join(COMPANIONS);
    fs::create_dir(&companions).unwrap();
    let tpm = unpacked("a");

    let room = systemd.room();
    write_feature(&room.path("tree"));
    fs::copy(vector("ddi/keys/rsa2048.key"), room.path("key")).unwrap();
    fs::copy(vector("ddi/keys/rsa2048.crt"), room.path("certificate")).unwrap();
    let repart = room.run(
        "systemd-repart",
        &[
            "--make-ddi=sysext",
            "--private-key=key",
            "--certificate=certificate",
            "--copy-source=/io/tree",
            "--offline=yes",
            "feature.sysext.raw",
        ],
    );
    succeed("systemd-repart", repart);
    fs::copy(
        room.path("feature.sysext.raw"),
        companions.join("feature.sysext.raw"),
    )
    .unwrap();

    let swtpm = Swtpm::start_on(tpm.path());
    for (name, content) in [("lab.secret", SECRET), ("fstab.extra", FSTAB)] {
        room.write(name, content);
        let device = format!("--tpm2-device={}", swtpm.device());
        let (name, file) = (format!("--name={name}"), name);
        let creds = room.run(
            "systemd-creds",
            &[
                "encrypt",
                "--with-key=tpm2",
                "--tpm2-pcrs=",
                &device,
                &name,
                file,
                &format!("{file}.cred"),
            ],
        );
        succeed("systemd-creds", creds);
        fs::copy(
            room.path(&format!("{file}.cred")),
            companions.join(format!("{file}.cred")),
        )
        .unwrap();
    }
    drop(swtpm);

    assert_companions_took_effect(&boot(&lab, esp.path(), tpm.path()));
}

fn lab() -> Option<PathBuf> {
    let lab = setting("UKIKIT_BOOT_LAB");
    if lab.is_none() {
        skip("boot: no lab, tests/run makes one");
    }
    lab.map(PathBuf::from)
}

fn boot(lab: &Path, esp: &Path, tpm: &Path) -> Report {
    let machine = Machine {
        lab: lab.to_owned(),
        esp: esp.to_owned(),
        tpm: tpm.to_owned(),
        timeout: Duration::from_secs(400),
    };
    machine.boot()
}

/// The tree of an extension whose one service leaves a trace for the report.
fn write_feature(tree: &Path) {
    let file = |path: &str, content: &str| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    file(
        "usr/lib/extension-release.d/extension-release.feature",
        "ID=debian\nSYSEXT_SCOPE=initrd\nEXTENSION_RELOAD_MANAGER=1\n",
    );
    file(
        "usr/lib/systemd/system/feature.service",
        "[Unit]\nDefaultDependencies=no\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=sh -c 'mkdir -p /run/lab/results; echo \"the service ran\" >/run/lab/results/feature'\n",
    );
    file(
        "usr/lib/systemd/system/feature.target",
        "[Unit]\nDefaultDependencies=no\nWants=feature.service\n",
    );
    // The unmerge at the end of the initrd must not reload the manager: it would lose the root's mount.
    file(
        "usr/lib/systemd/system/systemd-sysext-initrd.service.d/50-feature.conf",
        "[Service]\nExecStop=\nExecStop=systemd-sysext unmerge --no-reload\n",
    );
    // Upheld is a target, never the service: a failing upheld service is restarted for ever.
    let upholds = tree.join("usr/lib/systemd/system/sysinit.target.upholds");
    fs::create_dir_all(&upholds).unwrap();
    std::os::unix::fs::symlink("../feature.target", upholds.join("feature.target")).unwrap();
}

fn assert_companions_took_effect(report: &Report) {
    report.assert_initrd();
    assert_eq!(
        report.merged("/usr"),
        ["feature"],
        "journal:\n{}",
        report.fact("journal")
    );
    assert_eq!(report.fact("result/feature"), "the service ran\n");
    assert_eq!(report.fact("credential/lab.secret").as_bytes(), SECRET);
    let mounts = report.fact("proc/mountinfo");
    let mount = mounts
        .lines()
        .find(|line| line.contains(" /sysroot/from-fstab-extra "));
    let mount = mount.unwrap_or_else(|| {
        panic!(
            "fstab.extra had no effect:\n{mounts}\n{}",
            report.fact("journal")
        )
    });
    assert!(
        mount.contains("size=1024k") && mount.contains("mode=750"),
        "{mount}"
    );
    // Of the base initrd: dracut leaves out the files its last step reads. The storage root key is set up all the same.
    let failed = report.fact("failed-units");
    let failed: Vec<&str> = failed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(failed, ["systemd-tpm2-setup-early.service"]);
}
