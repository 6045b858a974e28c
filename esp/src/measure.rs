//! PCR arithmetic: what a register holds after a list of measurements (TCG PC Client Platform Firmware
//! Profile, "PCR extend").
//!
//! ```text
//! new = H(old ‖ H(data))       starting from zeros, for each bank's own H
//! ```

use std::fmt;

use serde::{Serialize, Serializer};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// A bank of PCRs: the hash they are extended with. Shown as systemd spells it, `sha256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Bank {
    /// SHA-1
    Sha1,
    /// SHA-256
    Sha256,
    /// SHA-384
    Sha384,
    /// SHA-512
    Sha512,
}

impl Bank {
    /// All banks.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The TCG's number of the hash.
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// The bank with this number.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|bank| bank.id() == id)
    }

    /// systemd's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Size of a register in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The hash of these pieces, one behind the other.
    pub fn hash(self, pieces: &[&[u8]]) -> Hash {
        match self {
            Self::Sha1 => hash::<Sha1>(pieces),
            Self::Sha256 => hash::<Sha256>(pieces),
            Self::Sha384 => hash::<Sha384>(pieces),
            Self::Sha512 => hash::<Sha512>(pieces),
        }
    }

    /// What a register holds when nothing was measured.
    pub fn zero(self) -> Hash {
        Hash(vec![0; self.size()])
    }
}

impl fmt::Display for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

fn hash<D: Digest>(pieces: &[&[u8]]) -> Hash {
    let mut hash = D::new();
    for piece in pieces {
        hash.update(piece);
    }
    Hash(hash.finalize().to_vec())
}

/// A hash or the value of a register, of any bank. Shown in lower-case hexadecimal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(Vec<u8>);

impl Hash {
    /// Takes the bytes of one as they are.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The register after a measurement with this hash.
    #[must_use]
    pub fn extended(&self, bank: Bank, measured: &Self) -> Self {
        bank.hash(&[&self.0, &measured.0])
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_separator_of_userspace_gives_what_a_tpm_showed() {
        let zero = Bank::Sha256.zero();
        let separator = Bank::Sha256.hash(&[b"os-separator"]);
        assert_eq!(
            zero.extended(Bank::Sha256, &separator).to_string(),
            "3345a4e7857aa5ae65e97702ade84a3755fd6144724779536b5773128676c99c"
        );
    }

    #[test]
    fn every_bank_has_its_own_hash() {
        for (bank, abc) in [
            (Bank::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (
                Bank::Sha256,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                Bank::Sha384,
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
            ),
            (
                Bank::Sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
        ] {
            assert_eq!(bank.hash(&[b"a", b"bc"]).to_string(), abc);
            assert_eq!(bank.hash(&[]).as_bytes().len(), bank.size());
            assert_eq!(Bank::from_id(bank.id()), Some(bank));
        }
        assert_eq!(Bank::from_id(0x0012), None);
    }
}
