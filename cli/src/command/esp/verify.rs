//! What is not verified is not placed: a look into each companion first.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use ukikit_creds::EncryptedCredential;
use ukikit_esp::{Companion, Kind, Pe};

use crate::output::with_hint;

/// `--encoding=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Encoding {
    /// Base64 text
    #[default]
    Base64,
    /// As bytes
    Binary,
}

/// What the files are held against.
pub(super) struct Expected<'a> {
    pub(super) encoding: Encoding,
    /// Of those who may sign images; none: those in the initrd of the UKI.
    pub(super) certificates: &'a [PathBuf],
    /// The UKI they are for, `None` if for all.
    pub(super) uki: Option<&'a [u8]>,
}

impl Expected<'_> {
    /// Says why the initrd would not take the companion.
    pub(super) fn verify(&self, companion: &Companion) -> Result<()> {
        let verdict = match companion.name().kind() {
            Kind::Credential => self.verify_credential(companion.content()),
            Kind::Addon => verify_addon(companion.content()),
            _ => self.verify_image(companion),
        };
        verdict.with_context(|| format!("cannot verify `{}`", companion.name()))
    }

    fn verify_credential(&self, file: &[u8]) -> Result<()> {
        if file.len() > LARGEST_CREDENTIAL {
            bail!(
                "it has {} bytes, and PID 1 takes credentials of up to 1 MiB",
                file.len()
            );
        }
        let encoding = match self.encoding {
            Encoding::Base64 => ukikit_creds::Encoding::Base64,
            Encoding::Binary => ukikit_creds::Encoding::Binary,
        };
        let Err(error) = EncryptedCredential::parse(file, encoding) else {
            return Ok(());
        };
        if self.encoding == Encoding::Base64 && EncryptedCredential::looks_binary(file) {
            let hint = "this is a binary credential; for an initrd of systemd up to 261 add --encoding=binary";
            return Err(with_hint(error, hint));
        }
        Err(error.into())
    }

    fn verify_image(&self, _companion: &Companion) -> Result<()> {
        let _ = (self.certificates, self.uki);
        bail!("extension images cannot be verified yet");
    }
}

/// In bytes of the file, as the stub hands it over.
const LARGEST_CREDENTIAL: usize = 1024 * 1024;

/// The stub takes nothing from an addon with a kernel or without a section of use to it.
fn verify_addon(file: &[u8]) -> Result<()> {
    let pe = Pe::parse(file)?;
    if pe.section(".linux").is_some() {
        bail!("it has a .linux section, so it is a UKI and not an addon");
    }
    let useful = [".cmdline", ".dtb", ".dtbauto", ".initrd", ".ucode"];
    if !useful.iter().any(|name| pe.section(name).is_some()) {
        bail!("it has none of the sections {}", useful.join(", "));
    }
    Ok(())
}
