//! Roots that the vendor's UKI cannot reach: its extensions are made by one command each, and the boot ends in a
//! system on that root. One extension alone, and several beside each other.
//!
//! `tests/run --full` makes the roots with the packages (`UKIKIT_ROOT_FEATURES_262`, `…_257`) and labs of their own
//! (`UKIKIT_FEATURE_LAB_262`, `…_257`): a UKI and its extensions have to come from the same packages.

mod disk_log;
mod first_boot;
mod host;
mod servers;
mod storage;
mod waits;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::Scene;
use crate::machine::{Exchange, Machine};
use crate::report::Report;
use crate::support::systemd::{Room, Systemd};
use crate::support::{setting, skip, succeed, ukikit, vector};
use storage::Storage;

/// The network of the virtual machine: its other end is reached at 10.0.2.2.
const NETWORK: (&str, &str) = (
    "network.network.10-lab",
    "[Match]\nKind=!*\nType=ether\n[Network]\nDHCP=ipv4\n",
);
const CARD: &str = "-netdev user,id=n0 -device virtio-net-pci,netdev=n0";

#[test]
fn lab_iscsi_root() {
    on(262, iscsi_root);
}

#[test]
fn lab_257_iscsi_root() {
    on(257, iscsi_root);
}

fn iscsi_root(stage: &Stage) -> Report {
    let disk = stage.storage.ext4("96M");
    let target = servers::iscsi(&stage.room, &disk);
    stage.extension("iscsi", &["--recipe=network", "--recipe=iscsi"]);
    stage.credential(NETWORK.0, NETWORK.1);
    stage.credential("iscsi.target", &target.credential);
    let report = stage.boot("LABEL=labroot / ext4 ro", CARD);
    stage.assert_root(&report, "ext4 /dev/sda");
    assert_eq!(report.fact("result/iscsi"), servers::SESSION);
    report
}

#[test]
fn lab_nbd_root() {
    on(262, nbd_root);
}

#[test]
fn lab_257_nbd_root() {
    on(257, nbd_root);
}

fn nbd_root(stage: &Stage) -> Report {
    let disk = stage.storage.ext4("96M");
    let server = servers::nbd(&stage.room, &disk);
    stage.extension("nbd", &["--recipe=network", "--recipe=nbd"]);
    stage.credential(NETWORK.0, NETWORK.1);
    stage.credential("nbd.target", &server.credential);
    let report = stage.boot("/dev/nbd0 / ext4 ro", CARD);
    stage.assert_root(&report, "ext4 /dev/nbd0");
    report
}

#[test]
fn lab_lvm_root() {
    on(262, lvm_root);
}

#[test]
fn lab_257_lvm_root() {
    on(257, lvm_root);
}

fn lvm_root(stage: &Stage) -> Report {
    let disk = stage.storage.lvm();
    stage.extension("lvm", &["--recipe=lvm"]);
    let report = stage.boot("/dev/mapper/labgroup-root / ext4 ro", &drive(&disk));
    stage.assert_root(&report, "ext4 /dev/mapper/labgroup-root");
    assert!(report.fact("result/dm").starts_with("labgroup-root LVM-"));
    report
}

#[test]
fn lab_mdraid_root() {
    on(262, mdraid_root);
}

#[test]
fn lab_257_mdraid_root() {
    on(257, mdraid_root);
}

fn mdraid_root(stage: &Stage) -> Report {
    let [one, other] = stage.storage.mirror();
    stage.extension("mdraid", &["--recipe=mdraid"]);
    let devices = format!("{} {}", drive(&one), drive(&other));
    let report = stage.boot("LABEL=labroot / ext4 ro", &devices);
    let root = report.fact("result/root");
    assert!(
        root.starts_with("ext4 /dev/md"),
        "{root}{}",
        report.fact("journal")
    );
    assert!(report.fact("result/md").starts_with("raid1 "), "{root}");
    report
}

#[test]
fn lab_btrfs_on_an_extra_driver() {
    on(262, btrfs_on_an_extra_driver);
}

#[test]
fn lab_257_btrfs_on_an_extra_driver() {
    on(257, btrfs_on_an_extra_driver);
}

/// A controller that the UKI does not drive, and a file system that it does not read.
fn btrfs_on_an_extra_driver(stage: &Stage) -> Report {
    let disk = stage.storage.btrfs();
    stage.extension(
        "controller",
        &["--kernel-module=vmw_pvscsi", "--kernel-module=sd_mod"],
    );
    stage.extension("btrfs", &["--recipe=btrfs"]);
    let report = stage.boot("LABEL=labroot / btrfs ro", &controller(&disk));
    stage.assert_root(&report, "btrfs /dev/sda");
    report
}

#[test]
fn lab_lvm_on_iscsi_root() {
    let Some(stage) = Stage::new() else { return };
    let disk = stage.storage.lvm();
    let target = servers::iscsi(&stage.room, &disk);
    stage.extension("iscsi", &["--recipe=network", "--recipe=iscsi"]);
    stage.extension("lvm", &["--recipe=lvm"]);
    stage.credential(NETWORK.0, NETWORK.1);
    stage.credential("iscsi.target", &target.credential);
    let report = stage.boot("/dev/mapper/labgroup-root / ext4 ro", CARD);
    stage.assert_root(&report, "ext4 /dev/mapper/labgroup-root");
    assert_eq!(report.fact("result/iscsi"), servers::SESSION);
}

#[test]
fn lab_btrfs_on_nbd_root_with_three_extensions() {
    let Some(stage) = Stage::new() else { return };
    let disk = stage.storage.btrfs();
    let server = servers::nbd(&stage.room, &disk);
    for name in ["network", "nbd", "btrfs"] {
        stage.extension(name, &[&format!("--recipe={name}")]);
    }
    stage.credential(NETWORK.0, NETWORK.1);
    stage.credential("nbd.target", &server.credential);
    let report = stage.boot("/dev/nbd0 / btrfs ro", CARD);
    stage.assert_root(&report, "btrfs /dev/nbd0");
}

/// The network is there from the start, by an addon; what needs it comes later.
#[test]
fn lab_nbd_root_with_the_network_of_an_addon() {
    let Some(stage) = Stage::new() else { return };
    let disk = stage.storage.ext4("96M");
    let server = servers::nbd(&stage.room, &disk);
    let uki = stage.scene.esp().join("EFI/Linux/vendor.efi");
    let root = format!("--root={}", stage.features.root().display());
    let uki = format!("--uki={}", uki.display());
    stage.addon("network", &["--recipe=network", &root, &uki]);
    stage.extension("nbd", &["--recipe=nbd"]);
    stage.credential(NETWORK.0, NETWORK.1);
    stage.credential("nbd.target", &server.credential);
    let report = stage.boot("/dev/nbd0 / ext4 ro", CARD);
    stage.assert_root(&report, "ext4 /dev/nbd0");
}

fn drive(disk: &std::path::Path) -> String {
    format!("-drive if=virtio,format=raw,file={}", disk.display())
}

/// Runs it where the root and the lab of this systemd are.
fn on(systemd: u32, test: fn(&Stage) -> Report) {
    if let Some(stage) = Stage::on(systemd) {
        test(&stage);
    }
}

/// A disk of the controller.
fn controller(disk: &std::path::Path) -> String {
    format!(
        "-device pvscsi,id=scsi -drive if=none,id=disk,format=raw,file={} -device scsi-hd,bus=scsi.0,drive=disk",
        disk.display()
    )
}

/// A scene on the lab of the features.
struct Stage {
    scene: Scene<'static>,
    features: Systemd,
    room: Room,
    storage: Storage,
}

impl Stage {
    fn new() -> Option<Self> {
        Self::on(262)
    }

    fn on(systemd: u32) -> Option<Self> {
        let features = Systemd::with_features(systemd)?;
        let Some(lab) = setting(&format!("UKIKIT_FEATURE_LAB_{systemd}")) else {
            skip("features: no lab, tests/run --full makes one");
            return None;
        };
        let lab: &'static PathBuf = Box::leak(Box::new(lab.into()));
        let room = features.room();
        let storage = Storage::new(&features, lab);
        let mut scene = Scene::new(lab);
        scene.systemd = systemd;
        // The vendor's own command line has a root for the other tests.
        scene.start_with("systemd.log_level=info");
        Some(Self {
            scene,
            features,
            room,
            storage,
        })
    }

    /// Makes an extension that goes with those that are there, and places it.
    fn extension(&self, name: &str, source: &[&str]) {
        let file = format!("{name}.sysext.raw");
        let uki = self.scene.esp().join("EFI/Linux/vendor.efi");
        let companions = self.scene.esp().join("EFI/Linux/vendor.efi.extra.d");
        let mut build = ukikit();
        build.args(["ext", "build", "--name", name]).args(source);
        if companions.exists() {
            build.arg("--beside").arg(&companions);
        }
        for (option, path) in [
            ("uki", uki),
            ("root", self.features.root().to_owned()),
            ("private-key", vector("ddi/keys/rsa2048.key")),
            ("certificate", vector("ddi/keys/rsa2048.crt")),
            ("output", self.scene.path(&file)),
        ] {
            build.arg(format!("--{option}={}", path.display()));
        }
        succeed("ext build", build.output().unwrap());
        let mut place = ukikit();
        place.args(["esp", "place", "--uki=EFI/Linux/vendor.efi", "--esp"]);
        place.arg(self.scene.esp()).arg(self.scene.path(&file));
        succeed("esp place", place.output().unwrap());
    }

    /// A vendor's console as it is on a host: it says what fails, and leads to the initrd's own emergency shell.
    fn speak(&self) {
        self.scene.enter("console=ttyS0");
        let drop_in = self
            .scene
            .path("shell/etc/systemd/system/emergency.service.d");
        fs::create_dir_all(&drop_in).unwrap();
        // In the place of the lab's own, which reports.
        fs::write(drop_in.join("lab.conf"), "[Service]\n").unwrap();
        let tree = self.scene.path("shell");
        self.addon("shell", &[&format!("--tree={}", tree.display())]);
    }

    /// Makes an addon, and puts it beside the UKI.
    fn addon(&self, name: &str, content: &[&str]) {
        let addon = self.scene.path(&format!("{name}.addon.efi"));
        let mut build = ukikit();
        build.args(["addon", "build"]).args(content);
        build.arg(format!("--output={}", addon.display()));
        succeed("addon build", build.output().unwrap());
        let companions = self.scene.esp().join("EFI/Linux/vendor.efi.extra.d");
        fs::create_dir_all(&companions).unwrap();
        fs::copy(&addon, companions.join(addon.file_name().unwrap())).unwrap();
    }

    /// Seals it to the machine and places it.
    fn credential(&self, name: &str, content: &str) {
        fs::write(self.scene.path(name), content).unwrap();
        self.scene.encrypt(name);
        self.scene.place(&[&format!("{name}.cred")]);
    }

    /// Boots with this line of fstab(5), the last fields left out, and these devices.
    fn boot(&self, root: &str, devices: &str) -> Report {
        let fstab = format!("{root},x-systemd.device-timeout=300s 0 0\n");
        self.credential("fstab.extra", &fstab);
        self.start(devices)
    }

    /// Boots with these devices.
    fn start(&self, devices: &str) -> Report {
        self.attend(devices, &[])
    }

    /// The same with somebody at the console.
    fn attend(&self, devices: &str, exchanges: &[Exchange<'_>]) -> Report {
        let machine = Machine {
            lab: self.scene.lab.to_owned(),
            esp: self.scene.esp(),
            tpm: self.scene.tpm.path().to_owned(),
            timeout: Duration::from_secs(1800),
            direct: None,
        };
        let devices: Vec<String> = devices.split(' ').map(ToOwned::to_owned).collect();
        machine.boot_attended(&devices, exchanges)
    }

    /// The system on this root reported, and could read all of it.
    fn assert_root(&self, report: &Report, root: &str) {
        let shown = || {
            format!(
                "console:\n{}\njournal:\n{}",
                report.console,
                report.fact("journal")
            )
        };
        assert_eq!(report.stage.as_deref(), Some("host"), "{}", shown());
        let found = report.fact("result/root");
        assert!(found.starts_with(root), "{found}\n{}", shown());
    }
}
