//! The plaintext side: what a credential says, and the two verbs that turn it into a file and back.

use std::fmt;
use std::str::FromStr;

use rand_core::CryptoRng;
use zerocopy::{FromBytes, IntoBytes};
use zeroize::Zeroizing;

use crate::cipher::FileKey;
use crate::encrypted::{EncryptedCredential, Keys};
use crate::error::{Error, FormatError};
use crate::format::{self, Header, Metadata};
use crate::key::{Key, Kind};
use crate::machine::MachineId;
use crate::secret::Secret;

/// Most plaintext a credential holds: 1 MiB (systemd: `CREDENTIAL_SIZE_MAX`).
pub const PLAINTEXT_MAX: usize = 1024 * 1024;
const NAME_MAX: usize = 255;
/// All ones on disk: no time given.
const NEVER: u64 = u64::MAX;

/// A credential's name: 1 to 255 printable ASCII characters without `/` and `:`, not `.` or `..`.
///
/// (systemd: `credential_name_valid`.)
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let reason = if name.is_empty() {
            "it is empty"
        } else if name.len() > NAME_MAX {
            "it is longer than 255 characters"
        } else if name == "." || name == ".." {
            "it names a directory"
        } else if name.contains(['/', ':']) {
            "it contains `/` or `:`"
        } else if !name.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            "it contains characters outside printable ASCII"
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(Error::Name {
            name: name.to_owned(),
            reason,
        })
    }
}

/// A moment, in microseconds since 1970. `Display` is systemd's `@SECONDS` form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A moment from microseconds since 1970; all ones, which mean "no time" on disk, become the moment before.
    pub const fn from_micros(micros: u64) -> Self {
        Self(if micros == NEVER { NEVER - 1 } else { micros })
    }

    /// Microseconds since 1970.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    fn from_disk(value: u64) -> Option<Self> {
        (value != NEVER).then_some(Self(value))
    }

    fn to_disk(moment: Option<Self>) -> u64 {
        moment.map_or(NEVER, |moment| moment.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0 / 1_000_000)?;
        match self.0 % 1_000_000 {
            0 => Ok(()),
            micros => write!(f, ".{micros:06}"),
        }
    }
}

/// The one user, on one machine, for whom a scoped credential opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Numeric user id.
    pub uid: u32,
    /// The name the user database of that machine has for `uid`.
    pub user: String,
    /// The machine's id.
    pub machine_id: MachineId,
}

impl Scope {
    /// What the file's key is narrowed by.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(29 + self.user.len());
        bytes.extend(format::SCOPE_FLAGS.to_le_bytes());
        bytes.extend(self.uid.to_le_bytes());
        bytes.extend(self.machine_id.as_bytes());
        bytes.extend(self.user.as_bytes());
        bytes.push(0);
        bytes
    }
}

/// What a credential says.
#[derive(Debug)]
#[non_exhaustive]
pub struct Credential {
    /// Checked against the file's name when it is opened; `None` fits every name.
    pub name: Option<Name>,
    /// When it was made.
    pub timestamp: Option<Timestamp>,
    /// Last moment at which it opens.
    pub not_after: Option<Timestamp>,
    /// Opens for this user alone.
    pub scope: Option<Scope>,
    /// The secret itself.
    pub data: Secret,
}

impl Credential {
    /// A credential without expiry and scope.
    pub fn new(name: Option<Name>, timestamp: Timestamp, data: Secret) -> Self {
        Self {
            name,
            timestamp: Some(timestamp),
            not_after: None,
            scope: None,
            data,
        }
    }

    /// Encrypts under `key`. Takes from `rng`, in this order: what sealing needs (with a TPM), then a 12-byte IV.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] over 1 MiB, [`Error::TimesOutOfOrder`], [`Error::ScopeWithoutHost`] for a scope with a key
    /// that does not include the host secret, and what sealing reports.
    pub fn encrypt(
        &self,
        key: &Key<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<EncryptedCredential, Error> {
        self.check()?;
        let kind = self.kind(key)?;
        let sealed = key.binding().map(|binding| binding.seal(rng)).transpose()?;
        let mut iv = [0; format::IV_SIZE as usize];
        rng.fill_bytes(&mut iv);

        let mut file = header(kind, &iv)?;
        if let Some(sealed) = &sealed {
            sealed.write_headers(&mut file);
        }
        if self.scope.is_some() {
            file.extend(format::SCOPE_FLAGS.to_le_bytes());
        }
        let file_key = self.file_key(FileKey::derive(
            key.host().map(|host| host.secret()),
            sealed.as_ref().map(|sealed| &sealed.secret),
        ));
        let mut body = self.body();
        let tag = file_key.encrypt(&iv, &file, &mut body)?;
        file.extend_from_slice(&body);
        file.extend(tag);
        Ok(EncryptedCredential::from_bytes(file)?)
    }

    fn kind(&self, key: &Key<'_>) -> Result<Kind, Error> {
        let binding = key.binding();
        let kind = Kind {
            host: key.host().is_some(),
            tpm: binding.is_some(),
            signed: binding.is_some_and(|binding| binding.policy.signed.is_some()),
            pinned: binding.is_some_and(|binding| binding.parent.is_pinned()),
            scoped: self.scope.is_some(),
        };
        match kind.id() {
            Some(_) => Ok(kind),
            None => Err(Error::ScopeWithoutHost {
                key: kind.with_key(),
            }),
        }
    }

    fn check(&self) -> Result<(), Error> {
        if self.data.expose().len() > PLAINTEXT_MAX {
            return Err(Error::TooLarge {
                size: self.data.expose().len(),
                limit: PLAINTEXT_MAX,
            });
        }
        in_order(self.timestamp, self.not_after)
    }

    fn file_key(&self, key: FileKey) -> FileKey {
        match &self.scope {
            Some(scope) => key.scoped(&scope.to_bytes()),
            None => key,
        }
    }

    /// Metadata and plaintext, in a buffer that never grows.
    fn body(&self) -> Zeroizing<Vec<u8>> {
        let name = self.name.as_ref().map_or("", Name::as_str);
        let metadata = Metadata {
            timestamp: Timestamp::to_disk(self.timestamp).into(),
            not_after: Timestamp::to_disk(self.not_after).into(),
            name_size: u32::try_from(name.len()).unwrap_or_default().into(),
        };
        let size =
            (size_of::<Metadata>() + name.len()).next_multiple_of(8) + self.data.expose().len();
        let mut body = Zeroizing::new(Vec::with_capacity(size));
        body.extend_from_slice(metadata.as_bytes());
        body.extend_from_slice(name.as_bytes());
        format::pad(&mut body);
        body.extend_from_slice(self.data.expose());
        body
    }

    /// Reads metadata and plaintext after decryption; `at` is where they stand in the file.
    pub(crate) fn from_body(body: &[u8], at: usize) -> Result<Self, Error> {
        let cut = || FormatError::new(at, "the metadata is incomplete");
        let (metadata, rest) = Metadata::ref_from_prefix(body).map_err(|_| cut())?;
        let size = usize::try_from(metadata.name_size.get()).unwrap_or(usize::MAX);
        if size > NAME_MAX {
            return Err(FormatError::new(
                at + 16,
                format!("the name has {size} bytes, more than {NAME_MAX}"),
            )
            .into());
        }
        let name = rest.get(..size).ok_or_else(cut)?;
        let start = (size_of::<Metadata>() + size).next_multiple_of(8);
        let data = body.get(start..).ok_or_else(cut)?;
        let credential = Self {
            name: embedded_name(name)?,
            timestamp: Timestamp::from_disk(metadata.timestamp.get()),
            not_after: Timestamp::from_disk(metadata.not_after.get()),
            scope: None,
            data: Secret::copied_from(data),
        };
        in_order(credential.timestamp, credential.not_after)?;
        Ok(credential)
    }
}

/// What the caller asks of a credential when opening it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Requirements {
    /// The name it must have; `None` takes any.
    pub name: Option<Name>,
    /// The time to check the expiry against; `None` does not check.
    pub now: Option<Timestamp>,
    /// The user to open it for; `None` opens only what belongs to the system.
    pub scope: Option<Scope>,
    /// Whether the null key is taken.
    pub allow_null: bool,
}

impl Requirements {
    /// Any name, no expiry, no user, null key refused.
    pub fn any() -> Self {
        Self {
            name: None,
            now: None,
            scope: None,
            allow_null: false,
        }
    }

    /// Checks the type before any key is touched, in systemd's order.
    pub(crate) fn check_kind(&self, kind: Kind) -> Result<(), Error> {
        if !kind.host && !kind.tpm && !self.allow_null {
            return Err(Error::NullKeyRefused);
        }
        match (kind.scoped, &self.scope) {
            (true, None) => Err(Error::Scoped),
            (false, Some(_)) => Err(Error::NotScoped),
            _ => Ok(()),
        }
    }

    /// Checks what only shows after decryption.
    pub(crate) fn check(&self, credential: &Credential) -> Result<(), Error> {
        if let (Some(wanted), Some(embedded)) = (&self.name, &credential.name)
            && wanted != embedded
        {
            return Err(Error::NameMismatch {
                embedded: embedded.to_string(),
                wanted: wanted.to_string(),
            });
        }
        match (credential.not_after, self.now) {
            (Some(not_after), Some(now)) if not_after < now => Err(Error::Expired { not_after }),
            _ => Ok(()),
        }
    }
}

impl EncryptedCredential {
    /// Opens the credential with whatever of `keys` its type needs.
    ///
    /// # Errors
    ///
    /// [`Error::Decrypt`] for a wrong key and for damage alike; the TPM's refusals; then the name, the times and the scope
    /// that `want` asks for, checked in the order of systemd's `decrypt_credential_and_warn`.
    pub fn decrypt(&self, keys: &mut Keys<'_>, want: &Requirements) -> Result<Credential, Error> {
        want.check_kind(self.kind())?;
        let file_key = keys.file_key(self)?;
        let file_key = match &want.scope {
            Some(scope) => file_key.scoped(&scope.to_bytes()),
            None => file_key,
        };
        let (iv, additional, ciphertext, tag) = self.cipher_parts();
        let mut body = Zeroizing::new(ciphertext.to_vec());
        file_key.decrypt(iv, additional, &mut body, &tag)?;
        let mut credential = Credential::from_body(&body, additional.len())?;
        credential.scope.clone_from(&want.scope);
        want.check(&credential)?;
        Ok(credential)
    }
}

fn header(kind: Kind, iv: &[u8]) -> Result<Vec<u8>, Error> {
    let header = Header {
        id: kind.id().ok_or(Error::ScopeWithoutHost {
            key: kind.with_key(),
        })?,
        key_size: format::KEY_SIZE.into(),
        block_size: format::BLOCK_SIZE.into(),
        iv_size: format::IV_SIZE.into(),
        tag_size: format::TAG_SIZE.into(),
    };
    let mut file = header.as_bytes().to_vec();
    file.extend_from_slice(iv);
    format::pad(&mut file);
    Ok(file)
}

fn in_order(timestamp: Option<Timestamp>, not_after: Option<Timestamp>) -> Result<(), Error> {
    match (timestamp, not_after) {
        (Some(made), Some(not_after)) if made >= not_after => {
            Err(Error::TimesOutOfOrder { made, not_after })
        }
        _ => Ok(()),
    }
}

fn embedded_name(bytes: &[u8]) -> Result<Option<Name>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(bytes);
    text.parse().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_systemd() {
        for name in ["a", " ", "*~\\@", "fstab.extra", &"x".repeat(255)] {
            assert_eq!(name.parse::<Name>().unwrap().as_str(), name);
        }
        for (name, reason) in [
            ("", "it is empty"),
            (".", "it names a directory"),
            ("..", "it names a directory"),
            ("a/b", "it contains `/` or `:`"),
            ("a:b", "it contains `/` or `:`"),
            ("a\n", "it contains characters outside printable ASCII"),
            ("é", "it contains characters outside printable ASCII"),
            (&"x".repeat(256), "it is longer than 255 characters"),
        ] {
            match name.parse::<Name>() {
                Err(Error::Name { reason: found, .. }) => assert_eq!(found, reason, "{name:?}"),
                other => panic!("{name:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn moments_are_written_as_systemd_takes_them() {
        assert_eq!(
            Timestamp::from_micros(1_700_000_000_000_000).to_string(),
            "@1700000000"
        );
        assert_eq!(Timestamp::from_micros(1_500_000).to_string(), "@1.500000");
        assert_eq!(Timestamp::from_micros(u64::MAX).as_micros(), u64::MAX - 1);
    }
}
