//! Every credential vector against the library: opened to the recorded plaintext, or refused as systemd 262 refused it.
//!
//! Those sealed to a TPM are opened against its saved state in a software TPM, which must be left as empty as it was.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rand_core::{TryCryptoRng, TryRng, UnwrapErr};
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::swtpm::Swtpm;
use support::{vector, vector_json};
use ukikit_creds::tpm::{self, Tpm, Transport};
use ukikit_creds::{
    Credential, Encoding, EncryptedCredential, Error, HostSecret, Key, Keys, Parent, PcrBank,
    PcrPolicy, PcrSignatures, PolicyKey, PublicArea, Requirements, STORAGE_ROOT_HANDLE, Scope,
    Secret, SignedPolicy, StorageRootKey, Timestamp, TpmBinding,
};

#[test]
fn all_credentials_open() {
    let cases = cases("credentials");
    assert_eq!(cases.len(), 63);
    let opened = each_under_its_tpm(&cases, |case, tpm| {
        let credential = open(case, tpm, &default_arguments(case))
            .unwrap_or_else(|error| panic!("{}: {error}", case["file"]));
        let hash = hex::encode(Sha256::digest(credential.data.expose()));
        assert_eq!(hash, case["sha256_plaintext"], "{}", case["file"]);
        assert_eq!(
            credential.name.as_ref().map(ToString::to_string).as_deref(),
            case["name"].as_str()
        );
        assert_eq!(
            credential.timestamp.map(Timestamp::as_micros),
            case["timestamp_usec"].as_u64()
        );
        assert_eq!(
            credential.not_after.map(Timestamp::as_micros),
            case["not_after_usec"].as_u64()
        );
    });
    assert!(opened == 63 || !software_tpm(), "{opened} of 63");
}

#[test]
fn all_negatives_are_judged_as_systemd_judges_them() {
    let cases = cases("negative");
    assert_eq!(cases.len(), 499);
    let judged = each_under_its_tpm(&cases, |case, tpm| {
        let arguments = case["decrypt_args"].clone();
        let result = open(case, tpm, &arguments);
        let refused = case["refused_by_262"].as_bool().unwrap();
        assert_eq!(
            result.is_err(),
            refused,
            "{} ({}): {:?}",
            case["file"],
            case["what"],
            result.err()
        );
    });
    assert!(judged == 499 || !software_tpm(), "{judged} of 499");
}

#[test]
fn all_text_forms_are_judged_as_systemd_judges_them() {
    let manifest = vector_json("creds/manifest.json");
    let cases = manifest["armour"].as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let file = read(case["file"].as_str().unwrap());
        let parsed = EncryptedCredential::parse(&file, Encoding::Base64);
        assert_eq!(
            parsed.is_ok(),
            case["accepted_by_262"].as_bool().unwrap(),
            "{}: {parsed:?}",
            case["file"]
        );
    }
}

#[test]
fn golden_examples_come_out_byte_for_byte() {
    let golden = vector_json("creds/golden.json");
    let examples: Vec<&Value> = golden["examples"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|example| example["file"].is_string())
        .collect();
    assert_eq!(examples.len(), 9);
    for example in examples {
        let ours = encrypt_golden(example);
        let theirs =
            EncryptedCredential::parse(&read(example["file"].as_str().unwrap()), Encoding::Base64)
                .unwrap();
        assert_eq!(
            hex::encode(ours.as_bytes()),
            hex::encode(theirs.as_bytes()),
            "{}",
            example["what"]
        );
    }
}

#[test]
fn text_is_wrapped_as_systemd_wraps_it() {
    for case in cases("credentials") {
        let file = read(case["file"].as_str().unwrap());
        let parsed = EncryptedCredential::parse(&file, Encoding::Base64).unwrap();
        assert_eq!(
            parsed.to_text(ukikit_creds::LINE).as_bytes(),
            file,
            "{}",
            case["file"]
        );
    }
}

#[test]
fn headers_show_what_the_manifest_records() {
    for case in cases("credentials") {
        let parsed =
            EncryptedCredential::parse(&read(case["file"].as_str().unwrap()), Encoding::Base64)
                .unwrap();
        let shown = parsed.describe().unwrap();
        assert_eq!(shown.type_id, case["type_id"]);
        assert_eq!(shown.header_size as u64, case["aad_size"].as_u64().unwrap());
        if let (Some(tpm), recorded @ Value::Object(_)) = (&shown.tpm, &case["tpm2"]) {
            assert_eq!(
                u64::from(tpm.pcrs.bits()),
                recorded["pcr_mask"].as_u64().unwrap()
            );
            assert_eq!(
                u64::from(tpm.bank.id()),
                recorded["pcr_bank"].as_u64().unwrap()
            );
            assert_eq!(tpm.policy, recorded["policy_hash"]);
        }
    }
}

#[test]
fn a_unix_socket_serves_as_well() {
    if !software_tpm() {
        return support::skip("no swtpm");
    }
    let swtpm = Swtpm::start_unix("a");
    let case = cases("credentials")
        .into_iter()
        .find(|case| case["file"] == "cred/offline-srk-ecc.cred")
        .unwrap();
    let credential = open(&case, Some(&swtpm), &default_arguments(&case)).unwrap();
    assert_eq!(
        hex::encode(Sha256::digest(credential.data.expose())),
        case["sha256_plaintext"]
    );
    assert_eq!(swtpm.leftovers(), Vec::<u32>::new());
}

#[test]
fn a_tpm_tells_its_storage_keys_and_banks() {
    if !software_tpm() {
        return support::skip("no swtpm");
    }
    for state in ["a", "b", "rsa"] {
        let swtpm = Swtpm::start(state);
        let (mut transport, mut rng) = (tpm::open(&swtpm.device()).unwrap(), rng());
        let mut chip = Tpm::new(&mut *transport, &mut rng);
        let key = chip.storage_root_key(STORAGE_ROOT_HANDLE).unwrap().unwrap();
        assert_eq!(key.public, public(&format!("tpm/{state}.srk.pub")));
        assert_eq!(
            chip.storage_root_key(STORAGE_ROOT_HANDLE + 1).unwrap(),
            None
        );
        for algorithm in [ukikit_creds::Algorithm::Ecc, ukikit_creds::Algorithm::Rsa] {
            assert_eq!(
                chip.legacy_parent(algorithm).unwrap(),
                public(&format!("tpm/{state}.legacy-{algorithm}.pub"))
            );
        }
        assert_eq!(chip.banks().unwrap().first(), Some(&PcrBank::Sha256));
        // A swtpm serves one client at a time.
        drop(transport);
        assert_eq!(swtpm.leftovers(), Vec::<u32>::new(), "{state}");
    }
}

#[test]
fn a_busy_tpm_is_asked_again() {
    for code in [0x922, 0x908, 0x90a] {
        let answers = |_: usize, attempt: usize| (attempt < 2).then_some(code);
        let Some((result, leftovers)) = open_through(answers) else {
            return support::skip("no swtpm");
        };
        assert_eq!(
            result.unwrap().data.expose(),
            read("plain/hello"),
            "{code:#x}"
        );
        assert_eq!(leftovers, Vec::<u32>::new(), "{code:#x}");
    }
}

#[test]
fn a_tpm_that_fails_half_way_is_left_empty() {
    const FAILURE: u32 = 0x101;
    for failing in 0.. {
        let answers = |command: usize, _: usize| (command == failing).then_some(FAILURE);
        let Some((result, leftovers)) = open_through(answers) else {
            return support::skip("no swtpm");
        };
        assert_eq!(leftovers, Vec::<u32>::new(), "failure at command {failing}");
        match result {
            Err(Error::Tpm { code, .. }) => assert_eq!(code.value(), FAILURE),
            Err(error) => panic!("command {failing}: {error}"),
            // Import, Load, StartAuthSession; five for the signed policy; PolicyPCR, PolicyGetDigest, Unseal.
            Ok(_) => return assert_eq!(failing, 11),
        }
    }
}

#[test]
fn a_lockout_says_so() {
    let Some((result, _)) = open_through(|_, _| Some(0x921)) else {
        return support::skip("no swtpm");
    };
    assert!(matches!(result, Err(Error::Lockout)), "{result:?}");
}

/// Opens a credential with signed and literal PCRs through a transport that answers some commands itself.
fn open_through(
    answers: impl Fn(usize, usize) -> Option<u32>,
) -> Option<(Result<Credential, Error>, Vec<u32>)> {
    if !software_tpm() {
        return None;
    }
    let mut cases = cases("credentials").into_iter();
    let case = cases
        .find(|case| case["file"] == "cred/offline-srk-pk-pcr7.cred")
        .unwrap();
    let swtpm = Swtpm::start("a");
    swtpm.extend_profile(case["pcr_profile"].as_str().unwrap());
    let file = EncryptedCredential::parse(&read("cred/offline-srk-pk-pcr7.cred"), Encoding::Base64)
        .unwrap();
    let signatures = PcrSignatures::from_json(&read("keys/pk1-signature.json")).unwrap();
    let result = {
        let inner = tpm::open(&swtpm.device()).unwrap();
        let mut transport = Interfering {
            inner,
            answers,
            command: 0,
            attempt: 0,
        };
        let mut rng = rng();
        let mut keys = Keys {
            tpm: Some(Tpm::new(&mut transport, &mut rng)),
            signatures: Some(&signatures),
            ..Keys::default()
        };
        file.decrypt(
            &mut keys,
            &requirements(&case, &default_arguments(&case)).unwrap(),
        )
    };
    Some((result, swtpm.leftovers()))
}

/// Stands between us and a TPM and answers some commands itself, by their number and how often they were sent.
struct Interfering<A> {
    inner: Box<dyn Transport>,
    answers: A,
    command: usize,
    attempt: usize,
}

impl<A: Fn(usize, usize) -> Option<u32>> Transport for Interfering<A> {
    fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        const FLUSH_CONTEXT: [u8; 4] = [0, 0, 1, 0x65];
        if command[6..10] == FLUSH_CONTEXT {
            return self.inner.transact(command);
        }
        let answer = (self.answers)(self.command, self.attempt);
        match answer {
            Some(code) => {
                let again = matches!(code, 0x922 | 0x908 | 0x90a);
                (self.command, self.attempt) = if again {
                    (self.command, self.attempt + 1)
                } else {
                    (self.command + 1, 0)
                };
                Ok([&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat())
            }
            None => {
                (self.command, self.attempt) = (self.command + 1, 0);
                self.inner.transact(command)
            }
        }
    }
}

/// Runs `check` on each case with a TPM in the state it wants, started once for all cases that share it.
/// Returns how many ran: without swtpm those that need a TPM are left out aloud.
fn each_under_its_tpm(cases: &[Value], check: impl Fn(&Value, Option<&Swtpm>)) -> usize {
    let mut groups: BTreeMap<Option<(&str, &str)>, Vec<&Value>> = BTreeMap::new();
    for case in cases {
        let state = case["tpm"]
            .as_str()
            .map(|state| (state, case["pcr_profile"].as_str().unwrap_or("zero")));
        groups.entry(state).or_default().push(case);
    }
    let mut done = 0;
    for (state, cases) in groups {
        if state.is_some() && !software_tpm() {
            support::skip("no swtpm: credentials sealed to a TPM");
            continue;
        }
        let swtpm = state.map(|(state, profile)| {
            let swtpm = Swtpm::start(state);
            swtpm.extend_profile(profile);
            swtpm
        });
        for case in cases {
            check(case, swtpm.as_ref());
            done += 1;
            if let Some(swtpm) = &swtpm {
                assert_eq!(swtpm.leftovers(), Vec::<u32>::new(), "{}", case["file"]);
            }
        }
    }
    done
}

fn open(case: &Value, swtpm: Option<&Swtpm>, arguments: &Value) -> Result<Credential, Error> {
    let file = EncryptedCredential::parse(&read(case["file"].as_str().unwrap()), Encoding::Base64)?;
    let machine = machine(case);
    let host = host_secret(machine["host_key"].as_str().unwrap());
    let signatures = case["pubkey"].as_str().map(|key| {
        let manifest = vector_json("creds/manifest.json");
        PcrSignatures::from_json(&read(
            manifest["pubkeys"][key]["signature"].as_str().unwrap(),
        ))
        .unwrap()
    });
    let mut transport = swtpm.map(|swtpm| tpm::open(&swtpm.device()).unwrap());
    let mut rng = rng();
    let tpm = transport
        .as_mut()
        .map(|transport| Tpm::new(&mut **transport, &mut rng));
    let mut keys = Keys {
        host: Some(&host),
        tpm,
        signatures: signatures.as_ref(),
    };
    file.decrypt(&mut keys, &requirements(case, arguments)?)
}

fn requirements(case: &Value, arguments: &Value) -> Result<Requirements, Error> {
    let off = |variable: &str| case["env"][variable] == "0";
    let mut want = Requirements::any();
    if !off("SYSTEMD_CREDENTIAL_VALIDATE_NAME") {
        want.name = arguments["name"].as_str().map(str::parse).transpose()?;
    }
    if !off("SYSTEMD_CREDENTIAL_VALIDATE_NOT_AFTER") {
        let seconds: Option<u64> = arguments["timestamp"]
            .as_str()
            .map(|text| text.trim_start_matches('@').parse().unwrap());
        want.now = seconds.map(|seconds| Timestamp::from_micros(seconds * 1_000_000));
    }
    want.allow_null = arguments["refuse-null"] != true;
    if let Some(uid) = case["uid"].as_u64() {
        let machine = machine(case);
        // A user the machine does not know is refused before anything is opened.
        let user = machine["users"][uid.to_string()]
            .as_str()
            .ok_or(Error::Scoped)?;
        let machine_id = machine["machine_id"].as_str().unwrap().parse()?;
        want.scope = Some(Scope {
            uid: uid.try_into().unwrap(),
            user: user.to_owned(),
            machine_id,
        });
    }
    Ok(want)
}

fn default_arguments(case: &Value) -> Value {
    serde_json::json!({ "name": case["name"], "timestamp": "@1700000100" })
}

fn encrypt_golden(example: &Value) -> EncryptedCredential {
    let micros = |member: &str| example[member].as_u64().map(Timestamp::from_micros);
    let name = example["name"]
        .as_str()
        .filter(|name| !name.is_empty())
        .map(|name| name.parse().unwrap());
    let mut credential = Credential::new(
        name,
        micros("timestamp_usec").unwrap(),
        Secret::new(bytes(example, "plaintext_hex")),
    );
    credential.not_after = micros("not_after_usec");
    if let scope @ Value::Object(_) = &example["scope"] {
        credential.scope = Some(Scope {
            uid: scope["uid"].as_u64().unwrap().try_into().unwrap(),
            user: scope["user"].as_str().unwrap().to_owned(),
            machine_id: scope["machine_id"].as_str().unwrap().parse().unwrap(),
        });
    }
    let host = example["host_key"].as_str().map(host_secret);
    let binding = example["parent_public"]
        .as_str()
        .map(|parent| golden_binding(example, public(parent)));
    let key = match (&host, &binding) {
        (None, None) => Key::Null,
        (Some(host), None) => Key::Host(host),
        (None, Some(binding)) => Key::Tpm(binding),
        (Some(host), Some(binding)) => Key::HostAndTpm(host, binding),
    };
    let recorded = [
        "secret_hex",
        "ephemeral_private_hex",
        "obfuscation_hex",
        "iv_hex",
    ];
    let recorded = recorded
        .iter()
        .filter(|member| example[**member].is_string())
        .flat_map(|member| bytes(example, member))
        .collect();
    credential.encrypt(&key, &mut Recorded(recorded)).unwrap()
}

fn golden_binding(example: &Value, public: PublicArea) -> TpmBinding {
    let mut policy = PcrPolicy::default();
    if let Some(key) = example["pubkey"].as_str() {
        let key = PolicyKey::from_pem(&read(&format!("keys/{key}.pem"))).unwrap();
        policy.signed = Some(SignedPolicy {
            key,
            pcrs: "11".parse().unwrap(),
        });
    } else if example["pcr_selection_hex"].is_string() {
        assert_eq!(example["pcr_profile"], "zero");
        policy.literal.insert(7, vec![0; 32]);
    }
    let parent = match example["type"].as_str().unwrap().contains("srk") {
        true => Parent::StorageRootKey(StorageRootKey {
            handle: STORAGE_ROOT_HANDLE,
            public,
        }),
        false => Parent::Legacy(public),
    };
    TpmBinding { parent, policy }
}

fn cases(member: &str) -> Vec<Value> {
    vector_json("creds/manifest.json")[member]
        .as_array()
        .unwrap()
        .clone()
}

fn machine(case: &Value) -> Value {
    vector_json("creds/manifest.json")["machines"][case["machine"].as_str().unwrap()].clone()
}

fn read(file: &str) -> Vec<u8> {
    fs::read(vector(&format!("creds/{file}"))).unwrap()
}

fn bytes(value: &Value, member: &str) -> Vec<u8> {
    hex::decode(value[member].as_str().unwrap()).unwrap()
}

fn public(file: &str) -> PublicArea {
    PublicArea::from_sized(&read(file)).unwrap()
}

/// A host secret of the vectors, in a file with the mode that git does not keep.
fn host_secret(file: &str) -> HostSecret {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("credential.secret");
    fs::write(&path, read(file)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    HostSecret::read(&path, None).unwrap()
}

fn software_tpm() -> bool {
    ["/usr/bin/swtpm", "/usr/local/bin/swtpm"]
        .iter()
        .any(|path| Path::new(path).exists())
}

fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

/// Gives out the bytes recorded when a file was made, and nothing more.
struct Recorded(Vec<u8>);

impl TryRng for Recorded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("nothing here draws single numbers")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("nothing here draws single numbers")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        let rest = self.0.split_off(bytes.len());
        bytes.copy_from_slice(&self.0);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for Recorded {}
