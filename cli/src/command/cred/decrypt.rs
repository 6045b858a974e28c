//! `ukikit cred decrypt`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ukikit_creds::tpm::Tpm;
use ukikit_creds::{
    BootPolicy, Error, Keys, PcrSignatures, Requirements, SIGNATURE_FILE, Timestamp,
};

use super::{Encoding, Machine, TpmDevice, moment, name, read_credential};
use crate::file;
use crate::output::{Output, with_hint};
use crate::system::{self, environment};

/// Longest PCR signature file that is read: far more than any vendor's.
const SIGNATURE_MAX: usize = 16 << 20;

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
        let kind = credential.kind();
        let signatures = if kind.signed {
            self.signatures()?
        } else {
            None
        };
        let host = if kind.host {
            Some(self.machine.host_secret()?)
        } else {
            None
        };
        let mut transport = if kind.tpm {
            Some(self.tpm.open()?)
        } else {
            None
        };
        let mut rng = system::random();
        let tpm = transport
            .as_mut()
            .map(|transport| Tpm::new(&mut **transport, &mut rng));
        let mut keys = Keys {
            host: host.as_ref(),
            tpm,
            signatures: signatures.as_ref(),
        };
        let opened = credential
            .decrypt(&mut keys, &want)
            .map_err(|error| self.explain(error))?;
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

    fn signatures(&self) -> Result<Option<PcrSignatures>> {
        let found = self
            .signature
            .clone()
            .or_else(|| self.machine.search(SIGNATURE_FILE));
        let Some(path) = found else { return Ok(None) };
        let json = file::read(&path, SIGNATURE_MAX)?;
        let read = PcrSignatures::from_json(&json);
        read.map(Some).map_err(|error| {
            anyhow::Error::new(error).context(format!("cannot use `{}`", path.display()))
        })
    }

    /// Names the file, and says what can be done.
    fn explain(&self, error: Error) -> anyhow::Error {
        let hint = match &error {
            Error::Expired { not_after } => {
                format!("it was good until {}", moment::show(*not_after))
            }
            Error::NameMismatch { embedded, .. } => {
                format!("open it with --name={embedded}, or with --name= to take any name")
            }
            Error::NullKeyRefused => "--allow-null takes it all the same".to_owned(),
            Error::Scoped => {
                "give --uid=USER, and --machine-id= and --host-secret= for another machine's"
                    .to_owned()
            }
            Error::SignatureMissing => "give --tpm2-signature=FILE".to_owned(),
            Error::HandleEmpty { .. } => "systemd-tpm2-setup makes the storage root key".to_owned(),
            _ => String::new(),
        };
        let error = anyhow::Error::new(error)
            .context(format!("cannot open {}", file::shown_input(&self.input)));
        if hint.is_empty() {
            error
        } else {
            with_hint(error, hint)
        }
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
