//! `ukikit predict` from outside: what it prints, in every form, and what it refuses.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;
use ukikit_esp::{Bank, Hash};

use support::{event_log, pe, schema, text, ukikit, vector, vector_json};

fn predict(arguments: &[&str]) -> Output {
    ukikit().arg("predict").args(arguments).output().unwrap()
}

fn json_of(arguments: &[&str]) -> Value {
    let output = predict(&[arguments, &["--json=short"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = serde_json::from_slice(&output.stdout).unwrap();
    schema::assert_valid("predict", &said);
    said
}

fn esp_of(set: &str) -> String {
    format!("--esp={}", vector(&format!("stub/{set}/files")).display())
}

/// A UKI that is only planned still gives PCR 12 and 13; every recorded boot had these values.
#[test]
fn recorded_boots_had_the_predicted_values() {
    for set in [
        "basic",
        "names-and-padding",
        "global",
        "both-and-addons",
        "entry-extras",
        "entry-options",
    ] {
        let recorded = vector_json(&format!("stub/{set}/vector.json"));
        let mut arguments = vec![
            esp_of(set),
            format!("--uki={}", recorded["uki"].as_str().unwrap()),
            format!("--uname={}", recorded["uname"].as_str().unwrap()),
            format!("--profile={}", recorded["profile"]),
        ];
        arguments.extend(
            recorded["cmdline"]
                .as_str()
                .map(|line| format!("--cmdline={line}")),
        );
        let extras = recorded["extras"].as_array().unwrap().iter();
        arguments.extend(extras.map(|extra| format!("--extra={}", extra.as_str().unwrap())));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = json_of(&arguments);
        let after_stub = &said["points"]["after-stub"]["sha256"];
        for pcr in ["12", "13"] {
            assert_eq!(
                after_stub[pcr],
                recorded["expected"][format!("pcr{pcr}")],
                "{set}"
            );
        }
        assert_eq!(after_stub["11"], Value::Null);
        let seen: Vec<&Value> = said["events"].as_array().unwrap().iter().collect();
        let expected = recorded["expected"]["events"].as_array().unwrap();
        assert_eq!(seen.len(), expected.len());
        for (ours, theirs) in seen.iter().zip(expected) {
            assert_eq!(ours["digests"]["sha256"], theirs["sha256"], "{set}");
        }
    }
}

#[test]
fn an_entry_says_what_options_say() {
    for (set, entry, options) in [
        (
            "entry-options",
            "--entry=loader/entries/opt.conf",
            &[
                "--uki=EFI/other/opt.efi",
                "--cmdline=console=ttyS0  quiet lab.opt=1",
            ][..],
        ),
        (
            "entry-extras",
            "--entry=/loader/entries/tok-commit_1.conf",
            &[
                "--uki=tok/multi.efi",
                "--profile=1",
                "--extra=/tok/z.cred",
                "--extra=/tok/feature.sysext.raw",
                "--extra=/tok/a.cred",
                "--extra=/tok/c.confext.raw",
                "--extra=/tok/other.sysext.raw",
                "--extra=/tok/empty.cred",
                "--extra=/tok/missing.cred",
                "--extra=/tok/plain.raw",
                "--extra=/tok/d.cred",
            ],
        ),
    ] {
        let esp = esp_of(set);
        let by_entry = json_of(&[&esp, entry]);
        let by_options = json_of(&[&[esp.as_str()], options].concat());
        assert_eq!(by_entry, by_options, "{set}");
    }
}

/// A room with a UKI and a credential beside it.
fn room() -> (TempDir, String) {
    let room = TempDir::new().unwrap();
    let write = |path: &str, content: &[u8]| {
        let path = room.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let uki = pe::addon(&[
        (".linux", b"kernel"),
        (".osrel", b"ID=vendor\n"),
        (".cmdline", b"quiet"),
    ]);
    write("EFI/Linux/a.efi", &uki);
    write("EFI/Linux/a.efi.extra.d/one.cred", b"one");
    write("EFI/Linux/a.efi.extra.d/two.cred", b"two");
    let esp = format!("--esp={}", room.path().display());
    (room, esp)
}

/// A register after these measurements.
fn register(bank: Bank, measured: &[&[u8]]) -> String {
    let value = measured.iter().fold(bank.zero(), |value, data| {
        value.extended(bank, &bank.hash(&[data]))
    });
    value.to_string()
}

#[test]
fn every_moment_and_bank_is_there() {
    let (_room, esp) = room();
    let said = json_of(&[&esp, "--uki=EFI/Linux/a.efi"]);
    let sections: &[&[u8]] = &[
        b".linux\0",
        b"kernel",
        b".osrel\0",
        b"ID=vendor\n",
        b".cmdline\0",
        b"quiet",
    ];
    for bank in Bank::ALL {
        let mut measured = sections.to_vec();
        for (moment, word) in [
            ("after-stub", None),
            ("enter-initrd", Some("enter-initrd")),
            ("os-separator", None),
            ("leave-initrd", Some("leave-initrd")),
            ("sysinit", Some("sysinit")),
            ("ready", Some("ready")),
        ] {
            measured.extend(word.map(str::as_bytes));
            let value = &said["points"][moment][bank.as_str()]["11"];
            assert_eq!(*value, register(bank, &measured), "{bank} {moment}");
        }
        let separated = register(bank, &[b"os-separator"]);
        assert_eq!(said["points"]["ready"][bank.as_str()]["13"], separated);
    }
    assert_eq!(said["commandLine"], "quiet");
    let without = json_of(&[
        &esp,
        "--uki=EFI/Linux/a.efi",
        "--os-separator=no",
        "--bank=sha256",
    ]);
    assert_eq!(without["points"]["os-separator"], Value::Null);
    assert_eq!(without["points"]["ready"]["sha256"]["13"], "0".repeat(64));
    assert_eq!(without["points"]["ready"]["sha1"], Value::Null);
}

#[test]
fn people_read_events_and_values() {
    let (_room, esp) = room();
    let output = predict(&[
        &esp,
        "--uki=EFI/Linux/new.efi",
        "--bank=sha256",
        "--os-separator=no",
    ]);
    assert_eq!(
        text(&output.stderr),
        "`EFI/Linux/new.efi` is not on the ESP: no PCR 11\n"
    );
    let zero = "0".repeat(64);
    let again: String = ["enter-initrd", "leave-initrd", "sysinit", "ready"]
        .iter()
        .map(|moment| format!("\n{moment}, sha256\n"))
        .collect();
    assert_eq!(
        text(&output.stdout),
        format!("\nafter-stub, sha256\n12  {zero}\n13  {zero}\n{again}")
    );
}

#[test]
fn the_first_event_that_differs_is_named_with_its_file() {
    let (room, esp) = room();
    let archive = |names: &[&str]| {
        let files: Vec<_> = names
            .iter()
            .map(|name| {
                let path = format!("EFI/Linux/a.efi.extra.d/{name}.cred");
                let content = fs::read(room.path().join(&path)).unwrap_or(b"other".to_vec());
                ukikit_esp::File::new(path, content)
            })
            .collect();
        let files: Vec<_> = files.iter().collect();
        let kind = ukikit_esp::ArchiveKind::Credentials;
        ukikit_esp::Archive::pack(kind, &files)
            .unwrap()
            .as_bytes()
            .to_vec()
    };
    let (both, one, more) = (
        archive(&["one", "two"]),
        archive(&["one"]),
        archive(&["one", "two", "new"]),
    );
    let log: PathBuf = room.path().join("eventlog");
    let diff = format!("--diff={}", log.display());
    let credentials = "Credentials initrd";
    for (events, status, expected) in [
        (
            vec![(12, credentials, &both[..])],
            0,
            "every event of PCR 11, 12 and 13 is as predicted",
        ),
        (
            vec![(12, credentials, &one[..])],
            1,
            "event 1 of PCR 12 is `Credentials initrd`, of other content than at that boot: \
             without EFI/Linux/a.efi.extra.d/two.cred it would be the same",
        ),
        (
            vec![(12, credentials, &more[..])],
            1,
            "event 1 of PCR 12 is `Credentials initrd`, of other content than at that boot: \
             EFI/Linux/a.efi.extra.d/one.cred, EFI/Linux/a.efi.extra.d/two.cred",
        ),
        (
            vec![(12, "quiet", &b"quiet"[..])],
            1,
            "event 1 of PCR 12 is `Credentials initrd`, at that boot it was `quiet`: \
             EFI/Linux/a.efi.extra.d/one.cred, EFI/Linux/a.efi.extra.d/two.cred",
        ),
        (
            vec![
                (13, "System extension initrd", &b"x"[..]),
                (12, credentials, &both[..]),
            ],
            1,
            "that boot had one more event in PCR 13: `System extension initrd`",
        ),
        (
            vec![],
            1,
            "event 1 of PCR 12, `Credentials initrd`, was not there at that boot: \
             EFI/Linux/a.efi.extra.d/one.cred, EFI/Linux/a.efi.extra.d/two.cred",
        ),
    ] {
        let hashed = events.iter().map(|&(pcr, description, measured)| {
            let digest = Bank::Sha256.hash(&[measured]).as_bytes().to_vec();
            (pcr, description, digest)
        });
        fs::write(&log, event_log::write(hashed)).unwrap();
        // The UKI is another one that is only planned: it has the same companions, and no PCR 11.
        fs::remove_file(room.path().join("EFI/Linux/a.efi")).ok();
        let output = predict(&[&esp, "--uki=EFI/Linux/a.efi", &diff]);
        assert_eq!(text(&output.stdout), format!("{expected}\n"));
        assert_eq!(output.status.code(), Some(status));
    }
}

/// The digests are those of the policy that systemd-measure 262 made for its example: PolicyPCR over PCR 11 alone.
#[test]
fn a_policy_is_what_a_signer_of_pcr_policies_is_given() {
    let (_room, esp) = room();
    let key = format!("--public-key={}", vector("creds/keys/pk1.pem").display());
    let arguments = [
        &esp,
        "--uki=EFI/Linux/a.efi",
        "--format=policy",
        "--bank=sha256",
        &key,
        "--phase=:",
        "--phase=enter-initrd",
    ];
    let output = predict(&arguments);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let entries = said["sha256"].as_array().unwrap();
    let signatures = vector_json("creds/keys/pk1-signature.json");
    assert_eq!(entries.len(), 2);
    for entry in entries {
        assert_eq!(entry["pcrs"], json!([11]));
        assert_eq!(entry["pkfp"], signatures["sha256"][0]["pkfp"]);
        assert_eq!(entry["pol"].as_str().unwrap().len(), 64);
        assert_eq!(entry["tbs"], entry["pol"]);
    }
    assert_ne!(entries[0]["pol"], entries[1]["pol"]);
    let refused = predict(&[&esp, "--uki=b.efi", "--format=policy"]);
    assert_eq!(
        text(&refused.stderr),
        "`b.efi` is not on the ESP: no PCR 11\nerror: without the UKI there is no PCR 11 to sign for\n"
    );
    let refused = predict(&[
        &esp,
        "--uki=EFI/Linux/a.efi",
        "--format=policy",
        "--phase=ready",
    ]);
    assert_eq!(
        text(&refused.stderr),
        "error: `ready` is not how a boot goes: its phases are enter-initrd:leave-initrd:sysinit:ready\n"
    );
}

/// PCR 4 holds programs by what is signed of them: their signatures and checksums are left out, and no byte is added.
#[test]
fn programs_are_measured_by_their_authenticode_hash() {
    let (room, esp) = room();
    let addon = pe::addon(&[(".cmdline", b"quiet")]);
    let write = |path: &str, content: &[u8]| {
        let path = room.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write("EFI/BOOT/BOOTX64.EFI", &[&addon[..], b"odd"].concat());
    write("EFI/Linux/a.efi.extra.d/x.addon.efi", &addon);
    write("EFI/Linux/a.efi.extra.d/y.addon.efi", b"no PE file");
    let uki = fs::read(room.path().join("EFI/Linux/a.efi")).unwrap();
    // Of these files: the checksum at byte 152, the place and size of the certificate table at 232.
    let hashed = |file: &[u8]| [&file[..152], &file[156..232], &file[240..]].concat();
    let loader = hashed(&[&addon[..], b"odd"].concat());
    let (uki, addon) = (hashed(&uki), hashed(&addon));
    let action = b"Calling EFI Application from Boot Option";
    for (option, measured) in [
        ("--loader=none", &[&action[..], &[0; 4], &uki, &addon][..]),
        (
            "--loader=EFI/BOOT/BOOTX64.EFI",
            &[action, &[0; 4], &loader, &uki, &addon],
        ),
    ] {
        let said = json_of(&[&esp, "--uki=EFI/Linux/a.efi", option]);
        for bank in Bank::ALL {
            let values = &said["points"]["after-stub"][bank.as_str()];
            assert_eq!(values["4"], register(bank, measured), "{option}");
            let separated = [measured, &[b"os-separator"]].concat();
            let values = &said["points"]["os-separator"][bank.as_str()];
            assert_eq!(values["4"], register(bank, &separated), "{option}");
        }
    }
    let refused = predict(&[&esp, "--uki=EFI/Linux/a.efi", "--loader=gone.efi"]);
    assert_eq!(refused.status.code(), Some(1));
}

/// What a planned change makes of the PCRs is what they are once it is made; the ESP is not touched.
/// What only the firmware knows comes from its log, and is extended by what comes later.
#[test]
fn secure_boot_is_taken_from_the_log_of_a_boot() {
    let (room, esp) = room();
    let events = [
        (7, "SecureBoot", vec![1; 32]),
        (4, "program", vec![2; 32]),
        (7, "PK", vec![3; 32]),
    ];
    let log = room.path().join("eventlog");
    fs::write(&log, event_log::write(events)).unwrap();
    let log = format!("--secure-boot-log={}", log.display());
    let said = json_of(&[&esp, "--uki=EFI/Linux/a.efi", &log]);
    let mut value = Bank::Sha256.zero();
    for digest in [[1; 32], [3; 32]] {
        value = value.extended(Bank::Sha256, &Hash::from_bytes(&digest));
    }
    let banks = &said["points"]["after-stub"];
    assert_eq!(banks.as_object().unwrap().len(), 1, "{banks}");
    assert_eq!(banks["sha256"]["7"], value.to_string());
    let separator = Bank::Sha256.hash(&[b"os-separator"]);
    value = value.extended(Bank::Sha256, &separator);
    for moment in ["os-separator", "ready"] {
        assert_eq!(said["points"][moment]["sha256"]["7"], value.to_string());
    }

    let refused = predict(&[&esp, "--uki=EFI/Linux/a.efi", &log, "--bank=sha384"]);
    assert_eq!(
        text(&refused.stderr),
        "error: the event log has no bank sha384\n"
    );
    assert_eq!(refused.status.code(), Some(1));
}

#[test]
fn a_planned_change_is_measured_as_if_it_were_made() {
    let (room, esp) = room();
    let write = |path: &str, content: &[u8]| {
        let path = room.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write("new/two.cred", b"another two");
    write("new/f.sysext.raw", b"feature");
    let uki = "--uki=EFI/Linux/a.efi";
    let before = json_of(&[&esp, uki]);
    let new = |name: &str| format!("--place={}", room.path().join("new").join(name).display());
    let (two, feature) = (new("two.cred"), new("f.sysext.raw"));
    let planned = json_of(&[&esp, uki, &two, &feature, "--remove=one.cred"]);
    assert_eq!(json_of(&[&esp, uki]), before);

    let own = room.path().join("EFI/Linux/a.efi.extra.d");
    fs::remove_file(own.join("one.cred")).unwrap();
    for name in ["two.cred", "f.sysext.raw"] {
        fs::copy(room.path().join("new").join(name), own.join(name)).unwrap();
    }
    assert_eq!(json_of(&[&esp, uki]), planned);
}

/// One variant for what is, one for what is planned; of the same measurements it is the same file.
#[test]
fn components_of_pcrlock_have_a_variant_for_each_boot() {
    let (room, esp) = room();
    let path = |name: &str| room.path().join(name);
    fs::write(path("f.sysext.raw"), b"feature").unwrap();
    let uki = "--uki=EFI/Linux/a.efi";
    let output = format!("--output={}", path("pcrlock.d").display());
    let place = format!("--place={}", path("f.sysext.raw").display());
    let (now, then) = (json_of(&[&esp, uki]), json_of(&[&esp, uki, &place]));
    let digits = |said: &Value, pcr: &str| {
        let value = &said["points"]["after-stub"]["sha256"][pcr];
        value.as_str().unwrap()[..16].to_owned()
    };
    let mut expected = Vec::new();
    for (component, pcr) in [("655-ukikit-pcr12", "12"), ("656-ukikit-pcr13", "13")] {
        for said in [&now, &then] {
            let file = format!("EFI-Linux-a.efi-{}.pcrlock", digits(said, pcr));
            expected.push(format!("{component}.pcrlock.d/{file}"));
        }
    }
    expected.sort();
    expected.dedup();
    assert_eq!(expected.len(), 3);
    for _ in 0..2 {
        let made = predict(&[&esp, uki, "--format=pcrlock", &output, &place]);
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
        assert_eq!(files_below(&path("pcrlock.d")), expected);
    }

    let records = |said: &Value, pcr: u64| -> Value {
        let events = said["events"].as_array().unwrap().iter();
        let records = events.filter(|event| event["pcr"] == pcr).map(|event| {
            let digests = event["digests"].as_object().unwrap().iter();
            let digests = digests.map(|(bank, hash)| json!({"hashAlg": bank, "digest": hash}));
            json!({"pcr": pcr, "digests": digests.collect::<Vec<_>>()})
        });
        json!({"records": records.collect::<Vec<_>>()})
    };
    for (said, component, pcr) in [
        (&now, "655-ukikit-pcr12", 12),
        (&now, "656-ukikit-pcr13", 13),
        (&then, "656-ukikit-pcr13", 13),
    ] {
        let file = format!("EFI-Linux-a.efi-{}.pcrlock", digits(said, &pcr.to_string()));
        let file = path("pcrlock.d")
            .join(format!("{component}.pcrlock.d"))
            .join(file);
        let written: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let sorted = |mut value: Value| {
            for record in value["records"].as_array_mut().unwrap() {
                let digests = record["digests"].as_array_mut().unwrap();
                digests.sort_by_key(|digest| digest["hashAlg"].as_str().unwrap().to_owned());
            }
            value
        };
        assert_eq!(sorted(written), sorted(records(said, pcr)));
    }
    assert_eq!(
        predict(&[&esp, uki, "--format=pcrlock"]).status.code(),
        Some(2)
    );
}

/// What systemd-pcrlock has locked stays open only if it covers what the next boot measures.
#[test]
fn placing_warns_of_a_policy_that_does_not_cover_it() {
    let (room, esp) = room();
    let path = |name: &str| room.path().join(name).display().to_string();
    fs::copy(
        vector("creds/cred/262-null-one.cred"),
        path("one.byte.cred"),
    )
    .unwrap();
    let uki = "--uki=EFI/Linux/a.efi";
    let place = |policy: &Value| {
        fs::write(path("pcrlock.json"), policy.to_string()).unwrap();
        let policy = format!("--tpm2-pcrlock={}", path("pcrlock.json"));
        let mut place = ukikit();
        place.args(["esp", "place", "--force", "--dry-run", &esp, uki]);
        let output = place
            .arg(policy)
            .arg(path("one.byte.cred"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let planned = json_of(&[&esp, uki, &format!("--place={}", path("one.byte.cred"))]);
    let value = &planned["points"]["os-separator"]["sha256"]["12"];
    let zero = "00".repeat(32);
    let covering = |values: Value| json!({"pcrBank": "sha256", "pcrValues": [{"pcr": 12, "values": values}, {"pcr": 7, "values": [zero]}], "nvIndex": 1});
    assert_eq!(place(&covering(json!([zero, value]))), "");
    assert_eq!(
        place(&covering(json!([zero]))),
        format!(
            "warning: `EFI/Linux/a.efi` will have a PCR 12 that `{}` does not cover: before the reboot run ukikit predict \
             --format=pcrlock --output=/var/lib/pcrlock.d for it, and systemd-pcrlock make-policy\n",
            path("pcrlock.json")
        )
    );
}

/// The files in the directories of a directory, sorted.
fn files_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for inner in fs::read_dir(directory).unwrap() {
        let inner = inner.unwrap();
        for file in fs::read_dir(inner.path()).unwrap() {
            let (directory, file) = (inner.file_name(), file.unwrap().file_name());
            found.push(format!("{}/{}", directory.display(), file.display()));
        }
    }
    found.sort();
    found
}

#[test]
fn what_cannot_be_predicted_is_said() {
    let (room, esp) = room();
    let path = room.path().display().to_string();
    fs::write(room.path().join("EFI/Linux/bad.efi"), "MZ").unwrap();
    fs::write(room.path().join("linux.conf"), "linux /vmlinuz\n").unwrap();
    for (arguments, expected) in [
        (vec!["--uki=EFI/Linux/bad.efi"], "error: cannot use `EFI/Linux/bad.efi`: at byte 0: this is not a PE file\n".to_owned()),
        (
            vec!["--uki=EFI/Linux/a.efi", "--profile=3"],
            "error: cannot use `EFI/Linux/a.efi`: the UKI has no profile 3, only 1 counted from 0\n".into(),
        ),
        (vec!["--entry=linux.conf"], "error: `linux.conf` starts no UKI: it has no line `uki`\n".into()),
        (
            vec!["--entry=nowhere.conf"],
            "error: cannot read `nowhere.conf`: No such file or directory\n".into(),
        ),
        (
            vec!["--uki=EFI/Linux/a.efi", "--diff=/dev/null"],
            "error: cannot read `/dev/null`: at byte 0: this is not an event log of the TCG's crypto agile form\n".into(),
        ),
    ] {
        let output = predict(&[&[esp.as_str()], &arguments[..]].concat());
        assert_eq!(text(&output.stderr), expected);
        assert_eq!(text(&output.stdout), "");
        assert_eq!(output.status.code(), Some(1));
    }
    assert_eq!(predict(&[&esp]).status.code(), Some(2));
    assert!(!path.is_empty());
}
