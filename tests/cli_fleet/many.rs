//! Many hosts: interrupted and resumed, in shards, and through the examples.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::room::*;
use super::support::{self, skip, text};

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

/// What an interruption can leave: a tree without its record, and another one half made aside, with a credential that is no
/// longer wanted.
#[test]
fn leftovers_of_an_interrupted_run_do_no_harm() {
    let room = Room::with_hosts(2);
    room.counts(ENCRYPT);
    fs::remove_file(room.path("out/.ukikit-fleet/hosts/h0.json")).unwrap();
    fs::remove_file(room.path("out/.ukikit-fleet/hosts/h1.json")).unwrap();
    fs::remove_dir_all(room.path("out/h1")).unwrap();
    room.write(
        "out/.ukikit-fleet/trees/h1/loader/credentials/old.cred",
        "half",
    );
    assert_eq!(
        room.counts(ENCRYPT),
        "2 hosts: 2 made, 0 unchanged, 0 removed"
    );
    assert_eq!(
        names(&room.trees("out")),
        [
            "h0/loader/credentials/password.cred",
            "h1/loader/credentials/password.cred"
        ]
    );
    let aside = room.path("out/.ukikit-fleet/trees");
    assert_eq!(fs::read_dir(aside).unwrap().count(), 0);
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
    let example = include_str!("../../examples/fleet/FLEET.toml");
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
