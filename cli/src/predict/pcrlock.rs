//! Predictions as components of systemd-pcrlock (systemd.pcrlock(5)): what a boot measures into PCR 12 and 13.
//!
//! ```text
//! 655-ukikit-pcr12.pcrlock.d/UKI-VALUE.pcrlock     one variant for each boot that shall be allowed
//! 656-ukikit-pcr13.pcrlock.d/UKI-VALUE.pcrlock
//! ```
//!
//! PCR 4 and 11 have components of systemd's own, `systemd-pcrlock lock-uki`; nothing is written for them.

use serde::Deserialize;
use serde_json::{Value, json};
use ukikit_esp::Bank;

use super::{Moment, Prediction};

/// Behind the UKI (650), in front of what the kernel measures; a component for each PCR, so that an event unknown to one
/// does not keep systemd-pcrlock from recognising the other.
const COMPONENTS: [(u32, &str); 2] = [
    (12, "655-ukikit-pcr12.pcrlock.d"),
    (13, "656-ukikit-pcr13.pcrlock.d"),
];

/// How many digits of a PCR's value tell its variants apart.
const DIGITS: usize = 16;

/// A variant of a component: what one boot measures into one PCR.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Variant {
    /// The directory of the component, below `/var/lib/pcrlock.d` or its like.
    pub component: &'static str,
    /// The file of the variant; of the same measurements beside the same UKI it is the same.
    pub file_name: String,
    /// The measurements, none perhaps: without a variant that says so the PCR would be left out of policies until something
    /// is measured.
    pub content: Value,
}

/// The variants of a boot of the UKI at this path, one for each component.
pub fn pcrlock(uki: &str, prediction: &Prediction) -> Vec<Variant> {
    let variant = |(pcr, component): (u32, &'static str)| {
        let events = prediction.events.iter().filter(|event| event.pcr == pcr);
        let records = events.map(|event| {
            let digests = event.digests.0.iter();
            let digests = digests
                .map(|(bank, hash)| json!({"hashAlg": bank.as_str(), "digest": hash.to_string()}));
            json!({"pcr": pcr, "digests": digests.collect::<Vec<_>>()})
        });
        Variant {
            component,
            file_name: format!(
                "{}-{}.pcrlock",
                uki.replace('/', "-"),
                value(prediction, pcr)
            ),
            content: json!({"records": records.collect::<Vec<_>>()}),
        }
    };
    COMPONENTS.map(variant).into()
}

fn value(prediction: &Prediction, pcr: u32) -> String {
    let bank = prediction.banks().next();
    let value = bank.and_then(|bank| prediction.value(Moment::AfterStub, bank, pcr));
    let digits = value.map(ToString::to_string).unwrap_or_default();
    digits.chars().take(DIGITS).collect()
}

/// A policy that systemd-pcrlock has made for this machine, as far as it concerns companions: `/var/lib/systemd/pcrlock.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PcrlockPolicy {
    pcr_bank: String,
    pcr_values: Vec<Covered>,
}

#[derive(Debug, Clone, Deserialize)]
struct Covered {
    pcr: u32,
    /// In hexadecimal.
    values: Vec<String>,
}

impl PcrlockPolicy {
    /// Its bank, `None` for one nobody here knows.
    pub fn bank(&self) -> Option<Bank> {
        Bank::ALL
            .into_iter()
            .find(|bank| bank.as_str() == self.pcr_bank)
    }

    /// Those of PCR 12 and 13 that it covers with other values than this boot will have: what is sealed under it stays shut.
    pub fn refused(&self, prediction: &Prediction) -> Vec<u32> {
        let Some(bank) = self.bank() else {
            return Vec::new();
        };
        let refuses = |covered: &&Covered| {
            let moments = [Moment::AfterStub, Moment::OsSeparator];
            let mut values = moments
                .iter()
                .filter_map(|moment| prediction.value(*moment, bank, covered.pcr))
                .map(ToString::to_string);
            COMPONENTS.iter().any(|(pcr, _)| *pcr == covered.pcr)
                && !values.any(|value| covered.values.contains(&value))
        };
        let refused = self.pcr_values.iter().filter(refuses);
        refused.map(|covered| covered.pcr).collect()
    }
}
