//! What is not verified is not placed: a look into each companion first.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use ukikit::{Base, Carrier};
use ukikit_creds::{EncryptedCredential, HostIdentity, Timestamp};
use ukikit_esp::{AddonTarget, Companion, Kind, Uki, check_addon};
use ukikit_sysext::{Certificate, Certificates, Image, Requirements};

use crate::output::with_hint;

/// `--encoding=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::command) enum Encoding {
    /// Base64 text
    #[default]
    Base64,
    /// As bytes
    Binary,
}

/// What the files are held against.
pub(in crate::command) struct Expected<'a> {
    encoding: Encoding,
    /// Of those who may sign images; none: those in the initrd of the UKI.
    certificates: &'a [PathBuf],
    /// The UKI they are for, `None` if for all.
    uki: Option<&'a [u8]>,
    base: Option<Base>,
    /// The host, which a carrier must be for.
    host: Option<&'a HostIdentity>,
    now: Timestamp,
}

impl<'a> Expected<'a> {
    pub(in crate::command) fn new(
        encoding: Encoding,
        certificates: &'a [PathBuf],
        uki: Option<&'a [u8]>,
        host: Option<&'a HostIdentity>,
        now: Timestamp,
    ) -> Self {
        Self {
            encoding,
            certificates,
            uki,
            base: None,
            host,
            now,
        }
    }

    /// Says why the initrd would not take the companion.
    pub(in crate::command) fn verify(&mut self, companion: &Companion) -> Result<()> {
        let verdict = match companion.name().kind() {
            Kind::Credential => self.verify_credential(companion.content()),
            Kind::Addon => verify_addon(companion.content(), self.uki),
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

    fn verify_image(&mut self, companion: &Companion) -> Result<()> {
        let mut requirements = Requirements::new();
        requirements.file_name = Some(companion.name().to_string());
        if let Some(base) = self.base()? {
            requirements.base = Some(base.release.clone());
            requirements.architecture = base.architecture;
        }
        let image = Image::open(Cursor::new(companion.content().to_vec()))?;
        image.verify(&self.trusted()?, &requirements)?;
        match Carrier::find(&image.tree()?)? {
            Some(carrier) => self.verify_carrier(&carrier),
            None => Ok(()),
        }
    }

    /// systemd knows nothing of whose carrier it is and until when: here is the last place to look.
    fn verify_carrier(&self, carrier: &Carrier) -> Result<()> {
        let host = self.host.ok_or_else(|| {
            with_hint(
                anyhow!("it is the carrier of one host, and it is not said which host this is"),
                "give --for=FILE, what ukikit tpm identity wrote there",
            )
        })?;
        carrier.check_host(host)?;
        carrier.check_expiry(self.now)
    }

    /// What the UKI's initrd tells; it is unpacked once, and only for an image.
    fn base(&mut self) -> Result<Option<&Base>> {
        if let (Some(uki), None) = (self.uki, &self.base) {
            self.base = Some(Base::of_uki(uki)?);
        }
        Ok(self.base.as_ref())
    }

    /// The certificates given, or those of the initrd.
    fn trusted(&self) -> Result<Certificates> {
        if !self.certificates.is_empty() {
            return Ok(Certificates::new(read_certificates(self.certificates)?));
        }
        let missing = match &self.base {
            Some(base) if base.certificates.iter().next().is_some() => {
                return Ok(base.certificates.clone());
            }
            Some(_) => anyhow!("the initrd of the UKI has no certificate for images"),
            None => anyhow!("no certificate is given, and no UKI to take one from"),
        };
        Err(with_hint(
            missing,
            "name the signer's with --certificate=FILE",
        ))
    }
}

pub(super) fn read_certificates(paths: &[PathBuf]) -> Result<Vec<Certificate>> {
    paths.iter().map(|path| read_certificate(path)).collect()
}

fn read_certificate(path: &Path) -> Result<Certificate> {
    let cannot_read = || format!("cannot read `{}`", path.display());
    let pem = fs::read(path).with_context(cannot_read)?;
    Certificate::from_pem(&pem).with_context(cannot_read)
}

/// In bytes of the file, as the stub hands it over.
const LARGEST_CREDENTIAL: usize = 1024 * 1024;

/// Firmware and stub pass over an addon in silence.
fn verify_addon(file: &[u8], uki: Option<&[u8]>) -> Result<()> {
    let uki = uki.map(Uki::parse).transpose()?;
    let target = uki.as_ref().map(AddonTarget::of).unwrap_or_default();
    let findings = check_addon(file, &target);
    match findings.iter().find(|finding| finding.is_refusal()) {
        Some(refusal) => bail!("{refusal}"),
        None => Ok(()),
    }
}
