//! One line about a credential that was made.

use std::fmt;

use ukikit_creds::EncryptedCredential;

use super::Encoding;

/// Key, binding, encoding, and who reads it.
pub(super) struct Summary<'a> {
    pub(super) encrypted: &'a EncryptedCredential,
    pub(super) encoding: Encoding,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(shown) = self.encrypted.describe() else {
            return Err(fmt::Error);
        };
        write!(f, "{}", shown.with_key)?;
        if let Some(tpm) = &shown.tpm {
            f.write_str(if shown.pinned {
                ", pinned"
            } else {
                ", un-pinned"
            })?;
            match (tpm.pcrs.is_empty(), &tpm.signed_pcrs) {
                (true, None) => f.write_str(", bound to no PCR")?,
                (false, None) => write!(f, ", bound to PCR {} ({})", tpm.pcrs, tpm.bank)?,
                (true, Some(signed)) => write!(f, ", bound to signed PCR {signed} ({})", tpm.bank)?,
                (false, Some(signed)) => write!(
                    f,
                    ", bound to PCR {} and signed PCR {signed} ({})",
                    tpm.pcrs, tpm.bank
                )?,
            }
        }
        let encoding = if self.encoding == Encoding::Binary {
            "binary"
        } else {
            "base64"
        };
        write!(
            f,
            ", {encoding}, for systemd {} and later",
            shown.readable_since
        )
    }
}
