//! `MachineId`: the 128-bit id of an installation, and what systemd derives from it.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::kdf::hmac_sha256;

/// Application id of the credential host secret (systemd: `creds-util.c`).
const HOST_SECRET_APPLICATION: [u8; 16] = 0xd3acecba_0dad_4cdf_b8c9_381528936c58_u128.to_be_bytes();

/// A machine id, as `/etc/machine-id` has it: 32 hexadecimal digits, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MachineId([u8; 16]);

impl MachineId {
    /// The id as raw bytes, in the order of its digits.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// What stands at the start of the host secret's file: the id hashed for that application alone, made a version 4 UUID.
    pub(crate) fn host_secret_hash(&self) -> [u8; 16] {
        let hash = hmac_sha256(&self.0, &[&HOST_SECRET_APPLICATION]);
        let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = hash;
        let version_4 =
            u128::from_be_bytes(id) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        version_4.to_be_bytes()
    }
}

impl FromStr for MachineId {
    type Err = Error;

    /// Takes the digits with or without the newline of the file and the dashes of a UUID.
    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.trim_end_matches('\n').replace('-', "");
        let mut id = [0; 16];
        match hex::decode_to_slice(digits, &mut id) {
            Ok(()) if id != [0; 16] => Ok(Self(id)),
            _ => Err(Error::MachineId(text.trim_end().to_owned())),
        }
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_the_one_systemd_writes() {
        let id: MachineId = "0123456789abcdef0123456789abcdef\n".parse().unwrap();
        assert_eq!(
            hex::encode(id.host_secret_hash()),
            "f65a25a6c02a44888e0e49b6adb6b1f9"
        );
    }

    #[test]
    fn refuses_what_is_no_id() {
        for text in ["", "0", &"0".repeat(32), &"g".repeat(32), "uninitialized"] {
            assert!(
                matches!(text.parse::<MachineId>(), Err(Error::MachineId(_))),
                "{text}"
            );
        }
    }
}
