//! `[seal]`: what the host's secrets are bound to beside its TPM, in the words of a fleet file.
//!
//! What is no secret, and the hash of the recovery password, are bound to the TPM alone: they have to open while the machine
//! is being repaired.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use ukikit_creds::{Name, Timestamp};

use crate::fleet::{self, Bind, Settings};
use crate::moment;

/// What the host's secrets are bound to beside its TPM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Seal {
    /// `none`, `pcrs`, `signed` or `pcrs+signed`. There is no default.
    pub bind: Option<Bind>,
    /// PCRs with their values, as in `7:sha256=HEX`, joined by `+`.
    pub tpm2_pcrs: Option<String>,
    /// A file with the values of PCRs that are named without one.
    pub tpm2_pcr_values: Option<PathBuf>,
    /// The RSA key, in PEM, that signs PCR values.
    pub tpm2_public_key: Option<PathBuf>,
    /// The PCRs it signs [default: 11]
    pub tpm2_public_key_pcrs: Option<String>,
    /// Whether credentials name the storage root key, which systemd 262 and later read [default: as the UKI allows]
    pub pinned: Option<bool>,
    /// The last moment at which secrets open, such as `+90d`.
    pub not_after: Option<String>,
}

impl Seal {
    /// How the credential `name` is made: a secret with the policy, everything else with the TPM alone.
    pub(crate) fn settings(
        &self,
        name: Name,
        is_bound: bool,
        directory: &Path,
    ) -> Result<Settings> {
        let mut settings = Settings::new(name);
        settings.pinned = self.pinned;
        settings.bind = Some(Bind::None);
        if is_bound {
            self.bind(&mut settings, directory).context("[seal]")?;
        }
        Ok(settings)
    }

    fn bind(&self, settings: &mut Settings, directory: &Path) -> Result<()> {
        settings.bind = self.bind;
        let pcrs = self.tpm2_pcrs.as_deref().map(fleet::literal_pcrs);
        settings.pcrs = pcrs.transpose().context("tpm2-pcrs")?;
        let key = self
            .tpm2_public_key
            .as_ref()
            .map(|path| fleet::read_public_key(&directory.join(path)));
        settings.public_key = key.transpose()?;
        let pcrs = self.tpm2_public_key_pcrs.as_ref().map(|pcrs| pcrs.parse());
        settings.public_key_pcrs = pcrs.transpose().context("tpm2-public-key-pcrs")?;
        if let Some(text) = &self.not_after {
            moment::parse(text, Timestamp::from_micros(0)).context("not-after")?;
        }
        settings.not_after.clone_from(&self.not_after);
        match settings.bind {
            Some(bind) => bind.check(settings.pcrs.is_some(), settings.public_key.is_some()),
            None => Ok(()),
        }
    }
}
