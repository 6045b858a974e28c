//! What was sealed for a host, and the keyed fingerprints that tell a changed value from the same.
//!
//! Records and log hold no value and nothing a value could be guessed from without the key: a bare hash of a short password
//! would be as good as the password. Each fingerprint covers host and name as well, so equal values do not show either.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use hmac::{Hmac, KeyInit, Mac};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ukikit_creds::{Name, Secret};
use zeroize::Zeroizing;

/// Version of the JSON form; changes when a member changes its meaning or goes.
pub(crate) const SCHEMA: u32 = 1;

/// What stands in the tree of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HostRecord {
    /// Version of this form, 1.
    pub schema: u32,
    /// The host.
    pub host: String,
    /// By name.
    pub credentials: Vec<SealedCredential>,
}

/// One credential in the tree of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SealedCredential {
    /// The name inside.
    pub name: String,
    /// Where the file lies, from the root of the ESP.
    pub path: String,
    /// The keys, as `--with-key=` spells them.
    pub with_key: String,
    /// Whether it names the storage root key.
    pub pinned: bool,
    /// `base64` or `binary`.
    pub encoding: String,
    /// The PCRs it is bound to, in words.
    pub bound_to: String,
    /// TPM name of the storage key it is sealed to, hexadecimal.
    pub storage_key: String,
    /// When it was sealed, in microseconds since 1970.
    pub timestamp: u64,
    /// Last moment at which it opens, likewise.
    pub not_after: Option<u64>,
    /// Size of the file in bytes.
    pub size: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// [`FingerprintKey::fingerprint`] of the value.
    pub fingerprint: String,
    /// SHA-256 of the options it was made with, hexadecimal.
    pub options: String,
}

impl SealedCredential {
    /// Whether `file` is the one that was written.
    pub(crate) fn is(&self, file: &[u8]) -> bool {
        self.sha256 == sha256(file)
    }
}

/// SHA-256, hexadecimal.
pub(crate) fn sha256(file: &[u8]) -> String {
    hex::encode(Sha256::digest(file))
}

/// The key of the fingerprints: 32 random bytes in a file of mode 0600 or stricter, in hexadecimal.
pub struct FingerprintKey(Zeroizing<[u8; 32]>);

impl FingerprintKey {
    /// A key that is kept nowhere: every value looks changed to it.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *key);
        Self(key)
    }

    /// Reads the key; `None` when there is no such file.
    ///
    /// # Errors
    ///
    /// When others than its owner can read it, or it is not a key.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let shown = path.display();
        let mode = match fs::metadata(path) {
            Ok(metadata) => metadata.permissions().mode(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{shown}`")),
        };
        ensure!(
            mode & 0o077 == 0,
            "`{shown}` can be read by others than its owner: its mode has to be 0600"
        );
        let text = File::open(path).and_then(|file| crate::read_wiped(file, 2 * 32 + 1));
        let text = text.with_context(|| format!("cannot read `{shown}`"))?;
        let mut key = Zeroizing::new([0; 32]);
        let digits = text.strip_suffix(b"\n").unwrap_or(&text);
        if hex::decode_to_slice(digits, &mut *key).is_err() {
            bail!("`{shown}` is not a key of fingerprints: 64 hexadecimal digits");
        }
        Ok(Some(Self(key)))
    }

    /// Reads the key, or makes one and keeps it there. Of two that do so at once, both get the same.
    ///
    /// # Errors
    ///
    /// As for [`FingerprintKey::read`], and what keeps the file from being written.
    pub fn read_or_create(path: &Path, rng: &mut impl CryptoRng) -> Result<Self> {
        if let Some(key) = Self::read(path)? {
            return Ok(key);
        }
        Self::random(rng).keep(path)?;
        Self::read(path)?.with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Keeps the key there, unless there is one.
    ///
    /// # Errors
    ///
    /// What keeps the file from being written.
    pub fn keep(&self, path: &Path) -> Result<()> {
        let stored = self.store(path);
        stored.with_context(|| format!("cannot write `{}`", path.display()))
    }

    fn store(&self, path: &Path) -> io::Result<()> {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let mut file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
        let digits = Zeroizing::new(hex::encode(*self.0));
        file.write_all(digits.as_bytes())?;
        file.write_all(b"\n")?;
        file.as_file()
            .set_permissions(Permissions::from_mode(0o600))?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Err(other) if other.error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error.error),
            Ok(_) => Ok(()),
        }
    }

    /// HMAC-SHA-256 over host, name and value, hexadecimal. The sizes keep two different triples from being one text.
    pub fn fingerprint(&self, host: &str, name: &Name, value: &Secret) -> String {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&*self.0)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any size"));
        for part in [host.as_bytes(), name.as_str().as_bytes(), value.expose()] {
            mac.update(&part.len().to_be_bytes());
            mac.update(part);
        }
        hex::encode(mac.finalize().into_bytes())
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey")
    }
}
