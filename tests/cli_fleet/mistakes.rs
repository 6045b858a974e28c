//! What is wrong with a fleet file, its hosts or the options: one sentence with file, line and host.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::room::*;
use super::support::text;

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
            "FLEET.toml:4: host web1: unknown field `color`, expected one of `name`, `identity`, `tags`, `uki`, `target-systemd`, `tpm2-pcrs`, `tpm2-pcr-values`, `credential`",
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
            "FLEET.toml:2: host x: cannot use `secrets/fstab`: host identity: expected value at line 1 column 1",
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
            with("file = \"secrets/web1\"\nbind = \"none\"\n").replace("\"a\"", "\"fstab.extra\""),
            "FLEET.toml:5: host web1, credential fstab.extra: systemd-fstab-generator would not take its value (fstab): line 1: it has fewer than three fields: device, mount point, type",
        ),
        (
            format!(
                "{host}target-systemd = 256\n{}",
                &with("file = \"x\"\nbind = \"none\"\n")[host.len()..]
            )
            .replace("\"a\"", "\"import.pull\""),
            "FLEET.toml:6: host web1, credential import.pull: systemd 256 does not read import.pull: 257 and later do",
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
