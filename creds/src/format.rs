//! The encrypted credential file, as systemd's `creds-util.c` writes it. Bytes only: knows no keys.
//!
//! ```text
//! Header | iv | pad to 8                                    always
//! TpmHeader | blob | policy hash | pad to 8                 with a TPM
//! PublicKeyHeader | PEM | pad to 8                          with a signed policy
//! size | storage root key | pad to 8                        pinned
//! flags                                                     scoped
//! AES-256-GCM( Metadata | name | pad to 8 | plaintext ) | tag
//! ```
//!
//! What stands before the last line is readable but authenticated: it is the additional data of
//! the cipher. Integers are little endian; the TPM's own structures inside keep their byte order.

use std::ops::Range;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::FormatError;
use crate::key::Kind;
use crate::pcr::{PcrBank, PcrMask};
use crate::public::Algorithm;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) id: [u8; 16],
    pub(crate) key_size: U32,
    pub(crate) block_size: U32,
    pub(crate) iv_size: U32,
    pub(crate) tag_size: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct TpmHeader {
    pub(crate) pcr_mask: U64,
    pub(crate) pcr_bank: U16,
    pub(crate) primary_alg: U16,
    pub(crate) blob_size: U32,
    pub(crate) policy_hash_size: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct PublicKeyHeader {
    pub(crate) pcr_mask: U64,
    pub(crate) size: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Metadata {
    pub(crate) timestamp: U64,
    pub(crate) not_after: U64,
    pub(crate) name_size: U32,
}

// The sizes are the format: a field that moves breaks every file ever written.
const _: () = assert!(size_of::<Header>() == 32);
const _: () = assert!(size_of::<TpmHeader>() == 20);
const _: () = assert!(size_of::<PublicKeyHeader>() == 12);
const _: () = assert!(size_of::<Metadata>() == 20);

pub(crate) const KEY_SIZE: u32 = 32;
pub(crate) const BLOCK_SIZE: u32 = 1;
pub(crate) const IV_SIZE: u32 = 12;
pub(crate) const TAG_SIZE: u32 = 16;
/// Metadata of a credential without a name, padded.
const METADATA_MIN: usize = 24;
const FIELD_MAX: u32 = 16 * 1024;
const PUBLIC_KEY_MAX: u32 = 1024 * 1024;
/// Bits for uid, machine and user name, always all three.
pub(crate) const SCOPE_FLAGS: u64 = 7;

/// The parts of a credential file, as places in its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) kind: Kind,
    pub(crate) iv: Range<usize>,
    pub(crate) tpm: Option<TpmPart>,
    pub(crate) public_key: Option<PublicKeyPart>,
    pub(crate) storage_root_key: Option<Range<usize>>,
    /// Ciphertext followed by the tag; what precedes it is the additional data.
    pub(crate) sealed: Range<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct TpmPart {
    pub(crate) pcrs: PcrMask,
    pub(crate) bank: PcrBank,
    pub(crate) parent: Algorithm,
    pub(crate) blob: Range<usize>,
    pub(crate) policy_hash: Range<usize>,
}

#[derive(Debug, Clone)]
pub(crate) struct PublicKeyPart {
    pub(crate) pcrs: PcrMask,
    pub(crate) pem: Range<usize>,
}

impl Parts {
    /// Finds the parts of `file` and checks what can be checked without a key.
    ///
    /// Accepts what systemd 262 accepts, so any IV that GCM takes; refuses what it refuses.
    pub(crate) fn parse(file: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader { file, at: 0 };
        let (kind, iv) = reader.header()?;
        let tpm = kind.tpm.then(|| reader.tpm()).transpose()?;
        let public_key = kind.signed.then(|| reader.public_key()).transpose()?;
        let storage_root_key = kind.pinned.then(|| reader.storage_root_key()).transpose()?;
        if kind.scoped {
            reader.scope()?;
        }
        let sealed = reader.at..file.len();
        if sealed.len() < METADATA_MIN + TAG_SIZE as usize {
            return Err(FormatError::new(
                file.len(),
                "the file ends before its encrypted part is complete",
            ));
        }
        Ok(Self {
            kind,
            iv,
            tpm,
            public_key,
            storage_root_key,
            sealed,
        })
    }
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn header(&mut self) -> Result<(Kind, Range<usize>), FormatError> {
        let id = self
            .file
            .first_chunk::<16>()
            .ok_or_else(|| self.cut("the type id"))?;
        let kind = Kind::from_id(id).ok_or_else(|| {
            FormatError::new(
                0,
                format!(
                    "{} is not the type id of a stored credential",
                    hex::encode(id)
                ),
            )
        })?;
        let header: &Header = self.structure("the header")?;
        expect(16, "key size", header.key_size.get(), KEY_SIZE)?;
        expect(20, "block size", header.block_size.get(), BLOCK_SIZE)?;
        at_most(24, "IV size", header.iv_size.get(), FIELD_MAX)?;
        expect(28, "tag size", header.tag_size.get(), TAG_SIZE)?;
        if header.iv_size == 0 {
            return Err(FormatError::new(24, "IV size is 0"));
        }
        let iv = self.bytes(header.iv_size.get(), "the IV")?;
        self.pad();
        Ok((kind, iv))
    }

    fn tpm(&mut self) -> Result<TpmPart, FormatError> {
        let start = self.at;
        let header: &TpmHeader = self.structure("the TPM header")?;
        let pcrs = pcr_mask(start, header.pcr_mask)?;
        let (bank, parent) = (header.pcr_bank.get(), header.primary_alg.get());
        let bank = PcrBank::from_id(bank)
            .ok_or_else(|| FormatError::new(start + 8, format!("{bank:#06x} is not a PCR bank")))?;
        let parent = Algorithm::from_id(parent).ok_or_else(|| {
            FormatError::new(
                start + 10,
                format!("{parent:#06x} is not the algorithm of a storage key"),
            )
        })?;
        at_most(
            start + 12,
            "TPM blob size",
            header.blob_size.get(),
            FIELD_MAX,
        )?;
        at_most(
            start + 16,
            "policy hash size",
            header.policy_hash_size.get(),
            FIELD_MAX,
        )?;
        let blob = self.bytes(header.blob_size.get(), "the TPM blob")?;
        let policy_hash = self.bytes(header.policy_hash_size.get(), "the policy hash")?;
        self.pad();
        Ok(TpmPart {
            pcrs,
            bank,
            parent,
            blob,
            policy_hash,
        })
    }

    fn public_key(&mut self) -> Result<PublicKeyPart, FormatError> {
        let start = self.at;
        let header: &PublicKeyHeader = self.structure("the public key header")?;
        let pcrs = pcr_mask(start, header.pcr_mask)?;
        if pcrs.is_empty() {
            return Err(FormatError::new(start, "the signed policy covers no PCR"));
        }
        at_most(
            start + 8,
            "public key size",
            header.size.get(),
            PUBLIC_KEY_MAX,
        )?;
        let pem = self.bytes(header.size.get(), "the public key")?;
        self.pad();
        Ok(PublicKeyPart { pcrs, pem })
    }

    fn storage_root_key(&mut self) -> Result<Range<usize>, FormatError> {
        let start = self.at;
        let size: &U32 = self.structure("the size of the storage root key")?;
        at_most(start, "storage root key size", size.get(), FIELD_MAX)?;
        let key = self.bytes(size.get(), "the storage root key")?;
        self.pad();
        Ok(key)
    }

    fn scope(&mut self) -> Result<(), FormatError> {
        let start = self.at;
        let flags: &U64 = self.structure("the scope header")?;
        if flags.get() != SCOPE_FLAGS {
            return Err(FormatError::new(
                start,
                format!("scope flags are {:#x}, not {SCOPE_FLAGS:#x}", flags.get()),
            ));
        }
        Ok(())
    }

    fn structure<T>(&mut self, what: &str) -> Result<&'a T, FormatError>
    where
        T: FromBytes + Immutable + KnownLayout + Unaligned,
    {
        let rest = self.file.get(self.at..).unwrap_or_default();
        let (value, _) = T::ref_from_prefix(rest).map_err(|_| self.cut(what))?;
        self.at += size_of::<T>();
        Ok(value)
    }

    fn bytes(&mut self, size: u32, what: &str) -> Result<Range<usize>, FormatError> {
        let end = usize::try_from(size)
            .ok()
            .and_then(|size| self.at.checked_add(size));
        match end.filter(|end| *end <= self.file.len()) {
            Some(end) => {
                let range = self.at..end;
                self.at = end;
                Ok(range)
            }
            None => Err(self.cut(what)),
        }
    }

    /// Skips to the next multiple of 8. Padding is authenticated, never looked at.
    fn pad(&mut self) {
        self.at = self.at.next_multiple_of(8).min(self.file.len());
    }

    fn cut(&self, what: &str) -> FormatError {
        FormatError::new(
            self.file.len(),
            format!(
                "the file ends inside {what}, which starts at byte {}",
                self.at
            ),
        )
    }
}

fn expect(offset: usize, what: &str, value: u32, wanted: u32) -> Result<(), FormatError> {
    if value == wanted {
        return Ok(());
    }
    Err(FormatError::new(
        offset,
        format!("{what} is {value}, not {wanted}"),
    ))
}

fn at_most(offset: usize, what: &str, value: u32, limit: u32) -> Result<(), FormatError> {
    if value <= limit {
        return Ok(());
    }
    Err(FormatError::new(
        offset,
        format!("{what} is {value}, more than {limit}"),
    ))
}

fn pcr_mask(offset: usize, mask: U64) -> Result<PcrMask, FormatError> {
    u32::try_from(mask.get())
        .ok()
        .map(PcrMask::from_bits)
        .filter(|pcrs| u64::from(pcrs.bits()) == mask.get())
        .ok_or_else(|| {
            FormatError::new(
                offset,
                format!("PCR mask {:#x} goes beyond PCR 23", mask.get()),
            )
        })
}

/// Zero bytes up to the next multiple of 8.
pub(crate) fn pad(file: &mut Vec<u8>) {
    file.resize(file.len().next_multiple_of(8), 0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any bytes are parsed or refused, and every part lies inside the file.
        #[test]
        fn parts_lie_inside_the_file(id in 0usize..20, rest in prop::collection::vec(any::<u8>(), 0..600)) {
            let ids = ["d4062dfb71ad4c86804b40ef1180f1fc", "16e492949f94400286758f94b7c52bc7", "5a1c6a86df9d4096b1d5a65e0862f19a"];
            let mut file = hex::decode(ids[id % 3]).unwrap();
            file.extend([32, 0, 0, 0, 1, 0, 0, 0, 12, 0, 0, 0, 16, 0, 0, 0]);
            file.extend(rest);
            if let Ok(parts) = Parts::parse(&file) {
                prop_assert!(parts.sealed.end == file.len() && parts.sealed.start % 8 == 0);
            }
        }
    }
}
