//! `ukikit cred inspect`

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use ukikit_creds::{DescribedTpm, Description};

use super::{Encoding, read_credential, read_either};
use crate::output::{Json, Output};

/// Version of the JSON form.
const SCHEMA: u32 = 1;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The credential, or - for standard input
    file: PathBuf,
    /// How the file is written [default: whichever it is]
    #[arg(long, value_enum)]
    encoding: Option<Encoding>,
    /// Print JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl Inspect {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let (credential, encoding) = match self.encoding {
            Some(encoding) => (read_credential(&self.file, encoding)?, encoding),
            None => read_either(&self.file)?,
        };
        let seen = Seen {
            schema: SCHEMA,
            encoding: match encoding {
                Encoding::Base64 => "base64",
                Encoding::Binary => "binary",
            },
            description: credential.describe()?,
        };
        out.show(&seen, self.json)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    schema: u32,
    encoding: &'static str,
    #[serde(flatten)]
    description: Description,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.description;
        row(f, "Key", shown.with_key)?;
        row(f, "Type", &shown.type_id)?;
        row(f, "Encoding", self.encoding)?;
        row(
            f,
            "Size",
            format_args!(
                "{} bytes, {} of them encrypted",
                shown.size, shown.content_size
            ),
        )?;
        row(
            f,
            "Scope",
            if shown.scoped {
                "one user"
            } else {
                "the system"
            },
        )?;
        row(
            f,
            "Readable by",
            format_args!("systemd {} and later", shown.readable_since),
        )?;
        if let Some(tpm) = &shown.tpm {
            show_tpm(f, tpm)?;
        }
        Ok(())
    }
}

fn show_tpm(f: &mut fmt::Formatter<'_>, tpm: &DescribedTpm) -> fmt::Result {
    match (&tpm.parent_handle, &tpm.parent_name) {
        (Some(handle), Some(name)) => row(
            f,
            "Sealed to",
            format_args!(
                "the {} storage root key at {handle}, {name}",
                tpm.parent_algorithm
            ),
        )?,
        _ => row(
            f,
            "Sealed to",
            format_args!(
                "the {} parent that systemd makes anew, un-pinned",
                tpm.parent_algorithm
            ),
        )?,
    }
    row(
        f,
        "Sealed by",
        if tpm.offline {
            "arithmetic, for a TPM to import"
        } else {
            "the TPM itself"
        },
    )?;
    let pcrs = if tpm.pcrs.is_empty() {
        "none".to_owned()
    } else {
        format!("{} ({})", tpm.pcrs, tpm.bank)
    };
    row(f, "PCRs by value", pcrs)?;
    if let Some(pcrs) = &tpm.signed_pcrs {
        row(
            f,
            "PCRs by signature",
            format_args!("{pcrs} ({})", tpm.bank),
        )?;
        row(
            f,
            "Signed by",
            tpm.public_key
                .as_deref()
                .unwrap_or("a key that cannot be read"),
        )?;
    }
    row(f, "Policy digest", &tpm.policy)
}

fn row(f: &mut fmt::Formatter<'_>, what: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{:<19}{value}", format!("{what}:"))
}
