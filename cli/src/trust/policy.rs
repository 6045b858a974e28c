//! The admin's own PCR policy for a vendor's kernel: signatures over the values that PCR 11, and when asked
//! PCR 13, will have, in the file `tpm2-pcr-signature.json` as systemd-measure writes it.
//!
//! ```text
//! UKI ─ sections ─ PCR 11 ─ phase words ─ value of each phase ─ policy digest ─ signature
//! ```

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ukikit_creds::{PcrBank, PcrPolicy, PolicyKey};
use ukikit_esp::{Bank, Boot, Hash};
use ukikit_signing::{KeySource, PrivateKey};

/// What the addon is called, in front of `.addon.efi`.
pub const POLICY_ADDON: &str = "pcr-policy";
/// Where systemd looks for signatures first, also in an initrd.
pub const SIGNATURE_PATH: &str = "etc/systemd/tpm2-pcr-signature.json";

/// What systemd-pcrphase measures into PCR 11, one word after the other. Generators of the initrd run in front
/// of the first.
pub const PHASES: [&str; 4] = ["enter-initrd", "leave-initrd", "sysinit", "ready"];
/// What systemd-pcrosseparator measures into PCR 12 and 13 once the initrd runs.
const SEPARATOR: &[u8] = b"os-separator";

/// One state of a boot that is approved: values by PCR.
pub type State = BTreeMap<u32, Hash>;

/// The states in which a boot is to open credentials: in front of `enter-initrd` and after each phase. With
/// `extensions`, PCR 13 counts too, each state once as the stub leaves it and once behind the separator.
pub fn states(boot: &Boot<'_>, bank: Bank, extensions: bool) -> Vec<State> {
    let of = |pcr: u32| {
        let measured = boot.measurements().iter().filter(|one| one.pcr == pcr);
        measured.fold(bank.zero(), |value, one| {
            value.extended(bank, &bank.hash(&[boot.data(one)]))
        })
    };
    let word = |value: &Hash, word: &[u8]| value.extended(bank, &bank.hash(&[word]));
    let mut kernel = vec![of(11)];
    for phase in PHASES {
        if let Some(last) = kernel.last() {
            kernel.push(word(last, phase.as_bytes()));
        }
    }
    let images = of(13);
    let separated = word(&images, SEPARATOR);
    kernel
        .iter()
        .flat_map(|kernel| {
            let with = |images: &Hash| State::from([(11, kernel.clone()), (13, images.clone())]);
            if extensions {
                vec![with(&images), with(&separated)]
            } else {
                vec![State::from([(11, kernel.clone())])]
            }
        })
        .collect()
}

/// Signatures over states, one object for each, under the name of the bank.
///
/// # Errors
///
/// A key that cannot be used.
pub fn sign(states: &[State], bank: Bank, key: &PrivateKey, public: &PolicyKey) -> Result<Value> {
    let name = bank.to_string();
    let entries = states.iter().map(|state| {
        let policy = policy(state, &name)?;
        let hash = ukikit_signing::Hash::Sha256;
        let signature = key.sign_digest(hash, &hash.digest(&policy))?;
        let pcrs: Vec<u32> = state.keys().copied().collect();
        Ok(json!({
            "pcrs": pcrs,
            "pkfp": public.fingerprint(),
            "pol": hex::encode(policy),
            "sig": STANDARD.encode(signature),
        }))
    });
    let entries = entries.collect::<Result<Vec<Value>>>()?;
    Ok(json!({ name: entries }))
}

/// The digest of a session that has seen these values and nothing else.
fn policy(state: &State, bank: &str) -> Result<[u8; 32]> {
    let bank: PcrBank = bank.parse()?;
    let values = state
        .iter()
        .map(|(pcr, value)| (*pcr, value.as_bytes().to_vec()));
    let policy = PcrPolicy {
        bank,
        literal: values.collect(),
        signed: None,
    };
    Ok(policy.digest()?)
}

/// Puts signatures behind those of another file, each once: the vendor's stay good.
///
/// # Errors
///
/// A file that is not an object of lists.
pub fn merge(into: &mut Value, other: &Value) -> Result<()> {
    let not = "it is not a file of PCR signatures";
    for (bank, entries) in other.as_object().context(not)? {
        let entries = entries.as_array().context(not)?;
        let own = into.as_object_mut().context(not)?;
        let own = own.entry(bank.clone()).or_insert_with(|| json!([]));
        let own = own.as_array_mut().context(not)?;
        for entry in entries {
            if !own.contains(entry) {
                own.push(entry.clone());
            }
        }
    }
    Ok(())
}
