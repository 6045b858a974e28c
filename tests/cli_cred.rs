//! `ukikit cred` and `ukikit tpm` as a user meets them: exact output, exact errors, nothing half-written.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;
use support::swtpm::Swtpm;
use support::{text, ukikit, vector, vector_json};
use tempfile::TempDir;

const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn null_key_out_and_back() {
    let bench = Bench::new();
    let made = bench.run("cred encrypt --with-key=null in foo.cred");
    assert_eq!(
        said(&made),
        "`foo.cred`: null, base64, for systemd 251 and later\n"
    );
    assert_eq!(bench.mode("foo.cred"), 0o600);
    let opened = bench.run("cred decrypt --allow-null foo.cred");
    assert_eq!(
        (text(&opened.stdout), said(&opened)),
        ("hello".into(), String::new())
    );
}

#[test]
fn host_secret_is_made_once_and_used_again() {
    let bench = Bench::new();
    bench.run("cred encrypt --with-key=host --root=. in a.cred");
    assert_eq!(bench.mode("var/lib/systemd/credential.secret"), 0o400);
    let secret = bench.read("var/lib/systemd/credential.secret");
    assert_eq!(
        (secret.len(), hex::encode(&secret[..16])),
        (4112, "f65a25a6c02a44888e0e49b6adb6b1f9".into())
    );
    bench.run("cred encrypt --with-key=host --root=. in b.cred");
    assert_eq!(bench.read("var/lib/systemd/credential.secret"), secret);
    for file in ["a.cred", "b.cred"] {
        assert_eq!(
            text(&bench.run(&format!("cred decrypt --root=. {file}")).stdout),
            "hello"
        );
    }
}

#[test]
fn scoped_to_a_user() {
    let bench = Bench::new();
    let made = bench.run("cred encrypt --with-key=host --root=. --uid=bob in a.cred");
    assert_eq!(
        said(&made),
        "`a.cred`: host, base64, for systemd 256 and later\n"
    );
    assert_eq!(
        text(&bench.run("cred decrypt --root=. --uid=1001 a.cred").stdout),
        "hello"
    );
    for (arguments, error) in [
        (
            "cred decrypt --root=. a.cred",
            "error: cannot open `a.cred`: the credential is scoped to a user, and no user was given\n\n\
             hint: give --uid=USER, and --machine-id= and --host-secret= for another machine's\n",
        ),
        (
            "cred decrypt --root=. --uid=1002 --user=eve a.cred",
            "error: cannot open `a.cred`: cannot decrypt: the file is damaged or was encrypted with another key\n",
        ),
        (
            "cred decrypt --root=. --uid=eve a.cred",
            "error: `./etc/passwd` has no user \"eve\"\n\n\
             hint: give --uid=NUMBER and --user=NAME as the machine that opens the credential has them\n",
        ),
        (
            "cred encrypt --with-key=tpm2 --root=. --uid=bob in b.cred",
            "error: a credential scoped to a user needs the host secret, and its key is tpm2\n\n\
             hint: give --with-key=host or host+tpm2\n",
        ),
    ] {
        bench.refuses(arguments, error);
    }
}

#[test]
fn bad_input_gets_one_sentence() {
    let bench = Bench::new();
    bench.run("cred encrypt --with-key=null in good.cred");
    bench.run("cred encrypt --with-key=null --encoding=binary in binary.cred");
    bench.run("cred encrypt --with-key=null --timestamp=@100 --not-after=@200 in old.cred");
    bench.write("short.cred", b"AAAA\n");
    bench.write("text.cred", b"no Base64!\n");
    bench.write("large", &vec![0; (1 << 20) + 1]);
    bench.run("cred encrypt --with-key=host --root=. in host.cred");
    for (arguments, error) in [
        (
            "cred decrypt none.cred",
            "error: cannot read `none.cred`: No such file or directory\n",
        ),
        (
            "cred decrypt short.cred",
            "error: `short.cred` is not a credential: at byte 3: the file ends inside the type id, which starts at byte 0\n",
        ),
        (
            "cred decrypt text.cred",
            "error: `text.cred` is not a credential: at byte 9: not a Base64 character\n",
        ),
        (
            "cred decrypt binary.cred",
            "error: `binary.cred` is not a credential: at byte 0: not a Base64 character\n\n\
             hint: it looks like the binary form; read it with --encoding=binary\n",
        ),
        (
            "cred decrypt --refuse-null good.cred",
            "error: cannot open `good.cred`: the credential is encrypted with the null key, which is refused here: it protects nothing\n\n\
             hint: --allow-null takes it all the same\n",
        ),
        (
            "cred decrypt --allow-null --name=other good.cred",
            "error: cannot open `good.cred`: the credential is named \"good\", not \"other\"\n\n\
             hint: open it with --name=good, or with --name= to take any name\n",
        ),
        (
            "cred decrypt --allow-null old.cred",
            "error: cannot open `old.cred`: the credential expired at @200\n\nhint: it was good until 1970-01-01 00:03:20 UTC\n",
        ),
        (
            "cred decrypt --root=. --machine-id=fedcba98765443210fedcba987654321 host.cred",
            "error: the host secret `./var/lib/systemd/credential.secret` belongs to another machine: its machine ID hash is \
             f65a25a6c02a44888e0e49b6adb6b1f9, this machine's is 6fe7756d5f9744c7a7de08a039cdda80\n\n\
             hint: it is left as it is; systemd would delete it. --machine-id= names the machine it belongs to\n",
        ),
        (
            "cred encrypt --with-key=null large out",
            "error: `large` is longer than 1048576 bytes\n",
        ),
        (
            "cred encrypt --with-key=null --timestamp=@5 --not-after=@5 in out",
            "error: the credential's times are not in order: made @5, valid until @5\n",
        ),
        (
            "cred encrypt --with-key=null --not-after=soon in out",
            "error: \"soon\" is not a time such as @1700000000, 2027-01-31 12:00 UTC or +30d\n",
        ),
        (
            "cred encrypt --with-key=null --name=a/b in out",
            "error: \"a/b\" is not a credential name: it contains `/` or `:`\n\nhint: give --name=, the name under which it will be read\n",
        ),
        (
            "cred encrypt --with-key=null in none/out",
            "error: cannot write `none/out`: No such file or directory\n",
        ),
        (
            "cred encrypt --with-key=tpm2 --tpm2-device=tabrmd: in out",
            "error: \"tabrmd:\" is not a TPM device: it is neither a path nor device:PATH nor swtpm:OPTIONS\n\n\
             hint: name the TPM with --tpm2-device=; to seal for another machine's, give --for=IDENTITY\n",
        ),
        (
            "cred encrypt --with-key=tpm2 --pinned=yes --target-systemd=257 in out",
            "error: systemd 257 cannot read a credential of type tpm2, pinned: it takes 262 or later\n\n\
             hint: give --pinned=no for what systemd 255 and later read\n",
        ),
        (
            "cred encrypt --with-key=tpm2 --target-systemd=254 in out",
            "error: systemd 254 cannot read a credential of type tpm2: it takes 255 or later\n\n\
             hint: it cannot import a key sealed outside its TPM: let systemd-creds encrypt on that host\n",
        ),
    ] {
        bench.refuses(arguments, error);
        assert!(!bench.path("out").exists(), "{arguments}");
    }
}

#[test]
fn wrong_usage_is_status_2() {
    let bench = Bench::new();
    for arguments in [
        "cred encrypt in",
        "cred encrypt --with-key=rot13 in out",
        "cred encrypt --tpm2-pcrs=99 in out",
        "cred",
    ] {
        assert_eq!(
            bench.start(arguments, b"").status.code(),
            Some(2),
            "{arguments}"
        );
    }
}

#[test]
fn sealed_for_an_identity_and_opened_by_its_tpm() {
    if !has_swtpm() {
        return support::skip("no swtpm");
    }
    let bench = Bench::new();
    let swtpm = Swtpm::start("a");
    let device = format!("--tpm2-device={}", swtpm.device());
    let identity = bench.run(&format!("tpm identity {device} --root=. host.json"));
    assert_eq!(
        said(&identity),
        "the TPM holds no endorsement certificate: a proof of this identity will not tell it from a software TPM\n"
    );
    let stated: Value = serde_json::from_slice(&bench.read("host.json")).unwrap();
    assert_eq!(stated["schema"], 1);
    assert_eq!(stated["machineId"], MACHINE_ID);
    assert_eq!(stated["name"], "bench");
    assert_eq!(
        stated["storageRootKey"]["name"],
        "000b686bbd18531324905c62361828c3a311771ed6d907dc0482e31882cf948e652b"
    );
    let made = bench.run("cred encrypt --for=host.json --with-key=tpm2 --pinned=yes in a.cred");
    assert_eq!(
        said(&made),
        "`a.cred`: tpm2, pinned, bound to no PCR, base64, for systemd 262 and later\n"
    );
    let zero = "0".repeat(64);
    let made = bench.run(&format!(
        "cred encrypt --for=host.json --with-key=tpm2 --tpm2-pcrs=7:sha256={zero} in b.cred"
    ));
    assert_eq!(
        said(&made),
        "`b.cred`: tpm2, un-pinned, bound to PCR 7 (sha256), base64, for systemd 255 and later\n"
    );
    for file in ["a.cred", "b.cred"] {
        assert_eq!(
            text(&bench.run(&format!("cred decrypt {device} {file}")).stdout),
            "hello"
        );
    }
    swtpm.extend(7, "sha256", &[1; 32]);
    bench.refuses(
        &format!("cred decrypt {device} b.cred"),
        "error: cannot open `b.cred`: the TPM's PCR values differ from those the credential is bound to (PCR 7 by value, sha256 bank)\n",
    );
    bench.refuses(
        "cred encrypt --for=host.json --with-key=tpm2 --tpm2-pcrs=7 in c.cred",
        "error: the values of PCR 7 are not known here\n\nhint: give them, as in --tpm2-pcrs=7:sha256=HEX, or a file of them with --tpm2-pcr-values=\n",
    );
    let other = Swtpm::start("b");
    bench.refuses(
        &format!("cred decrypt --tpm2-device={} a.cred", other.device()),
        "error: cannot open `a.cred`: the credential was sealed to another TPM\n",
    );
    assert_eq!((swtpm.leftovers(), other.leftovers()), (vec![], vec![]));
}

#[test]
fn a_dry_run_says_all_and_writes_nothing() {
    let bench = Bench::new();
    let made = bench.run("cred encrypt --with-key=null --dry-run in foo.cred");
    assert_eq!(
        said(&made),
        "`foo.cred`: null, base64, for systemd 251 and later\n"
    );
    assert!(!bench.path("foo.cred").exists());
}

#[test]
fn a_unit_file_line_is_what_systemd_prints() {
    let bench = Bench::new();
    let made = bench.start("cred encrypt --with-key=null --name=a\\b -p - -", b"hello");
    let line = text(&made.stdout);
    let lines: Vec<&str> = line.lines().collect();
    assert_eq!(lines[0], "SetCredentialEncrypted=a\\\\b: \\");
    assert_eq!(
        (lines[1].len(), &lines[1][..8], &lines[1][77..]),
        (79, "        ", " \\")
    );
    assert_eq!(lines.len(), 3);
}

#[test]
fn inspect_tells_what_shows_without_a_key() {
    let bench = Bench::new();
    let file = vector("creds/cred/offline-srk-pk-pcr7.cred");
    let shown = bench.run(&format!("cred inspect {}", file.display()));
    assert_eq!(
        text(&shown.stdout),
        "Key:               tpm2-with-public-key\n\
         Type:              5e2d5c7603724eaf843c6fb5f64098f5\n\
         Encoding:          base64\n\
         Size:              1034 bytes, 50 of them encrypted\n\
         Scope:             the system\n\
         Readable by:       systemd 262 and later\n\
         Sealed to:         the ecc storage root key at 0x81000001, \
         000b686bbd18531324905c62361828c3a311771ed6d907dc0482e31882cf948e652b\n\
         Sealed by:         arithmetic, for a TPM to import\n\
         PCRs by value:     7 (sha256)\n\
         PCRs by signature: 11 (sha256)\n\
         Signed by:         7301f2f0ef0cda9b32b91319df22e3d1d81a1dfc4199354bba83800ea81971d4\n\
         Policy digest:     POLICY\n"
            .replace("POLICY", &policy_of("cred/offline-srk-pk-pcr7.cred"))
    );
    let json = bench.run(&format!("cred inspect --json=short {}", file.display()));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&json["schema"], &json["tpm"]["signedPcrs"]),
        (&1.into(), &serde_json::json!([11]))
    );
}

/// Every negative vector through the program: refused with status 1, one sentence and no output file, or accepted.
#[test]
fn negatives_leave_nothing_behind() {
    let bench = Bench::new();
    let manifest = vector_json("creds/manifest.json");
    let cases = manifest["negative"].as_array().unwrap();
    let mut groups: BTreeMap<Option<(&str, &str)>, Vec<&Value>> = BTreeMap::new();
    for case in cases {
        let state = case["tpm"]
            .as_str()
            .map(|state| (state, case["pcr_profile"].as_str().unwrap()));
        groups.entry(state).or_default().push(case);
    }
    for (state, cases) in groups {
        if state.is_some() && !has_swtpm() {
            support::skip("no swtpm: negatives sealed to a TPM");
            continue;
        }
        let swtpm = state.map(|(state, profile)| {
            let swtpm = Swtpm::start(state);
            swtpm.extend_profile(profile);
            swtpm
        });
        for case in cases {
            bench.judge(&manifest, case, swtpm.as_ref());
        }
    }
}

/// An empty machine in a directory: `in` holds the plaintext, the rest is what a host has.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        bench.write("in", b"hello");
        fs::create_dir_all(bench.path("etc")).unwrap();
        bench.write("etc/machine-id", format!("{MACHINE_ID}\n").as_bytes());
        bench.write("etc/hostname", b"bench\n");
        bench.write(
            "etc/passwd",
            b"root:x:0:0::/root:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n",
        );
        bench
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.path(file), bytes).unwrap();
    }

    fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.path(file)).unwrap()
    }

    fn mode(&self, file: &str) -> u32 {
        fs::metadata(self.path(file)).unwrap().permissions().mode() & 0o7777
    }

    fn start(&self, arguments: &str, input: &[u8]) -> Output {
        let mut command = ukikit();
        command
            .args(arguments.split_whitespace())
            .current_dir(self.0.path());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that refuses its options never reads its input.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    fn run(&self, arguments: &str) -> Output {
        let output = self.start(arguments, b"");
        assert!(
            output.status.success(),
            "{arguments}: {}",
            text(&output.stderr)
        );
        output
    }

    fn refuses(&self, arguments: &str, error: &str) {
        let output = self.start(arguments, b"");
        assert_eq!(
            (output.status.code(), said(&output).as_str()),
            (Some(1), error),
            "{arguments}"
        );
        assert_eq!(text(&output.stdout), "", "{arguments}");
    }

    fn judge(&self, manifest: &Value, case: &Value, swtpm: Option<&Swtpm>) {
        let machine = &manifest["machines"][case["machine"].as_str().unwrap()];
        let file = case["file"].as_str().unwrap();
        let mut command = ukikit();
        command
            .arg("cred")
            .arg("decrypt")
            .args(decrypt_options(manifest, case));
        command.arg(format!(
            "--host-secret={}",
            self.host_secret(machine).display()
        ));
        command.arg(format!(
            "--machine-id={}",
            machine["machine_id"].as_str().unwrap()
        ));
        command.args(swtpm.map(|swtpm| format!("--tpm2-device={}", swtpm.device())));
        if let Some(variables) = case["env"].as_object() {
            command.envs(
                variables
                    .iter()
                    .map(|(name, value)| (name, value.as_str().unwrap())),
            );
        }
        let out = self.path("opened");
        let output = command
            .arg(vector(&format!("creds/{file}")))
            .arg(&out)
            .output()
            .unwrap();
        let refused = case["refused_by_262"] == true;
        assert_eq!(
            output.status.code(),
            Some(i32::from(refused)),
            "{file} ({}): {}",
            case["what"],
            said(&output)
        );
        assert_eq!(out.exists(), !refused, "{file}");
        if refused {
            let said = said(&output);
            let sentence = said.split("\n\nhint: ").next().unwrap().trim_end();
            assert!(
                sentence.starts_with("error: ") && !sentence.contains('\n'),
                "{file}: {said}"
            );
        } else {
            fs::remove_file(out).unwrap();
        }
    }

    /// A host secret of the vectors with the mode that git does not keep.
    fn host_secret(&self, machine: &Value) -> PathBuf {
        let file = machine["host_key"].as_str().unwrap();
        let path = self.path(Path::new(file).file_name().unwrap().to_str().unwrap());
        if !path.exists() {
            fs::copy(vector(&format!("creds/{file}")), &path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        }
        path
    }
}

fn decrypt_options(manifest: &Value, case: &Value) -> Vec<String> {
    let asked = &case["decrypt_args"];
    let null = if asked["refuse-null"] == true {
        "--refuse-null"
    } else {
        "--allow-null"
    };
    let mut options = vec![
        null.to_owned(),
        format!("--name={}", asked["name"].as_str().unwrap_or_default()),
    ];
    options.extend(
        asked["timestamp"]
            .as_str()
            .map(|time| format!("--timestamp={time}")),
    );
    if let Some(key) = case["pubkey"].as_str() {
        let signature = manifest["pubkeys"][key]["signature"].as_str().unwrap();
        options.push(format!(
            "--tpm2-signature={}",
            vector(&format!("creds/{signature}")).display()
        ));
    }
    if let Some(uid) = case["uid"].as_u64() {
        options.push(format!("--uid={uid}"));
        let users = &manifest["machines"][case["machine"].as_str().unwrap()]["users"];
        options.extend(
            users[uid.to_string()]
                .as_str()
                .map(|user| format!("--user={user}")),
        );
    }
    options
}

fn policy_of(file: &str) -> String {
    let manifest = vector_json("creds/manifest.json");
    let case = manifest["credentials"]
        .as_array()
        .unwrap()
        .iter()
        .find(|case| case["file"] == file)
        .unwrap();
    case["tpm2"]["policy_hash"].as_str().unwrap().to_owned()
}

fn said(output: &Output) -> String {
    text(&output.stderr)
}

fn has_swtpm() -> bool {
    Path::new("/usr/bin/swtpm").exists()
}
