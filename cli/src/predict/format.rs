//! Predictions as other programs take them.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use ukikit_creds::{PcrBank, PcrPolicy, PolicyKey};
use ukikit_esp::Bank;

use super::{Moment, Prediction};

/// The boot phases that `systemd-measure` takes when told none.
const DEFAULT_PATHS: [&str; 4] = [
    "enter-initrd",
    "enter-initrd:leave-initrd",
    "enter-initrd:leave-initrd:sysinit",
    "enter-initrd:leave-initrd:sysinit:ready",
];

/// The moment a path of boot phases ends at; `:` is the state before all of them.
///
/// # Errors
///
/// For a path the boot does not take.
pub fn phase_path(path: &str) -> Result<Moment> {
    let words: Vec<&str> = path.split(':').filter(|word| !word.is_empty()).collect();
    Ok(match words.as_slice() {
        [] => Moment::AfterStub,
        ["enter-initrd"] => Moment::EnterInitrd,
        ["enter-initrd", "leave-initrd"] => Moment::LeaveInitrd,
        ["enter-initrd", "leave-initrd", "sysinit"] => Moment::Sysinit,
        ["enter-initrd", "leave-initrd", "sysinit", "ready"] => Moment::Ready,
        _ => bail!(
            "`{path}` is not how a boot goes: its phases are {}",
            DEFAULT_PATHS[3]
        ),
    })
}

/// What a signer of PCR policies is given, as `systemd-measure policy-digest` writes it: for each bank and phase the digest of
/// the policy over PCR 11, and whose signature it wants. `None` for the key leaves that out.
///
/// # Errors
///
/// For a bad phase, and when the UKI is not there to be measured.
pub fn signature_policy(
    prediction: &Prediction,
    banks: &[Bank],
    phases: &[String],
    key: Option<&PolicyKey>,
) -> Result<Value> {
    let default = DEFAULT_PATHS.map(str::to_owned);
    let phases = if phases.is_empty() { &default } else { phases };
    let moments = phases
        .iter()
        .map(|path| phase_path(path))
        .collect::<Result<Vec<_>>>()?;
    let mut policy = Map::new();
    for &bank in banks {
        let entries = moments
            .iter()
            .map(|&moment| entry(prediction, bank, moment, key))
            .collect::<Result<Vec<_>>>()?;
        policy.insert(bank.to_string(), Value::Array(entries));
    }
    Ok(Value::Object(policy))
}

fn entry(
    prediction: &Prediction,
    bank: Bank,
    moment: Moment,
    key: Option<&PolicyKey>,
) -> Result<Value> {
    let value = prediction
        .value(moment, bank, 11)
        .context("without the UKI there is no PCR 11 to sign for")?;
    let policy = PcrPolicy {
        bank: PcrBank::from_id(bank.id()).context("systemd has no such bank")?,
        literal: [(11, value.as_bytes().to_vec())].into(),
        signed: None,
    };
    let mut entry = Map::new();
    entry.insert("pcrs".into(), json!([11]));
    if let Some(key) = key {
        entry.insert("pkfp".into(), json!(key.fingerprint()));
    }
    let digest = hex::encode(policy.digest()?);
    // What is to be signed is the policy itself while it has no reference (systemd 262: `--policyref=`).
    entry.insert("pol".into(), json!(digest));
    entry.insert("tbs".into(), json!(digest));
    Ok(Value::Object(entry))
}
