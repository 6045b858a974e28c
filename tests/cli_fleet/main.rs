//! `ukikit fleet` from outside: exact output, what lies in the trees, and nothing half-written whatever happens.

#![cfg(test)]

mod many;
mod mistakes;
mod room;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;
use support::swtpm::Swtpm;
use support::{identities, skip, text, ukikit};

use room::*;

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

/// The same policy, whether a value stands in the fleet file or in a file of the host's.
#[test]
fn pcr_values_come_from_a_file_of_the_host() {
    let room = three_hosts();
    room.counts(ENCRYPT);
    let value = PCR_7.split('=').next_back().unwrap();
    room.write(
        "web.pcrs",
        &format!("{{\"sha256\": {{\"7\": \"{value}\"}}}}"),
    );
    let fleet = fs::read_to_string(room.path("FLEET.toml")).unwrap();
    let by_hand = format!("tpm2-pcrs = \"{PCR_7}\"");
    let from_file = "tpm2-pcrs = \"7\"\ntpm2-pcr-values = \"web.pcrs\"";
    room.write("FLEET.toml", &fleet.replace(&by_hand, from_file));
    assert_eq!(
        room.counts(ENCRYPT),
        "3 hosts: 0 made, 6 unchanged, 0 removed"
    );
    room.write("web.pcrs", "{}");
    assert_eq!(
        text(&room.fleet(ENCRYPT).stderr),
        "error: FLEET.toml:8: host web1, credential fstab.extra: cannot use `web.pcrs`: PCR 7 has no value in the sha256 bank\n"
    );
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
    assert_done(
        &room.fleet("forget db1 --output=out --dry-run"),
        "db1: 2 credentials to remove\n",
    );
    assert_failed(
        &room.fleet("forget db1 db2 --output=out"),
        "error: `out` has no host \"db2\"\n",
    );
    assert_eq!(room.files("out"), before);
    assert_done(
        &room.fleet("forget db1 db1 --output=out --json=short"),
        "{\"schema\":1,\"applied\":true,\"hosts\":[{\"host\":\"db1\",\"credentials\":2}]}\n",
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
