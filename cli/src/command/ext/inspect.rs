//! `ukikit ext inspect`

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use ukikit_sysext::{
    Description, Image, Package, PackageRecord, PartitionDescription, SignatureDescription,
};

use super::SCHEMA;
use crate::output::{Json, Output};

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The image: an extension of any maker, or a bare EROFS or squashfs
    image: PathBuf,
    /// Show which package each file came from, as far as it was recorded when the image was built
    #[arg(long)]
    packages: bool,
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
            packages: self.packages,
            description,
        };
        out.show(&inspected, self.json)
    }
}

#[derive(Debug, Serialize)]
struct Inspected<'a> {
    schema: u32,
    image: &'a Path,
    #[serde(skip)]
    packages: bool,
    #[serde(flatten)]
    description: Description,
}

impl fmt::Display for Inspected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            image, description, ..
        } = self;
        writeln!(f, "image        {}", image.display())?;
        show_size(f, description)?;
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
        show_files(f, description)?;
        show_release(f, description)?;
        if self.packages {
            show_packages(f, description.packages.as_ref())?;
        }
        let mut findings = description.findings.iter();
        findings.try_for_each(|finding| writeln!(f, "finding      {finding}"))
    }
}

fn show_size(f: &mut fmt::Formatter<'_>, description: &Description) -> fmt::Result {
    let Description {
        size,
        parts,
        sector_size,
        disk_uuid,
        ..
    } = description;
    let (Some(sector_size), Some(disk_uuid)) = (sector_size, disk_uuid) else {
        return writeln!(f, "size         {size}, without partitions");
    };
    writeln!(f, "size         {size}, sectors of {sector_size}")?;
    let (data, tree, signature, rest) = (parts.data, parts.hash_tree, parts.signature, parts.rest);
    writeln!(
        f,
        "parts        data {data}, hash tree {tree}, signature {signature}, table and gaps {rest}"
    )?;
    writeln!(f, "disk UUID    {disk_uuid}")
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

fn show_files(f: &mut fmt::Formatter<'_>, description: &Description) -> fmt::Result {
    let Some(file_system) = &description.file_system else {
        return Ok(());
    };
    let codecs = match file_system.compression.as_slice() {
        [] => "not compressed".into(),
        codecs => codecs.join(" and "),
    };
    let cluster = file_system
        .cluster
        .map(|size| format!(", {size} bytes at a time"));
    let kind = file_system.kind;
    writeln!(
        f,
        "file system  {kind}, {codecs}{}",
        cluster.unwrap_or_default()
    )?;
    writeln!(
        f,
        "content      {} bytes, {} paths",
        file_system.content_size, file_system.entries
    )
}

fn show_packages(f: &mut fmt::Formatter<'_>, record: Option<&PackageRecord>) -> fmt::Result {
    let Some(record) = record else {
        return writeln!(f, "packages     none recorded");
    };
    for (at, packaged) in record.packages.iter().enumerate() {
        let title = if at == 0 { "packages" } else { "" };
        writeln!(f, "{title:<12} {}", named(&packaged.package))?;
        packaged
            .files
            .iter()
            .try_for_each(|file| writeln!(f, "               {file}"))?;
    }
    Ok(())
}

/// Name and version, then what else is known.
fn named(package: &Package) -> String {
    let Package {
        name,
        version,
        format,
        ..
    } = package;
    let more = [
        (!format.is_empty()).then(|| format.clone()),
        package.architecture.clone(),
        package
            .source
            .as_ref()
            .map(|source| format!("source {source}")),
        package
            .os
            .as_ref()
            .map(|os| format!("{os} {}", package.os_version.as_deref().unwrap_or_default())),
        package.os_cpe.clone(),
    ];
    let more: Vec<String> = more
        .into_iter()
        .flatten()
        .map(|part| part.trim().to_owned())
        .collect();
    format!("{name} {version} ({})", more.join(", "))
}

fn show_release(f: &mut fmt::Formatter<'_>, description: &Description) -> fmt::Result {
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
