//! `ukikit tpm identity`

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ukikit::endorsement;
use ukikit_creds::tpm::Tpm;
use ukikit_creds::{EndorsementKey, EndorsementKind, Error, HostIdentity, MachineId};

use crate::command::cred::TpmDevice;
use crate::file;
use crate::output::Output;
use crate::system;

#[derive(Debug, Args)]
pub(crate) struct Identity {
    /// Where the identity goes, or - for standard output
    #[arg(default_value = "-")]
    output: PathBuf,
    /// A name for people [default: from etc/hostname below --root]
    #[arg(long)]
    name: Option<String>,
    /// The host's machine ID [default: from etc/machine-id below --root]
    #[arg(long, value_name = "ID")]
    machine_id: Option<MachineId>,
    /// Take the host's files from below DIR
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Record the endorsement key of this kind: rsa2048, rsa3072, p256 or p384
    /// [default: the one with a certificate]
    #[arg(long, value_name = "KIND")]
    endorsement_key: Option<EndorsementKind>,
    /// Take the storage root key from a file, as `systemd-analyze srk` and systemd-tpm2-setup write it, instead of asking a TPM: enough to seal
    /// for systemd 262 and later
    #[arg(long, value_name = "FILE", conflicts_with_all = ["device", "endorsement_key"])]
    storage_root_key: Option<PathBuf>,
    #[command(flatten)]
    tpm: TpmDevice,
}

/// A public area of any kind of key.
const PUBLIC_MAX: usize = 4096;

impl Identity {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let mut identity = match &self.storage_root_key {
            Some(path) => of_file(path)?,
            None => self.of_tpm()?,
        };
        identity.name = self
            .name
            .clone()
            .or_else(|| first_line(&self.root.join("etc/hostname")));
        identity.machine_id = self
            .machine_id
            .or_else(|| first_line(&self.root.join("etc/machine-id"))?.parse().ok());
        identity.systemd_version = systemd_version(&self.root);
        if self.storage_root_key.is_none() {
            say_what_is_missing(&identity, out);
        }
        file::write(&self.output, identity.to_json().as_bytes(), out)
    }

    fn of_tpm(&self) -> Result<HostIdentity> {
        let (mut transport, mut rng) = (self.tpm.open()?, system::random());
        let mut tpm = Tpm::new(&mut *transport, &mut rng);
        let mut identity = HostIdentity::of_tpm(&mut tpm)?;
        identity.endorsement_key = match tpm.endorsement_key(self.endorsement_key) {
            Err(Error::EndorsementLocked) => None,
            found => found?,
        };
        Ok(identity)
    }
}

fn of_file(path: &Path) -> Result<HostIdentity> {
    let public = file::read(path, PUBLIC_MAX)?;
    let identity = HostIdentity::of_storage_root_key(&public);
    identity.with_context(|| format!("cannot use `{}`", file::shown_input(path)))
}

fn say_what_is_missing(identity: &HostIdentity, out: &mut Output) {
    if identity.storage_root_key.is_none() {
        out.warning("the TPM holds no storage root key, so nothing pinned can be sealed to it; systemd-tpm2-setup makes one");
    }
    if identity.legacy_parent.is_none() {
        out.warning("the TPM's owner hierarchy has a password, so only pinned credentials (systemd 262 and later) can be sealed to it");
    }
    say_what_proves_it(identity.endorsement_key.as_ref(), out);
    if identity.machine_id.is_none() {
        out.warning("the machine ID is not known, so nothing can be scoped to a user there; --machine-id= gives it");
    }
}

fn say_what_proves_it(key: Option<&EndorsementKey>, out: &mut Output) {
    match key {
        None => out.warning("the TPM shows no endorsement key, because its endorsement hierarchy has a password or it makes none of that kind, so the identity cannot be proven"),
        Some(key) if key.certificate.is_none() => out.note("the TPM holds no endorsement certificate: a proof of this identity will not tell it from a software TPM"),
        Some(key) => {
            if let Err(error) = endorsement::check_key(key) {
                out.warning(format_args!("{error:#}; the identity cannot be proven with it"));
            }
        }
    }
}

fn first_line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines()
        .next()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
}

/// The version in the name of systemd's shared library.
fn systemd_version(root: &Path) -> Option<u16> {
    let directories = [
        "usr/lib/systemd",
        "usr/lib64/systemd",
        "usr/lib/x86_64-linux-gnu/systemd",
        "usr/lib/aarch64-linux-gnu/systemd",
    ];
    let libraries = directories
        .iter()
        .filter_map(|directory| fs::read_dir(root.join(directory)).ok())
        .flatten()
        .flatten();
    libraries
        .filter_map(|library| version_in(&library.file_name().to_string_lossy()))
        .max()
}

/// 262 in `libsystemd-shared-262.so` and `libsystemd-shared-262.1-1.so`.
fn version_in(library: &str) -> Option<u16> {
    let version = library
        .strip_prefix("libsystemd-shared-")?
        .strip_suffix(".so")?;
    version
        .split(|character: char| !character.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_tells_the_version() {
        for (library, version) in [
            ("libsystemd-shared-262.so", Some(262)),
            ("libsystemd-shared-257.13-1~deb13u1.so", Some(257)),
            ("libsystemd-core-262.so", None),
        ] {
            assert_eq!(version_in(library), version, "{library}");
        }
    }
}
