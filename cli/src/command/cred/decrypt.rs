//! `ukikit cred decrypt`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ukikit_creds::{BootPolicy, Requirements, Timestamp};

use super::opening::Opening;
use super::{Encoding, Machine, TpmDevice, moment, name, read_credential};
use crate::file;
use crate::output::Output;
use crate::system::{self, environment};

#[derive(Debug, Args)]
pub(crate) struct Decrypt {
    /// The credential, or - for standard input
    input: PathBuf,
    /// Where the plaintext goes, or - for standard output
    #[arg(default_value = "-")]
    output: PathBuf,
    /// The name it must have; empty takes any [default: the input's file name without .cred]
    #[arg(long)]
    name: Option<String>,
    /// How the credential is written
    #[arg(long, value_enum, default_value = "base64")]
    encoding: Encoding,
    /// The time to check the expiry against, such as @1700000000 [default: now]
    #[arg(long, value_name = "TIME")]
    timestamp: Option<String>,
    #[command(flatten)]
    tpm: TpmDevice,
    /// Signatures of PCR values [default: tpm2-pcr-signature.json where systemd looks for it]
    #[arg(long = "tpm2-signature", value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Take a credential under the null key
    #[arg(long, conflicts_with = "refuse_null")]
    allow_null: bool,
    /// Refuse a credential under the null key
    #[arg(long)]
    refuse_null: bool,
    #[command(flatten)]
    machine: Machine,
}

impl Decrypt {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let credential = read_credential(&self.input, self.encoding)?;
        let want = self.requirements()?;
        let (tpm, machine) = (&self.tpm, &self.machine);
        let opening = Opening {
            tpm,
            machine,
            signature: self.signature.as_deref(),
            prefix: "",
        };
        let opened = opening.open(&self.input, &credential, &want)?;
        file::write(&self.output, opened.data.expose(), out)
    }

    fn requirements(&self) -> Result<Requirements> {
        let now = Timestamp::from_micros(system::now_micros());
        let now = self
            .timestamp
            .as_deref()
            .map_or(Ok(now), |time| moment::parse(time, now))?;
        let mut want = Requirements::any();
        if validates("SYSTEMD_CREDENTIAL_VALIDATE_NAME") {
            want.name = name(self.name.as_deref(), &self.input)?;
        }
        if validates("SYSTEMD_CREDENTIAL_VALIDATE_NOT_AFTER") {
            want.now = Some(now);
        }
        want.scope = self.machine.scope()?;
        want.allow_null = self.allow_null || !self.refuse_null && null_accepted();
        Ok(want)
    }
}

/// systemd's switches against its own checks: only an explicit "no" turns one off.
fn validates(variable: &str) -> bool {
    let value = environment(variable).map(|value| value.to_ascii_lowercase());
    !matches!(
        value.as_deref(),
        Some("0" | "no" | "n" | "false" | "f" | "off")
    )
}

/// What this machine's boot policy says to a null key.
fn null_accepted() -> bool {
    BootPolicy::from_command_line(&system::kernel_command_line()).accepts_null(system::boot_facts())
}
