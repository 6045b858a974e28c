//! `ukikit first-boot` from outside: each source, what counts, what is sealed, what is refused, what is left behind.

#![cfg(test)]

#[allow(dead_code, reason = "a scene can do more than a first boot needs")]
#[path = "check/scene.rs"]
mod scene;
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use scene::{Scene, Vendor};
use support::swtpm::Swtpm;
use support::{skip, succeed, text, ukikit};
use ukikit::first_boot::{Configuration, Files, Metadata, Origin};
use ukikit::host::Source;

const HASH: &str = "$y$j9T$abcdefghijklmnopqrstuv$ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQ";
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA admin";

fn user_data() -> String {
    format!(
        "#cloud-config
hostname: web1
users:
- name: admin
  gecos: The administrator
  groups: [adm, sudo]
  sudo: ALL=(ALL) ALL
  passwd: '{HASH}'
  lock_passwd: false
  ssh_authorized_keys: ['{KEY}']
write_files:
- path: /etc/app/token
  permissions: '0600'
  content: s3cret
- {{path: /usr/bin/app, content: x}}
mounts:
- [vdb1, /srv/data, ext4]
runcmd: [reboot]
packages: [vim]
"
    )
}

const META_DATA: &str = "instance-id: i-1\nlocal-hostname: other\n";
const NETWORK: &str = "version: 2\nethernets:\n  eno1: {dhcp4: true}\n";

/// What the TPM opens afterwards, by name.
fn expected() -> BTreeMap<String, String> {
    [
        ("fstab.extra", "/dev/vdb1 /srv/data ext4 defaults,nofail 0 0\n".to_owned()),
        ("network.network.10-eno1", "[Match]\nName=eno1\n\n[Network]\nDHCP=ipv4\n".to_owned()),
        ("passwd.hashed-password.admin", HASH.to_owned()),
        ("system.hostname", "web1".to_owned()),
        (
            "sysusers.extra",
            "u admin 1000 \"The administrator\" /home/admin /bin/bash\nm admin adm\nm admin sudo\n".to_owned(),
        ),
        (
            "tmpfiles.extra",
            "d /home/admin 0700 admin admin -\n\
             d /home/admin/.ssh 0700 admin admin -\n\
             f+^ /home/admin/.ssh/authorized_keys 0600 admin admin - tmpfiles.file.home.admin..ssh.authorized_keys\n\
             f+^ /etc/sudoers.d/90-admin 0440 root root - tmpfiles.file.etc.sudoers.d.90-admin\n\
             f+^ /etc/app/token 0600 root root - tmpfiles.file.etc.app.token\n"
                .to_owned(),
        ),
        ("tmpfiles.file.etc.app.token", "s3cret".to_owned()),
        ("tmpfiles.file.etc.sudoers.d.90-admin", "admin ALL=(ALL) ALL\n".to_owned()),
        ("tmpfiles.file.home.admin..ssh.authorized_keys", format!("{KEY}\n")),
    ]
    .map(|(name, content)| (name.to_owned(), content))
    .into()
}

/// A machine with a UKI, a TPM that was never set up, and metadata in `seed/`.
struct Room {
    scene: Scene,
    tpm: Swtpm,
    _state: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        let scene = Scene::new();
        scene.uki("vendor", &Vendor::default());
        let state = tempfile::tempdir().unwrap();
        let tpm = Swtpm::start_on(state.path());
        let room = Self {
            scene,
            tpm,
            _state: state,
        };
        fs::create_dir(room.scene.path("seed")).unwrap();
        for (name, content) in [
            ("user-data", &*user_data()),
            ("meta-data", META_DATA),
            ("network-config", NETWORK),
        ] {
            room.write(&format!("seed/{name}"), content);
        }
        room
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.scene.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn first_boot(&self, arguments: &[&str]) -> Output {
        let mut command = ukikit();
        command.current_dir(self.scene.path("")).arg("first-boot");
        command.args([
            "--esp=esp",
            "--root=root",
            "--tpm2-device",
            &self.tpm.device(),
        ]);
        command.args(arguments).output().unwrap()
    }

    /// What it said on standard error.
    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.first_boot(arguments);
        succeed("first-boot", output.clone());
        text(&output.stderr)
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.first_boot(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        text(&output.stderr)
    }

    /// What lies beside the UKI, opened.
    fn opened(&self) -> BTreeMap<String, String> {
        let directory = self.scene.path("esp/EFI/Linux/vendor.efi.extra.d");
        let Ok(entries) = fs::read_dir(directory) else {
            return BTreeMap::new();
        };
        let open = |path: &Path| {
            let mut decrypt = ukikit();
            decrypt
                .args(["cred", "decrypt", "--tpm2-device", &self.tpm.device()])
                .arg(path)
                .arg("-");
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, text(&succeed("decrypt", decrypt.output().unwrap())))
        };
        entries.map(|entry| open(&entry.unwrap().path())).collect()
    }

    fn shell(&self, script: &str) {
        let mut shell = Command::new("sh");
        shell
            .args(["-euc", script])
            .current_dir(self.scene.path(""));
        succeed(script, shell.output().unwrap());
    }

    /// A key, an image that trusts it, and the metadata signed.
    fn sign(&self) {
        self.sign_in("seed");
    }

    /// The same in this directory.
    fn sign_in(&self, directory: &str) {
        let script = "[ -e key ] || ssh-keygen -q -t ed25519 -N '' -C '' -f key
             mkdir -p root/etc/ukikit
             echo \"installer@example.org namespaces=\\\"ukikit-first-boot\\\" $(cat key.pub)\" >root/etc/ukikit/allowed_signers
             key=$PWD/key
             cd DIRECTORY
             rm -f SHA256SUMS SHA256SUMS.sig
             sha256sum * >SHA256SUMS
             ssh-keygen -q -Y sign -f $key -n ukikit-first-boot SHA256SUMS";
        self.shell(&script.replace("DIRECTORY", directory));
    }
}

#[test]
fn metadata_is_sealed_once() {
    let room = Room::new();
    let said = room.done(&["--source=seed"]);
    assert_eq!(
        said,
        "metadata of seed: instance i-1, signed by nobody\n\
         warning: ignored: packages: it is not something that credentials do\n\
         warning: ignored: runcmd: it is not something that credentials do\n\
         warning: ignored: write_files, entry 2: /usr/bin/app is none of the known places: /etc/ /home/ /opt/ /root/ /srv/ /usr/local/\n\
         the TPM had no storage root key: it has one now\n"
    );
    assert_eq!(room.opened(), expected());

    let again = room.done(&["--source=seed"]);
    assert_eq!(again, "metadata of seed: instance i-1 is applied already\n");
    room.write("seed/meta-data", "instance-id: i-2\n");
    room.write("seed/user-data", "#cloud-config\nhostname: evil\n");
    let closed = room.done(&["--source=seed"]);
    assert_eq!(
        closed,
        "metadata of seed: instance i-1 is applied, and instance i-2 is not signed: the sources are closed\n"
    );
    assert_eq!(room.opened(), expected());
    room.done(&[
        "--source=seed",
        "--unsigned=each-instance",
        "--machine=virtual",
    ]);
    assert_eq!(room.opened()["system.hostname"], "evil");
}

#[test]
fn a_dry_run_changes_nothing_and_shows_no_secret() {
    let room = Room::new();
    let output = room.first_boot(&["--source=seed", "--dry-run"]);
    let shown = text(&succeed("dry run", output.clone())) + &text(&output.stderr);
    for name in expected().keys() {
        assert!(shown.contains(name), "{name} is not in\n{shown}");
    }
    assert!(
        !shown.contains("s3cret") && !shown.contains(HASH),
        "{shown}"
    );
    assert_eq!(room.opened(), BTreeMap::new());
    assert!(!room.scene.path("root").exists());
}

#[test]
fn only_what_an_allowed_signer_signed_counts_where_there_are_any() {
    let room = Room::new();
    room.sign();
    room.shell("mv seed/SHA256SUMS.sig sig");
    let unsigned = room.refused(&["--source=seed"]);
    assert_eq!(
        unsigned,
        "error: metadata of seed: it is not signed, and only signed metadata counts here\n"
    );
    room.shell("mv sig seed/SHA256SUMS.sig; echo >>seed/user-data");
    let changed = room.refused(&["--source=seed"]);
    assert_eq!(
        changed,
        "error: metadata of seed: user-data differs from SHA256SUMS\n"
    );
    room.shell("cd seed; rm SHA256SUMS.sig; sha256sum * >../sums; mv ../sums SHA256SUMS; ssh-keygen -q -t ed25519 -N '' -f ../other; ssh-keygen -q -Y sign -f ../other -n ukikit-first-boot SHA256SUMS");
    let other = room.refused(&["--source=seed"]);
    assert_eq!(
        other,
        "error: metadata of seed: SHA256SUMS.sig: the signature is by nobody who is allowed to sign\n"
    );
    room.shell("cd seed; rm SHA256SUMS.sig; ssh-keygen -q -Y sign -f ../key -n file SHA256SUMS");
    let purpose = room.refused(&["--source=seed"]);
    assert_eq!(
        purpose,
        "error: metadata of seed: SHA256SUMS.sig: the signature is for \"file\", not for \"ukikit-first-boot\"\n"
    );
    assert_eq!(room.opened(), BTreeMap::new());

    room.sign();
    room.shell("mv seed/network-config aside");
    let missing = room.refused(&["--source=seed"]);
    assert_eq!(
        missing,
        "error: metadata of seed: network-config is in SHA256SUMS and is not there\n"
    );
    room.shell("mv aside seed/network-config; echo >>seed/SHA256SUMS");
    let list = room.refused(&["--source=seed"]);
    assert_eq!(
        list,
        "error: metadata of seed: SHA256SUMS.sig: the signature by installer@example.org does not fit: the list of files was changed\n"
    );
    room.sign();
    let said = room.done(&["--source=seed"]);
    assert!(
        said.starts_with("metadata of seed: instance i-1, signed by installer@example.org\n"),
        "{said}"
    );
    assert_eq!(room.opened(), expected());

    room.write("seed/meta-data", "instance-id: i-2\n");
    room.write("seed/user-data", "#cloud-config\nhostname: web2\n");
    room.sign();
    room.done(&["--source=seed"]);
    assert_eq!(room.opened()["system.hostname"], "web2");
}

#[test]
fn volumes_count_on_a_virtual_machine_or_signed() {
    if !support::have("genisoimage") {
        skip("first boot: no genisoimage");
        return;
    }
    for options in ["-joliet -rational-rock", "-joliet", "-rational-rock"] {
        let room = Room::new();
        room.shell(&format!(
            "genisoimage -quiet -output seed.iso -volid cidata {options} seed"
        ));
        fs::create_dir_all(room.scene.path("root/dev/disk/by-label")).unwrap();
        symlink(
            room.scene.path("seed.iso"),
            room.scene.path("root/dev/disk/by-label/cidata"),
        )
        .unwrap();
        let plugged = room.refused(&["--machine=bare-metal"]);
        assert_eq!(
            plugged,
            "error: metadata of volume cidata: it is not signed and on a removable volume, which anybody can plug into this machine\n"
        );
        room.done(&["--machine=virtual"]);
        assert_eq!(room.opened(), expected(), "{options}");
    }
}

#[test]
fn a_fat_volume_is_read() {
    if !support::have("mcopy") {
        skip("first boot: no mtools");
        return;
    }
    let room = Room::new();
    room.shell("mformat -C -f 1440 -i seed.img -v CIDATA ::; mcopy -i seed.img seed/* ::");
    room.done(&["--source=seed.img", "--machine=virtual"]);
    assert_eq!(room.opened(), expected());
}

#[test]
fn a_config_drive_is_read() {
    if !support::have("genisoimage") {
        skip("first boot: no genisoimage");
        return;
    }
    let room = Room::new();
    let meta_data = format!(
        "{{\"uuid\": \"83679162\", \"hostname\": \"web7\", \"public_keys\": {{\"mine\": \"{KEY}\\n\"}}}}"
    );
    room.write("drive/openstack/latest/meta_data.json", &meta_data);
    room.write("drive/openstack/latest/user_data", "#!/bin/sh\nreboot\n");
    room.shell("genisoimage -quiet -output drive.iso -volid config-2 -joliet -rational-rock drive");
    let said = room.done(&["--source=drive.iso", "--machine=virtual"]);
    assert!(said.contains("instance 83679162"), "{said}");
    assert!(
        said.contains("warning: ignored: user-data that does not begin with #cloud-config"),
        "{said}"
    );
    let opened = room.opened();
    assert_eq!(opened["system.hostname"], "web7");
    assert_eq!(opened["ssh.authorized_keys.root"], format!("{KEY}\n"));
    assert_eq!(opened.len(), 2);

    // Signed as it lies there, it counts on hardware too.
    let meta_data = meta_data.replace("web7", "web8").replace("8367", "8368");
    room.write("drive/openstack/latest/meta_data.json", &meta_data);
    room.sign_in("drive/openstack/latest");
    let said = room.done(&["--source=drive", "--machine=bare-metal"]);
    assert!(
        said.contains("instance 83689162, signed by installer@example.org"),
        "{said}"
    );
    assert_eq!(room.opened()["system.hostname"], "web8");
}

#[test]
fn firmware_counts_but_not_against_itself() {
    let room = Room::new();
    let mut structure = b"\x0b\x05\x00\x00\x02vendor text\0io.ukikit.first-boot:user-data=#cloud-config\nhostname: web3\n".to_vec();
    structure.extend_from_slice(b"\0\0");
    let entry = room.scene.path("root/sys/firmware/dmi/entries/11-0");
    fs::create_dir_all(&entry).unwrap();
    fs::write(entry.join("raw"), structure).unwrap();
    let refused = room.refused(&["--machine=confidential"]);
    assert_eq!(
        refused,
        "error: metadata of SMBIOS: it comes from the hypervisor, and this machine is protected from it\n"
    );
    room.done(&["--machine=virtual"]);
    assert_eq!(room.opened()["system.hostname"], "web3");

    let room = Room::new();
    let at = "root/sys/firmware/qemu_fw_cfg/by_name/opt/io.ukikit.first-boot/HOST.toml";
    room.write(&format!("{at}/raw"), "hostname = \"web4\"\n");
    room.done(&["--machine=virtual"]);
    assert_eq!(room.opened()["system.hostname"], "web4");
}

#[test]
fn a_host_file_of_metadata_stays_inside_itself() {
    let room = Room::new();
    for (source, what) in [
        ("{ file = \"/etc/shadow\" }", "file /etc/shadow"),
        ("{ command = [\"id\"] }", "command id"),
        ("{ prompt = \"?\" }", "prompt"),
    ] {
        room.write("HOST.toml", &format!("[credentials]\n\"a.b\" = {source}\n"));
        let said = room.refused(&["--source=HOST.toml"]);
        assert!(
            said.ends_with(&format!(
                "a host file of metadata takes no {what}: give it as a text\n"
            )),
            "{said}"
        );
    }
    room.write(
        "HOST.toml",
        "hostname = \"web5\"\n[credentials]\n\"passwd.hashed-password.root\" = \"$y$hash\"\n",
    );
    room.done(&["--source=HOST.toml", "--wipe"]);
    assert_eq!(room.opened()["passwd.hashed-password.root"], "$y$hash");
    assert!(!room.scene.path("HOST.toml").exists());
}

#[test]
fn what_was_applied_can_be_wiped_and_a_damaged_record_opens_nothing() {
    let room = Room::new();
    room.done(&["--source=seed", "--wipe"]);
    assert_eq!(fs::read_dir(room.scene.path("seed")).unwrap().count(), 0);
    room.write("seed/user-data", "#cloud-config\nhostname: evil\n");
    room.write("root/var/lib/ukikit/first-boot/applied.json", "{");
    let said = room.refused(&["--source=seed"]);
    assert_eq!(
        said,
        "error: `root/var/lib/ukikit/first-boot/applied.json` is damaged: remove it to open the sources again\n"
    );
    assert_eq!(room.opened(), expected());
}

#[test]
fn bad_metadata_is_one_sentence() {
    let room = Room::new();
    for (name, content, error) in [
        (
            "user-data",
            "#cloud-config\nusers: {",
            "user-data: line 2: it is no valid YAML",
        ),
        (
            "user-data",
            "#cloud-config\nusers: [{name: 'a b'}]\n",
            "user-data: users, entry 1: its name is none of a user",
        ),
        (
            "user-data",
            "#cloud-config\nusers: [{name: a, passwd: hunter2}]\n",
            "user-data: users, entry 1: the password is no hash as crypt(5) has it",
        ),
        (
            "user-data",
            "#cloud-config\nwrite_files: [{path: /etc/../x}]\n",
            "user-data: write_files, entry 1: its path is not absolute, or has `.` or `..`",
        ),
        ("meta-data", "- a\n", "meta-data: it is no mapping"),
        (
            "network-config",
            "version: 9\n",
            "network-config: its version is neither 1 nor 2",
        ),
    ] {
        let before = fs::read(room.scene.path("seed").join(name)).unwrap();
        room.write(&format!("seed/{name}"), content);
        let said = room.refused(&["--source=seed"]);
        let last = said.lines().last().unwrap();
        assert_eq!(last, format!("error: metadata of seed: {error}"));
        fs::write(room.scene.path("seed").join(name), before).unwrap();
    }
    let nowhere = room.refused(&["--source=nowhere"]);
    assert_eq!(
        nowhere,
        "error: cannot read `nowhere`: No such file or directory\n"
    );
    assert_eq!(room.done(&[]), "no metadata is there: nothing to do\n");
}

/// What a network-config becomes, by credential; and what of it is not done.
fn networks(text: &str) -> (Vec<(String, String)>, Vec<String>) {
    let content = zeroize::Zeroizing::new(text.as_bytes().to_vec());
    let files = Files::from([("network-config".to_owned(), content)]);
    let metadata = Metadata::new(Origin::Local, "seed".to_owned(), files);
    let configuration = Configuration::of(&metadata).unwrap();
    let text = |source: Source| match source {
        Source::Text(text) => text,
        other => panic!("{other}"),
    };
    let credentials = configuration.host.credentials.into_iter();
    let credentials = credentials.map(|(name, source)| (name.to_string(), text(source)));
    (credentials.collect(), configuration.ignored)
}

#[test]
fn both_versions_of_a_network_become_the_same_files() {
    let first = "version: 1
config:
- type: physical
  name: eno1
  mac_address: '52:54:00:12:34:56'
  subnets:
  - {type: static, address: 192.0.2.10, netmask: 255.255.255.0, gateway: 192.0.2.1, dns_nameservers: [192.0.2.53]}
- {type: vlan, name: storage, vlan_link: eno1, vlan_id: 42, subnets: [{type: dhcp4}]}
";
    let second = "network:
  version: 2
  ethernets:
    eno1:
      match: {macaddress: '52:54:00:12:34:56'}
      addresses: [192.0.2.10/24]
      routes: [{to: default, via: 192.0.2.1}]
      nameservers: {addresses: [192.0.2.53]}
  vlans:
    storage: {id: 42, link: eno1, dhcp4: true}
";
    let expected = [
        (
            "network.netdev.11-storage",
            "[NetDev]\nName=storage\nKind=vlan\n\n[VLAN]\nId=42\n",
        ),
        (
            "network.network.10-eno1",
            "[Match]\nMACAddress=52:54:00:12:34:56\nKind=!*\n\n[Network]\nAddress=192.0.2.10/24\nGateway=192.0.2.1\nDNS=192.0.2.53\nVLAN=storage\n",
        ),
        (
            "network.network.11-storage",
            "[Match]\nName=storage\n\n[Network]\nDHCP=ipv4\n",
        ),
    ]
    .map(|(name, text)| (name.to_owned(), text.to_owned()));
    for text in [first, second] {
        assert_eq!(networks(text), (expected.to_vec(), Vec::new()), "{text}");
    }
}

#[test]
fn what_of_a_network_is_not_done_is_told() {
    let text = "version: 2
wifis: {}
ethernets:
  eno1: {dhcp4: true, wakeonlan: true, routes: [{to: 10.0.0.0/8, via: 192.0.2.1}]}
";
    let (_, ignored) = networks(text);
    assert_eq!(
        ignored,
        [
            "network-config: \"eno1\": a route that is not the default one",
            "network-config: \"eno1\": \"wakeonlan\"",
            "network-config: \"wifis\"",
        ]
    );
}
