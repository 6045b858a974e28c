//! The Secure Boot signature of an addon: shared by all verbs that make one. The options are spelt as for ukify.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ukikit_esp::SignablePe;

use crate::command::ext::signing::{Signing, warn_of_dates};
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct SecureBoot {
    /// Sign it for Secure Boot with this private key: PEM, asked for its passphrase if it has one
    #[arg(long, value_name = "FILE", requires = "secureboot_certificate")]
    secureboot_private_key: Option<PathBuf>,
    /// The certificate of that key, PEM; the firmware's db or shim's list of keys has to have it
    #[arg(long, value_name = "FILE", requires = "secureboot_private_key")]
    secureboot_certificate: Option<PathBuf>,
    /// File with the passphrase of that key
    #[arg(long, value_name = "FILE", requires = "secureboot_private_key")]
    secureboot_passphrase_file: Option<PathBuf>,
}

impl SecureBoot {
    /// The addon with a signature if there is a key, else as it is with a note.
    pub(crate) fn sign(&self, addon: Vec<u8>, out: &mut Output) -> Result<Vec<u8>> {
        let (Some(key), Some(certificate)) =
            (&self.secureboot_private_key, &self.secureboot_certificate)
        else {
            out.note("note: the addon is not signed: with Secure Boot on, the firmware refuses it");
            return Ok(addon);
        };
        let passphrase = self.secureboot_passphrase_file.clone();
        let signer = Signing::new(key.clone(), passphrase, certificate.clone()).signer()?;
        warn_of_dates(signer.certificate(), out);
        let mut image = SignablePe::parse(&addon)?;
        image.sign(&signer, None)?;
        Ok(image.to_bytes()?)
    }
}
