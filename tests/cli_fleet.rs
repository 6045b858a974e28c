//! `ukikit fleet` from outside: exact output, what lies in the trees, and nothing half-written whatever happens.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::swtpm::Swtpm;
use support::{identities, skip, text, ukikit};
use tempfile::TempDir;

const ENCRYPT: &str = "encrypt FLEET.toml --output=out";

/// A directory to work in, with a fleet file, identities and secrets.
struct Room(TempDir);

impl Room {
    fn new(fleet: &str) -> Self {
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
    fn with_hosts(count: u32) -> Self {
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

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = ukikit();
        command
            .current_dir(self.0.path())
            .arg("fleet")
            .args(arguments.split(' '));
        command
    }

    fn fleet(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn with_secrets(&self, arguments: &str, json: &str) -> Output {
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
    fn counts(&self, arguments: &str) -> String {
        let output = self.fleet(arguments);
        assert_eq!(
            (text(&output.stderr), output.status.code()),
            (String::new(), Some(0))
        );
        text(&output.stdout).lines().last().unwrap().to_owned()
    }

    /// Every file below `out` but the key, with its content.
    fn files(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let root = self.path(out);
        collect(&root, &root, &mut found);
        found.remove(".ukikit-fleet/key");
        found
    }

    /// The files that go to the hosts.
    fn trees(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files(out);
        files.retain(|path, _| !path.starts_with(".ukikit-fleet/"));
        files
    }
}

fn collect(root: &Path, directory: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
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
fn assert_done(output: &Output, stdout: &str) {
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&output.stdout), stdout);
    assert_eq!(output.status.code(), Some(0));
}

#[track_caller]
fn assert_failed(output: &Output, stderr: &str) {
    assert_eq!(text(&output.stderr), stderr);
    assert_eq!(output.status.code(), Some(1));
}

fn names(files: &BTreeMap<String, Vec<u8>>) -> Vec<&str> {
    files.keys().map(String::as_str).collect()
}

const PCR_7: &str = "7:sha256=0000000000000000000000000000000000000000000000000000000000000007";

fn three_hosts() -> Room {
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

const THREE_HOSTS: &str = "\
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

#[test]
fn trees_are_made_once_and_then_only_what_changed() {
    let room = three_hosts();
    let before = room.files("out");
    let planned = room.fleet(&format!("{ENCRYPT} --dry-run"));
    let changes = "\
web1/loader/credentials/fstab.extra.cred: make: it is new
web1/loader/credentials/password.cred: make: it is new
web2/EFI/Linux/vendor.efi.extra.d/fstab.extra.cred: make: it is new
web2/EFI/Linux/vendor.efi.extra.d/password.cred: make: it is new
db1/loader/credentials/own.cred: make: it is new
db1/loader/credentials/password.cred: make: it is new
";
    assert_done(
        &planned,
        &format!("{changes}{THREE_HOSTS}3 hosts: 6 to make, 0 unchanged, 0 to remove\n"),
    );
    assert_eq!(room.files("out"), before);

    assert_done(
        &room.fleet(ENCRYPT),
        &format!("{THREE_HOSTS}3 hosts: 6 made, 0 unchanged, 0 removed\n"),
    );
    let made = room.files("out");
    assert_eq!(
        names(&made),
        [
            ".ukikit-fleet/hosts/db1.json",
            ".ukikit-fleet/hosts/web1.json",
            ".ukikit-fleet/hosts/web2.json",
            ".ukikit-fleet/log.jsonl",
            "db1/loader/credentials/own.cred",
            "db1/loader/credentials/password.cred",
            "web1/loader/credentials/fstab.extra.cred",
            "web1/loader/credentials/password.cred",
            "web2/EFI/Linux/vendor.efi.extra.d/fstab.extra.cred",
            "web2/EFI/Linux/vendor.efi.extra.d/password.cred",
        ]
    );
    for private in [
        "out/.ukikit-fleet/key",
        "out/db1/loader/credentials/own.cred",
    ] {
        assert_eq!(
            fs::metadata(room.path(private))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
    }
    assert_eq!(
        room.counts(ENCRYPT),
        "3 hosts: 0 made, 6 unchanged, 0 removed"
    );
    assert_eq!(room.files("out"), made);

    room.write("secrets/web2", "hunter3");
    assert_eq!(
        room.counts(ENCRYPT),
        "3 hosts: 1 made, 5 unchanged, 0 removed"
    );
    let mut changed = room.trees("out");
    changed.retain(|path, content| made[path] != *content);
    assert_eq!(
        names(&changed),
        ["web2/EFI/Linux/vendor.efi.extra.d/password.cred"]
    );
}

/// Each cause has its word, and only what it concerns is done.
#[test]
fn every_change_is_noticed() {
    let room = three_hosts();
    room.counts(ENCRYPT);
    let dry_run = format!("{ENCRYPT} --dry-run");
    let original = fs::read_to_string(room.path("FLEET.toml")).unwrap();
    let first_lines = |room: &Room| {
        let output = text(&room.fleet(&dry_run).stdout);
        output
            .lines()
            .take_while(|line| line.contains(".cred: "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };

    room.write(
        "FLEET.toml",
        &original.replace("pinned = true", "pinned = true\nnot-after = \"+30d\""),
    );
    assert_eq!(
        first_lines(&room),
        ["db1/loader/credentials/password.cred: make: what the fleet file says of it changed"]
    );

    room.write(
        "FLEET.toml",
        &original.replace("uki = \"EFI/Linux/vendor+3-0.efi\"", "uki = \"b.efi\""),
    );
    assert_eq!(
        first_lines(&room),
        [
            "web2/b.efi.extra.d/fstab.extra.cred: make: what the fleet file says of it changed",
            "web2/b.efi.extra.d/password.cred: make: what the fleet file says of it changed",
            "web2/EFI/Linux/vendor.efi.extra.d/fstab.extra.cred: remove: it is no longer wanted",
            "web2/EFI/Linux/vendor.efi.extra.d/password.cred: remove: it is no longer wanted",
        ]
    );
    assert_eq!(
        room.counts(ENCRYPT),
        "3 hosts: 2 made, 4 unchanged, 2 removed"
    );
    assert!(!room.path("out/web2/EFI").exists());
    room.write("FLEET.toml", &original);
    room.counts(ENCRYPT);

    room.write("hosts/web1.json", &identities::made_up(77));
    room.write("out/db1/loader/credentials/own.cred", "damaged");
    assert_eq!(
        first_lines(&room),
        [
            "web1/loader/credentials/fstab.extra.cred: make: the host has another storage key",
            "web1/loader/credentials/password.cred: make: the host has another storage key",
            "db1/loader/credentials/own.cred: make: its file is missing or was changed",
        ]
    );
    // A replaced board: one command, that host's tree.
    assert_eq!(
        room.counts(&format!("{ENCRYPT} --only=web1")),
        "1 host: 2 made, 0 unchanged, 0 removed"
    );
    assert_eq!(first_lines(&room).len(), 1);
}

#[test]
fn secrets_come_decrypted_on_a_pipe() {
    let credential = "[[credential]]\nname = \"token\"\nstdin = true\nbind = \"none\"\n";
    let host =
        |name: &str| format!("[[host]]\nname = \"{name}\"\nidentity = \"hosts/{name}.json\"\n");
    let room = Room::new(&format!("{credential}{}{}", host("web1"), host("web2")));
    let arguments = format!("{ENCRYPT} --secrets=-");
    let run = |json: &str| {
        let output = room.with_secrets(&arguments, json);
        (
            text(&output.stdout)
                .lines()
                .last()
                .unwrap_or_default()
                .to_owned(),
            text(&output.stderr),
        )
    };
    let done = |made: usize| {
        (
            format!("2 hosts: {made} made, {} unchanged, 0 removed", 2 - made),
            String::new(),
        )
    };
    assert_eq!(
        run(r#"{"token": "shared", "web2/token": "line\n\u00e9\ud83d\ude00\""}"#),
        done(2)
    );
    // The same values, otherwise written.
    assert_eq!(
        run("{\"web2/token\": \"line\\u000aé😀\\u0022\", \"token\": {\"base64\": \"c2hhcmVk\"}}"),
        done(0)
    );
    assert_eq!(
        run(r#"{"token": "shared", "web2/token": "other"}"#),
        done(1)
    );

    for (json, error) in [
        (
            "",
            "the secrets are not a JSON object: see line 1, column 0",
        ),
        (
            r#"{"token": hunter2}"#,
            "the secrets are not a JSON object: see line 1, column 11",
        ),
        (
            r#"{"token": 5}"#,
            r#"the secrets, "token": its value is neither a string nor {"base64": "…"}"#,
        ),
        (
            r#"{"token": "\ud800"}"#,
            r#"the secrets, "token": its value has an escape that stands for no character"#,
        ),
        (
            r#"{"token": {"base64": "?"}}"#,
            r#"the secrets, "token": its value is not Base64"#,
        ),
        (
            "{}",
            r#"FLEET.toml:2: host web1, credential token: the secrets have neither "web1/token" nor "token": give them with --secrets="#,
        ),
    ] {
        assert_eq!(run(json).1, format!("error: {error}\n"), "{json}");
    }
}

/// One sentence with file, line and host, and nothing written.
#[test]
fn what_is_wrong_is_said_before_anything_is_written() {
    let host = "[[host]]\nname = \"web1\"\nidentity = \"hosts/web1.json\"\n";
    let credential = "[[credential]]\nname = \"a\"\nfile = \"secrets/fstab\"\nbind = \"none\"\n";
    let with = |lines: &str| format!("{host}[[host.credential]]\nname = \"a\"\n{lines}");
    for (fleet, sentence) in [
        (
            "x = [".to_owned(),
            "FLEET.toml:1: unclosed array, expected `]`",
        ),
        (
            format!("{host}color = 1\n"),
            "FLEET.toml:4: host web1: unknown field `color`, expected one of `name`, `identity`, `tags`, `uki`, `target-systemd`, `tpm2-pcrs`, `credential`",
        ),
        (
            format!("{host}{host}"),
            "FLEET.toml:5: host web1: it is named twice, first in line 2",
        ),
        (
            "[[host]]\nname = \"web1\"\n".to_owned(),
            "FLEET.toml:1: host web1: missing field `identity`",
        ),
        (
            "[[host]]\nname = \"../x\"\nidentity = \"x\"\n".to_owned(),
            "FLEET.toml:2: host ../x: a host's name has letters, digits, `.`, `_` and `-`, begins with a letter or digit, and has at most 250 characters",
        ),
        (
            "[[host]]\nname = \"gone\"\nidentity = \"hosts/gone.json\"\n".to_owned(),
            "FLEET.toml:2: host gone: cannot read `hosts/gone.json`: No such file or directory",
        ),
        (
            "[[host]]\nname = \"x\"\nidentity = \"secrets/fstab\"\n".to_owned(),
            "FLEET.toml:2: host x: cannot use `secrets/fstab`: host identity, ``: expected value at line 1 column 1",
        ),
        (
            format!("{credential}{credential}{host}"),
            "FLEET.toml:6: host web1, credential a: it is given twice, first in line 2",
        ),
        (
            format!("{}{credential}{host}", credential.replace("\"a\"", "\"A\"")),
            "FLEET.toml:6: host web1, credential a: it is given twice, first in line 2",
        ),
        (
            format!("{credential}hosts = [\"web9\"]\n{host}"),
            "FLEET.toml:2: credential a: there is no host \"web9\"",
        ),
        (
            format!("{credential}tags = [\"db\"]\n{host}"),
            "FLEET.toml:2: credential a: no host has the tag \"db\"",
        ),
        (
            with("bind = \"none\"\n"),
            "FLEET.toml:5: host web1, credential a: it has no value: give `file`, `command` or `stdin`",
        ),
        (
            with("file = \"secrets/fstab\"\n"),
            "FLEET.toml:5: host web1, credential a: it is not said what it is bound to: give `bind`",
        ),
        (
            with("file = \"nowhere/{host}\"\nbind = \"none\"\n"),
            "FLEET.toml:5: host web1, credential a: cannot read `nowhere/web1`: No such file or directory",
        ),
        (
            with("file = \"x\"\nstdin = true\n"),
            "FLEET.toml:5: host web1, credential a: `file`, `command` and `stdin` exclude each other",
        ),
        (
            with("command = [\"false\"]\nbind = \"none\"\n"),
            "FLEET.toml:5: host web1, credential a: `false` failed: exit status: 1",
        ),
        (
            with("command = []\n"),
            "FLEET.toml:5: host web1, credential a: the command is empty",
        ),
        (
            with("file = \"x\"\nbind = \"pcrs\"\n"),
            "FLEET.toml:5: host web1, credential a: it is bound to PCRs: give `tpm2-pcrs`, here or at the host",
        ),
        (
            with("file = \"x\"\nbind = \"signed\"\n"),
            "FLEET.toml:5: host web1, credential a: it is bound to signed PCRs: give `tpm2-public-key`",
        ),
        (
            with("file = \"x\"\nbind = \"pcrs\"\ntpm2-pcrs = \"7\"\n"),
            "FLEET.toml:5: host web1, credential a: the values of PCR 7 are not known here: give them, as in 7:sha256=HEX",
        ),
        (
            with(&format!(
                "file = \"x\"\nbind = \"none\"\ntpm2-pcrs = \"{PCR_7}\"\n"
            )),
            "FLEET.toml:5: host web1, credential a: `tpm2-pcrs` is given, and `bind` does not use it",
        ),
        (
            with(&format!(
                "file = \"x\"\nbind = \"pcrs\"\ntpm2-pcrs = \"{}\"\n",
                PCR_7.replacen('7', "12", 1)
            )),
            "FLEET.toml:5: host web1, credential a: PCR 12 covers the credential itself when it lies on the EFI system partition: there it would never open",
        ),
        (
            with("not-after = \"soon\"\n"),
            "FLEET.toml:5: host web1, credential a: not-after: \"soon\" is not a time such as @1700000000, 2027-01-31 12:00 UTC or +30d",
        ),
        (
            with("file = \"x\"\nbind = \"none\"\nnot-after = \"@5\"\n"),
            "FLEET.toml:5: host web1, credential a: not-after: 1970-01-01 00:00:05 UTC is past",
        ),
        (
            with("bind = \"tpm\"\n"),
            "FLEET.toml:6: host web1: unknown variant `tpm`, expected one of `none`, `pcrs`, `signed`, `pcrs+signed`",
        ),
        (
            with("hosts = []\n"),
            "FLEET.toml:5: host web1, credential a: `hosts` and `tags` are for shared credentials",
        ),
        (
            with("").replace("\"a\"", "\"a*b\""),
            "FLEET.toml:5: host web1, credential a*b: `a*b.cred` cannot be a companion: FAT cannot hold the character '*'",
        ),
        (
            with("").replace("\"a\"", "\"a/b\""),
            "FLEET.toml:5: host web1, credential a/b: \"a/b\" is not a credential name: it contains `/` or `:`",
        ),
        (
            format!(
                "{host}target-systemd = 254\n{}",
                &with("file = \"x\"\nbind = \"none\"\n")[host.len()..]
            ),
            "FLEET.toml:6: host web1, credential a: systemd 254 cannot read what is sealed without its TPM: that takes 255 or later",
        ),
        (
            format!(
                "{host}target-systemd = 257\n{}",
                &with("file = \"x\"\nbind = \"none\"\npinned = true\n")[host.len()..]
            ),
            "FLEET.toml:6: host web1, credential a: systemd 257 cannot read a pinned credential: that takes 262 or later",
        ),
        (
            format!(
                "{host}target-systemd = 257\n{}",
                &with("file = \"x\"\nbind = \"none\"\nencoding = \"binary\"\n")[host.len()..]
            ),
            "FLEET.toml:6: host web1, credential a: who reads it under systemd 257 takes base64, and `encoding` is binary",
        ),
        (
            format!("{credential}{}{host}", credential.replace("\"a\"", "\"b\""))
                .replace("secrets/fstab", "large"),
            "FLEET.toml:10: host web1: its credentials have 1066664 bytes together, and PID 1 takes 1048576 from an EFI system partition",
        ),
        (
            format!("{}{host}", credential.replace("secrets/fstab", "larger")),
            "FLEET.toml:2: host web1, credential a: `larger` is longer than 1048576 bytes",
        ),
    ] {
        let room = Room::new(&fleet);
        room.write("large", &"x".repeat(400_000));
        room.write("larger", &"x".repeat(1024 * 1024 + 1));
        let output = room.fleet(ENCRYPT);
        assert_eq!(
            text(&output.stderr).lines().next().unwrap_or_default(),
            format!("error: {sentence}"),
            "{fleet}"
        );
        assert_eq!(output.status.code(), Some(1), "{fleet}");
        assert_eq!(names(&room.trees("out")), [""; 0], "{fleet}");
    }
}

#[test]
fn one_bad_host_stops_all_or_none() {
    let room = three_hosts();
    let good = fs::read_to_string(room.path("hosts/web2.json")).unwrap();
    room.write(
        "hosts/web2.json",
        &good.replace("\"schema\": 1", "\"schema\": 9"),
    );
    let error = "error: FLEET.toml:21: host web2: cannot use `hosts/web2.json`: host identity, `schema`: it is 9, this version reads 1\n";
    let output = room.fleet(ENCRYPT);
    assert_failed(&output, error);
    assert_eq!(
        text(&output.stdout),
        "0 hosts: 0 made, 0 unchanged, 0 removed; 1 host failed, 2 not begun\n"
    );
    assert_eq!(names(&room.trees("out")), [""; 0]);

    let output = room.fleet(&format!("{ENCRYPT} --keep-going"));
    assert_failed(&output, error);
    assert_eq!(
        text(&output.stdout).lines().last(),
        Some("2 hosts: 4 made, 0 unchanged, 0 removed; 1 host failed, 0 not begun")
    );

    let output = room.fleet(&format!("{ENCRYPT} --keep-going --json=short"));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let members = [
        "schema",
        "hosts",
        "failed",
        "notBegun",
        "made",
        "unchanged",
        "removed",
    ]
    .map(|member| summary[member].as_u64().unwrap());
    assert_eq!(members, [1, 2, 1, 0, 0, 4, 0]);
    assert_eq!(summary["credentials"][0]["boundTo"], "PCR 7 (sha256)");
}

#[test]
fn options_that_make_no_sense() {
    let room = three_hosts();
    assert_failed(
        &room.fleet(&format!("{ENCRYPT} --only=web9")),
        "error: FLEET.toml has no host \"web9\"\n",
    );
    for shard in ["0/2", "3/2", "1", "a/b"] {
        let output = room.fleet(&format!("{ENCRYPT} --shard={shard}"));
        let wanted = format!(
            "error: invalid value '{shard}' for '--shard <I/N>': {shard:?} is not a part of a whole, such as 1/8 to 8/8\n"
        );
        assert!(
            text(&output.stderr).starts_with(&wanted),
            "{}",
            text(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(2));
    }
    room.counts(ENCRYPT);
    let key = room.path("out/.ukikit-fleet/key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert_failed(
        &room.fleet(ENCRYPT),
        "error: `out/.ukikit-fleet/key` can be read by others than its owner: its mode has to be 0600\n",
    );
}

/// Neither records nor log tell anything of a value, and equal values do not show.
#[test]
fn records_hold_no_secret() {
    let room = Room::with_hosts(2);
    room.counts(ENCRYPT);
    let record = |host: &str| -> Value {
        serde_json::from_slice(
            &fs::read(room.path(&format!("out/.ukikit-fleet/hosts/{host}.json"))).unwrap(),
        )
        .unwrap()
    };
    let (first, second) = (record("h0"), record("h1"));
    assert_eq!(first["credentials"][0]["boundTo"], "no PCR");
    assert_ne!(
        first["credentials"][0]["fingerprint"],
        second["credentials"][0]["fingerprint"]
    );

    let log = fs::read_to_string(room.path("out/.ukikit-fleet/log.jsonl")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        let members: Vec<&str> = line
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            members,
            [
                "host",
                "name",
                "sha256",
                "storageKey",
                "time",
                "uid",
                "user"
            ]
        );
        let sealed = record(line["host"].as_str().unwrap());
        assert_eq!(line["storageKey"], sealed["credentials"][0]["storageKey"]);
    }
    for (path, content) in room.files("out") {
        assert!(!text(&content).contains("hunter2"), "{path}");
    }
}

/// `kill -9` in the middle: every file is whole, and the next run does the rest.
#[test]
fn an_interrupted_run_leaves_whole_files_and_is_resumed() {
    const HOSTS: usize = 1000;
    let room = Room::with_hosts(u32::try_from(HOSTS).unwrap());
    let records = room.path("out/.ukikit-fleet/hosts");
    let done = || fs::read_dir(&records).map_or(0, Iterator::count);
    let mut child = room.command(ENCRYPT).stdout(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while done() < 50 && start.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let done = done();
    assert!((50..HOSTS).contains(&done), "{done}");
    assert_whole(&room, "out");

    let counts = room.counts(ENCRYPT);
    // A host whose tree was written and whose record was not is done again.
    assert_eq!(
        counts,
        format!(
            "{HOSTS} hosts: {} made, {done} unchanged, 0 removed",
            HOSTS - done
        )
    );
    assert_eq!(room.trees("out").len(), HOSTS);
    assert_whole(&room, "out");
    assert_eq!(
        fs::read_dir(room.path("out/.ukikit-fleet/tmp"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(
        room.counts(ENCRYPT),
        format!("{HOSTS} hosts: 0 made, {HOSTS} unchanged, 0 removed")
    );
}

/// Trees hold nothing but credentials, and all of them can be read.
fn assert_whole(room: &Room, out: &str) {
    for (path, content) in room.trees(out) {
        assert!(
            path.ends_with("/loader/credentials/password.cred"),
            "{path}"
        );
        let credential =
            ukikit_creds::EncryptedCredential::parse(&content, ukikit_creds::Encoding::Base64);
        assert_eq!(
            credential
                .unwrap_or_else(|error| panic!("{path}: {error}"))
                .kind()
                .with_key(),
            "tpm2"
        );
    }
}

/// 200 hosts with keys of their own, in four parts, by hand and by GNU parallel: the copies are one whole run.
#[test]
fn shards_merge_by_copying() {
    let room = Room::with_hosts(200);
    room.counts(ENCRYPT);
    let whole = room.trees("out");
    assert_eq!(whole.len(), 200);
    let mut keys: Vec<String> = whole
        .keys()
        .map(|path| storage_key(&room, path.split('/').next().unwrap()))
        .collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 200);

    let mut merged = BTreeMap::new();
    for shard in 1..=4 {
        let counts = room.counts(&format!("encrypt FLEET.toml --output=part{shard} --state=out/.ukikit-fleet/key --shard={shard}/4"));
        let part = room.files(&format!("part{shard}"));
        let hosts = part.keys().filter(|path| path.ends_with(".cred")).count();
        assert_eq!(
            counts,
            format!("{hosts} hosts: {hosts} made, 0 unchanged, 0 removed")
        );
        assert!((20..90).contains(&hosts), "{hosts}");
        for (path, content) in part {
            assert_eq!(
                merged.insert(path.clone(), content),
                None,
                "{path} is in two parts"
            );
        }
    }
    for (path, content) in &merged {
        let path = room.path("merged").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    assert_eq!(names(&room.trees("merged")), names(&whole));
    assert_whole(&room, "merged");
    let again = room.counts("encrypt FLEET.toml --output=merged --state=out/.ukikit-fleet/key");
    assert_eq!(again, "200 hosts: 0 made, 200 unchanged, 0 removed");
}

fn storage_key(room: &Room, host: &str) -> String {
    let record = fs::read(room.path(&format!("out/.ukikit-fleet/hosts/{host}.json"))).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    record["credentials"][0]["storageKey"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn the_example_for_gnu_parallel_runs() {
    if Command::new("parallel").arg("--version").output().is_err() {
        skip("GNU parallel is not installed");
        return;
    }
    let room = Room::with_hosts(200);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/fleet/parallel.sh");
    let path = format!(
        "{}:/usr/bin:/bin",
        Path::new(env!("CARGO_BIN_EXE_ukikit"))
            .parent()
            .unwrap()
            .display()
    );
    let mut command = Command::new(script);
    command
        .current_dir(room.0.path())
        .env("PATH", path)
        .args(["FLEET.toml", "out", "4"]);
    support::succeed("parallel.sh", command.output().unwrap());
    assert_eq!(room.trees("out").len(), 200);
    assert_whole(&room, "out");
    assert_eq!(
        room.counts(ENCRYPT),
        "200 hosts: 0 made, 200 unchanged, 0 removed"
    );
}

/// The example, with a program in place of sops that is always there.
#[test]
fn the_example_fleet_is_sealed() {
    let example = include_str!("../examples/fleet/FLEET.toml");
    let room = Room::new(&example.replace(r#"["sops", "-d", "#, r#"["printf", "%s", "#));
    fs::copy(
        support::vector("creds/keys/pk2.pem"),
        room.path("vendor-pcr.pem"),
    )
    .unwrap();
    room.write("fstab", "");
    room.write("fstab.db1", "");
    let output = room.with_secrets(&format!("{ENCRYPT} --secrets=-"), r#"{"tls.key": "key"}"#);
    assert_eq!(text(&output.stderr), "");
    let output = text(&output.stdout);
    assert_eq!(
        output.lines().last(),
        Some("3 hosts: 8 made, 0 unchanged, 0 removed")
    );
    let signed = "iscsi.password: 1 host, base64, pinned (target-systemd is 262 or later), bound to signed PCR 11 (sha256)
  stops: opening it with another TPM; a kernel image whose PCR values the key's owner has not signed
  breaks with: a replaced or cleared TPM; an update of the kernel image without a signature by this key
";
    assert!(output.contains(signed), "{output}");
}

/// The TPM was never asked; both forms open in it, and in no other.
#[test]
fn a_tpm_opens_what_was_sealed_for_its_host() {
    if Command::new("swtpm").arg("--version").output().is_err() {
        skip("swtpm is not installed");
        return;
    }
    let room = three_hosts();
    room.write("hosts/db1.json", &identities::of_vector("a"));
    room.counts(ENCRYPT);
    let decrypt = |tpm: &Swtpm, name: &str| {
        let mut command = ukikit();
        let file = room.path(&format!("out/db1/loader/credentials/{name}.cred"));
        command
            .args([
                "cred",
                "decrypt",
                &format!("--tpm2-device={}", tpm.device()),
            ])
            .arg(file)
            .output()
            .unwrap()
    };
    let tpm = Swtpm::start("a");
    for (name, value) in [("own", "from db1"), ("password", "hunter2-db1")] {
        assert_done(&decrypt(&tpm, name), value);
    }
    drop(tpm);
    let other = Swtpm::start("b");
    assert_eq!(decrypt(&other, "own").status.code(), Some(1));
}

#[test]
fn status_find_and_forget() {
    let room = three_hosts();
    room.counts(ENCRYPT);
    let listed = |host: &str| {
        let esp = format!("--esp={}", room.path("out").join(host).display());
        let output = ukikit()
            .args(["esp", "list", &esp, "--json=short"])
            .output()
            .unwrap();
        room.write("listing.json", &text(&output.stdout));
    };
    let status = || room.fleet("status listing.json --output=out --host=web1");
    listed("web1");
    assert_done(
        &status(),
        "loader/credentials/fstab.extra.cred: current\nloader/credentials/password.cred: current\n",
    );

    room.write("secrets/web1", "hunter3-web1");
    let find = "find FLEET.toml --output=out --secret=password";
    let found = text(&room.fleet(find).stdout);
    assert!(
        found.starts_with("web1: an older value, sealed 20"),
        "{found}"
    );
    assert_eq!(found.lines().count(), 1);
    room.counts(ENCRYPT);
    assert_done(&room.fleet(find), "");
    let old = status();
    assert_eq!(old.status.code(), Some(1));
    assert_eq!(
        text(&old.stdout),
        "loader/credentials/fstab.extra.cred: current\nloader/credentials/password.cred: not the file that was sealed last\n"
    );
    room.write("listing.json", r#"{"companions":[{"path":"loader/credentials/x.cred","kind":"credential","size":1,"note":null}]}"#);
    assert_eq!(
        text(&status().stdout),
        "loader/credentials/fstab.extra.cred: missing\nloader/credentials/password.cred: missing\nloader/credentials/x.cred: not sealed here\n"
    );
    room.write("listing.json", "{}");
    assert_failed(
        &status(),
        "error: cannot use `listing.json`: not the JSON of `ukikit esp list`: missing field `companions` at line 1 column 2\n",
    );

    let fleet = fs::read_to_string(room.path("FLEET.toml")).unwrap();
    room.write(
        "FLEET.toml",
        fleet.split("[[host]]\nname = \"db1\"").next().unwrap(),
    );
    let found: Value =
        serde_json::from_slice(&room.fleet(&format!("{find} --json=short")).stdout).unwrap();
    assert_eq!(found["hosts"][0]["host"], "db1");
    assert_eq!(found["hosts"][0]["carries"], "unwanted");

    let before = room.files("out");
    assert_eq!(
        text(&room.fleet("forget db1 --output=out --dry-run").stderr),
        "db1: 2 credentials to remove\n"
    );
    assert_eq!(room.files("out"), before);
    assert_eq!(
        text(&room.fleet("forget db1 --output=out").stderr),
        "db1: 2 credentials removed\n"
    );
    assert!(!room.path("out/db1").exists());
    assert_failed(
        &room.fleet("forget db1 --output=out"),
        "error: `out` has no host \"db1\"\n",
    );
    assert_failed(
        &room.fleet("status listing.json --output=out --host=db1"),
        "error: nothing was sealed for host \"db1\" in `out`\n\nhint: ukikit fleet encrypt does so\n",
    );
    assert_failed(
        &room.fleet("find FLEET.toml --output=empty --secret=password"),
        "error: there is no key of fingerprints `empty/.ukikit-fleet/key`\n\nhint: ukikit fleet encrypt makes it; --state= names another place\n",
    );
}
