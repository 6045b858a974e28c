//! What the partitions of an extension image are: architecture, designator and role, and the type UUID
//! that says so, after the Discoverable Partitions Specification (UAPI.2).

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use uuid::{Uuid, uuid};

use crate::Error;

/// A UUID, shown and parsed in the usual text form. Tables of partitions store it with its first three
/// groups byte-swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(Uuid);

impl Guid {
    /// From 16 bytes in text order.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes in text order.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    pub(crate) fn from_disk(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes_le(bytes))
    }

    pub(crate) fn to_disk(self) -> [u8; 16] {
        self.0.to_bytes_le()
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Guid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Uuid::try_parse(text)
            .map(Self)
            .map_err(|_| Error::value(format!("`{text}` is not a UUID")))
    }
}

impl Serialize for Guid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A machine's architecture, shown and parsed as systemd spells it (`x86-64`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// `arm`, 32 bits.
    Arm,
    /// `arm64`
    Arm64,
    /// `loongarch64`
    Loongarch64,
    /// `ppc64-le`
    Ppc64Le,
    /// `riscv64`
    Riscv64,
    /// `s390x`
    S390x,
    /// `x86-64`
    X86_64,
}

impl Architecture {
    /// Every architecture that has partition types here.
    pub const ALL: [Self; 7] = [
        Self::Arm,
        Self::Arm64,
        Self::Loongarch64,
        Self::Ppc64Le,
        Self::Riscv64,
        Self::S390x,
        Self::X86_64,
    ];

    /// The architecture this program was made for; `None` when it is not in [`Architecture::ALL`].
    pub fn native() -> Option<Self> {
        match std::env::consts::ARCH {
            "arm" => Some(Self::Arm),
            "aarch64" => Some(Self::Arm64),
            "loongarch64" => Some(Self::Loongarch64),
            "powerpc64" if cfg!(target_endian = "little") => Some(Self::Ppc64Le),
            "riscv64" => Some(Self::Riscv64),
            "s390x" => Some(Self::S390x),
            "x86_64" => Some(Self::X86_64),
            _ => None,
        }
    }

    /// systemd's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arm => "arm",
            Self::Arm64 => "arm64",
            Self::Loongarch64 => "loongarch64",
            Self::Ppc64Le => "ppc64-le",
            Self::Riscv64 => "riscv64",
            Self::S390x => "s390x",
            Self::X86_64 => "x86-64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Architecture {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let named = Self::ALL.into_iter().find(|known| known.as_str() == text);
        named.ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            Error::value(format!("architecture `{text}` is none of {known}"))
        })
    }
}

impl Serialize for Architecture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Where the data partition's root belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Designator {
    /// It is `/`.
    Root,
    /// It is `/usr`.
    Usr,
}

impl Designator {
    /// `root` or `usr`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Usr => "usr",
        }
    }
}

/// What a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The file system.
    Data,
    /// The hash tree over it.
    Verity,
    /// The signed root hash.
    Signature,
}

impl Role {
    /// In the order they stand in an image.
    pub const ALL: [Self; 3] = [Self::Data, Self::Verity, Self::Signature];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::Verity => "verity",
            Self::Signature => "signature",
        })
    }
}

/// A partition type that means something in an extension image. Shown as its name in systemd, which is
/// also the label of such a partition: `root-x86-64-verity-sig`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PartitionType {
    /// The machine it is for.
    pub architecture: Architecture,
    /// Where its data belongs.
    pub designator: Designator,
    /// What it holds.
    pub role: Role,
}

impl PartitionType {
    /// The type of these three.
    pub const fn new(architecture: Architecture, designator: Designator, role: Role) -> Self {
        Self {
            architecture,
            designator,
            role,
        }
    }

    /// The UUID of the type.
    pub const fn guid(self) -> Guid {
        let [data, verity, signature] = type_uuids(self.architecture, self.designator);
        Guid(match self.role {
            Role::Data => data,
            Role::Verity => verity,
            Role::Signature => signature,
        })
    }

    /// The type with this UUID, `None` when it has no meaning in an extension image.
    pub fn from_guid(guid: Guid) -> Option<Self> {
        all_types().find(|known| known.guid() == guid)
    }
}

impl fmt::Display for PartitionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self.role {
            Role::Data => "",
            Role::Verity => "-verity",
            Role::Signature => "-verity-sig",
        };
        write!(
            f,
            "{}-{}{suffix}",
            self.designator.as_str(),
            self.architecture
        )
    }
}

fn all_types() -> impl Iterator<Item = PartitionType> {
    Architecture::ALL.into_iter().flat_map(|architecture| {
        [Designator::Root, Designator::Usr]
            .into_iter()
            .flat_map(move |designator| {
                Role::ALL.map(|role| PartitionType::new(architecture, designator, role))
            })
    })
}

/// Data, verity, signature. None can be computed from another.
const fn type_uuids(architecture: Architecture, designator: Designator) -> [Uuid; 3] {
    match designator {
        Designator::Root => root_uuids(architecture),
        Designator::Usr => usr_uuids(architecture),
    }
}

const fn root_uuids(architecture: Architecture) -> [Uuid; 3] {
    match architecture {
        Architecture::Arm => [
            uuid!("69dad710-2ce4-4e3c-b16c-21a1d49abed3"),
            uuid!("7386cdf2-203c-47a9-a498-f2ecce45a2d6"),
            uuid!("42b0455f-eb11-491d-98d3-56145ba9d037"),
        ],
        Architecture::Arm64 => [
            uuid!("b921b045-1df0-41c3-af44-4c6f280d3fae"),
            uuid!("df3300ce-d69f-4c92-978c-9bfb0f38d820"),
            uuid!("6db69de6-29f4-4758-a7a5-962190f00ce3"),
        ],
        Architecture::Loongarch64 => [
            uuid!("77055800-792c-4f94-b39a-98c91b762bb6"),
            uuid!("f3393b22-e9af-4613-a948-9d3bfbd0c535"),
            uuid!("5afb67eb-ecc8-4f85-ae8e-ac1e7c50e7d0"),
        ],
        Architecture::Ppc64Le => [
            uuid!("c31c45e6-3f39-412e-80fb-4809c4980599"),
            uuid!("906bd944-4589-4aae-a4e4-dd983917446a"),
            uuid!("d4a236e7-e873-4c07-bf1d-bf6cf7f1c3c6"),
        ],
        Architecture::Riscv64 => [
            uuid!("72ec70a6-cf74-40e6-bd49-4bda08e8f224"),
            uuid!("b6ed5582-440b-4209-b8da-5ff7c419ea3d"),
            uuid!("efe0f087-ea8d-4469-821a-4c2a96a8386a"),
        ],
        Architecture::S390x => [
            uuid!("5eead9a9-fe09-4a1e-a1d7-520d00531306"),
            uuid!("b325bfbe-c7be-4ab8-8357-139e652d2f6b"),
            uuid!("c80187a5-73a3-491a-901a-017c3fa953e9"),
        ],
        Architecture::X86_64 => [
            uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
            uuid!("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"),
            uuid!("41092b05-9fc8-4523-994f-2def0408b176"),
        ],
    }
}

const fn usr_uuids(architecture: Architecture) -> [Uuid; 3] {
    match architecture {
        Architecture::Arm => [
            uuid!("7d0359a3-02b3-4f0a-865c-654403e70625"),
            uuid!("c215d751-7bcd-4649-be90-6627490a4c05"),
            uuid!("d7ff812f-37d1-4902-a810-d76ba57b975a"),
        ],
        Architecture::Arm64 => [
            uuid!("b0e01050-ee5f-4390-949a-9101b17104e9"),
            uuid!("6e11a4e7-fbca-4ded-b9e9-e1a512bb664e"),
            uuid!("c23ce4ff-44bd-4b00-b2d4-b41b3419e02a"),
        ],
        Architecture::Loongarch64 => [
            uuid!("e611c702-575c-4cbe-9a46-434fa0bf7e3f"),
            uuid!("f46b2c26-59ae-48f0-9106-c50ed47f673d"),
            uuid!("b024f315-d330-444c-8461-44bbde524e99"),
        ],
        Architecture::Ppc64Le => [
            uuid!("15bb03af-77e7-4d4a-b12b-c0d084f7491c"),
            uuid!("ee2b9983-21e8-4153-86d9-b6901a54d1ce"),
            uuid!("c8bfbd1e-268e-4521-8bba-bf314c399557"),
        ],
        Architecture::Riscv64 => [
            uuid!("beaec34b-8442-439b-a40b-984381ed097d"),
            uuid!("8f1056be-9b05-47c4-81d6-be53128e5b54"),
            uuid!("d2f9000a-7a18-453f-b5cd-4d32f77a7b32"),
        ],
        Architecture::S390x => [
            uuid!("8a4f5770-50aa-4ed3-874a-99b710db6fea"),
            uuid!("31741cc4-1a2a-4111-a581-e00b447d2d06"),
            uuid!("3f324816-667b-46ae-86ee-9b0c0c6c11b4"),
        ],
        Architecture::X86_64 => [
            uuid!("8484680c-9521-48c6-9c11-b0720656f69e"),
            uuid!("77ff5f63-e7b6-4633-acf4-1565b864c0e6"),
            uuid!("e7bb33fb-06cf-4e81-8273-e543b413e2e2"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_type_is_found_again_by_its_uuid() {
        let guids: HashSet<Guid> = all_types().map(PartitionType::guid).collect();
        assert_eq!(guids.len(), 42);
        for known in all_types() {
            assert_eq!(PartitionType::from_guid(known.guid()), Some(known));
        }
        assert_eq!(PartitionType::from_guid(Guid::from_bytes([0; 16])), None);
    }

    #[test]
    fn labels_are_systemds_names_of_the_types() {
        let labels: Vec<String> = Role::ALL
            .map(|role| PartitionType::new(Architecture::X86_64, Designator::Root, role))
            .map(|known| known.to_string())
            .into();
        assert_eq!(
            labels,
            [
                "root-x86-64",
                "root-x86-64-verity",
                "root-x86-64-verity-sig"
            ]
        );
    }

    #[test]
    fn architectures_are_read_as_they_are_shown() {
        for architecture in Architecture::ALL {
            assert_eq!(
                architecture.to_string().parse::<Architecture>().unwrap(),
                architecture
            );
        }
        assert_eq!(
            "amd64".parse::<Architecture>().unwrap_err().to_string(),
            "architecture `amd64` is none of arm, arm64, loongarch64, ppc64-le, riscv64, s390x, x86-64"
        );
    }

    #[test]
    fn the_first_three_groups_are_swapped_on_disk() {
        let guid: Guid = "00112233-4455-6677-8899-aabbccddeeff".parse().unwrap();
        let disk = guid.to_disk();
        assert_eq!(hex::encode(disk), "33221100554477668899aabbccddeeff");
        assert_eq!(Guid::from_disk(disk), guid);
    }
}
