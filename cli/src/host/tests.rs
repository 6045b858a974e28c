//! The use of a host file, and what is refused.

use std::path::Path;

use super::*;

fn read(text: &str) -> HostFile {
    HostFile::parse(text, Path::new("HOST.toml")).unwrap()
}

/// Name and content, with `<…>` for what is read.
fn credentials(text: &str) -> Vec<(String, String)> {
    let wanted = read(text).wanted().unwrap();
    let part = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Read(source, _) => format!("<{source}>"),
    };
    let shown = |credential: &WantedCredential| {
        let content = credential.content.iter().map(part).collect();
        (credential.name.to_string(), content)
    };
    wanted.credentials.iter().map(shown).collect()
}

#[test]
fn one_file_tells_credentials_and_recipes() {
    let text = r#"
        hostname = "web1"
        [seal]
        bind = "none"
        [root]
        type = "ext4"
        options = ["ro", "noatime"]
        [[network]]
        name = "eno1"
        address = ["192.0.2.10/24"]
        gateway = ["192.0.2.1"]
        [[iscsi]]
        initiator = "iqn.2026-01.example:web1"
        target = "iqn.2026-01.example:disk"
        portal = "192.0.2.7:3261"
        lun = 1
        [iscsi.chap]
        user = "web1"
        password = { file = "chap" }
        next-password = { stdin = "chap.next" }
        mutual = { user = "disk", password = { command = ["pass", "show", "disk"] } }
        [recovery]
        password-hash = { prompt = "Hash: " }
    "#;
    assert_eq!(
        credentials(text)[..4],
        [
            ("system.hostname", "web1"),
            (
                "fstab.extra",
                "/dev/disk/by-path/ip-192.0.2.7:3261-iscsi-iqn.2026-01.example:disk-lun-1 / ext4 ro,noatime 0 0\n"
            ),
            (
                "network.network.10-eno1",
                "[Match]\nName=eno1\n\n[Network]\nAddress=192.0.2.10/24\nGateway=192.0.2.1\n"
            ),
            (
                "iscsi.target",
                "version=1\ninitiator=iqn.2026-01.example:web1\ntarget=iqn.2026-01.example:disk\n\
                 address=192.0.2.7\nport=3261\ntpgt=1\nuser=web1\npassword=<file chap>\n\
                 password_next=<--secrets=\"chap.next\">\nuser_in=disk\npassword_in=<command pass>\n"
            ),
        ]
        .map(|(name, content)| (name.to_owned(), content.to_owned()))
    );
    let wanted = read(text).wanted().unwrap();
    let recipes: Vec<_> = wanted.recipes.keys().map(String::as_str).collect();
    assert_eq!(recipes, ["iscsi", "network"]);
    let secrets = wanted
        .credentials
        .iter()
        .filter(|credential| credential.secret);
    let secrets: Vec<_> = secrets
        .map(|credential| (credential.name.as_str(), credential.bound))
        .collect();
    assert_eq!(
        secrets,
        [
            ("iscsi.target", true),
            ("passwd.hashed-password.root", false)
        ]
    );
}

#[test]
fn a_measured_shell_extends_the_pcr_before_it_asks() {
    let text = "[recovery]\nmeasure = true\npassword-hash = { file = \"hash\" }\n";
    let drop_ins = named(text, "systemd.unit-dropin.emergency.service");
    let [(name, drop_in)] = &*drop_ins else {
        panic!("{drop_ins:?}")
    };
    assert_eq!(name, "systemd.unit-dropin.emergency.service~recovery");
    let lines: Vec<&str> = drop_in.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "[Service]",
            "ImportCredential=passwd.hashed-password.root",
            "ExecStartPre=/usr/lib/systemd/systemd-pcrextend --graceful ukikit-recovery",
        ]
    );
    assert!(
        lines[3].starts_with("ExecStartPre=-/bin/sh -c "),
        "{drop_in}"
    );
    let unmeasured = text.replace("measure = true\n", "");
    let [(_, plain)] = &*named(&unmeasured, "systemd.unit-dropin.emergency.service") else {
        panic!("no drop-in")
    };
    assert!(!plain.contains("pcrextend"), "{plain}");
}

#[test]
fn a_shell_over_ssh_takes_a_host_key_of_its_own() {
    let keys = "[recovery]\nssh-keys = { file = \"keys\" }\n";
    let both = format!("{keys}ssh-host-key = {{ file = \"host-key\" }}\n");
    let told = |text: &str| {
        let wanted = read(text).wanted().unwrap();
        let credential = |one: &WantedCredential| (one.name.to_string(), one.secret, one.bound);
        let credentials: Vec<_> = wanted.credentials.iter().map(credential).collect();
        let recipes: Vec<String> = wanted.recipes.into_keys().collect();
        (credentials, recipes)
    };
    let of_keys = ("ssh.authorized_keys.root".to_owned(), false, false);
    let of_host = ("ssh.host-key".to_owned(), true, false);
    // Without it nothing listens in the initrd: the keys are the host's.
    assert_eq!(told(keys), (vec![of_keys.clone()], vec![]));
    let recipes = ["network", "ssh"].map(ToOwned::to_owned).to_vec();
    assert_eq!(told(&both), (vec![of_keys, of_host], recipes));
}

/// The credentials of `text` whose name begins so.
fn named(text: &str, start: &str) -> Vec<(String, String)> {
    let mut found = credentials(text);
    found.retain(|(name, _)| name.starts_with(start));
    found
}

#[test]
fn a_volume_becomes_the_unit_that_crypttab_would_give() {
    let text = r#"
        [seal]
        bind = "none"
        [root]
        options = ["ro"]
        [[luks]]
        name = "my-root"
        device = "LABEL=the 100% disk"
        passphrase = { file = "passphrase" }
        options = ["luks", "discard"]
    "#;
    let device = r#""/dev/disk/by-label/the\\x20100\\x25\\x20disk""#;
    let unit = format!(
        "[Unit]\nDescription=Unlock the volume my-root\nDefaultDependencies=no\nIgnoreOnIsolate=yes\n\
         Wants=cryptsetup-pre.target blockdev@dev-mapper-my\\x2droot.target\n\
         After=cryptsetup-pre.target systemd-udevd-kernel.socket systemd-udevd.service systemd-tpm2-setup-early.service\n\
         After=systemd-sysext-initrd.service systemd-sysext.service\n\
         Before=blockdev@dev-mapper-my\\x2droot.target cryptsetup.target initrd-root-device.target\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nTimeoutSec=infinity\nKeyringMode=shared\nOOMScoreAdjust=500\n\
         ImportCredential=cryptsetup.*\nImportCredential=luks.my-root\n\
         ExecStartPre=udevadm wait \"--timeout=90s\" {device}\n\
         ExecStart=systemd-cryptsetup attach my-root {device} %d/luks.my-root \"luks,discard\"\n"
    );
    let drop_in =
        "[Unit]\nRequires=ukikit-luks-my-root.service\nAfter=ukikit-luks-my-root.service\n";
    assert_eq!(
        credentials(text),
        [
            (
                "fstab.extra",
                "/dev/mapper/my-root / auto ro,x-systemd.device-timeout=0 0 0\n"
            ),
            ("systemd.extra-unit.ukikit-luks-my-root.service", &unit),
            (
                "systemd.unit-dropin.initrd-root-device.target~luks-my-root",
                drop_in
            ),
            ("luks.my-root", "<file passphrase>"),
        ]
        .map(|(name, content)| (name.to_owned(), content.to_owned()))
    );
}

#[test]
fn interfaces_know_what_is_made_of_them() {
    let text = r#"
        [[network]]
        name = "bond0"
        bond = { interfaces = ["eno1", "eno2"], mode = "802.3ad" }
        [[network]]
        name = "storage"
        vlan = { link = "bond0", id = 42 }
        address = ["2001:db8::10/64"]
        mtu = 9000
        [[network]]
        name = "lan"
        mac-address = "52:54:00:12:34:56"
        dhcp = "ipv4"
        [[network]]
        name = "*"
        dhcp = "no"
    "#;
    assert_eq!(
        named(text, "network."),
        [
            ("network.netdev.10-bond0", "[NetDev]\nName=bond0\nKind=bond\n\n[Bond]\nMode=802.3ad\nMIIMonitorSec=100ms\n"),
            ("network.network.10-bond0", "[Match]\nName=bond0\n\n[Network]\nLinkLocalAddressing=no\nVLAN=storage\n"),
            ("network.netdev.11-storage", "[NetDev]\nName=storage\nKind=vlan\n\n[VLAN]\nId=42\n"),
            ("network.network.11-storage", "[Match]\nName=storage\n\n[Network]\nAddress=2001:db8::10/64\n\n[Link]\nMTUBytes=9000\n"),
            ("network.network.12-lan", "[Match]\nMACAddress=52:54:00:12:34:56\nKind=!*\n\n[Network]\nDHCP=ipv4\n"),
            ("network.network.13-ether", "[Match]\nType=ether\nKind=!*\n\n[Network]\nDHCP=no\n"),
            ("network.network.14-eno1", "[Match]\nName=eno1\n\n[Network]\nLinkLocalAddressing=no\nBond=bond0\n"),
            ("network.network.15-eno2", "[Match]\nName=eno2\n\n[Network]\nLinkLocalAddressing=no\nBond=bond0\n"),
        ]
        .map(|(name, content)| (name.to_owned(), content.to_owned()))
    );
}

#[test]
fn files_units_and_mounts_have_their_credentials() {
    let text = r#"
        [seal]
        bind = "none"
        [root]
        device = "LABEL=my root"
        type = "btrfs"
        subvolume = "@"
        fsck = true
        [[mount]]
        path = "/usr"
        device = "PARTLABEL=usr"
        [nfs]
        server = "2001:db8::7"
        export = "/srv"
        path = "/data"
        [files]
        "/etc/motd" = { content = "hello\n" }
        "/etc/my key" = { content = { file = "key" }, mode = "0640" }
        [units]
        "hello.service" = { content = "[Service]\nExecStart=true\n", wanted-by = "initrd.target" }
    "#;
    assert_eq!(
        credentials(text),
        [
            (
                "fstab.extra",
                "LABEL=my\\040root / btrfs subvol=@ 0 1\n\
                 [2001:db8::7]:/srv /data nfs x-systemd.requires=dev-ukikit-nfs.device,x-initrd.mount 0 0\n\
                 PARTLABEL=usr /usr auto x-initrd.mount 0 0\n"
            ),
            ("tmpfiles.file.etc.motd", "hello\n"),
            ("tmpfiles.file.etc.my_key", "<file key>"),
            (
                "tmpfiles.extra",
                "f+^ /etc/motd 0644 - - - tmpfiles.file.etc.motd\n\
                 f+^ \"/etc/my key\" 0640 - - - tmpfiles.file.etc.my_key\n"
            ),
            ("systemd.extra-unit.hello.service", "[Service]\nExecStart=true\n"),
            ("systemd.unit-dropin.initrd.target~hello.service", "[Unit]\nWants=hello.service\n"),
        ]
        .map(|(name, content)| (name.to_owned(), content.to_owned()))
    );
}

#[test]
fn what_contradicts_itself_is_refused_with_its_line() {
    for (text, error) in [
        (
            "[root]\ntype = \"ext4\"\n",
            "HOST.toml:1: [root]: give `device`: it follows only from an [[iscsi]] with `lun`, an [[nbd]] or one [[luks]]",
        ),
        (
            "[[network]]\nname = \"a\"\n[[network]]\nname = \"a\"\n",
            "HOST.toml:3: [[network]]: a is named twice",
        ),
        (
            "[[network]]\nname = \"a*\"\nvlan = { link = \"b\", id = 1 }\n",
            "HOST.toml:1: [[network]]: the name of a new interface is no pattern",
        ),
        (
            "[[network]]\nfile = \"a.conf\"\n",
            "HOST.toml:1: [[network]]: a file of systemd-networkd is called NAME.network, NAME.netdev or NAME.link",
        ),
        (
            "[[nbd]]\nserver = \"a\"\n[[nbd]]\nserver = \"b\"\n",
            "HOST.toml:3: [[nbd]]: the extension connects to one of these",
        ),
        (
            "[[luks]]\nname = \"a\"\ndevice = \"/dev/a\"\n[[luks]]\nname = \"a\"\ndevice = \"/dev/b\"\n",
            "HOST.toml:4: [[luks]]: a is named twice",
        ),
        (
            "machine-id = \"1\"\n",
            "HOST.toml:1: machine-id: \"1\": it is neither 32 hexadecimal digits, not all zero, nor `firmware`",
        ),
        (
            "[recovery]\npassword-hash = { file = \"a\", stdin = \"b\" }\n",
            "HOST.toml:2: [recovery] password-hash: give one of `text`, `file`, `command`, `stdin` and `prompt`",
        ),
        (
            "[units]\n\"a\" = { content = \"\" }\n",
            "HOST.toml:2: [units] \"a\": \"a\": it does not end in the name of a unit, such as demo.service",
        ),
    ] {
        let refused = HostFile::parse(text, Path::new("HOST.toml")).unwrap_err();
        assert_eq!(refused.to_string(), error);
    }
}
