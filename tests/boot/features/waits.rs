//! How long a boot waits for its root: with a feature as an extension, and with the same feature built into the initrd by
//! dracut. All must reach it; how long that takes is printed, not judged: seconds of the guest, when it switches to its root.
//! `UKIKIT_RUNS=5 cargo test --test boot -- --nocapture lab_waits` gives medians, on the roots that `tests/run --full` makes.

use std::path::Path;

use serde_json::Value;

use super::{CARD, Stage, drive, servers};
use crate::report::Report;
use crate::support::{run, setting, succeed, ukikit};

/// A boot, with the files and servers it takes.
type Boot = fn(&Stage) -> Report;

const FEATURES: [(&str, Boot, Boot); 5] = [
    ("lvm", super::lvm_root, lvm),
    ("mdraid", super::mdraid_root, mdraid),
    (
        "btrfs on an extra driver",
        super::btrfs_on_an_extra_driver,
        btrfs,
    ),
    ("nbd", super::nbd_root, nbd),
    ("iscsi", super::iscsi_root, iscsi),
];

#[test]
fn lab_waits_for_a_root() {
    let runs = setting("UKIKIT_RUNS").map_or(1, |runs| runs.parse().unwrap());
    for (name, extension, built_in) in FEATURES {
        let mut seconds = [Vec::new(), Vec::new()];
        for _ in 0..runs {
            for (seconds, boot) in seconds.iter_mut().zip([extension, built_in]) {
                let Some(stage) = Stage::new() else { return };
                seconds.push(switched(&boot(&stage)));
            }
        }
        let [extension, built_in] = seconds.map(median);
        let ratio = extension / built_in;
        println!(
            "{name:25} extension {extension:.1} s, built in {built_in:.1} s, {ratio:.2} times"
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// When the manager left the initrd, by the journal.
fn switched(report: &Report) -> f64 {
    let journal = report.fact("journal");
    let line = journal
        .lines()
        .find(|line| line.contains("Switching root."));
    let line = line.unwrap_or_else(|| panic!("{}\n{journal}", report.console));
    let stamp = line.trim_start_matches('[').split(']').next().unwrap();
    stamp.trim().parse().unwrap()
}

fn lvm(stage: &Stage) -> Report {
    let disk = stage.storage.lvm();
    stage.build_in("lvm", "");
    let options = "root=/dev/mapper/labgroup-root ro rd.lvm.lv=labgroup/root";
    stage.start_built_in(options, &drive(&disk), "ext4 /dev/mapper/labgroup-root")
}

fn mdraid(stage: &Stage) -> Report {
    let [one, other] = stage.storage.mirror();
    stage.build_in("mdraid", "");
    let devices = format!("{} {}", drive(&one), drive(&other));
    stage.start_built_in("root=LABEL=labroot ro rd.auto=1", &devices, "ext4 /dev/md")
}

fn btrfs(stage: &Stage) -> Report {
    let disk = stage.storage.btrfs();
    stage.build_in("btrfs", "vmw_pvscsi sd_mod");
    stage.start_built_in(
        "root=LABEL=labroot ro",
        &super::controller(&disk),
        "btrfs /dev/sda",
    )
}

fn nbd(stage: &Stage) -> Report {
    let disk = stage.storage.ext4("96M");
    let server = servers::nbd(&stage.room, &disk);
    stage.build_in("systemd-networkd nbd", "");
    let port = server.port();
    let options = format!("root=nbd:10.0.2.2:{port}:ext4:ro ip=dhcp rd.neednet=1");
    stage.start_built_in(&options, CARD, "ext4 /dev/nbd0")
}

fn iscsi(stage: &Stage) -> Report {
    let disk = stage.storage.ext4("96M");
    let target = servers::iscsi(&stage.room, &disk);
    stage.build_in("systemd-networkd iscsi", "");
    let port = target.port();
    let options = format!(
        "root=LABEL=labroot ro ip=dhcp rd.neednet=1 rd.iscsi.initiator=iqn.2026-01.example.lab:client1 \
         netroot=iscsi:labuser:Very-Secret-12:targetuser:Mutual-Secret1@10.0.2.2::{port}:1:iqn.2026-01.example.lab:rootdisk"
    );
    stage.start_built_in(&options, CARD, "ext4 /dev/sda")
}

/// The vendor's initrd, made with more.
const BUILD: &str = r#"
    kernel=$(basename /usr/lib/modules/*)
    dracut --force --quiet --no-hostonly --no-hostonly-cmdline --reproducible --zstd --kver "$kernel" --tmpdir /run \
        --modules "$1" --add-drivers "virtio_blk virtio_pci virtio_rng overlay erofs squashfs loop dm-verity $2" \
        --install "base64 cat cp find grep gzip journalctl mkdir mount sha256sum sleep stty systemctl systemd-creds uname" \
        --include /io/guest / --include /io/verity.d /usr/lib/verity.d /io/built.img
    ukify build --linux="/boot/vmlinuz-$kernel" --initrd=/io/built.img --uname="$kernel" --os-release=@/usr/lib/os-release \
        --cmdline=quiet --output=/io/built.efi
"#;

impl Stage {
    /// Another UKI takes the place of the vendor's: what it has, and these modules of dracut and drivers.
    fn build_in(&self, modules: &str, drivers: &str) {
        let uki = self.scene.esp().join("EFI/Linux/vendor.efi");
        let mut inspect = ukikit();
        inspect.args(["uki", "inspect", "--json=short"]).arg(&uki);
        let said = succeed("uki inspect", inspect.output().unwrap());
        let said: Value = serde_json::from_slice(&said).unwrap();
        let base = said["dracut"]["modules"].as_array().unwrap().iter();
        let base: Vec<&str> = base.map(|module| module.as_str().unwrap()).collect();
        let room = self.features.room();
        for directory in ["guest", "verity.d"] {
            copy(&self.scene.lab.join(directory), room.directory());
        }
        let modules = format!("{} {modules}", base.join(" "));
        let arguments = ["-euc", BUILD, "-", &modules, drivers];
        succeed("dracut", room.run("bash", &arguments));
        std::fs::copy(room.path("built.efi"), uki).unwrap();
    }

    fn start_built_in(&self, options: &str, devices: &str, root: &str) -> Report {
        self.scene
            .start_with(&format!("systemd.log_level=info {options}"));
        let report = self.start(devices);
        self.assert_root(&report, root);
        report
    }
}

fn copy(from: &Path, to: &Path) {
    run(
        "cp",
        ["-a", &from.display().to_string(), &to.display().to_string()],
    );
}
