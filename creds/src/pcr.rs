//! Platform configuration registers: banks, sets of registers, and how systemd spells them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A bank: the hash its registers are extended with. `Display` and JSON are systemd's spelling, `sha256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PcrBank {
    /// SHA-1
    Sha1,
    /// SHA-256
    Sha256,
    /// SHA-384
    Sha384,
    /// SHA-512
    Sha512,
}

impl PcrBank {
    /// All banks, in the order systemd prefers them.
    pub const ALL: [Self; 4] = [Self::Sha256, Self::Sha384, Self::Sha512, Self::Sha1];

    /// The TCG's algorithm id.
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// The bank with this algorithm id.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.id() == id)
    }

    /// Size of a register in bytes.
    pub const fn digest_size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for PcrBank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        })
    }
}

impl FromStr for PcrBank {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL
            .into_iter()
            .find(|bank| bank.to_string().eq_ignore_ascii_case(text));
        found.ok_or_else(|| Error::Pcr {
            given: text.to_owned(),
            reason: "a bank is sha1, sha256, sha384 or sha512".into(),
        })
    }
}

/// A set of PCRs 0 to 23. `Display` joins them by `+`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PcrMask(u32);

impl PcrMask {
    /// The set with bit n for PCR n; bits above 23 are dropped.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & 0x00ff_ffff)
    }

    /// Bit n is PCR n.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// No PCR at all.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The PCRs in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..24).filter(move |pcr| self.0 & 1 << pcr != 0)
    }

    /// TPML_PCR_SELECTION with this one bank, as commands and policy digests carry it.
    pub(crate) fn selection(self, bank: PcrBank) -> Vec<u8> {
        let [low, middle, high, _] = self.0.to_le_bytes();
        let [bank_high, bank_low] = bank.id().to_be_bytes();
        vec![0, 0, 0, 1, bank_high, bank_low, 3, low, middle, high]
    }
}

impl FromIterator<u32> for PcrMask {
    fn from_iter<I: IntoIterator<Item = u32>>(pcrs: I) -> Self {
        Self::from_bits(
            pcrs.into_iter()
                .filter(|pcr| *pcr < 24)
                .fold(0, |bits, pcr| bits | 1 << pcr),
        )
    }
}

impl fmt::Display for PcrMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pcrs: Vec<String> = self.iter().map(|pcr| pcr.to_string()).collect();
        f.write_str(&pcrs.join("+"))
    }
}

impl FromStr for PcrMask {
    type Err = Error;

    /// Numbers or systemd's names, joined by `+` (or, as in old releases, by commas); the empty text is the empty set.
    fn from_str(text: &str) -> Result<Self, Error> {
        text.split(['+', ','])
            .filter(|part| !part.is_empty())
            .map(index)
            .collect()
    }
}

impl Serialize for PcrMask {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// PCRs to bind to as `--tpm2-pcrs=` takes them: `7+14`, `7:sha256`, `7:sha256=HEX`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PcrWish {
    /// The PCRs, each with the value to bind to or, without one, to the TPM's of now.
    pub values: BTreeMap<u32, Option<Vec<u8>>>,
    /// The bank, when one was named.
    pub bank: Option<PcrBank>,
}

impl FromStr for PcrWish {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut wish = Self::default();
        for part in text.split('+').filter(|part| !part.is_empty()) {
            wish.add(part)?;
        }
        Ok(wish)
    }
}

impl PcrWish {
    /// The PCRs without a value of their own.
    pub fn to_read(&self) -> PcrMask {
        let open = self.values.iter().filter(|(_, value)| value.is_none());
        open.map(|(pcr, _)| *pcr).collect()
    }

    fn add(&mut self, part: &str) -> Result<(), Error> {
        let refuse = |reason: &str| Error::Pcr {
            given: part.to_owned(),
            reason: reason.to_owned(),
        };
        let (pcr, rest) = part
            .split_once(':')
            .map_or((part, None), |(pcr, rest)| (pcr, Some(rest)));
        let (bank, value) = match rest.map(|rest| {
            rest.split_once('=')
                .map_or((rest, None), |(bank, value)| (bank, Some(value)))
        }) {
            Some((bank, value)) => (Some(bank.parse::<PcrBank>()?), value),
            None => (None, None),
        };
        if let (Some(earlier), Some(bank)) = (self.bank, bank)
            && earlier != bank
        {
            return Err(refuse("all PCRs of a policy are in one bank"));
        }
        self.bank = self.bank.or(bank);
        let value = value
            .map(hex::decode)
            .transpose()
            .map_err(|_| refuse("the value is not hexadecimal"))?;
        if let (Some(bank), Some(value)) = (bank, &value)
            && value.len() != bank.digest_size()
        {
            return Err(refuse(&format!(
                "a {bank} value has {} digits",
                2 * bank.digest_size()
            )));
        }
        match self.values.insert(index(pcr)?, value) {
            None => Ok(()),
            Some(_) => Err(refuse("the PCR is named twice")),
        }
    }
}

/// PCRs that signatures cover, as `--tpm2-public-key-pcrs=` takes them: `11`, or `11:sha384` for another bank than SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedPcrWish {
    /// The PCRs.
    pub pcrs: PcrMask,
    /// The bank, when one was named.
    pub bank: Option<PcrBank>,
}

impl SignedPcrWish {
    /// The bank of a policy that also binds to values in the bank `literal`, if that is known.
    ///
    /// # Errors
    ///
    /// [`Error::Pcr`] when both name one, and not the same.
    pub fn bank_beside(&self, literal: Option<PcrBank>) -> Result<Option<PcrBank>, Error> {
        match (self.bank, literal) {
            (Some(signed), Some(literal)) if signed != literal => Err(Error::Pcr {
                given: format!("{}:{signed}", self.pcrs),
                reason: format!(
                    "all PCRs of a policy are in one bank, and others are in {literal}"
                ),
            }),
            (signed, literal) => Ok(signed.or(literal)),
        }
    }
}

impl FromStr for SignedPcrWish {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let PcrWish { values, bank } = text.replace(',', "+").parse()?;
        if values.is_empty() || values.values().any(Option::is_some) {
            return Err(Error::Pcr {
                given: text.to_owned(),
                reason: "it takes PCRs without values, such as 11 or 11:sha384".into(),
            });
        }
        let pcrs = values.into_keys().collect();
        Ok(Self { pcrs, bank })
    }
}

/// The PCR with this number or name.
pub(crate) fn index(text: &str) -> Result<u32, Error> {
    let named = NAMES
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, pcr)| *pcr);
    let numbered = || text.parse().ok().filter(|pcr| *pcr < 24);
    named.or_else(numbered).ok_or_else(|| Error::Pcr {
        given: text.to_owned(),
        reason: "PCRs are 0 to 23, or named as in systemd".into(),
    })
}

/// systemd: `tpm2_pcr_index_from_string`.
const NAMES: [(&str, u32); 16] = [
    ("platform-code", 0),
    ("platform-config", 1),
    ("external-code", 2),
    ("external-config", 3),
    ("boot-loader-code", 4),
    ("boot-loader-config", 5),
    ("host-platform", 6),
    ("secure-boot-policy", 7),
    ("kernel-initrd", 9),
    ("ima", 10),
    ("kernel-boot", 11),
    ("kernel-config", 12),
    ("sysexts", 13),
    ("shim-policy", 14),
    ("system-identity", 15),
    ("debug", 16),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_and_written_as_systemd_does() {
        for (text, bits, shown) in [
            ("", 0, ""),
            ("7", 0x80, "7"),
            ("14+7", 0x4080, "7+14"),
            ("7,14", 0x4080, "7+14"),
            ("secure-boot-policy+kernel-boot", 0x880, "7+11"),
            ("0+23", 0x80_0001, "0+23"),
        ] {
            let mask: PcrMask = text.parse().unwrap();
            assert_eq!(
                (mask.bits(), mask.to_string().as_str()),
                (bits, shown),
                "{text}"
            );
        }
        for text in ["24", "x", "-1", "7+24"] {
            assert!(text.parse::<PcrMask>().is_err(), "{text}");
        }
    }

    #[test]
    fn wishes_name_values_and_a_bank() {
        let zero = "0".repeat(64);
        let wish: PcrWish = format!("7:sha256={zero}+14").parse().unwrap();
        assert_eq!(wish.bank, Some(PcrBank::Sha256));
        assert_eq!(wish.values, [(7, Some(vec![0; 32])), (14, None)].into());
        assert_eq!(wish.to_read(), PcrMask::from_bits(0x4000));
        assert_eq!("".parse::<PcrWish>().unwrap(), PcrWish::default());
        for (text, reason) in [
            (
                "7:sha256=00",
                "\"7:sha256=00\" names no PCR to bind to: a sha256 value has 64 digits",
            ),
            (
                "7:sha256=zz",
                "\"7:sha256=zz\" names no PCR to bind to: the value is not hexadecimal",
            ),
            (
                "7:md5",
                "\"md5\" names no PCR to bind to: a bank is sha1, sha256, sha384 or sha512",
            ),
            (
                "7:sha1+8:sha256",
                "\"8:sha256\" names no PCR to bind to: all PCRs of a policy are in one bank",
            ),
            (
                "7+7",
                "\"7\" names no PCR to bind to: the PCR is named twice",
            ),
            (
                "24",
                "\"24\" names no PCR to bind to: PCRs are 0 to 23, or named as in systemd",
            ),
        ] {
            assert_eq!(text.parse::<PcrWish>().unwrap_err().to_string(), reason);
        }
    }

    #[test]
    fn signed_pcrs_name_a_bank_and_no_values() {
        let wish: SignedPcrWish = "11,14:sha384".parse().unwrap();
        assert_eq!(wish.pcrs.to_string(), "11+14");
        assert_eq!(wish.bank, Some(PcrBank::Sha384));
        assert_eq!(wish.bank_beside(None).unwrap(), Some(PcrBank::Sha384));
        let bare: SignedPcrWish = "kernel-boot".parse().unwrap();
        assert_eq!(
            bare.bank_beside(Some(PcrBank::Sha1)).unwrap(),
            Some(PcrBank::Sha1)
        );
        assert_eq!(
            wish.bank_beside(Some(PcrBank::Sha1))
                .unwrap_err()
                .to_string(),
            "\"11+14:sha384\" names no PCR to bind to: all PCRs of a policy are in one bank, and others are in sha1"
        );
        for text in ["", &format!("11:sha256={}", "0".repeat(64))] {
            assert_eq!(
                text.parse::<SignedPcrWish>().unwrap_err().to_string(),
                format!(
                    "{text:?} names no PCR to bind to: it takes PCRs without values, such as 11 or 11:sha384"
                )
            );
        }
    }

    #[test]
    fn a_selection_has_the_lowest_pcrs_first() {
        assert_eq!(
            PcrMask::from_bits(0x80_0880).selection(PcrBank::Sha256),
            [0, 0, 0, 1, 0, 0x0b, 3, 0x80, 0x08, 0x80]
        );
    }
}
