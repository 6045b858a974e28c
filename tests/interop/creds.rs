//! Credentials between this project and the real systemd-creds, 262 and 257, in both directions, over a software TPM.

#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod banks;
mod cases;
mod predicted;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use cases::{Case, Reason, cases, systemd_keys};
use sha2::{Digest, Sha256};
use support::swtpm::Swtpm;
use support::systemd::{Room, Systemd};
use support::{succeed, text, ukikit, vector, vector_json};
use tempfile::TempDir;

const PLAINTEXT: &[u8] = b"hello from outside\n";
const NAME: &str = "hello";
const PROFILE: &str = "p1";

/// Both systemd versions and ukikit as the machine `m1` of the vectors, one TPM, and a place for our files.
struct Bench {
    tpm: Swtpm,
    systemds: Vec<(u32, Room)>,
    place: TempDir,
}

#[test]
fn systemd_decrypts_what_we_encrypt() {
    for state in ["a", "rsa"] {
        let Some(bench) = Bench::new(state) else {
            return;
        };
        for case in cases().filter(|case| state == "a" || case.is_plain()) {
            let local = bench.device();
            let credential = bench.encrypt(&case, &[local]);
            bench.tpm.assert_tidy(&case);
            bench.assert_systemd_decrypts(&case, &credential);
        }
    }
}

/// The TPM is gone while the credential is made: its public identity is enough.
#[test]
fn systemd_decrypts_what_we_seal_for_an_identity() {
    for state in ["a", "rsa"] {
        let Some(mut bench) = Bench::new(state) else {
            return;
        };
        let identity = bench.write_identity();
        for case in cases().filter(|case| case.uses_tpm() && (state == "a" || case.is_plain())) {
            let offline = Case {
                pcrs: offline_pcrs(&case.pcrs),
                ..case.clone()
            };
            let credential = bench.encrypt(&offline, &[format!("--for={}", identity.display())]);
            bench.restart(state);
            bench.assert_systemd_decrypts(&case, &credential);
        }
    }
}

#[test]
fn we_decrypt_what_systemd_encrypts() {
    for state in ["a", "rsa"] {
        let Some(bench) = Bench::new(state) else {
            return;
        };
        for (version, room) in &bench.systemds {
            for case in systemd_keys(*version).filter(|case| state == "a" || case.is_plain()) {
                let output = bench.systemd_encrypt(room, &case);
                let credential =
                    succeed(&format!("systemd-creds {version} encrypt, {case}"), output);
                let ours = bench.decrypt(&case, &credential, &[bench.device()]);
                assert_eq!(
                    succeed(&format!("decrypt what {version} made, {case}"), ours),
                    PLAINTEXT
                );
                bench.tpm.assert_tidy(&case);
            }
        }
    }
}

#[test]
fn a_unix_socket_serves_as_well() {
    let Some(mut bench) = Bench::new("a") else {
        return;
    };
    bench.tpm = Swtpm::start_unix("a");
    bench.tpm.extend_profile(PROFILE);
    for case in cases().filter(Case::uses_tpm) {
        let credential = bench.encrypt(&case, &[bench.device()]);
        let ours = bench.decrypt(&case, &credential, &[bench.device()]);
        assert_eq!(succeed(&format!("decrypt, {case}"), ours), PLAINTEXT);
        bench.tpm.assert_tidy(&case);
    }
}

/// Each on both sides: another TPM, other PCR values, too late. And nothing stays behind in the TPM.
#[test]
fn both_sides_refuse_what_does_not_fit() {
    let Some(mut bench) = Bench::new("a") else {
        return;
    };
    let late = ["--timestamp=@1700000100", "--not-after=@1700000200"].map(str::to_owned);
    for pinned in [true, false] {
        let bound = Case {
            pcrs: "7".into(),
            ..Case::new("tpm2", pinned)
        };
        let signed = Case::new("tpm2-with-public-key", pinned);
        let credentials =
            [bound, signed].map(|case| (bench.encrypt(&case, &[bench.device()]), case));
        let mut arguments = vec![bench.device()];
        arguments.extend(late.clone());
        let expiring = Case::new("tpm2", pinned);
        let expiring = (bench.encrypt(&expiring, &arguments), expiring);

        bench.tpm = Swtpm::start("b");
        bench.tpm.extend_profile(PROFILE);
        let [(bound, bound_case), (signed, signed_case)] = &credentials;
        for (credential, case) in &credentials {
            bench.assert_refused(case, credential, Reason::OtherTpm, None);
        }
        bench.restart("a");
        bench.tpm.extend_profile(PROFILE);
        bench.assert_refused(bound_case, bound, Reason::PcrValues, None);
        bench.assert_refused(signed_case, signed, Reason::Signature, None);
        bench.restart("a");
        let (expiring, case) = &expiring;
        let time = Some("--timestamp=@1700000300");
        bench.assert_refused(case, expiring, Reason::Expired, time);
    }
}

/// What systemd sealed to one TPM, encrypted anew for another that is not there: the real systemd on that one opens it.
#[test]
fn systemd_decrypts_what_was_encrypted_anew() {
    let Some(mut bench) = Bench::new("b") else {
        return;
    };
    let identity = bench.write_identity();
    bench.restart("a");
    for case in [
        Case::new("tpm2", true),
        Case::new("tpm2", false),
        Case::new("tpm2-with-public-key", true),
    ] {
        let theirs = bench.systemd_encrypt(&bench.systemds[usize::from(!case.pinned)].1, &case);
        fs::write(
            bench.path("credential"),
            succeed("systemd-creds encrypt", theirs),
        )
        .unwrap();
        let mut command = ukikit();
        command
            .args(["cred", "reencrypt", "--tpm2-pcrs=", "--for"])
            .arg(&identity);
        command.arg(format!("--from-{}", &bench.device()[2..]));
        if case.uses_public_key() {
            command
                .arg("--from-tpm2-signature")
                .arg(vector("creds/keys/pk1-signature.json"));
        }
        succeed(
            &format!("reencrypt, {case}"),
            command.arg(bench.path("credential")).output().unwrap(),
        );
        bench.tpm.assert_tidy(&case);
        let anew = fs::read(bench.path("credential")).unwrap();
        bench.restart("b");
        bench.assert_systemd_decrypts(&case, &anew);
        bench.restart("a");
    }
}

/// The text of both breaks at the same columns and ends alike, as a file and as a line of a unit.
#[test]
fn our_text_is_laid_out_as_systemds() {
    let Some(bench) = Bench::new("a") else { return };
    let (_, room) = &bench.systemds[0];
    for size in [0, 1, 50, 51, 4096] {
        bench.write_plaintext(&vec![b'x'; size]);
        for unit_line in [false, true] {
            let case = Case::new("host", false);
            let pretty: &[&str] = if unit_line { &["-p"] } else { &[] };
            let ours = succeed(
                "encrypt",
                bench
                    .encrypt_command(&case)
                    .args(pretty)
                    .arg("-")
                    .output()
                    .unwrap(),
            );
            let mut theirs = bench.systemd(room, "encrypt", &case);
            let theirs = succeed(
                "systemd-creds",
                theirs.args(pretty).args(["plain", "-"]).output().unwrap(),
            );
            assert_eq!(
                layout(&ours),
                layout(&theirs),
                "{size} bytes, unit line: {unit_line}"
            );
        }
    }
}

/// A text with every character of Base64 made the same.
fn layout(text: &[u8]) -> String {
    let text = support::text(text);
    let (label, body) = text.split_once(": \\\n").unwrap_or(("", &text));
    let body = body.chars().map(|each| {
        if each.is_ascii_alphanumeric() || "+/".contains(each) {
            'x'
        } else {
            each
        }
    });
    format!("{label}|{}", body.collect::<String>())
}

/// PCR 7 of the profile, spelled with its value: the only extension of a register that began as zeros.
fn offline_pcrs(pcrs: &str) -> String {
    if pcrs.is_empty() {
        return String::new();
    }
    let profile = &vector_json("creds/tpm/pcr-profiles.json")[PROFILE];
    let extension = profile
        .as_array()
        .unwrap()
        .iter()
        .find(|each| each["pcr"] == 7)
        .unwrap();
    let digest = hex::decode(extension["digest"].as_str().unwrap()).unwrap();
    let value = Sha256::new_with_prefix([0; 32])
        .chain_update(digest)
        .finalize();
    format!("7:sha256={}", hex::encode(value))
}

impl Bench {
    /// `None` when there is no systemd to test against.
    fn new(state: &str) -> Option<Self> {
        let systemds =
            [262, 257].map(|version| Some((version, Systemd::find(version)?.machine("m1"))));
        let systemds: Vec<_> = systemds.into_iter().collect::<Option<_>>()?;
        for (_, room) in &systemds {
            room.write("pk1.pem", &fs::read(vector("creds/keys/pk1.pem")).unwrap());
        }
        let place = TempDir::new().unwrap();
        let secret = place.path().join("credential.secret");
        fs::copy(vector("creds/keys/m1.secret"), &secret).unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o400)).unwrap();
        let tpm = Swtpm::start(state);
        tpm.extend_profile(PROFILE);
        let bench = Self {
            tpm,
            systemds,
            place,
        };
        bench.write_plaintext(PLAINTEXT);
        let signature = vector("creds/keys/pk1-signature.json");
        bench.write_signature(&fs::read_to_string(signature).unwrap());
        Some(bench)
    }

    /// A TPM just started again: same keys, PCRs as before, nothing loaded.
    fn restart(&mut self, state: &str) {
        self.tpm = Swtpm::start(state);
        self.tpm.extend_profile(PROFILE);
    }

    fn device(&self) -> String {
        format!("--tpm2-device={}", self.tpm.device())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn write_plaintext(&self, content: &[u8]) {
        fs::write(self.path("plain"), content).unwrap();
        for (_, room) in &self.systemds {
            room.write("plain", content);
        }
    }

    /// The signature file, for both systemds and for us.
    fn write_signature(&self, json: &str) {
        fs::write(self.path("signature.json"), json).unwrap();
        for (_, room) in &self.systemds {
            room.write("signature.json", json.as_bytes());
        }
    }

    /// `ukikit tpm identity`, as the host itself would run it.
    fn write_identity(&self) -> PathBuf {
        let mut command = ukikit();
        command.args([
            "tpm",
            "identity",
            &self.device(),
            "--machine-id",
            &machine_id(),
        ]);
        let identity = succeed("tpm identity", command.output().unwrap());
        self.tpm.assert_tidy(&"tpm identity");
        fs::write(self.path("identity.json"), identity).unwrap();
        self.path("identity.json")
    }

    /// `ukikit cred encrypt`, up to the input file; the output is still to be named.
    fn encrypt_command(&self, case: &Case) -> Command {
        let mut command = ukikit();
        command.args(["cred", "encrypt", "--with-key", case.key, "--name", NAME]);
        command.args(self.identity_arguments(case));
        if case.uses_tpm() {
            command.arg(if case.pinned {
                "--pinned=yes"
            } else {
                "--pinned=no"
            });
            command.arg(format!("--tpm2-pcrs={}", case.pcrs));
        }
        if case.uses_public_key() {
            command
                .arg("--tpm2-public-key")
                .arg(vector("creds/keys/pk1.pem"))
                .arg(format!("--tpm2-public-key-pcrs=11:{}", case.bank));
        }
        command.arg(self.path("plain"));
        command
    }

    fn encrypt(&self, case: &Case, arguments: &[String]) -> Vec<u8> {
        let mut command = self.encrypt_command(case);
        succeed(
            &format!("encrypt, {case}"),
            command.arg("-").args(arguments).output().unwrap(),
        )
    }

    fn decrypt(&self, case: &Case, credential: &[u8], arguments: &[String]) -> Output {
        fs::write(self.path("credential"), credential).unwrap();
        let mut command = ukikit();
        command.args(["cred", "decrypt", "--name", NAME]);
        command.args(self.identity_arguments(case)).args(arguments);
        if case.uses_public_key() {
            command
                .arg("--tpm2-signature")
                .arg(self.path("signature.json"));
        }
        if case.may_be_null() {
            command.arg("--allow-null");
        }
        command
            .arg(self.path("credential"))
            .arg("-")
            .output()
            .unwrap()
    }

    /// Who we pretend to be, for our own command line.
    fn identity_arguments(&self, case: &Case) -> Vec<String> {
        let mut arguments = Vec::new();
        if case.uses_host() {
            arguments.push(format!(
                "--host-secret={}",
                self.path("credential.secret").display()
            ));
            arguments.push(format!("--machine-id={}", machine_id()));
        }
        if case.scoped {
            arguments.extend(["--uid=1001", "--user=vec-tester"].map(str::to_owned));
        }
        arguments
    }

    /// `systemd-creds VERB` in a room, up to the files.
    fn systemd(&self, room: &Room, verb: &str, case: &Case) -> Command {
        let mut command = room.command("systemd-creds");
        command.args(["--name", NAME, &self.device()]);
        if case.scoped {
            command.arg("--uid=1001");
        }
        match verb {
            "decrypt" if case.uses_public_key() => {
                command.arg("--tpm2-signature=/io/signature.json")
            }
            "decrypt" if case.may_be_null() => command.arg("--allow-null"),
            "encrypt" => command.args(case.systemd_arguments()),
            _ => &mut command,
        };
        command.arg(verb);
        command
    }

    fn systemd_encrypt(&self, room: &Room, case: &Case) -> Output {
        let output = self
            .systemd(room, "encrypt", case)
            .args(["plain", "-"])
            .output()
            .unwrap();
        self.tpm.flush();
        output
    }

    fn systemd_decrypt(
        &self,
        room: &Room,
        case: &Case,
        credential: &[u8],
        arguments: &[&str],
    ) -> Output {
        room.write("credential", credential);
        let output = self
            .systemd(room, "decrypt", case)
            .args(arguments)
            .args(["credential", "-"])
            .output()
            .unwrap();
        self.tpm.flush();
        output
    }

    /// By every version that knows the type: 257 does not know pinned ones.
    fn assert_systemd_decrypts(&self, case: &Case, credential: &[u8]) {
        for (version, room) in &self.systemds {
            if *version == 257 && case.pinned {
                continue;
            }
            let output = self.systemd_decrypt(room, case, credential, &[]);
            assert_eq!(
                succeed(&format!("systemd-creds {version} decrypt, {case}"), output),
                PLAINTEXT
            );
        }
    }

    /// By every systemd that knows the type, and by us, for the same reason.
    fn assert_refused(
        &self,
        case: &Case,
        credential: &[u8],
        reason: Reason,
        argument: Option<&str>,
    ) {
        for (version, room) in &self.systemds {
            if *version == 257 && case.pinned {
                continue;
            }
            let theirs = self.systemd_decrypt(room, case, credential, argument.as_slice());
            assert!(
                !theirs.status.success(),
                "systemd-creds {version} opens {case}"
            );
            let said = text(&theirs.stderr);
            assert!(said.contains(reason.of_systemd(*version)), "{case}: {said}");
        }
        let mut arguments = vec![self.device()];
        arguments.extend(argument.map(str::to_owned));
        let ours = self.decrypt(case, credential, &arguments);
        let said = text(&ours.stderr);
        assert_eq!(ours.status.code(), Some(1), "{case}: {said}");
        assert_eq!(ours.stdout, b"", "{case}");
        assert!(said.starts_with("error: "), "{said}");
        assert!(said.contains(reason.ours()), "{case}: {said}");
        self.tpm.assert_tidy(case);
    }
}

/// The ID of the machine `m1` of the vectors.
fn machine_id() -> String {
    vector_json("creds/manifest.json")["machines"]["m1"]["machine_id"]
        .as_str()
        .unwrap()
        .to_owned()
}
