//! Whole systems: the host file they imply, which is one, and what is left.

use std::path::Path;

use super::*;
use crate::host::HostFile;

fn file(path: &str, text: &str) -> TextFile {
    TextFile {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

/// The text, which must be a host file, and what is left.
#[track_caller]
fn imported(system: &System) -> (String, Vec<String>) {
    let (host, left) = import(system);
    let text = host.to_string();
    HostFile::parse(&text, Path::new("HOST.toml")).unwrap();
    (text, left.iter().map(ToString::to_string).collect())
}

#[test]
fn a_root_over_iscsi_set_up_the_classic_way() {
    let system = System {
        command_line: "BOOT_IMAGE=/vmlinuz root=UUID=11111111-2222-4333-8444-555555555555 ro quiet rd.iscsi.firmware=0 \
        netroot=iscsi:@192.0.2.7::3261::1:iqn.2026-01.example:disk ip=192.0.2.10::192.0.2.1:255.255.255.0:web1:eno1:none\n"
        .to_owned(),
        hostname: "web1\n".to_owned(),
        fstab: "# root\nUUID=11111111-2222-4333-8444-555555555555 / ext4 noatime,_netdev 0 1\n/dev/sdb1 /data ext4 defaults 0 2\n".to_owned(),
        initiator: "InitiatorName=iqn.2026-01.example:web1\n".to_owned(),
        iscsi_nodes: vec![file(
        "/etc/iscsi/nodes/iqn.2026-01.example:disk/192.0.2.7,3261,1/default",
        "node.name = iqn.2026-01.example:disk\nnode.tpgt = 1\nnode.startup = automatic\nnode.conn[0].address = 192.0.2.7\n\
         node.conn[0].port = 3261\nnode.session.auth.authmethod = CHAP\nnode.session.auth.username = web1\n\
         node.session.auth.password = Very-Secret-12\nnode.session.auth.username_in = disk\nnode.session.auth.password_in = Mutual-Secret1\n",
    )],
        ..System::default()
    };
    let (text, left) = imported(&system);
    assert_eq!(
        text,
        r#"hostname = "web1"

[seal]
bind = "none"

[root]
device = "UUID=11111111-2222-4333-8444-555555555555"
type = "ext4"
options = ["noatime"]
fsck = true

[[network]]
name = "eno1"
address = ["192.0.2.10/24"]
gateway = ["192.0.2.1"]

[[iscsi]]
target = "iqn.2026-01.example:disk"
portal = "192.0.2.7:3261"
lun = 1
chap = { user = "web1", password = { file = "iscsi.password" }, mutual = { user = "disk", password = { file = "iscsi.password-in" } } }
initiator = "iqn.2026-01.example:web1"
"#
    );
    assert_eq!(
        left,
        [
            "kernel command line: quiet rd.iscsi.firmware=0: no credential brings kernel options: what is still wanted of these, \
             `ukikit addon build --cmdline=` does",
            "/etc/iscsi/nodes/iqn.2026-01.example:disk/192.0.2.7,3261,1/default: its secrets are not copied: put \
             node.session.auth.password into the file iscsi.password, password_in into iscsi.password-in, both beside the host file \
             and for their owner alone",
        ]
    );
}

#[test]
fn an_encrypted_root_on_a_disk() {
    let system = System {
        command_line: "root=/dev/mapper/root rootflags=subvol=@ rw".to_owned(),
        fstab: "/dev/mapper/root / btrfs defaults,subvol=@ 0 0\n/dev/mapper/root /usr btrfs ro,subvol=@usr 0 0\n\
                    LABEL=my\\040data /srv/my\\040data xfs x-initrd.mount 0 0\n"
        .to_owned(),
        crypttab: "root UUID=0b2f7c7c-7d3e-4b2a-9c55-0f3a4b7d8e21 /etc/keys/root luks,discard,x-initrd.attach\nother /dev/sdb2 none luks\n".to_owned(),
        connections: vec![file(
        "/etc/NetworkManager/system-connections/wired.nmconnection",
        "[connection]\ntype=ethernet\n",
    )],
        ..System::default()
    };
    let (text, left) = imported(&system);
    assert_eq!(
        text,
        r#"
[seal]
bind = "none"

[root]
device = "/dev/mapper/root"
type = "btrfs"
subvolume = "@"
options = ["rw"]

[[mount]]
path = "/usr"
device = "/dev/mapper/root"
type = "btrfs"
options = ["ro"]
subvolume = "@usr"

[[mount]]
path = "/srv/my data"
device = "LABEL=my data"
type = "xfs"

[[luks]]
name = "root"
device = "UUID=0b2f7c7c-7d3e-4b2a-9c55-0f3a4b7d8e21"
key = { file = "/etc/keys/root" }
options = ["luks", "discard"]
"#
    );
    assert_eq!(
        left,
        [
            "/etc/crypttab:1: the key is sealed from /etc/keys/root: keep this file where the host file is used",
            "/etc/NetworkManager/system-connections/wired.nmconnection: the initrd mounts nothing over the network, so this stays the \
             host's own business",
        ]
    );
}

#[test]
fn connections_of_network_manager_become_interfaces() {
    let system = System {
        command_line: "rd.neednet=1".to_owned(),
        connections: vec![
            file(
                "/c/bond",
                "[connection]\nid=bond\ntype=bond\ninterface-name=bond0\n[bond]\nmode=802.3ad\n[ipv4]\nmethod=disabled\n",
            ),
            file(
                "/c/port",
                "[connection]\ntype=ethernet\ninterface-name=eno1\ncontroller=bond0\nport-type=bond\n",
            ),
            file(
                "/c/vlan",
                "[connection]\ntype=vlan\ninterface-name=storage\n[vlan]\nparent=bond0\nid=42\n[ipv4]\nmethod=manual\naddress1=192.0.2.10/24,192.0.2.1\ndns=192.0.2.53;\n",
            ),
            file(
                "/c/wired",
                "[connection]\ntype=ethernet\n[ethernet]\nmac-address=52:54:00:12:34:56\n[ipv4]\nmethod=auto\n[ipv6]\nmethod=auto\n",
            ),
            file("/c/wifi", "[connection]\ntype=wifi\n"),
        ],
        ..System::default()
    };
    let (text, left) = imported(&system);
    assert_eq!(
        text,
        r#"
[[network]]
name = "bond0"
bond = { interfaces = ["eno1"], mode = "802.3ad" }

[[network]]
name = "storage"
vlan = { link = "bond0", id = 42 }
address = ["192.0.2.10/24"]
gateway = ["192.0.2.1"]
dns = ["192.0.2.53"]

[[network]]
mac-address = "52:54:00:12:34:56"
dhcp = "yes"
"#
    );
    assert_eq!(
        left,
        [
            "/c/wifi: a connection of type \"wifi\" is not one that systemd-networkd in the initrd makes"
        ]
    );
}

#[test]
fn what_dracut_was_told_is_taken_or_left() {
    let text = "# an initrd of its own\nhostonly=yes\nadd_dracutmodules+=\" iscsi lvm \"\nadd_drivers+=' mpt3sas '\n\
                kernel_cmdline=\"root=LABEL=disk rootflags=subvol=@\" # for all kernels\nadd_fstab+=\"\"\ninstall_items+=/etc/multipath.conf\n";
    let system = System {
        command_line: "ro\n".to_owned(),
        dracut: vec![file("/etc/dracut.conf.d/disk.conf", text)],
        ..System::default()
    };
    let (text, left) = imported(&system);
    assert_eq!(
        text,
        "\n[root]\ndevice = \"LABEL=disk\"\nsubvolume = \"@\"\noptions = [\"ro\"]\n"
    );
    assert_eq!(
        left,
        [
            "/etc/dracut.conf.d/disk.conf:3: add_dracutmodules iscsi lvm: a recipe may have it (`ukikit recipe list`); of a module of \
             dracut `ukikit ext build --dracut=` makes an extension",
            "/etc/dracut.conf.d/disk.conf:4: add_drivers mpt3sas: what the initrd of the UKI lacks of it, an extension of \
             `ukikit ext build --kernel-module=` brings",
            "/etc/dracut.conf.d/disk.conf:7: install_items /etc/multipath.conf: an extension of `ukikit ext build --tree=` brings files \
             below /usr, [files] of the host file others that are no programs",
        ]
    );
}

#[test]
fn what_is_damaged_is_left_with_its_place() {
    let system = System {
        command_line: "root=nonsense netroot=iscsi: ip=a:b:c rd.luks.name=x".to_owned(),
        fstab: "/dev/sda1\nwrong / ext4 defaults 0 0\n".to_owned(),
        ..System::default()
    };
    let (text, left) = imported(&system);
    assert_eq!(text, "");
    let places: Vec<_> = left
        .iter()
        .map(|left| left.split(": ").take(2).collect::<Vec<_>>().join(": "))
        .collect();
    assert_eq!(
        places,
        [
            "/etc/fstab:1: it is no line of fstab(5)",
            "/etc/fstab:2: \"wrong\"",
            "kernel command line: root=nonsense",
            "kernel command line: netroot=iscsi:",
            "kernel command line: ip=a:b:c",
            "kernel command line: rd.luks.name=x",
        ]
    );
}
