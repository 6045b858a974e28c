//! `PublicArea`: the public half of a TPM key (TPMT_PUBLIC), its name, and the templates of storage keys.

use std::fmt;

use serde::{Deserialize, Serialize};
use tpm2_protocol::data::{
    TpmAlgId, TpmEccCurve, TpmtPublic, TpmtSymDef, TpmuPublicId, TpmuPublicParms, TpmuSymKeyBits,
    TpmuSymMode,
};
use tpm2_protocol::{TpmMarshal, TpmUnmarshal, TpmWriter};

use crate::error::{Error, FormatError};
use crate::kdf::sha256;

/// Attributes of the legacy parent: fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, decrypt.
const LEGACY_ATTRIBUTES: u32 = 0x0003_0072;
/// The storage root key has noDA as well.
const STORAGE_ROOT_ATTRIBUTES: u32 = 0x0003_0472;
const RESTRICTED_DECRYPT: u32 = 0x0003_0000;
/// fixedTPM, fixedParent, sensitiveDataOrigin
const BORN_IN_TPM: u32 = 0x0000_0032;
const SIGN: u32 = 0x0004_0000;

/// Kind of a storage key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// NIST P-256
    Ecc,
    /// RSA, 2048 bits as a rule
    Rsa,
}

impl Algorithm {
    /// The TCG's algorithm id.
    pub const fn id(self) -> u16 {
        match self {
            Self::Ecc => 0x0023,
            Self::Rsa => 0x0001,
        }
    }

    /// The algorithm with this id, if it is one of the two.
    pub fn from_id(id: u16) -> Option<Self> {
        [Self::Ecc, Self::Rsa]
            .into_iter()
            .find(|algorithm| algorithm.id() == id)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ecc => "ecc",
            Self::Rsa => "rsa",
        })
    }
}

/// Which of systemd's two storage keys a template describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// Made anew for every use, in types without a pinned key.
    LegacyParent,
    /// Persistent, at 0x81000001 as a rule.
    StorageRootKey,
}

impl Template {
    /// TPM2B_PUBLIC to create the key with.
    pub(crate) fn sized(self, algorithm: Algorithm) -> Vec<u8> {
        let attributes = match self {
            Self::LegacyParent => LEGACY_ATTRIBUTES,
            Self::StorageRootKey => STORAGE_ROOT_ATTRIBUTES,
        };
        let mut area = Vec::new();
        area.extend(algorithm.id().to_be_bytes());
        area.extend(TpmAlgId::Sha256.value().to_be_bytes());
        area.extend(attributes.to_be_bytes());
        // No policy, then AES-128-CFB, no scheme.
        area.extend([0, 0, 0, 0x06, 0, 0x80, 0, 0x43, 0, 0x10]);
        area.extend_from_slice(match algorithm {
            // NIST P-256, no key derivation, an empty point.
            Algorithm::Ecc => &[0, 3, 0, 0x10, 0, 0, 0, 0],
            // 2048 bits, default exponent, an empty modulus.
            Algorithm::Rsa => &[8, 0, 0, 0, 0, 0, 0, 0],
        });
        sized(&area)
    }
}

/// The public half of a TPM key that can be a storage parent: ECC P-256 or RSA, SHA-256 names, AES-128-CFB.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicArea {
    area: Vec<u8>,
    attributes: u32,
    key: PublicKey,
}

/// The numbers in a [`PublicArea`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum PublicKey {
    /// Uncompressed point, 65 bytes with its leading 04.
    Ecc {
        point: p256::PublicKey,
    },
    Rsa {
        modulus: Vec<u8>,
        exponent: u32,
    },
}

impl PublicArea {
    /// Reads TPM2B_PUBLIC: the size in two bytes, then the area, and nothing else.
    ///
    /// # Errors
    ///
    /// With the place, when the structure is cut off or followed by more; [`PublicArea::parse`]'s otherwise.
    pub fn from_sized(bytes: &[u8]) -> Result<Self, Error> {
        let area = unsized_whole(bytes)?;
        Self::parse(area)
    }

    /// Reads TPMT_PUBLIC.
    ///
    /// # Errors
    ///
    /// [`Error::PublicArea`] unless it is a restricted decryption key of a kind that systemd uses as a storage parent, with a
    /// point on its curve.
    pub fn parse(area: &[u8]) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::PublicArea(reason.to_owned());
        let (public, rest) =
            TpmtPublic::unmarshal(area).map_err(|_| refuse("it is not a TPMT_PUBLIC structure"))?;
        if !rest.is_empty() {
            return Err(refuse("bytes follow the TPMT_PUBLIC structure"));
        }
        if marshalled(&public).as_deref() != Some(area) {
            return Err(refuse("its TPMT_PUBLIC structure is not in canonical form"));
        }
        if public.name_alg != TpmAlgId::Sha256 {
            return Err(refuse("its name algorithm is not SHA-256"));
        }
        let attributes = public.object_attributes.bits();
        if attributes & RESTRICTED_DECRYPT != RESTRICTED_DECRYPT || attributes & SIGN != 0 {
            return Err(refuse(
                "it is not a storage key: restricted and decrypt must be set, sign must not",
            ));
        }
        let key = PublicKey::from_parts(&public.parameters, &public.unique)?;
        Ok(Self {
            area: area.to_vec(),
            attributes,
            key,
        })
    }

    /// TPMT_PUBLIC.
    pub fn as_bytes(&self) -> &[u8] {
        &self.area
    }

    /// TPM2B_PUBLIC.
    pub fn to_sized(&self) -> Vec<u8> {
        sized(&self.area)
    }

    /// TPM name: the name algorithm's id, then the hash of the area; 34 bytes.
    pub fn name(&self) -> Vec<u8> {
        name(&self.area)
    }

    /// Kind of the key.
    pub fn algorithm(&self) -> Algorithm {
        match self.key {
            PublicKey::Ecc { .. } => Algorithm::Ecc,
            PublicKey::Rsa { .. } => Algorithm::Rsa,
        }
    }

    /// Whether its attributes are exactly those of `template`.
    pub fn is(&self, template: Template) -> bool {
        self.attributes
            == match template {
                Template::LegacyParent => LEGACY_ATTRIBUTES,
                Template::StorageRootKey => STORAGE_ROOT_ATTRIBUTES,
            }
    }

    /// Whether its attributes say that a TPM made it and never lets it go. Only a TPM can vouch that they are true.
    pub(crate) fn is_born_in_tpm(&self) -> bool {
        self.attributes & BORN_IN_TPM == BORN_IN_TPM
    }

    pub(crate) fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl fmt::Debug for PublicArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PublicArea({}, name {})",
            self.algorithm(),
            hex::encode(self.name())
        )
    }
}

impl PublicKey {
    fn from_parts(parameters: &TpmuPublicParms, unique: &TpmuPublicId) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::PublicArea(reason.to_owned());
        let symmetric = match parameters {
            TpmuPublicParms::Ecc(ecc) => ecc.symmetric,
            TpmuPublicParms::Rsa(rsa) => rsa.symmetric,
            _ => return Err(refuse("it is neither an ECC nor an RSA key")),
        };
        if symmetric != AES_128_CFB {
            return Err(refuse("its symmetric cipher is not AES-128-CFB"));
        }
        match (parameters, unique) {
            (TpmuPublicParms::Ecc(ecc), TpmuPublicId::Ecc(point)) => {
                if ecc.curve_id != TpmEccCurve::NistP256 {
                    return Err(refuse("its curve is not NIST P-256"));
                }
                let point = point_from(&point.x, &point.y)
                    .ok_or_else(|| refuse("its point is not on NIST P-256"))?;
                Ok(Self::Ecc { point })
            }
            (TpmuPublicParms::Rsa(rsa), TpmuPublicId::Rsa(modulus)) => {
                if modulus.len() * 8 != usize::from(u16::from(rsa.key_bits)) || modulus.len() < 256
                {
                    return Err(refuse(
                        "its RSA modulus is not of the size it states, or under 2048 bits",
                    ));
                }
                // The TPM writes its default exponent as 0.
                let exponent = match u32::from(rsa.exponent) {
                    0 => 65537,
                    exponent => exponent,
                };
                Ok(Self::Rsa {
                    modulus: modulus.to_vec(),
                    exponent,
                })
            }
            _ => Err(refuse("its key is not of the kind it states")),
        }
    }
}

const AES_128_CFB: TpmtSymDef = TpmtSymDef {
    algorithm: TpmAlgId::Aes,
    key_bits: TpmuSymKeyBits::Aes(tpm2_protocol::basic::TpmUint16::new(128)),
    mode: TpmuSymMode::Aes(TpmAlgId::Cfb),
};

/// The point with these coordinates, each at most 32 bytes, if it is on the curve.
pub(crate) fn point_from(x: &[u8], y: &[u8]) -> Option<p256::PublicKey> {
    let mut point = vec![4];
    for coordinate in [x, y] {
        point.resize(point.len() + 32usize.checked_sub(coordinate.len())?, 0);
        point.extend_from_slice(coordinate);
    }
    p256::PublicKey::from_sec1_bytes(&point).ok()
}

/// `bytes` with their size in two bytes before them: every TPM2B structure. They come from us or from a 16-bit field.
pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&size.to_be_bytes(), bytes].concat()
}

/// Splits a TPM2B structure off: its content, and what follows.
pub(crate) fn unsized_prefix(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))
}

/// The content of a TPM2B structure that fills `bytes`.
pub(crate) fn unsized_whole(bytes: &[u8]) -> Result<&[u8], FormatError> {
    match unsized_prefix(bytes) {
        Some((content, [])) => Ok(content),
        Some((content, _)) => Err(FormatError::new(
            2 + content.len(),
            "bytes follow the TPM structure",
        )),
        None => Err(FormatError::new(
            bytes.len(),
            "the TPM structure is cut off",
        )),
    }
}

/// The persistent handle that a text such as 0x81000001 stands for.
pub(crate) fn persistent_handle(text: &str) -> Option<u32> {
    let handle = u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()?;
    // TPM_HT_PERSISTENT: the first byte of the handle is 81.
    (handle >> 24 == 0x81).then_some(handle)
}

/// TPM name of an object with this public area and SHA-256 as its name algorithm.
pub(crate) fn name(area: &[u8]) -> Vec<u8> {
    let mut name = TpmAlgId::Sha256.value().to_be_bytes().to_vec();
    name.extend(sha256(&[area]));
    name
}

fn marshalled(public: &TpmtPublic) -> Option<Vec<u8>> {
    let mut buffer = [0; 4096];
    let mut writer = TpmWriter::new(&mut buffer);
    public.marshal(&mut writer).ok()?;
    let size = writer.len();
    buffer.get(..size).map(<[u8]>::to_vec)
}
