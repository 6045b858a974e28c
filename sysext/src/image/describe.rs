//! What shows of an image without knowing whom to trust.

use std::io::{Read, Seek};

use serde::Serialize;

use super::Image;
use super::data::FileSystemDescription;
use super::partitions::{Found, Partitions};
use crate::content::{self, Identity, with_cause};
use crate::finding::Findings;
use crate::gpt::Partition;
use crate::signature;
use crate::{
    Certificate, Check, Error, Finding, Guid, ImageClass, PackageRecord, PartitionType, Release,
    RootHash, verity,
};

/// One partition.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Place in the table, from 1.
    pub number: usize,
    /// systemd's name of its type, if the type means something.
    pub kind: Option<String>,
    /// UUID of its type.
    pub type_uuid: Guid,
    /// Its own UUID.
    pub uuid: Guid,
    /// Its name.
    pub label: String,
    /// Its first byte.
    pub offset: u64,
    /// In bytes.
    pub size: u64,
    /// Bit 60: read-only; bit 63: not discovered.
    pub attributes: u64,
}

impl From<&Partition> for PartitionDescription {
    fn from(partition: &Partition) -> Self {
        Self {
            number: partition.number,
            kind: PartitionType::from_guid(partition.type_guid).map(|kind| kind.to_string()),
            type_uuid: partition.type_guid,
            uuid: partition.guid,
            label: partition.label.clone(),
            offset: partition.offset,
            size: partition.size,
            attributes: partition.attributes,
        }
    }
}

/// The superblock of the hash tree.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct VerityDescription {
    /// Its UUID.
    pub uuid: Guid,
    /// In hex.
    pub salt: String,
    /// Blocks of 4096 bytes it covers.
    pub data_blocks: u64,
}

/// A certificate.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CertificateDescription {
    /// Whom it names.
    pub subject: String,
    /// SHA-256 of its DER bytes, in hex.
    pub fingerprint: String,
    /// Kind of its key.
    pub key: String,
    /// When it becomes valid, in RFC 3339. No boot looks at it.
    pub not_before: String,
    /// The last second at which it is valid, in RFC 3339. No boot looks at it.
    pub not_after: String,
}

impl From<&Certificate> for CertificateDescription {
    fn from(certificate: &Certificate) -> Self {
        Self {
            subject: certificate.subject(),
            fingerprint: certificate.fingerprint(),
            key: certificate.key().to_string(),
            not_before: certificate.not_before().to_string(),
            not_after: certificate.not_after().to_string(),
        }
    }
}

/// The signature as it claims to be.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SignatureDescription {
    /// The fingerprint beside the signature.
    pub certificate_fingerprint: Option<String>,
    /// Issuer and serial number, or key identifier.
    pub signers: Vec<String>,
    /// The certificates inside that can be read.
    pub certificates: Vec<CertificateDescription>,
}

/// What the bytes of an image are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Parts {
    /// The data partition, or a file system without partitions.
    pub data: u64,
    /// The verity partition.
    pub hash_tree: u64,
    /// The signature partition.
    pub signature: u64,
    /// Both copies of the partition table, gaps between partitions, and partitions of no meaning.
    pub rest: u64,
}

impl Parts {
    fn of(size: u64, partitions: &Partitions, has_table: bool) -> Self {
        let size_of =
            |found: &Option<Found>| found.as_ref().map_or(0, |found| found.partition.size);
        let [data, hash_tree, signature] =
            [&partitions.data, &partitions.verity, &partitions.signature].map(size_of);
        let data = if has_table { data } else { size };
        // Partitions may overlap in an image that somebody made up.
        let used = data.saturating_add(hash_tree).saturating_add(signature);
        Self {
            data,
            hash_tree,
            signature,
            rest: size.saturating_sub(used),
        }
    }
}

/// What an image says about itself; nothing of it is verified.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Description {
    /// In bytes.
    pub size: u64,
    /// Where those bytes go.
    pub parts: Parts,
    /// In bytes; of the partition table, if there is one.
    pub sector_size: Option<u32>,
    /// UUID of the partition table.
    pub disk_uuid: Option<Guid>,
    /// In the order of the table.
    pub partitions: Vec<PartitionDescription>,
    /// What was signed.
    pub root_hash: Option<RootHash>,
    /// The hash tree.
    pub verity: Option<VerityDescription>,
    /// Who signed.
    pub signature: Option<SignatureDescription>,
    /// What holds the files.
    pub file_system: Option<FileSystemDescription>,
    /// What it extends.
    pub class: Option<ImageClass>,
    /// The path of its release file in the data partition.
    pub release_file: Option<String>,
    /// The fields of its release file.
    pub release: Option<Release>,
    /// The packages of its files, if they were recorded.
    pub packages: Option<PackageRecord>,
    /// What is damaged or missing so that it does not show above.
    pub findings: Vec<Finding>,
}

impl<R: Read + Seek + Send + 'static> Image<R> {
    /// Reads what the image says about itself. The file name decides which release file counts; without
    /// one, the only one does.
    ///
    /// # Errors
    ///
    /// [`Error::ReadImage`].
    pub fn describe(&self, file_name: Option<&str>) -> Result<Description, Error> {
        let mut findings = Findings::from(self.findings.clone());
        let partitions = self.partitions();
        let mut description = Description {
            size: self.size,
            parts: Parts::of(self.size, &partitions, self.table.is_some()),
            sector_size: self.table.as_ref().map(|table| table.sector_size),
            disk_uuid: self.table.as_ref().map(|table| table.disk),
            partitions: self
                .table
                .iter()
                .flat_map(|table| &table.partitions)
                .map(PartitionDescription::from)
                .collect(),
            root_hash: None,
            verity: None,
            signature: None,
            file_system: None,
            class: None,
            release_file: None,
            release: None,
            packages: None,
            findings: Vec::new(),
        };
        if let Some(verity) = &partitions.verity {
            description.verity = findings.keep(self.describe_verity(verity))?;
        }
        if let Some(signature) = &partitions.signature {
            self.describe_signature(signature, &mut description, &mut findings)?;
        }
        if let Some(data) = self.data(&partitions)
            && let Some((kind, tree)) = findings.keep(data.files())?
        {
            description.file_system = Some(data.describe(kind, &tree)?);
            let found = content::identity(&tree, data.designator, file_name);
            description.identify(findings.keep(found)?);
            if let Some(path) = &description.release_file {
                match PackageRecord::read(&tree, path) {
                    Ok(record) => description.packages = record,
                    Err(error) => findings.add(Check::Content, data.place, with_cause(&error)),
                }
            }
        }
        description.findings = findings.into_vec();
        Ok(description)
    }

    fn describe_verity(&self, found: &Found) -> Result<VerityDescription, Error> {
        let superblock = verity::superblock(&mut self.window(found))?;
        Ok(VerityDescription {
            uuid: superblock.guid(),
            salt: hex::encode(superblock.salt().unwrap_or_default()),
            data_blocks: superblock.data_blocks.get(),
        })
    }

    fn describe_signature(
        &self,
        found: &Found,
        description: &mut Description,
        findings: &mut Findings,
    ) -> Result<(), Error> {
        let Some(signed) = findings.keep(self.signed_root_hash(found))? else {
            return Ok(());
        };
        description.root_hash = Some(signed.root_hash);
        if let Some((signers, certificates)) =
            findings.keep(signature::describe(&signed.signature))?
        {
            description.signature = Some(SignatureDescription {
                certificate_fingerprint: signed.fingerprint,
                signers,
                certificates: certificates
                    .iter()
                    .map(CertificateDescription::from)
                    .collect(),
            });
        }
        Ok(())
    }
}

impl Description {
    fn identify(&mut self, identity: Option<Identity>) {
        if let Some(Identity {
            class,
            path,
            release,
        }) = identity
        {
            self.class = Some(class);
            self.release_file = Some(path);
            self.release = Some(release);
        }
    }
}
