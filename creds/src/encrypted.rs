//! The encrypted side: a credential as a file, what shows of it without a key, and the keys that open it.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use crate::cipher::FileKey;
use crate::error::{Error, FormatError};
use crate::format::Parts;
use crate::host::HostSecret;
use crate::key::Kind;
use crate::pcr::{PcrBank, PcrMask};
use crate::policy::PolicyKey;
use crate::public::Algorithm;
use crate::seal::{Sealed, SealedBlob, SealedTo, SignedPcrs, StorageRootKey};
use crate::signature::PcrSignatures;
use crate::text::{self, Encoding};
use crate::tpm::Tpm;

/// Largest binary file that is opened: 1 MiB and 128 KiB (systemd: `CREDENTIAL_ENCRYPTED_SIZE_MAX`).
pub const ENCRYPTED_MAX: usize = 1024 * 1024 + 128 * 1024;

/// An encrypted credential whose headers were found sound. The keys may still refuse it.
#[derive(Clone)]
pub struct EncryptedCredential {
    file: Vec<u8>,
    parts: Parts,
}

impl EncryptedCredential {
    /// Reads a credential file.
    ///
    /// # Errors
    ///
    /// Where the file breaks the format, with the place: in the text for what is wrong with the Base64, in the decoded
    /// bytes for the rest. Files over [`ENCRYPTED_MAX`] are refused before anything is done with them.
    pub fn parse(file: &[u8], encoding: Encoding) -> Result<Self, FormatError> {
        let limit = match encoding {
            Encoding::Binary => ENCRYPTED_MAX,
            Encoding::Base64 => 3 * ENCRYPTED_MAX,
        };
        if file.len() > limit {
            return Err(FormatError::new(
                limit,
                "the file is longer than any credential",
            ));
        }
        Self::from_bytes(match encoding {
            Encoding::Base64 => text::read(file)?,
            Encoding::Binary => file.to_vec(),
        })
    }

    pub(crate) fn from_bytes(file: Vec<u8>) -> Result<Self, FormatError> {
        if file.len() > ENCRYPTED_MAX {
            return Err(FormatError::new(
                ENCRYPTED_MAX,
                "the file is longer than any credential",
            ));
        }
        let parts = Parts::parse(&file)?;
        Ok(Self { file, parts })
    }

    /// Whether `file` starts like the binary form, for a hint when it was met where text is expected.
    pub fn looks_binary(file: &[u8]) -> bool {
        file.first_chunk()
            .is_some_and(|id| Kind::from_id(id).is_some())
    }

    /// The binary form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.file
    }

    /// The text form, in lines of [`text::LINE`] or another number of characters.
    pub fn to_text(&self, line: usize) -> String {
        text::write(&self.file, line)
    }

    /// Which headers it has and which keys open it.
    pub fn kind(&self) -> Kind {
        self.parts.kind
    }

    /// IV, additional data, ciphertext and tag.
    pub(crate) fn cipher_parts(&self) -> (&[u8], &[u8], &[u8], [u8; 16]) {
        let (additional, sealed) = self
            .file
            .split_at_checked(self.parts.sealed.start)
            .unwrap_or_default();
        let (ciphertext, tag) = sealed.split_last_chunk().unwrap_or((&[], &[0; 16]));
        (self.part(&self.parts.iv), additional, ciphertext, *tag)
    }

    /// What a TPM has to unseal; `None` when the type needs no TPM.
    ///
    /// # Errors
    ///
    /// Where the TPM's structures in the file are not what they should be.
    pub fn sealed(&self) -> Result<Option<Sealed<'_>>, FormatError> {
        let Some(tpm) = &self.parts.tpm else {
            return Ok(None);
        };
        let shift = |range: &Range<usize>, error: FormatError| {
            FormatError::new(range.start + error.offset, error.what)
        };
        let parent = match self
            .parts
            .storage_root_key
            .as_ref()
            .filter(|range| !range.is_empty())
        {
            Some(range) => SealedTo::Pinned(
                StorageRootKey::parse(self.part(range)).map_err(|error| shift(range, error))?,
            ),
            // Nothing pinned, or an empty pin, which systemd 262 reads like none.
            None => SealedTo::Legacy(tpm.parent),
        };
        let signed = self.parts.public_key.as_ref().map(|key| SignedPcrs {
            pem: self.part(&key.pem),
            pcrs: key.pcrs,
        });
        Ok(Some(Sealed {
            parent,
            blob: SealedBlob::parse(self.part(&tpm.blob))
                .map_err(|error| shift(&tpm.blob, error))?,
            bank: tpm.bank,
            literal: tpm.pcrs,
            signed,
            policy: self.part(&tpm.policy_hash),
        }))
    }

    /// Everything that shows without a key.
    ///
    /// # Errors
    ///
    /// As [`EncryptedCredential::sealed`].
    pub fn describe(&self) -> Result<Description, FormatError> {
        let kind = self.kind();
        let sealed = self.sealed()?;
        let since = match &sealed {
            Some(sealed) if sealed.blob.is_offline() => kind.since().max(OFFLINE_SINCE),
            _ => kind.since(),
        };
        let (_, additional, ciphertext, _) = self.cipher_parts();
        Ok(Description {
            type_id: hex::encode(kind.id().unwrap_or_default()),
            with_key: kind.with_key(),
            pinned: kind.pinned,
            scoped: kind.scoped,
            readable_since: since,
            size: self.file.len(),
            header_size: additional.len(),
            content_size: ciphertext.len(),
            tpm: sealed.as_ref().map(DescribedTpm::new),
        })
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.file.get(range.clone()).unwrap_or_default()
    }
}

/// First systemd that imports a key sealed without its TPM.
const OFFLINE_SINCE: u16 = 255;

impl fmt::Debug for EncryptedCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EncryptedCredential({}, {} bytes)",
            self.kind().with_key(),
            self.file.len()
        )
    }
}

/// The keys a caller has. Each may be missing: which are needed shows in [`EncryptedCredential::kind`].
#[derive(Debug, Default)]
pub struct Keys<'a> {
    /// The machine's host secret.
    pub host: Option<&'a HostSecret>,
    /// The TPM that may have sealed the key.
    pub tpm: Option<Tpm<'a>>,
    /// Signatures over PCR values, for types with a public key.
    pub signatures: Option<&'a PcrSignatures>,
}

impl Keys<'_> {
    /// The file's key before it is narrowed to a user. What is missing is said before the TPM is touched.
    pub(crate) fn file_key(&mut self, file: &EncryptedCredential) -> Result<FileKey, Error> {
        let kind = file.kind();
        if kind.signed && self.signatures.is_none() {
            return Err(Error::SignatureMissing);
        }
        let host = match (kind.host, self.host) {
            (false, _) => None,
            (true, Some(host)) => Some(host.secret()),
            (true, None) => return Err(Error::HostSecretMissing),
        };
        let tpm = match (file.sealed()?, &mut self.tpm) {
            (None, _) => None,
            (Some(sealed), Some(tpm)) => Some(tpm.unseal(&sealed, self.signatures)?),
            (Some(_), None) => return Err(Error::TpmMissing),
        };
        Ok(FileKey::derive(host, tpm.as_ref()))
    }
}

/// What shows of a credential without a key. Nothing of it is authenticated yet.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Description {
    /// The 128-bit type id, hexadecimal.
    pub type_id: String,
    /// The keys, as `--with-key=` spells them.
    pub with_key: &'static str,
    /// Whether it names the storage root key it is sealed to.
    pub pinned: bool,
    /// Whether it opens for one user alone.
    pub scoped: bool,
    /// First systemd that reads it.
    pub readable_since: u16,
    /// Binary size of the file in bytes.
    pub size: usize,
    /// Bytes before the ciphertext.
    pub header_size: usize,
    /// Bytes of ciphertext: metadata, name and plaintext.
    pub content_size: usize,
    /// The TPM's part.
    pub tpm: Option<DescribedTpm>,
}

/// The TPM's part of a [`Description`].
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DescribedTpm {
    /// `ecc` or `rsa`: the storage key it is sealed to.
    pub parent_algorithm: Algorithm,
    /// Persistent handle of the pinned storage root key.
    pub parent_handle: Option<String>,
    /// TPM name of the pinned storage root key, hexadecimal.
    pub parent_name: Option<String>,
    /// Whether it was sealed without the TPM and will be imported.
    pub offline: bool,
    /// PCR bank of all policies.
    pub bank: PcrBank,
    /// PCRs bound by value.
    pub pcrs: PcrMask,
    /// Policy digest, hexadecimal; all zero without a policy.
    pub policy: String,
    /// PCRs covered by the signed policy.
    pub signed_pcrs: Option<PcrMask>,
    /// SHA-256 of the policy key's PKCS#1 form, hexadecimal; `None` when the key cannot be read.
    pub public_key: Option<String>,
}

impl DescribedTpm {
    fn new(sealed: &Sealed<'_>) -> Self {
        let pinned = match &sealed.parent {
            SealedTo::Pinned(key) => Some(key),
            SealedTo::Legacy(_) => None,
        };
        let key = sealed
            .signed
            .as_ref()
            .and_then(|signed| PolicyKey::from_pem(signed.pem).ok());
        Self {
            parent_algorithm: sealed.parent.algorithm(),
            parent_handle: pinned.map(|key| format!("{:#010x}", key.handle)),
            parent_name: pinned.map(|key| hex::encode(key.public.name())),
            offline: sealed.blob.is_offline(),
            bank: sealed.bank,
            pcrs: sealed.literal,
            policy: hex::encode(sealed.policy),
            signed_pcrs: sealed.signed.as_ref().map(|signed| signed.pcrs),
            public_key: key.map(|key| key.fingerprint()),
        }
    }
}
