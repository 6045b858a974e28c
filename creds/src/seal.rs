//! Sealing a key to a TPM's storage key: arithmetic on its public half, so it works for another machine.
//!
//! The result is what TPM2_Import takes (TPM 2.0 Library, part 1, 23.3): an object whose sensitive area is encrypted under
//! a seed that only the storage key's owner recovers.
//!
//! ```text
//! seed       = KDFe(ECDH(ephemeral, parent), "DUPLICATE")   or 32 random bytes under RSA-OAEP
//! sensitive  = AES-128-CFB(KDFa(seed, "STORAGE", name), sized TPMT_SENSITIVE)
//! private    = HMAC(KDFa(seed, "INTEGRITY"), sensitive | name) | sensitive
//! blob       = TPM2B_PRIVATE | TPM2B_PUBLIC | TPM2B_ENCRYPTED_SECRET
//! ```

use rand_core::CryptoRng;
use rsa::{BoxedUint, RsaPublicKey};
use zerocopy::IntoBytes;
use zeroize::Zeroizing;

use crate::error::{Error, FormatError};
use crate::format::{PublicKeyHeader, TpmHeader, pad};
use crate::kdf::{Hash, sha256};
use crate::pcr::{PcrBank, PcrMask};
use crate::policy::{PcrPolicy, PolicyDigest};
use crate::public::{self, Algorithm, PublicArea, PublicKey};
use crate::secret::Secret;
use crate::seed::{Purpose, Seed};
use crate::wrapper::wrap;

/// TPM_HT_PERSISTENT | 1: where systemd and the TCG put the storage root key.
pub const STORAGE_ROOT_HANDLE: u32 = 0x8100_0001;
/// ESYS resource type of a key in tpm2-tss' serialisation.
const RESOURCE_KEY: [u8; 4] = [0, 0, 0, 1];
/// noDA alone. Without fixedTPM and fixedParent, since it is imported; without userWithAuth, so only the policy opens it.
const OBJECT_ATTRIBUTES: u32 = 0x0000_0400;

/// A storage root key: where it is and what it is. Types that name it are pinned to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageRootKey {
    /// Persistent handle, [`STORAGE_ROOT_HANDLE`] as a rule.
    pub handle: u32,
    /// Its public area.
    pub public: PublicArea,
}

impl StorageRootKey {
    /// Handle, name, kind and public area, as tpm2-tss serialises them (`Esys_TR_Serialize`).
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let name = public::sized(&self.public.name());
        [
            &self.handle.to_be_bytes()[..],
            &name,
            &RESOURCE_KEY,
            &self.public.to_sized(),
        ]
        .concat()
    }

    /// Reads what [`StorageRootKey::to_bytes`] writes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let cut = || FormatError::new(bytes.len(), "the storage root key is cut off");
        let (handle, rest) = bytes.split_first_chunk().ok_or_else(cut)?;
        let (name, rest) = public::unsized_prefix(rest).ok_or_else(cut)?;
        let (kind, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let at = bytes.len() - rest.len();
        if *kind != RESOURCE_KEY {
            return Err(FormatError::new(at - 4, "the pinned object is not a key"));
        }
        let public = PublicArea::from_sized(rest)
            .map_err(|error| FormatError::new(at, format!("storage root key: {error}")))?;
        if public.name() != name {
            return Err(FormatError::new(
                4,
                "the storage root key's name does not fit its public area",
            ));
        }
        Ok(Self {
            handle: u32::from_be_bytes(*handle),
            public,
        })
    }
}

/// The storage key to seal to.
#[derive(Debug, Clone)]
pub enum Parent {
    /// The storage root key, named in the credential: systemd 262 and later.
    StorageRootKey(StorageRootKey),
    /// The parent that systemd makes anew each time: readable by 255 to 262.
    Legacy(PublicArea),
}

impl Parent {
    /// Whether credentials name this key.
    pub fn is_pinned(&self) -> bool {
        matches!(self, Self::StorageRootKey(_))
    }

    /// Its public area.
    pub fn public(&self) -> &PublicArea {
        match self {
            Self::StorageRootKey(key) => &key.public,
            Self::Legacy(public) => public,
        }
    }
}

/// A TPM to seal to, known by its public half, and the state it must be in.
#[derive(Debug, Clone)]
pub struct TpmBinding {
    /// The storage key.
    pub parent: Parent,
    /// The PCR values under which it opens.
    pub policy: PcrPolicy,
}

impl TpmBinding {
    /// Makes a secret of 32 bytes and seals it.
    ///
    /// Takes from `rng`: the secret (32 bytes), the ephemeral key or seed (32 for ECC, 32 and OAEP's own for RSA), the object's
    /// obfuscation value (32).
    pub(crate) fn seal(&self, rng: &mut impl CryptoRng) -> Result<SealedKey<'_>, Error> {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *secret);
        let policy = self.policy.digest()?;
        let seed = seed_for(self.parent.public(), "DUPLICATE", rng)?;
        let mut obfuscation = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *obfuscation);

        let area = object_area(&policy, &sha256(&[&*obfuscation, &*secret]));
        let private = duplicate(&seed.value, &public::name(&area), &obfuscation, &secret);
        let blob = [
            public::sized(&private),
            public::sized(&area),
            public::sized(&seed.encrypted),
        ]
        .concat();
        Ok(SealedKey {
            secret: Secret::copied_from(&*secret),
            blob,
            policy,
            binding: self,
        })
    }
}

/// A sealed key on its way into a credential.
pub(crate) struct SealedKey<'a> {
    pub(crate) secret: Secret,
    blob: Vec<u8>,
    policy: PolicyDigest,
    binding: &'a TpmBinding,
}

impl SealedKey<'_> {
    /// Appends the headers that tell a TPM how to open it.
    pub(crate) fn write_headers(&self, file: &mut Vec<u8>) {
        let TpmBinding { parent, policy } = self.binding;
        let header = TpmHeader {
            pcr_mask: u64::from(policy.mask().bits()).into(),
            pcr_bank: policy.bank.id().into(),
            primary_alg: parent.public().algorithm().id().into(),
            blob_size: size(&self.blob).into(),
            policy_hash_size: size(&self.policy).into(),
        };
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(&self.blob);
        file.extend_from_slice(&self.policy);
        pad(file);
        if let Some(signed) = &policy.signed {
            let header = PublicKeyHeader {
                pcr_mask: u64::from(signed.pcrs.bits()).into(),
                size: size(signed.key.pem()).into(),
            };
            file.extend_from_slice(header.as_bytes());
            file.extend_from_slice(signed.key.pem());
            pad(file);
        }
        if let Parent::StorageRootKey(key) = parent {
            let key = key.to_bytes();
            file.extend(size(&key).to_le_bytes());
            file.extend(key);
            pad(file);
        }
    }
}

/// Sizes of structures we made: far below 4 GiB.
fn size(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// A seed for the owner of the storage key `parent`; `label` says what for ("DUPLICATE", "SECRET"). Also the salt of sessions.
pub(crate) fn seed_for(
    parent: &PublicArea,
    label: &'static str,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<Seed, Error> {
    let hash = Hash::Sha256;
    let purpose = Purpose { hash, label };
    match parent.key() {
        PublicKey::Ecc { point } => Ok(Seed::p256(point, purpose, rng)),
        PublicKey::Rsa { modulus, exponent } => {
            let modulus = BoxedUint::from_be_slice_vartime(modulus);
            RsaPublicKey::new(modulus, (*exponent).into())
                .and_then(|key| Seed::rsa(&key, purpose, rng))
                .map_err(|error| Error::PublicArea(format!("its RSA key cannot be used ({error})")))
        }
    }
}

/// TPMT_PUBLIC of the sealed object: keyed hash, SHA-256, no scheme.
fn object_area(policy: &PolicyDigest, unique: &[u8; 32]) -> Vec<u8> {
    let attributes = OBJECT_ATTRIBUTES.to_be_bytes();
    [
        &[0, 0x08, 0, 0x0b][..],
        &attributes,
        &[0, 0x20],
        policy,
        &[0, 0x10, 0, 0x20],
        unique,
    ]
    .concat()
}

/// Content of TPM2B_PRIVATE: the sensitive area encrypted and authenticated under `seed`, for the object called `name`.
fn duplicate(seed: &[u8], name: &[u8], obfuscation: &[u8; 32], secret: &[u8; 32]) -> Vec<u8> {
    let parts: [&[u8]; 6] = [
        &[0, 72],
        &[0, 0x08, 0, 0],
        &[0, 0x20],
        obfuscation,
        &[0, 0x20],
        secret,
    ];
    wrap(Hash::Sha256, seed, name, Zeroizing::new(parts.concat()))
}

/// A sealed key as a credential carries it: everything a TPM needs to open it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Sealed<'a> {
    /// The storage key it is sealed to.
    pub parent: SealedTo,
    /// The object.
    pub blob: SealedBlob<'a>,
    /// Bank of all PCRs below.
    pub bank: PcrBank,
    /// PCRs bound by value.
    pub literal: PcrMask,
    /// PCRs bound by signature.
    pub signed: Option<SignedPcrs<'a>>,
    /// Policy digest.
    pub policy: &'a [u8],
}

/// Which storage key opens a [`Sealed`] key.
#[derive(Debug, Clone)]
pub enum SealedTo {
    /// The one named.
    Pinned(StorageRootKey),
    /// The one made from the legacy template.
    Legacy(Algorithm),
}

impl SealedTo {
    /// Kind of the storage key.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Pinned(key) => key.public.algorithm(),
            Self::Legacy(algorithm) => *algorithm,
        }
    }
}

/// The signed policy of a [`Sealed`] key.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SignedPcrs<'a> {
    /// The public key's PEM file.
    pub pem: &'a [u8],
    /// PCRs its signatures cover.
    pub pcrs: PcrMask,
}

/// A sealed object in its two or three TPM structures, sizes included.
#[derive(Clone)]
pub struct SealedBlob<'a> {
    pub(crate) private: &'a [u8],
    pub(crate) public: &'a [u8],
    pub(crate) seed: Option<&'a [u8]>,
}

impl<'a> SealedBlob<'a> {
    /// Splits the blob; nothing may follow the structures.
    pub(crate) fn parse(blob: &'a [u8]) -> Result<Self, FormatError> {
        let (private, rest) = split_structure(blob, blob.len())?;
        let (public, rest) = split_structure(rest, blob.len())?;
        let seed = match rest {
            [] => None,
            _ => match split_structure(rest, blob.len())? {
                (seed, []) => Some(seed),
                (_, rest) => {
                    return Err(FormatError::new(
                        blob.len() - rest.len(),
                        "bytes follow the TPM's structures",
                    ));
                }
            },
        };
        Ok(Self {
            private,
            public,
            seed,
        })
    }

    /// Whether it was sealed without the TPM, and has to be imported first.
    pub fn is_offline(&self) -> bool {
        self.seed.is_some()
    }
}

impl std::fmt::Debug for SealedBlob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "SealedBlob({})",
            if self.is_offline() {
                "offline"
            } else {
                "made by the TPM"
            }
        )
    }
}

fn split_structure(bytes: &[u8], end: usize) -> Result<(&[u8], &[u8]), FormatError> {
    public::unsized_prefix(bytes)
        .and_then(|(content, _)| bytes.split_at_checked(content.len() + 2))
        .ok_or_else(|| FormatError::new(end, "the TPM's structures are cut off"))
}
