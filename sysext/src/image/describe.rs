//! What shows of an image without knowing whom to trust.

use std::io::{Read, Seek};

use serde::Serialize;

use super::Image;
use super::partitions::{Found, Partitions};
use crate::content::{self, Identity};
use crate::finding::Findings;
use crate::gpt::Partition;
use crate::signature;
use crate::{
    Certificate, Error, Finding, Guid, ImageClass, PartitionType, Release, RootHash, verity,
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

/// What an image says about itself; nothing of it is verified.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Description {
    /// In bytes.
    pub size: u64,
    /// In bytes.
    pub sector_size: u32,
    /// UUID of the partition table.
    pub disk_uuid: Guid,
    /// In the order of the table.
    pub partitions: Vec<PartitionDescription>,
    /// What was signed.
    pub root_hash: Option<RootHash>,
    /// The hash tree.
    pub verity: Option<VerityDescription>,
    /// Who signed.
    pub signature: Option<SignatureDescription>,
    /// `erofs` or `squashfs`.
    pub file_system: Option<&'static str>,
    /// What it extends.
    pub class: Option<ImageClass>,
    /// The path of its release file in the data partition.
    pub release_file: Option<String>,
    /// The fields of its release file.
    pub release: Option<Release>,
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
        let partitions = Partitions::of(&self.table, self.size);
        let mut description = Description {
            size: self.size,
            sector_size: self.table.sector_size,
            disk_uuid: self.table.disk,
            partitions: self
                .table
                .partitions
                .iter()
                .map(PartitionDescription::from)
                .collect(),
            root_hash: None,
            verity: None,
            signature: None,
            file_system: None,
            class: None,
            release_file: None,
            release: None,
            findings: Vec::new(),
        };
        if let Some(verity) = &partitions.verity {
            description.verity = findings.keep(self.describe_verity(verity))?;
        }
        if let Some(signature) = &partitions.signature {
            self.describe_signature(signature, &mut description, &mut findings)?;
        }
        if let Some(data) = &partitions.data {
            let files = self.files(data, partitions.verity.as_ref());
            if let Some((kind, tree)) = findings.keep(files)? {
                description.file_system = Some(kind);
                let found = content::identity(&tree, data.kind.designator, file_name);
                description.identify(findings.keep(found)?);
            };
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
