//! A place with a fleet file and its hosts, and what a run left in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::support::{identities, text, ukikit};

pub(crate) const ENCRYPT: &str = "encrypt FLEET.toml --output=out";

/// A directory to work in, with a fleet file, identities and secrets.
pub(crate) struct Room(pub(crate) TempDir);

impl Room {
    pub(crate) fn new(fleet: &str) -> Self {
        let room = Self(TempDir::new().unwrap());
        room.write("FLEET.toml", fleet);
        for (number, host) in ["web1", "web2", "db1"].into_iter().enumerate() {
            let identity = identities::made_up(u32::try_from(number).unwrap());
            room.write(&format!("hosts/{host}.json"), &identity);
            room.write(&format!("secrets/{host}"), &format!("hunter2-{host}"));
        }
        room.write("secrets/fstab", "/dev/sda1 /data ext4\n");
        room
    }

    /// The same with many hosts, one secret each. A few identities serve all of them.
    pub(crate) fn with_hosts(count: u32) -> Self {
        let mut fleet =
            "[[credential]]\nname = \"password\"\nfile = \"secrets/db1\"\nbind = \"none\"\n"
                .to_owned();
        for number in 0..count {
            let identity = number % 200;
            write!(
                fleet,
                "[[host]]\nname = \"h{number}\"\nidentity = \"hosts/{identity}.json\"\n"
            )
            .unwrap();
        }
        let room = Self::new(&fleet);
        for number in 0..count.min(200) {
            room.write(
                &format!("hosts/{number}.json"),
                &identities::made_up(number),
            );
        }
        room
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = ukikit();
        command
            .current_dir(self.0.path())
            .arg("fleet")
            .args(arguments.split(' '));
        command
    }

    pub(crate) fn fleet(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn with_secrets(&self, arguments: &str, json: &str) -> Output {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(json.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    }

    /// The last line of a run that must succeed: its counts.
    pub(crate) fn counts(&self, arguments: &str) -> String {
        let output = self.fleet(arguments);
        assert_eq!(
            (text(&output.stderr), output.status.code()),
            (String::new(), Some(0))
        );
        text(&output.stdout).lines().last().unwrap().to_owned()
    }

    /// Every file below `out` but the key, with its content.
    pub(crate) fn files(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let root = self.path(out);
        collect(&root, &root, &mut found);
        found.remove(".ukikit-fleet/key");
        found
    }

    /// The files that go to the hosts.
    pub(crate) fn trees(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files(out);
        files.retain(|path, _| !path.starts_with(".ukikit-fleet/"));
        files
    }
}

pub(crate) fn collect(root: &Path, directory: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else {
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            found.insert(name, fs::read(&path).unwrap());
        }
    }
}

#[track_caller]
pub(crate) fn assert_done(output: &Output, stdout: &str) {
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&output.stdout), stdout);
    assert_eq!(output.status.code(), Some(0));
}

#[track_caller]
pub(crate) fn assert_failed(output: &Output, stderr: &str) {
    assert_eq!(text(&output.stderr), stderr);
    assert_eq!(output.status.code(), Some(1));
}

pub(crate) fn names(files: &BTreeMap<String, Vec<u8>>) -> Vec<&str> {
    files.keys().map(String::as_str).collect()
}

pub(crate) const PCR_7: &str =
    "7:sha256=0000000000000000000000000000000000000000000000000000000000000007";

pub(crate) fn three_hosts() -> Room {
    Room::new(&format!(
        r#"
[[credential]]
name = "password"
file = "secrets/{{host}}"
bind = "none"

[[credential]]
name = "fstab.extra"
file = "secrets/fstab"
bind = "pcrs"
tags = ["web"]

[[host]]
name = "web1"
identity = "hosts/web1.json"
tags = ["web"]
tpm2-pcrs = "{PCR_7}"
target-systemd = 262

[[host]]
name = "web2"
identity = "hosts/web2.json"
tags = ["web"]
tpm2-pcrs = "{PCR_7}"
uki = "EFI/Linux/vendor+3-0.efi"
target-systemd = 257

[[host]]
name = "db1"
identity = "hosts/db1.json"
[[host.credential]]
name = "password"
pinned = true
[[host.credential]]
name = "own"
command = ["printf", "%s", "from {{host}}"]
bind = "none"
"#
    ))
}

pub(crate) const THREE_HOSTS: &str = "\
fstab.extra: 1 host, binary, un-pinned (target-systemd is before 262), bound to PCR 7 (sha256)
  stops: opening it with another TPM; a boot with Secure Boot off or under other keys
  breaks with: a replaced or cleared TPM; a change of Secure Boot, its keys, db or dbx, which firmware updates bring along
fstab.extra: 1 host, base64, pinned (target-systemd is 262 or later), bound to PCR 7 (sha256)
  stops: opening it with another TPM; a boot with Secure Boot off or under other keys
  breaks with: a replaced or cleared TPM; a change of Secure Boot, its keys, db or dbx, which firmware updates bring along
own: 1 host, base64, un-pinned (no target-systemd says that only 262 or later will read it), bound to no PCR
  stops: opening it with another TPM
  breaks with: a replaced or cleared TPM
password: 1 host, base64, un-pinned (target-systemd is before 262), bound to no PCR
  stops: opening it with another TPM
  breaks with: a replaced or cleared TPM
password: 1 host, base64, pinned (target-systemd is 262 or later), bound to no PCR
  stops: opening it with another TPM
  breaks with: a replaced or cleared TPM
password: 1 host, base64, pinned (the fleet file says so), bound to no PCR
  stops: opening it with another TPM
  breaks with: a replaced or cleared TPM
";
