//! Which partitions make up an extension, found by their types as systemd finds them.

use crate::finding::Findings;
use crate::gpt::{self, Partition, Table};
use crate::{Architecture, Check, PartitionType, Role};

/// Partitions start and end at multiples of this.
const ALIGNMENT: u64 = 4096;

/// A partition with a type that means something.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) kind: PartitionType,
    pub(crate) partition: Partition,
}

impl Found {
    /// What it is called in a finding.
    pub(crate) fn place(&self) -> String {
        format!("{} partition", self.kind.role)
    }
}

/// The first of each role that lies inside the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Partitions {
    pub(crate) data: Option<Found>,
    pub(crate) verity: Option<Found>,
    pub(crate) signature: Option<Found>,
}

impl Partitions {
    /// Those in a table on a disk of `size` bytes.
    pub(crate) fn of(table: &Table, size: u64) -> Self {
        let mut partitions = Self::default();
        for partition in &table.partitions {
            let Some(kind) = PartitionType::from_guid(partition.type_guid) else {
                continue;
            };
            let inside = partition
                .offset
                .checked_add(partition.size)
                .is_some_and(|end| end <= size);
            let slot = match kind.role {
                Role::Data => &mut partitions.data,
                Role::Verity => &mut partitions.verity,
                Role::Signature => &mut partitions.signature,
            };
            if inside && slot.is_none() {
                *slot = Some(Found {
                    kind,
                    partition: partition.clone(),
                });
            }
        }
        partitions
    }
}

/// Checks that a table has the three partitions of one extension and nothing else.
pub(crate) fn check(table: &Table, target: Option<Architecture>, findings: &mut Findings) {
    for partition in &table.partitions {
        check_one(partition, findings);
    }
    let kinds: Vec<PartitionType> = table
        .partitions
        .iter()
        .filter_map(|partition| PartitionType::from_guid(partition.type_guid))
        .collect();
    let mut refuse = |what: String| findings.add(Check::Partitions, "image", what);
    for role in Role::ALL {
        match kinds.iter().filter(|kind| kind.role == role).count() {
            1 => {}
            0 => refuse(format!("has no {role} partition")),
            count => refuse(format!("has {count} {role} partitions")),
        }
    }
    let Some(first) = kinds.first() else { return };
    let same = |kind: &PartitionType| {
        (kind.architecture, kind.designator) == (first.architecture, first.designator)
    };
    if let Some(other) = kinds.iter().find(|kind| !same(kind)) {
        refuse(format!("has partitions of types {first} and {other}"));
    }
    if let Some(target) = target.filter(|&target| target != first.architecture) {
        refuse(format!(
            "has partitions for {}, not {target}",
            first.architecture
        ));
    }
}

fn check_one(partition: &Partition, findings: &mut Findings) {
    let mut refuse = |what: &str| {
        findings.add(
            Check::Partitions,
            format!("partition {}", partition.number),
            what,
        );
    };
    if PartitionType::from_guid(partition.type_guid).is_none() {
        refuse("has a type that means nothing in an extension");
    }
    if partition.attributes & gpt::NO_AUTO != 0 {
        refuse("has attribute bit 63 set: systemd passes it over");
    }
    if partition.label == "_empty" {
        refuse("has the label `_empty`: systemd passes it over");
    }
    if !partition.offset.is_multiple_of(ALIGNMENT) || !partition.size.is_multiple_of(ALIGNMENT) {
        refuse("does not start and end at multiples of 4096 bytes");
    }
}
