//! What stands on the boot partition: read back, verified, and told as the initrd will see it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ukikit::Base;
use ukikit_creds::catalog::{Reader, WellKnown};
use ukikit_creds::{Encoding, EncryptedCredential, HostIdentity, Name};
use ukikit_esp::{Changes, Entry, Esp, Kind, Target, UkiPath};
use ukikit_sysext::{Image, Requirements, Tree};

/// Reads the companions of a UKI, verifies each, and tells what becomes of it.
///
/// # Errors
///
/// Whatever is not as it was placed, or would not have its effect in the initrd.
pub(crate) fn read_back(
    esp: &Esp,
    uki: &UkiPath,
    placed: &Changes,
    identity: &HostIdentity,
) -> Result<String> {
    let entries = esp.list(Some(&Target::Uki(uki.clone())))?;
    let found: BTreeSet<_> = entries.iter().map(|entry| &entry.path).collect();
    let expected: BTreeSet<_> = placed.iter().map(|change| &change.path).collect();
    ensure!(
        found == expected,
        "{found:?} is on the ESP, not {expected:?}"
    );

    let base = Base::of_uki(&fs::read(esp.uki(uki)?)?)?;
    let mut report = format!("The initrd of {uki} will get\n\n");
    for entry in &entries {
        let told = companion(entry, &esp.root().join(&entry.path), identity, &base);
        report += &told.with_context(|| format!("`{}` would have no effect", entry.path))?;
    }
    report += &format!(
        "All of it was read back and verified. No credential was opened: only the TPM of its host can.\n\
         The EFI system partition stands in {}\n",
        esp.root().display()
    );
    Ok(report)
}

fn companion(entry: &Entry, path: &Path, identity: &HostIdentity, base: &Base) -> Result<String> {
    if let Some(note) = &entry.note {
        bail!("{note}");
    }
    match entry.kind {
        Some(Kind::Credential) => credential(entry, path, identity),
        Some(Kind::Extension) => extension(entry, path, base),
        _ => bail!("it is neither a credential nor an extension"),
    }
}

fn credential(entry: &Entry, path: &Path, identity: &HostIdentity) -> Result<String> {
    let described = EncryptedCredential::parse(&fs::read(path)?, Encoding::Base64)?.describe()?;
    let expected = identity
        .storage_root_key
        .as_ref()
        .map(|key| hex::encode(key.public.name()));
    let named = described.tpm.and_then(|tpm| tpm.parent_name);
    let key = named
        .filter(|named| Some(named) == expected.as_ref())
        .context("it does not name the storage root key of the host")?;

    let (file, size, since) = (entry.name(), entry.size, described.readable_since);
    let name = file.strip_suffix(".cred").unwrap_or(file);
    let reader = reader(&name.parse()?);
    let host = identity.name.as_deref().unwrap_or("the host");
    Ok(format!(
        "{name}, a credential\n  \
           file     /.extra/credentials/{file}, {size} bytes\n  \
           then     /run/credentials/@encrypted/{name}\n  \
           for      {reader}\n  \
           opens    in the TPM of {host} alone, for systemd {since} and later\n  \
           key      {key}\n\n",
    ))
}

fn reader(name: &Name) -> String {
    match WellKnown::find(name).map(|known| known.reader) {
        Some(Reader::Generator) => "a generator, before any unit starts".to_owned(),
        Some(Reader::Manager) => "PID 1".to_owned(),
        Some(Reader::Service) | None => format!("each unit with ImportCredential={name}"),
    }
}

fn extension(entry: &Entry, path: &Path, base: &Base) -> Result<String> {
    let mut requirements = Requirements::new();
    requirements.file_name = Some(entry.name().to_owned());
    requirements.base = Some(base.release.clone());
    requirements.architecture = base.architecture;
    let image = Image::open(File::open(path)?)?;
    let root_hash = image.verify(&base.certificates, &requirements)?;

    let (file, size) = (entry.name(), entry.size);
    let started = upheld(&image.tree()?).join("; ");
    Ok(format!(
        "{file}, an extension\n  \
           file     /.extra/sysext/{file}, {size} bytes\n  \
           merged   into /usr, signed by whom the initrd trusts\n  \
           hash     {root_hash}\n  \
           starts   {started}\n\n",
    ))
}

/// The units that the links in `UNIT.upholds` start.
fn upheld(tree: &Tree) -> Vec<String> {
    let paths = tree
        .iter()
        .filter_map(|(path, _)| std::str::from_utf8(path).ok());
    paths
        .filter_map(|path| {
            let path = path.strip_prefix("usr/lib/systemd/system/")?;
            let (unit, started) = path.split_once(".upholds/")?;
            Some(format!("{started}, once {unit} is reached"))
        })
        .collect()
}
