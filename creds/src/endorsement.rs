//! `EndorsementKey`: the key by which a TPM's maker knows it, made from one of the TCG's templates, and its certificate.
//!
//! Templates, NV indices and policies: TCG EK Credential Profile for TPM 2.0, version 2.5, section 2.2.1 and annex B.

use std::fmt;
use std::str::FromStr;

use p256::elliptic_curve::sec1::ToSec1Point;
use rsa::pkcs1::EncodeRsaPublicKey;
use rsa::{BoxedUint, RsaPublicKey};

use crate::error::Error;
use crate::kdf::Hash;
use crate::public;

/// The six templates of the profile that are in use, those of the high range without P-521 and SM2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndorsementTemplate {
    /// L-1: RSA 2048, SHA-256, AES-128
    Rsa2048,
    /// L-2: NIST P-256, SHA-256, AES-128
    P256,
    /// H-1: as L-1, with userWithAuth and policy B
    Rsa2048High,
    /// H-2: as L-2, with userWithAuth and policy B
    P256High,
    /// H-3: NIST P-384, SHA-384, AES-256
    P384High,
    /// H-6: RSA 3072, SHA-384, AES-256
    Rsa3072High,
}

/// Which of the kinds of key a TPM may have: `rsa2048`, `rsa3072`, `p256` or `p384`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndorsementKind {
    /// RSA with 2048 bits
    Rsa2048,
    /// RSA with 3072 bits
    Rsa3072,
    /// NIST P-256
    P256,
    /// NIST P-384
    P384,
}

impl EndorsementKind {
    const ALL: [Self; 4] = [Self::P384, Self::P256, Self::Rsa3072, Self::Rsa2048];
}

impl fmt::Display for EndorsementKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa2048 => "rsa2048",
            Self::Rsa3072 => "rsa3072",
            Self::P256 => "p256",
            Self::P384 => "p384",
        })
    }
}

impl FromStr for EndorsementKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|kind| kind.to_string() == text);
        found
            .ok_or_else(|| Error::EndorsementKey("a kind is rsa2048, rsa3072, p256 or p384".into()))
    }
}

/// Attributes of the low range: fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
const LOW_ATTRIBUTES: u32 = 0x0003_00b2;
/// The high range has userWithAuth as well.
const HIGH_ATTRIBUTES: u32 = 0x0003_00f2;

/// SHA-256 digest of policy A: PolicySecret of the endorsement hierarchy.
const POLICY_A: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
/// Policy B, policy A or one kept in NV, by SHA-256 and SHA-384.
const POLICY_B_SHA256: &str = "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0";
const POLICY_B_SHA384: &str = "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419ca\
                               cb47ba09699646150f9fc000f3f80e12";

impl EndorsementTemplate {
    /// All of them, in the order in which a key is looked for: those that are quick to make first.
    pub const ALL: [Self; 6] = [
        Self::P384High,
        Self::P256High,
        Self::P256,
        Self::Rsa3072High,
        Self::Rsa2048High,
        Self::Rsa2048,
    ];

    /// Kind of the key made from it.
    pub const fn kind(self) -> EndorsementKind {
        match self {
            Self::Rsa2048 | Self::Rsa2048High => EndorsementKind::Rsa2048,
            Self::Rsa3072High => EndorsementKind::Rsa3072,
            Self::P256 | Self::P256High => EndorsementKind::P256,
            Self::P384High => EndorsementKind::P384,
        }
    }

    /// NV index of the certificate.
    pub(crate) const fn certificate_index(self) -> u32 {
        match self {
            Self::Rsa2048 => 0x01c0_0002,
            Self::P256 => 0x01c0_000a,
            Self::Rsa2048High => 0x01c0_0012,
            Self::P256High => 0x01c0_0014,
            Self::P384High => 0x01c0_0016,
            Self::Rsa3072High => 0x01c0_001c,
        }
    }

    /// Whether the empty password authorises use of the key. Otherwise only its policy does, which is policy A then.
    pub(crate) const fn user_with_auth(self) -> bool {
        !matches!(self, Self::Rsa2048 | Self::P256)
    }

    /// Hash of its name, of its OAEP padding and of what is derived from secrets sent to it.
    pub(crate) const fn hash(self) -> Hash {
        match self.kind() {
            EndorsementKind::Rsa2048 | EndorsementKind::P256 => Hash::Sha256,
            EndorsementKind::Rsa3072 | EndorsementKind::P384 => Hash::Sha384,
        }
    }

    /// TPM2B_PUBLIC to create the key with.
    pub(crate) fn sized(self) -> Vec<u8> {
        let zeros = |size: usize| public::sized(&vec![0; size]);
        let unique = match self {
            Self::Rsa2048 => zeros(256),
            Self::P256 => [zeros(32), zeros(32)].concat(),
            Self::Rsa2048High | Self::Rsa3072High => zeros(0),
            Self::P256High | Self::P384High => [zeros(0), zeros(0)].concat(),
        };
        public::sized(&[self.parameters(), unique].concat())
    }

    /// TPMT_PUBLIC up to the key itself: what all keys made from the template have in common.
    fn parameters(self) -> Vec<u8> {
        let (algorithm, rest): (u16, &[u8]) = match self.kind() {
            // No scheme; then size and default exponent, or curve and no key derivation.
            EndorsementKind::Rsa2048 => (0x0001, &[0, 0x10, 8, 0, 0, 0, 0, 0]),
            EndorsementKind::Rsa3072 => (0x0001, &[0, 0x10, 12, 0, 0, 0, 0, 0]),
            EndorsementKind::P256 => (0x0023, &[0, 0x10, 0, 3, 0, 0x10]),
            EndorsementKind::P384 => (0x0023, &[0, 0x10, 0, 4, 0, 0x10]),
        };
        // AES-128 or AES-256 in CFB.
        let cipher = match self.hash() {
            Hash::Sha256 => [0, 0x06, 0, 0x80, 0, 0x43],
            Hash::Sha384 => [0, 0x06, 0x01, 0, 0, 0x43],
        };
        let (attributes, policy) = match (self.user_with_auth(), self.hash()) {
            (false, _) => (LOW_ATTRIBUTES, POLICY_A),
            (true, Hash::Sha256) => (HIGH_ATTRIBUTES, POLICY_B_SHA256),
            (true, Hash::Sha384) => (HIGH_ATTRIBUTES, POLICY_B_SHA384),
        };
        [
            &algorithm.to_be_bytes()[..],
            &self.hash().id().to_be_bytes(),
            &attributes.to_be_bytes(),
            &public::sized(&hex::decode(policy).unwrap_or_default()),
            &cipher,
            rest,
        ]
        .concat()
    }
}

/// An endorsement key: its public area and, when the TPM has one, its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndorsementKey {
    /// Its public area.
    pub public: EndorsementArea,
    /// X.509 in DER. Nothing about it is checked here.
    pub certificate: Option<Vec<u8>>,
}

impl EndorsementKey {
    /// A key without or with a certificate.
    pub fn new(public: EndorsementArea, certificate: Option<Vec<u8>>) -> Self {
        Self {
            public,
            certificate,
        }
    }
}

/// The public area (TPMT_PUBLIC) of an endorsement key: made from one of the templates, its point on the curve.
#[derive(Clone, PartialEq, Eq)]
pub struct EndorsementArea {
    area: Vec<u8>,
    template: EndorsementTemplate,
    numbers: Numbers,
}

/// The numbers in an [`EndorsementArea`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Numbers {
    P256(p256::PublicKey),
    P384(p384::PublicKey),
    Rsa(RsaPublicKey),
}

impl EndorsementArea {
    /// Reads TPM2B_PUBLIC: the size in two bytes, then the area, and nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] when the structure is cut off or followed by more; [`EndorsementArea::parse`]'s otherwise.
    pub fn from_sized(bytes: &[u8]) -> Result<Self, Error> {
        Self::parse(public::unsized_whole(bytes)?)
    }

    /// Reads TPMT_PUBLIC.
    ///
    /// # Errors
    ///
    /// [`Error::EndorsementKey`] unless everything but the key itself is exactly as in one of the templates: a key with other
    /// attributes may be used for more than proofs, and then proves nothing.
    pub fn parse(area: &[u8]) -> Result<Self, Error> {
        let found = EndorsementTemplate::ALL.into_iter().find_map(|template| {
            Some((
                template,
                area.strip_prefix(template.parameters().as_slice())?,
            ))
        });
        let (template, unique) = found.ok_or_else(|| {
            Error::EndorsementKey("it is not made from a template of the TCG's profile".into())
        })?;
        Ok(Self {
            area: area.to_vec(),
            template,
            numbers: Numbers::parse(template.kind(), unique)?,
        })
    }

    /// TPM2B_PUBLIC.
    pub fn to_sized(&self) -> Vec<u8> {
        public::sized(&self.area)
    }

    /// TPM name: the name algorithm's id, then the hash of the area; 34 bytes, 50 with SHA-384.
    pub fn name(&self) -> Vec<u8> {
        let hash = self.template.hash();
        [&hash.id().to_be_bytes()[..], &hash.digest(&[&self.area])].concat()
    }

    /// The template it was made from.
    pub fn template(&self) -> EndorsementTemplate {
        self.template
    }

    /// The key as certificates hold it (RFC 5280, `subjectPublicKey`): RSAPublicKey in DER, or the uncompressed point.
    pub fn subject_public_key(&self) -> Vec<u8> {
        match &self.numbers {
            Numbers::P256(key) => key.to_sec1_point(false).as_bytes().to_vec(),
            Numbers::P384(key) => key.to_sec1_point(false).as_bytes().to_vec(),
            Numbers::Rsa(key) => key
                .to_pkcs1_der()
                .map(|der| der.as_bytes().to_vec())
                .unwrap_or_default(),
        }
    }

    pub(crate) fn numbers(&self) -> &Numbers {
        &self.numbers
    }
}

impl fmt::Debug for EndorsementArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = hex::encode(self.name());
        write!(f, "EndorsementArea({}, name {name})", self.template.kind())
    }
}

impl Numbers {
    /// Reads TPMU_PUBLIC_ID: the modulus, or x and y.
    fn parse(kind: EndorsementKind, unique: &[u8]) -> Result<Self, Error> {
        match kind {
            EndorsementKind::Rsa2048 => Self::rsa(unique, 256),
            EndorsementKind::Rsa3072 => Self::rsa(unique, 384),
            EndorsementKind::P256 => {
                let key = p256::PublicKey::from_sec1_bytes(&uncompressed(unique, 32)?);
                key.map(Self::P256)
                    .map_err(|_| refuse("its point is not on NIST P-256"))
            }
            EndorsementKind::P384 => {
                let key = p384::PublicKey::from_sec1_bytes(&uncompressed(unique, 48)?);
                key.map(Self::P384)
                    .map_err(|_| refuse("its point is not on NIST P-384"))
            }
        }
    }

    fn rsa(unique: &[u8], size: usize) -> Result<Self, Error> {
        let modulus = public::unsized_whole(unique)?;
        // A modulus that starts with a zero bit is shorter than its kind says.
        if modulus.len() != size || modulus.first().is_none_or(|byte| byte & 0x80 == 0) {
            return Err(refuse("its RSA modulus is not of the size it states"));
        }
        let key = RsaPublicKey::new(BoxedUint::from_be_slice_vartime(modulus), 65537u32.into());
        key.map(Self::Rsa)
            .map_err(|error| refuse(&format!("its RSA key cannot be used ({error})")))
    }
}

/// The point in SEC 1's form, of coordinates that a TPM may write without their leading zeros.
fn uncompressed(unique: &[u8], size: usize) -> Result<Vec<u8>, Error> {
    let cut = || refuse("its point is cut off");
    let (x, rest) = public::unsized_prefix(unique).ok_or_else(cut)?;
    let y = public::unsized_whole(rest)?;
    let mut point = vec![4];
    for coordinate in [x, y] {
        let zeros = size.checked_sub(coordinate.len());
        let zeros = zeros.ok_or_else(|| refuse("a coordinate of its point is too long"))?;
        point.resize(point.len() + zeros, 0);
        point.extend_from_slice(coordinate);
    }
    Ok(point)
}

fn refuse(reason: &str) -> Error {
    Error::EndorsementKey(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector(kind: &str) -> Vec<u8> {
        let root = env!("CARGO_MANIFEST_DIR");
        std::fs::read(format!(
            "{root}/../tests/vectors/creds/tpm/{kind}.endorsement.pub"
        ))
        .unwrap()
    }

    #[test]
    fn every_kind_is_known_by_its_template() {
        for (file, template, name_size) in [
            ("p256", EndorsementTemplate::P256, 34),
            ("p384", EndorsementTemplate::P384High, 50),
            ("rsa2048", EndorsementTemplate::Rsa2048, 34),
        ] {
            let area = EndorsementArea::from_sized(&vector(file)).unwrap();
            assert_eq!((area.template(), area.name().len()), (template, name_size));
            assert_eq!(area.to_sized(), vector(file));
            assert_eq!(area.template().kind().to_string(), file);
        }
    }

    #[test]
    fn policies_are_those_of_the_profile() {
        // PolicySecret of the endorsement hierarchy: its name is its handle, the reference is empty.
        let secret = [&[0; 32][..], &[0, 0, 0x01, 0x51], &[0x40, 0, 0, 0x0b]].concat();
        let once = Hash::Sha256.digest(&[&secret]);
        assert_eq!(hex::encode(Hash::Sha256.digest(&[&once])), POLICY_A);
        assert_eq!((POLICY_B_SHA256.len(), POLICY_B_SHA384.len()), (64, 96));
    }

    #[test]
    fn other_keys_are_refused() {
        let changed = |kind, at: usize, bits| {
            let mut area = vector(kind);
            area[at] ^= bits;
            EndorsementArea::from_sized(&area).unwrap_err().to_string()
        };
        let prefix = "cannot use the TPM's endorsement key: ";
        // restricted, nameAlg, a byte of the policy
        for at in [7, 5, 20] {
            assert_eq!(
                changed("p256", at, 1),
                format!("{prefix}it is not made from a template of the TCG's profile")
            );
        }
        assert_eq!(
            changed("p384", 100, 1),
            format!("{prefix}its point is not on NIST P-384")
        );
        assert_eq!(
            changed("rsa2048", 60, 0x80),
            format!("{prefix}its RSA modulus is not of the size it states")
        );
    }

    proptest! {
        #[test]
        fn any_unique_part_is_read_or_refused(unique: Vec<u8>, at in 0usize..6) {
            let template = EndorsementTemplate::ALL[at];
            let _ = EndorsementArea::parse(&[template.parameters(), unique].concat());
        }
    }
}
