//! A host file leads to the root: `ukikit host apply --for=` makes all that lies beside the vendor's UKI, but for the images.

mod recovery;

use std::fs;
use std::path::{Path, PathBuf};

use super::{CARD, Stage, drive, servers};
use crate::support::{succeed, text, ukikit};
use crate::tpm_identity;

/// A volume that somebody types no passphrase for: it is sealed to the TPM.
const LUKS: &str = r#"
[seal]
bind = "none"
[root]
type = "ext4"
options = ["ro"]
[[luks]]
name = "root"
device = "UUID=DISK"
passphrase = { file = "passphrase" }
options = ["discard", "x-systemd.device-timeout=5min"]
"#;

/// What is made of a file as it is: this kernel may have no device mapper.
const ENCRYPT: &str = r#"
    truncate -s +32M disk
    printf 'correct horse' >passphrase
    cryptsetup reencrypt --encrypt --type luks2 --reduce-device-size 32m --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
        --key-file passphrase --batch-mode disk
    cryptsetup luksUUID disk
"#;

fn encrypted(stage: &Stage) -> (PathBuf, String) {
    let disk = stage.room.path("disk");
    fs::rename(stage.storage.ext4("96M"), &disk).unwrap();
    let made = stage.room.run("sh", &["-euc", ENCRYPT]);
    let made = text(&succeed("cryptsetup", made));
    let uuid = made.lines().last().unwrap().trim().to_owned();
    (disk, uuid)
}

#[test]
fn lab_host_luks_root() {
    let Some(stage) = Stage::new() else { return };
    let (disk, uuid) = encrypted(&stage);
    stage.extension("cryptsetup", &["--recipe=cryptsetup"]);
    apply(
        &stage,
        &LUKS.replace("DISK", &uuid),
        &[("passphrase", "correct horse\n")],
    );
    let report = stage.start(&drive(&disk));
    stage.assert_root(&report, "ext4 /dev/mapper/root");
    let volume = report.fact("result/dm");
    assert!(volume.starts_with("root CRYPT-LUKS2-"), "{volume}");
}

/// The target has the secret that is the next one here.
const ISCSI: &str = r#"
hostname = "web1"
[seal]
bind = "none"
[root]
type = "ext4"
options = ["rw", "x-systemd.device-timeout=5min"]
[[network]]
name = "*"
address = ["10.0.2.15/24"]
gateway = ["10.0.2.2"]
[[iscsi]]
initiator = "iqn.2026-01.example.lab:client1"
target = "iqn.2026-01.example.lab:rootdisk"
portal = "10.0.2.2:PORT"
lun = 1
[iscsi.chap]
user = "labuser"
password = { file = "password" }
next-password = { file = "next" }
mutual = { user = "targetuser", password = { file = "password-in" } }
"#;

const SECRETS: [(&str, &str); 3] = [
    ("password", "Not-Yet-Secret"),
    ("next", "Very-Secret-12\n"),
    ("password-in", "Mutual-Secret1\n"),
];

/// The root is written, read back and used for two minutes; a second boot finds what the first one wrote.
#[test]
fn lab_host_iscsi_root_twice() {
    let Some(stage) = Stage::new() else { return };
    let disk = stage.storage.ext4("256M");
    let target = servers::iscsi(&stage.room, &disk);
    stage.extension("iscsi", &["--recipe=network", "--recipe=iscsi"]);
    apply(&stage, &ISCSI.replace("PORT", &target.port()), &SECRETS);

    let first = stage.start(CARD);
    stage.assert_root(&first, "ext4 /dev/sda rw");
    assert_eq!(first.fact("result/iscsi"), servers::SESSION);
    assert_eq!(first.fact("result/kept"), "");
    let written = first.fact("result/written");
    let lines: Vec<&str> = written.lines().collect();
    let [size, made, read, later] = lines[..] else {
        panic!("{written}")
    };
    assert!(size.parse::<u64>().unwrap() >= 50 << 20, "{size}");
    assert_eq!([read, later], [made, made]);
    // Nothing of it comes from the UKI's own command line.
    let options = first.fact("proc/cmdline");
    assert!(
        !options.contains("iscsi") && !options.contains("root="),
        "{options}"
    );

    let second = stage.start(CARD);
    stage.assert_root(&second, "ext4 /dev/sda rw");
    assert_eq!(second.fact("result/iscsi"), servers::SESSION);
    assert_eq!(second.fact("result/kept").trim(), made);
}

/// A subvolume over NBD, behind a bond of two cards.
const BOND: &str = r#"
[seal]
bind = "none"
[root]
type = "btrfs"
subvolume = "@"
options = ["ro", "noatime", "x-systemd.device-timeout=5min"]
[[network]]
name = "bond0"
bond = { interfaces = ["one", "other"], mode = "active-backup" }
address = ["10.0.2.15/24"]
[[network]]
name = "one"
mac-address = "52:54:00:00:00:01"
[[network]]
name = "other"
mac-address = "52:54:00:00:00:02"
[[nbd]]
server = "10.0.2.2"
port = PORT
"#;

#[test]
fn lab_host_btrfs_subvolume_on_nbd_behind_a_bond() {
    let Some(stage) = Stage::new() else { return };
    let disk = stage.storage.btrfs_subvolume("@");
    let server = servers::nbd(&stage.room, &disk);
    stage.extension("nbd", &["--recipe=network", "--recipe=nbd"]);
    stage.extension("btrfs", &["--recipe=btrfs"]);
    apply(&stage, &BOND.replace("PORT", &server.port()), &[]);
    let report = stage.start(
        "-netdev user,id=n0 -device virtio-net-pci,netdev=n0,mac=52:54:00:00:00:01 \
         -netdev user,id=n1 -device virtio-net-pci,netdev=n1,mac=52:54:00:00:00:02",
    );
    stage.assert_root(&report, "btrfs /dev/nbd0 ro");
    let root = report.fact("proc/mountinfo");
    let root = root
        .lines()
        .find(|line| line.split(' ').nth(4) == Some("/"));
    let root = root.unwrap_or_default();
    assert!(root.contains(" /@ / ro,noatime"), "{root}");
    assert!(root.contains("subvol=/@"), "{root}");
    let bond = report.fact("result/bond");
    assert!(
        bond.contains("Bonding Mode: fault-tolerance (active-backup)\n"),
        "{bond}"
    );
    assert_eq!(bond.matches("Slave Interface: ").count(), 2, "{bond}");
}

/// A wrong secret on trial: three boots that the target refuses, and the fourth has the set of before.
#[test]
fn lab_host_wrong_secret_on_trial_gives_way() {
    let Some(stage) = Stage::new() else { return };
    let disk = stage.storage.ext4("96M");
    let target = servers::iscsi(&stage.room, &disk);
    stage.extension("iscsi", &["--recipe=network", "--recipe=iscsi"]);
    // The boot loader's default is the UKI, whose own command line has another root.
    stage.scene.start_by_default();
    stage.addon("fstab", &["--cmdline=root=fstab"]);
    // Read-only, so that the last boot need not write its 50 MB.
    let host = ISCSI
        .replace("PORT", &target.port())
        .replace("\"rw\"", "\"ro\"");
    apply(&stage, &host, &SECRETS);
    let identity = tpm_identity(stage.scene.tpm.path());
    let impatient = host.replace("5min", "100s");
    apply_for(&stage, &identity, &impatient, &WRONG, &["--tries=3"]);

    for left in (0..3).rev() {
        let failed = stage.start(CARD);
        assert_eq!(failed.stage, None, "it ends by itself: {}", failed.console);
        let refused = "iSCSI login failed due to authorization failure";
        assert!(failed.console.contains(refused), "{}", failed.console);
        let counted = format!("loader/entries/vendor.efi-tried+{left}-{}.conf", 3 - left);
        let counted = stage.scene.esp().join(counted);
        assert!(counted.exists(), "{}", failed.console);
    }
    let report = stage.start(CARD);
    stage.assert_root(&report, "ext4 /dev/sda");
    assert_eq!(report.fact("result/iscsi"), servers::SESSION);
}

/// Secrets that the target does not have.
const WRONG: [(&str, &str); 3] = [
    ("password", "Not-Yet-Secret"),
    ("next", "Not-Any-Secret"),
    ("password-in", "Mutual-Secret1"),
];

/// What the console says of them.
fn refusal(target: &servers::Server) -> String {
    format!(
        "iscsi.target: no session with iqn.2026-01.example.lab:rootdisk at 10.0.2.2:{}",
        target.port()
    )
}

/// What an administrator has on a system that boots from iSCSI with an initrd of its own. open-iscsi's own program makes the
/// record of the node.
const CLASSIC: &str = r#"
    port=$1 iqn=iqn.2026-01.example.lab
    mount -t tmpfs tmpfs /etc/iscsi
    mount -t tmpfs tmpfs /var/lib
    mkdir -p /var/lib/iscsi /run/lock/iscsi system/etc/systemd/network system/var/lib
    echo "InitiatorName=$iqn:client1" >/etc/iscsi/initiatorname.iscsi
    touch /etc/iscsi/iscsid.conf
    node() { iscsiadm --mode node --targetname "$iqn:rootdisk" --portal "10.0.2.2:$port,1" --op "$@"; }
    node new
    while read -r name value; do
        node update --name "$name" --value "$value" </dev/null
    done <<END
        node.startup onboot
        node.session.auth.authmethod CHAP
        node.session.auth.username labuser
        node.session.auth.password Very-Secret-12
        node.session.auth.username_in targetuser
        node.session.auth.password_in Mutual-Secret1
END
    cp -a /etc/iscsi system/etc/
    cp -a /var/lib/iscsi system/var/lib/
    echo web1 >system/etc/hostname
    echo "LABEL=labroot / ext4 ro,_netdev,x-systemd.device-timeout=5min 0 0" >system/etc/fstab
    printf '[Match]\nType=ether\nKind=!*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' \
        >system/etc/systemd/network/10-lan.network
"#;

#[test]
fn lab_host_imported_from_a_classic_iscsi_system() {
    let Some(stage) = Stage::new() else { return };
    let disk = stage.storage.ext4("96M");
    let target = servers::iscsi(&stage.room, &disk);
    let system = stage.features.room();
    let made = system.run("bash", &["-euc", CLASSIC, "-", &target.port()]);
    succeed("iscsiadm", made);
    let mut import = ukikit();
    import.args(["host", "import", "--cmdline=root=LABEL=labroot ro"]);
    import.arg(format!("--root={}", system.path("system").display()));
    let host = text(&succeed("host import", import.output().unwrap()));

    stage.extension("iscsi", &["--recipe=network", "--recipe=iscsi"]);
    let secrets = [
        ("iscsi.password", "Very-Secret-12\n"),
        ("iscsi.password-in", "Mutual-Secret1\n"),
    ];
    apply(&stage, &host, &secrets);
    let report = stage.start(CARD);
    stage.assert_root(&report, "ext4 /dev/sda");
    assert_eq!(report.fact("result/iscsi"), servers::SESSION);
}

/// Seals and places what the host file asks for; its secrets lie beside it.
fn apply(stage: &Stage, host: &str, secrets: &[(&str, &str)]) {
    let identity = tpm_identity(stage.scene.tpm.path());
    apply_for(stage, &identity, host, secrets, &[]);
}

/// The same for the machine with this identity, and with more options.
fn apply_for(
    stage: &Stage,
    identity: &[u8],
    host: &str,
    secrets: &[(&str, &str)],
    options: &[&str],
) {
    let scene = &stage.scene;
    fs::write(scene.path("HOST.toml"), host).unwrap();
    for (name, content) in secrets {
        fs::write(scene.path(name), content).unwrap();
    }
    fs::write(scene.path("identity.json"), identity).unwrap();
    let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let mut apply = ukikit();
    apply.args(["host", "apply", "--uki=EFI/Linux/vendor.efi"]);
    apply.args(options).arg(scene.path("HOST.toml"));
    apply.arg(option("esp", &scene.esp()));
    apply.arg(option("for", &scene.path("identity.json")));
    succeed("host apply", apply.output().unwrap());
}
