//! What a credential is bound to, what that stops, and what will break it: said aloud, since all three are easy to get wrong.

use std::fmt;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ukikit_creds::catalog::{Reader, WellKnown};
use ukikit_creds::{Name, PcrMask, PcrPolicy, PcrValues, SignedPcrWish, SignedPolicy};

use super::file::{Host, Settings};

/// `bind`: there is no default, so nobody is bound, or unbound, by accident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bind {
    /// The TPM alone.
    None,
    /// The TPM, and PCRs with the values given in `tpm2-pcrs`.
    Pcrs,
    /// The TPM, and PCR values signed by `tpm2-public-key`.
    Signed,
    /// All three.
    #[serde(rename = "pcrs+signed")]
    PcrsAndSigned,
}

impl Bind {
    fn uses_pcrs(self) -> bool {
        matches!(self, Self::Pcrs | Self::PcrsAndSigned)
    }

    fn uses_key(self) -> bool {
        matches!(self, Self::Signed | Self::PcrsAndSigned)
    }

    /// Refuses an entry that gives what its own `bind` does not use: somebody expects it to count.
    pub(crate) fn check(self, has_pcrs: bool, has_key: bool) -> Result<()> {
        ensure!(
            self.uses_pcrs() || !has_pcrs,
            "`tpm2-pcrs` is given, and `bind` does not use it"
        );
        ensure!(
            self.uses_key() || !has_key,
            "`tpm2-public-key` is given, and `bind` does not use it"
        );
        Ok(())
    }
}

/// The policy of one credential for one host.
pub(crate) fn policy(settings: &Settings, host: &Host) -> Result<PcrPolicy> {
    let mut policy = PcrPolicy::default();
    let Some(bind) = settings.bind else {
        bail!("it is not said what it is bound to: give `bind`");
    };
    if bind.uses_pcrs() {
        let wish = settings.pcrs.clone().or_else(|| host.pcrs.clone());
        let Some(mut wish) = wish else {
            bail!("it is bound to PCRs: give `tpm2-pcrs`, here or at the host");
        };
        if let Some(path) = &host.pcr_values {
            let taken = read_values(path, Reader::of(&settings.name))
                .and_then(|values| Ok(wish.take_from(&values)?));
            taken.with_context(|| format!("cannot use `{}`", path.display()))?;
        }
        let open = wish.to_read();
        ensure!(
            open.is_empty(),
            "the values of PCR {open} are not known here: give them, as in 7:sha256=HEX"
        );
        policy.bank = wish.bank.unwrap_or(policy.bank);
        let values = wish.values.iter();
        policy.literal = values
            .filter_map(|(pcr, value)| Some((*pcr, value.clone()?)))
            .collect();
    }
    if bind.uses_key() {
        let Some(key) = settings.public_key.clone() else {
            bail!("it is bound to signed PCRs: give `tpm2-public-key`");
        };
        let literal = (!policy.literal.is_empty()).then_some(policy.bank);
        let wish = settings.public_key_pcrs.unwrap_or(SignedPcrWish {
            pcrs: PcrMask::from_bits(1 << KERNEL_BOOT),
            bank: None,
        });
        policy.bank = wish.bank_beside(literal)?.unwrap_or(policy.bank);
        let pcrs = wish.pcrs;
        policy.signed = Some(SignedPolicy { key, pcrs });
    }
    Ok(policy)
}

fn read_values(path: &Path, reader: Reader) -> Result<PcrValues> {
    let json = File::open(path).and_then(|file| crate::read_wiped(file, VALUES_MAX))?;
    Ok(PcrValues::from_json(&json, reader)?)
}

const VALUES_MAX: usize = 1 << 20;

/// PCR 11: what systemd-stub measures of the UKI, and the phases of the boot.
const KERNEL_BOOT: u32 = 11;

/// A policy in words, without its values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    /// What it is bound to.
    pub(crate) bound_to: String,
    /// Who is kept out.
    pub(crate) stops: Vec<&'static str>,
    /// What makes it stop opening.
    pub(crate) breaks: Vec<&'static str>,
}

impl Explanation {
    /// Explains the policy of the credential `name`; who reads it matters for a signed PCR 11.
    pub(crate) fn of(policy: &PcrPolicy, name: &Name) -> Self {
        let mut stops = vec!["opening it with another TPM"];
        let mut breaks = vec!["a replaced or cleared TPM"];
        for (pcr, covered, changed) in MEANING {
            if policy.literal.contains_key(&pcr) {
                stops.push(covered);
                breaks.push(changed);
            }
        }
        if policy
            .literal
            .keys()
            .any(|pcr| MEANING.iter().all(|(known, ..)| known != pcr))
        {
            stops.push("a boot with other values in these PCRs");
            breaks.push("whatever else extends these PCRs");
        }
        if let Some(signed) = &policy.signed {
            stops.push("a kernel image whose PCR values the key's owner has not signed");
            breaks.push("an update of the kernel image without a signature by this key");
            let early = WellKnown::find(name).is_some_and(|known| known.reader != Reader::Service);
            if early && signed.pcrs.bits() & 1 << KERNEL_BOOT != 0 {
                breaks.push("an image signed only for the phases from enter-initrd on, since it is read before that");
            }
        }
        let bound_to = Bound(policy).to_string();
        Self {
            bound_to,
            stops,
            breaks,
        }
    }
}

/// The policy in a few words.
struct Bound<'a>(&'a PcrPolicy);

impl fmt::Display for Bound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(policy) = self;
        match (policy.mask(), &policy.signed) {
            (mask, None) if mask.is_empty() => f.write_str("no PCR"),
            (mask, None) => write!(f, "PCR {mask} ({})", policy.bank),
            (mask, Some(signed)) if mask.is_empty() => {
                write!(f, "signed PCR {} ({})", signed.pcrs, policy.bank)
            }
            (mask, Some(signed)) => write!(
                f,
                "PCR {mask} and signed PCR {} ({})",
                signed.pcrs, policy.bank
            ),
        }
    }
}

/// What binding to the value of a PCR stops, and what changes the value (the TCG's PC Client Platform Firmware Profile,
/// 3.3.4; systemd's table of PCRs).
const MEANING: [(u32, &str, &str); 10] = [
    (0, "a boot with other firmware", "a firmware update"),
    (
        1,
        "a boot with other firmware settings",
        "a change of firmware settings or hardware",
    ),
    (
        2,
        "a boot with other option ROMs",
        "an exchanged or updated extension card",
    ),
    (
        3,
        "a boot with other option ROM settings",
        "a change of extension cards' settings",
    ),
    (
        4,
        "a boot through another boot loader or kernel image",
        "an update of the boot loader or the kernel image",
    ),
    (
        5,
        "a boot from another partition table",
        "a change of the partition table or of boot loader settings",
    ),
    (
        7,
        "a boot with Secure Boot off or under other keys",
        "a change of Secure Boot, its keys, db or dbx, which firmware updates bring along",
    ),
    (
        11,
        "a boot of another kernel image, and reading it in a later phase of the boot",
        "every update of the kernel image",
    ),
    (
        14,
        "a boot under other shim keys",
        "a change of the keys enrolled in shim",
    ),
    (
        15,
        "a boot of another system",
        "a change of the machine ID or of encrypted volumes",
    ),
];
