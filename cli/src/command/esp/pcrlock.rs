//! Whether what systemd-pcrlock has locked opens after a change of companions.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use ukikit::PlannedBoot;
use ukikit::predict::{PcrlockPolicy, Prediction};
use ukikit_esp::{Companion, Esp, Start, Target};

use crate::output::Output;

/// The policy to look at.
#[derive(Debug, Args)]
pub(super) struct Pcrlock {
    /// The policy of systemd-pcrlock that the next boot has to meet: what does not is a warning
    #[arg(
        long = "tpm2-pcrlock",
        value_name = "FILE",
        default_value = "/var/lib/systemd/pcrlock.json"
    )]
    policy: PathBuf,
}

impl Pcrlock {
    /// Warns of each UKI whose PCR 12 or 13 will be none that the policy covers. Without a policy there is nothing to say.
    pub(super) fn warn(
        &self,
        esp: &Esp,
        target: &Target,
        placed: &[Companion],
        out: &mut Output,
    ) -> Result<()> {
        let Some(policy) = self.read()? else {
            return Ok(());
        };
        let Some(bank) = policy.bank() else {
            return Ok(());
        };
        let ukis = match target {
            Target::Uki(uki) => vec![uki.clone()],
            _ => esp.ukis()?,
        };
        for uki in ukis {
            let mut planned = PlannedBoot::read(esp, uki, &[], Start::default())?;
            planned.change(target, &[], placed)?;
            let prediction = Prediction::new(&planned.boot()?, &[bank], true);
            for pcr in policy.refused(&prediction) {
                let uki = &planned.uki_path;
                out.warning(format_args!(
                    "`{uki}` will have a PCR {pcr} that `{}` does not cover: before the reboot run ukikit predict \
                     --format=pcrlock --output=/var/lib/pcrlock.d for it, and systemd-pcrlock make-policy",
                    self.policy.display()
                ));
            }
        }
        Ok(())
    }

    fn read(&self) -> Result<Option<PcrlockPolicy>> {
        let shown = self.policy.display();
        match fs::read(&self.policy) {
            Ok(json) => {
                let policy = serde_json::from_slice(&json);
                Ok(Some(
                    policy.with_context(|| format!("cannot use `{shown}`"))?,
                ))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read `{shown}`")),
        }
    }
}
