//! Policies in each bank of PCRs, sealed for a TPM that is not there: by value, by signature, and by both.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rsa::pkcs8::DecodePrivateKey;
use rsa::{Pkcs1v15Sign, RsaPrivateKey};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::cases::{Case, Reason};
use super::support::swtpm::Swtpm;
use super::support::{succeed, vector, vector_json};
use super::{Bench, PLAINTEXT};

const BANKS: [&str; 4] = ["sha1", "sha256", "sha384", "sha512"];

#[test]
fn systemd_decrypts_what_is_bound_in_any_bank() {
    let Some(mut bench) = Bench::new("a") else {
        return;
    };
    let identity = format!("--for={}", bench.write_identity().display());
    for bank in BANKS {
        let [literal, signed] = [7, 11].map(|pcr| extended(bank, &measured(bank, pcr)));
        bench.write_signature(&signature(bank, &signed));
        for case in cases(bank, &hex::encode(&literal)) {
            let credential = bench.encrypt(&case, std::slice::from_ref(&identity));
            bench.tpm = tpm_with(bank, true);
            bench.assert_systemd_decrypts(&case, &credential);
            let ours = bench.decrypt(&case, &credential, &[bench.device()]);
            assert_eq!(succeed(&format!("decrypt, {case}"), ours), PLAINTEXT);
            bench.tpm = tpm_with(bank, false);
            // The signature is looked for first.
            let reason = match case.uses_public_key() {
                true => Reason::Signature,
                false => Reason::PcrValues,
            };
            bench.assert_refused(&case, &credential, reason, None);
        }
    }
}

/// Bound by value, by signature, by both, each pinned and not.
fn cases(bank: &str, literal: &str) -> Vec<Case> {
    let literal = format!("7:{bank}={literal}");
    let policies = [
        ("tpm2", literal.clone()),
        ("tpm2-with-public-key", literal.clone()),
        ("tpm2-with-public-key", String::new()),
    ];
    let both = [true, false];
    let cases = policies.into_iter().flat_map(|(key, pcrs)| {
        both.map(|pinned| Case {
            pcrs: pcrs.clone(),
            bank: bank.to_owned(),
            ..Case::new(key, pinned)
        })
    });
    cases.collect()
}

/// The TPM after the two measurements; or after one more of each, which no policy accepts.
fn tpm_with(bank: &str, as_expected: bool) -> Swtpm {
    let tpm = Swtpm::start("a");
    for pcr in [7, 11] {
        tpm.extend(pcr, bank, &measured(bank, pcr));
        if !as_expected {
            tpm.extend(pcr, bank, &measured(bank, pcr));
        }
    }
    tpm
}

/// What is measured into a PCR.
fn measured(bank: &str, pcr: u32) -> Vec<u8> {
    hash(bank, &pcr.to_be_bytes())
}

/// A register that began as zeros, after one measurement.
fn extended(bank: &str, digest: &[u8]) -> Vec<u8> {
    hash(bank, &[&vec![0; digest.len()], digest].concat())
}

fn hash(bank: &str, data: &[u8]) -> Vec<u8> {
    match bank {
        "sha1" => sha1::Sha1::digest(data).to_vec(),
        "sha256" => Sha256::digest(data).to_vec(),
        "sha384" => Sha384::digest(data).to_vec(),
        _ => Sha512::digest(data).to_vec(),
    }
}

/// `tpm2-pcr-signature.json` for one value of PCR 11, by the key pk1 of the vectors, as systemd-measure writes it.
fn signature(bank: &str, value: &[u8]) -> String {
    let algorithm: [u8; 2] = match bank {
        "sha1" => [0, 0x04],
        "sha256" => [0, 0x0b],
        "sha384" => [0, 0x0c],
        _ => [0, 0x0d],
    };
    // PolicyPCR from zero: the command, a selection of PCR 11, the hash of the value.
    let policy = Sha256::new_with_prefix([0; 32])
        .chain_update([0, 0, 0x01, 0x7f, 0, 0, 0, 1])
        .chain_update(algorithm)
        .chain_update([3, 0, 0x08, 0])
        .chain_update(Sha256::digest(value))
        .finalize();
    let pem = std::fs::read_to_string(vector("creds/keys/pk1.key")).unwrap();
    let key = RsaPrivateKey::from_pkcs8_pem(&pem).unwrap();
    let padding = Pkcs1v15Sign::new::<Sha256>();
    let signed = key.sign(padding, &Sha256::digest(policy)).unwrap();
    let fingerprint = &vector_json("creds/keys/pk1-signature.json")["sha256"][0]["pkfp"];
    let entry = serde_json::json!({
        "pcrs": [11], "pkfp": fingerprint, "pol": hex::encode(policy), "sig": STANDARD.encode(signed),
    });
    serde_json::json!({ bank: [entry] }).to_string()
}
