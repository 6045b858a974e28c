//! `ukikit ext inspect`

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use ukikit_sysext::{Description, Image, PartitionDescription, SignatureDescription};

use super::SCHEMA;
use crate::output::{Json, Output};

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The image
    image: PathBuf,
    /// How to print it
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl Inspect {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let file_name = super::file_name(&self.image);
        let describe = || -> Result<Description> {
            let image = Image::open(BufReader::new(File::open(&self.image)?))?;
            Ok(image.describe(file_name.as_deref())?)
        };
        let description =
            describe().with_context(|| format!("cannot read `{}`", self.image.display()))?;
        let inspected = Inspected {
            schema: SCHEMA,
            image: &self.image,
            description,
        };
        out.show(&inspected, self.json)
    }
}

#[derive(Debug, Serialize)]
struct Inspected<'a> {
    schema: u32,
    image: &'a Path,
    #[serde(flatten)]
    description: Description,
}

impl fmt::Display for Inspected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            image, description, ..
        } = self;
        writeln!(f, "image        {}", image.display())?;
        writeln!(
            f,
            "size         {}, sectors of {}",
            description.size, description.sector_size
        )?;
        writeln!(f, "disk UUID    {}", description.disk_uuid)?;
        description
            .partitions
            .iter()
            .try_for_each(|partition| show_partition(f, partition))?;
        if let Some(root_hash) = &description.root_hash {
            writeln!(f, "root hash    {root_hash}")?;
        }
        if let Some(verity) = &description.verity {
            writeln!(
                f,
                "hash tree    over {} data blocks, UUID {}",
                verity.data_blocks, verity.uuid
            )?;
            writeln!(f, "salt         {}", verity.salt)?;
        }
        if let Some(signature) = &description.signature {
            show_signature(f, signature)?;
        }
        show_release(f, description)?;
        let mut findings = description.findings.iter();
        findings.try_for_each(|finding| writeln!(f, "finding      {finding}"))
    }
}

fn show_partition(f: &mut fmt::Formatter<'_>, partition: &PartitionDescription) -> fmt::Result {
    let PartitionDescription {
        number,
        offset,
        size,
        uuid,
        label,
        ..
    } = partition;
    let kind = partition
        .kind
        .clone()
        .unwrap_or_else(|| partition.type_uuid.to_string());
    writeln!(
        f,
        "partition {number}  {kind}, {size} bytes at {offset}, UUID {uuid}, label `{label}`"
    )
}

fn show_signature(f: &mut fmt::Formatter<'_>, signature: &SignatureDescription) -> fmt::Result {
    for signer in &signature.signers {
        writeln!(f, "signed by    {signer}")?;
    }
    for certificate in &signature.certificates {
        writeln!(
            f,
            "certificate  {}, {}",
            certificate.subject, certificate.key
        )?;
        writeln!(
            f,
            "valid        {} to {}",
            certificate.not_before, certificate.not_after
        )?;
    }
    if let Some(fingerprint) = &signature.certificate_fingerprint {
        writeln!(f, "fingerprint  {fingerprint}")?;
    }
    Ok(())
}

fn show_release(f: &mut fmt::Formatter<'_>, description: &Description) -> fmt::Result {
    if let Some(file_system) = &description.file_system {
        writeln!(f, "file system  {file_system}")?;
    }
    if let Some(class) = &description.class {
        writeln!(f, "extends as   {class}")?;
    }
    if let Some(path) = &description.release_file {
        writeln!(f, "release      {path}")?;
    }
    for (key, value) in description
        .release
        .iter()
        .flat_map(|release| release.iter())
    {
        writeln!(f, "             {key}={value}")?;
    }
    Ok(())
}
