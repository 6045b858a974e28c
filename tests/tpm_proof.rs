//! Proof of identities against software TPMs as a maker would ship them: with endorsement keys and certificates of a CA.
//!
//! `swtpm_setup` makes the TPMs, `swtpm_localca` the CA and the certificates (Debian: swtpm-tools).

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand_core::UnwrapErr;
use serde_json::Value;
use support::swtpm::Swtpm;
use support::{run, skip, succeed, text, ukikit};
use tempfile::TempDir;
use ukikit_creds::tpm::{self, Tpm};

const KINDS: [&str; 2] = ["rsa2048", "p384"];

#[test]
fn real_tpms_prove_their_keys() {
    let Some(bench) = Bench::new() else { return };
    let host = bench.manufacture("host");
    for kind in KINDS {
        bench.identity(&host, kind, "host.json");
        said(&bench.ukikit(&[
            "tpm",
            "challenge",
            "host.json",
            "--output=c",
            "--secret=s",
            "--ca=ca.pem",
        ]));
        succeed("answer", bench.on(&host, &["tpm", "answer", "c", "a"]));
        host.assert_tidy(&"tpm answer");
        let verdict = bench.ukikit(&[
            "tpm",
            "challenge",
            "host.json",
            "--check=a",
            "--secret=s",
            "--ca=ca.pem",
            "--json=short",
        ]);
        let verdict: Value = serde_json::from_slice(&succeed("check", verdict)).unwrap();
        let name = bench.json("host.json")["endorsementKey"]["name"].clone();
        assert_eq!(
            verdict["proven"],
            serde_json::json!(["storageRootKey", "legacyParent"])
        );
        assert_eq!(
            verdict["endorsementKey"],
            format!("{kind} {}", name.as_str().unwrap())
        );
        assert_eq!(
            verdict["certificateIssuers"],
            serde_json::json!(["CN=swtpm-localca", "CN=swtpm-localca-rootca"])
        );
    }
}

/// Makers' P-256 certificates lie in files as a rule; here the CA makes one for the key that the TPM shows.
#[test]
fn a_certificate_from_elsewhere_serves_too() {
    let Some(bench) = Bench::new() else { return };
    let host = bench.manufacture("host");
    bench.identity(&host, "p256", "host.json");
    let without = bench.ukikit(&[
        "tpm",
        "challenge",
        "host.json",
        "--output=c",
        "--secret=s",
        "--ca=ca.pem",
    ]);
    assert_eq!(
        failed(&without),
        "error: `host.json` is not proven: there is no endorsement certificate\n\n\
         hint: the TPM holds none; its maker may offer it for download. Without --ca= the proof goes on, and says less\n"
    );
    let mut identity = bench.json("host.json");
    let certificate = bench.certify_p256(&identity);
    identity["endorsementKey"]["certificate"] = STANDARD.encode(certificate).into();
    bench.write("host.json", &identity.to_string());
    said(&bench.ukikit(&[
        "tpm",
        "challenge",
        "host.json",
        "--output=c",
        "--secret=s",
        "--ca=ca.pem",
    ]));
    succeed("answer", bench.on(&host, &["tpm", "answer", "c", "a"]));
    let verdict = bench.ukikit(&[
        "tpm",
        "challenge",
        "host.json",
        "--check=a",
        "--secret=s",
        "--ca=ca.pem",
    ]);
    let shown = text(&succeed("check", verdict));
    assert!(
        shown.starts_with(
            "proven:          storageRootKey, legacyParent\nendorsement key: p256 000b"
        ),
        "{shown}"
    );
    assert!(
        shown.ends_with("\ncertified by:    CN=swtpm-localca, by CN=swtpm-localca-rootca\n"),
        "{shown}"
    );
}

#[test]
fn forged_identities_are_not_answered() {
    let Some(bench) = Bench::new() else { return };
    let (host, other) = (bench.manufacture("host"), bench.manufacture("other"));
    for kind in KINDS {
        bench.identity(&host, kind, "host.json");
        bench.identity(&other, kind, "other.json");
        let (own, others) = (bench.json("host.json"), bench.json("other.json"));
        for (member, wanted) in [
            (
                "storageRootKey",
                "the `storageRootKey` of the identity is not proven: the TPM refuses the challenge: its key is another one than the identity says, or the challenge was changed on its way",
            ),
            (
                "legacyParent",
                "the `legacyParent` of the identity is not proven: the TPM refuses the challenge: its key is another one than the identity says, or the challenge was changed on its way",
            ),
            (
                "endorsementKey",
                "the `storageRootKey` of the identity is not proven: the TPM refuses the challenge: it was made for another endorsement key than this TPM's",
            ),
        ] {
            let mut forged = own.clone();
            forged[member] = others[member].clone();
            bench.write("forged.json", &forged.to_string());
            said(&bench.ukikit(&[
                "tpm",
                "challenge",
                "forged.json",
                "--output=c",
                "--secret=s",
                "--ca=ca.pem",
            ]));
            let answer = bench.on(&host, &["tpm", "answer", "c", "a"]);
            assert_eq!(failed(&answer), format!("error: {wanted}\n"), "{kind}");
            assert!(!bench.path("a").exists());
            host.assert_tidy(&"tpm answer");
        }
    }
}

#[test]
fn changed_challenges_and_answers_prove_nothing() {
    let Some(bench) = Bench::new() else { return };
    let host = bench.manufacture("host");
    for kind in KINDS {
        bench.identity(&host, kind, "host.json");
        said(&bench.ukikit(&[
            "tpm",
            "challenge",
            "host.json",
            "--output=c",
            "--secret=s",
            "--ca=ca.pem",
        ]));
        for member in ["credential", "seed"] {
            let mut challenge = bench.json("c");
            let place = &mut challenge["keys"][1][member];
            let mut bytes = STANDARD.decode(place.as_str().unwrap()).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            *place = STANDARD.encode(bytes).into();
            bench.write("changed", &challenge.to_string());
            let answer = bench.on(&host, &["tpm", "answer", "changed", "a"]);
            assert_eq!(
                failed(&answer),
                "error: the `legacyParent` of the identity is not proven: the TPM refuses the challenge: its key is another one than the identity says, or the challenge was changed on its way\n"
            );
            host.assert_tidy(&"tpm answer");
        }
        // The answer to one challenge is none to the next.
        succeed("answer", bench.on(&host, &["tpm", "answer", "c", "old"]));
        said(&bench.ukikit(&[
            "tpm",
            "challenge",
            "host.json",
            "--output=c",
            "--secret=s",
            "--ca=ca.pem",
        ]));
        let verdict = bench.ukikit(&[
            "tpm",
            "challenge",
            "host.json",
            "--check=old",
            "--secret=s",
            "--ca=ca.pem",
        ]);
        assert_eq!(
            failed(&verdict),
            "error: the `storageRootKey` of the identity is not proven: the answer's secret is not the one sent\n"
        );
    }
}

#[test]
fn certificates_must_come_from_the_named_ca_for_this_key() {
    let Some(bench) = Bench::new() else { return };
    let (host, other) = (bench.manufacture("host"), bench.manufacture("other"));
    bench.identity(&host, "p384", "host.json");
    bench.identity(&other, "p384", "other.json");
    let challenge = |identity: &str, ca: &str| {
        failed(&bench.ukikit(&["tpm", "challenge", identity, "--output=c", "--secret=s", ca]))
    };
    let mut swapped = bench.json("host.json");
    swapped["endorsementKey"]["certificate"] =
        bench.json("other.json")["endorsementKey"]["certificate"].clone();
    bench.write("swapped.json", &swapped.to_string());
    assert_eq!(
        challenge("swapped.json", "--ca=ca.pem"),
        "error: `swapped.json` is not proven: the endorsement certificate is that of another key\n"
    );
    // A CA of the same name with other keys, and one that has only the upper half of the path.
    let impostor = Bench::new().unwrap();
    impostor.manufacture("host");
    assert_eq!(
        challenge(
            "host.json",
            &format!("--ca={}", impostor.path("ca.pem").display())
        ),
        "error: `host.json` is not proven: the certificate of `CN=unknown` is not signed by the key of `CN=swtpm-localca`\n"
    );
    assert_eq!(
        challenge("host.json", "--ca=ca/swtpm-localca-rootca-cert.pem"),
        "error: `host.json` is not proven: `CN=swtpm-localca`, who issued the certificate of `CN=unknown`, is not among the CAs given\n"
    );
    assert_eq!(
        challenge("host.json", "--ca=ca/issuercert.pem"),
        "error: `host.json` is not proven: `CN=swtpm-localca-rootca`, who issued the certificate of `CN=swtpm-localca`, is not among the CAs given\n"
    );
    assert_eq!(
        challenge("host.json", "--ca=host.json"),
        "error: cannot use `host.json`: it has no certificate in PEM or DER\n"
    );
    assert!(!bench.path("c").exists() && !bench.path("s").exists());
}

/// A directory with a CA and the TPMs it certified; programs run in it.
struct Bench {
    place: TempDir,
}

impl Bench {
    /// `None`, said aloud, where the programs are missing.
    fn new() -> Option<Self> {
        for program in ["swtpm", "swtpm_setup", "swtpm_localca"] {
            if Command::new(program).arg("--version").output().is_err() {
                skip(&format!(
                    "no {program}: certified software TPMs cannot be made (Debian: swtpm-tools)"
                ));
                return None;
            }
        }
        let bench = Self {
            place: TempDir::new().unwrap(),
        };
        let place = bench.place.path().display();
        fs::create_dir(bench.path("ca")).unwrap();
        bench.write(
            "localca.options",
            "--tpm-manufacturer IBM\n--tpm-model swtpm\n--tpm-version 2\n",
        );
        bench.write("localca.conf", &format!("statedir = {place}/ca\nsigningkey = {place}/ca/signkey.pem\nissuercert = {place}/ca/issuercert.pem\ncertserial = {place}/ca/certserial\n"));
        bench.write("setup.conf", &format!("create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {place}/localca.conf\ncreate_certs_tool_options = {place}/localca.options\n"));
        Some(bench)
    }

    /// A TPM with certified endorsement keys and a storage root key, running.
    fn manufacture(&self, name: &str) -> Swtpm {
        fs::create_dir(self.path(name)).unwrap();
        let state = self.path(name).display().to_string();
        let config = self.path("setup.conf").display().to_string();
        run(
            "swtpm_setup",
            [
                "--tpm2",
                "--create-ek-cert",
                "--ecc",
                "--tpmstate",
                &state,
                "--config",
                &config,
            ],
        );
        let halves = ["ca/issuercert.pem", "ca/swtpm-localca-rootca-cert.pem"];
        let path: Vec<String> = halves
            .iter()
            .map(|half| fs::read_to_string(self.path(half)).unwrap())
            .collect();
        self.write("ca.pem", &path.concat());
        let swtpm = Swtpm::start_on(&self.path(name));
        let mut transport = tpm::open(&swtpm.device()).unwrap();
        let mut rng = UnwrapErr(getrandom::SysRng);
        Tpm::new(&mut *transport, &mut rng)
            .create_storage_root_key()
            .unwrap();
        swtpm
    }

    /// Writes the identity of `host` with an endorsement key of this kind.
    fn identity(&self, host: &Swtpm, kind: &str, file: &str) {
        let kind = format!("--endorsement-key={kind}");
        succeed(
            "tpm identity",
            self.on(host, &["tpm", "identity", file, "--root=.", &kind]),
        );
        host.assert_tidy(&"tpm identity");
    }

    /// The certificate of the P-256 endorsement key of an identity, in DER.
    fn certify_p256(&self, identity: &Value) -> Vec<u8> {
        let public = identity["endorsementKey"]["public"].as_str().unwrap();
        let public = STANDARD.decode(public).unwrap();
        // TPM2B_PUBLIC ends with both coordinates, each with its size.
        let tail = &public[public.len() - 68..];
        let point = format!(
            "x={},y={},id=secp256r1",
            hex::encode(&tail[2..34]),
            hex::encode(&tail[36..])
        );
        let config = self.path("localca.conf").display().to_string();
        let options = self.path("localca.options").display().to_string();
        let place = self.place.path().display().to_string();
        run(
            "swtpm_localca",
            [
                "--type",
                "ek",
                "--tpm2",
                "--ek",
                &point,
                "--dir",
                &place,
                "--configfile",
                &config,
                "--optsfile",
                &options,
                "--tpm-spec-family",
                "2.0",
                "--tpm-spec-level",
                "0",
                "--tpm-spec-revision",
                "164",
            ],
        );
        fs::read(self.path("ek.cert")).unwrap()
    }

    fn ukikit(&self, arguments: &[&str]) -> Output {
        ukikit()
            .args(arguments)
            .current_dir(self.place.path())
            .output()
            .unwrap()
    }

    /// The same, with the TPM of `host`.
    fn on(&self, host: &Swtpm, arguments: &[&str]) -> Output {
        let device = format!("--tpm2-device={}", host.device());
        self.ukikit(&[arguments, &[&device]].concat())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(Path::new(name))
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }
}

/// What a program that succeeded said on standard error.
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}

/// What a program that failed, and wrote nothing to standard output, said.
fn failed(output: &Output) -> String {
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(1), String::new())
    );
    text(&output.stderr)
}
