//! Opening a credential with whatever of a machine's keys its type needs.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ukikit_creds::tpm::Tpm;
use ukikit_creds::{
    Credential, EncryptedCredential, Error, Keys, PcrSignatures, Requirements, SIGNATURE_FILE,
};

use super::{Machine, TpmDevice, moment};
use crate::file;
use crate::output::with_hint;
use crate::system;

/// Longest PCR signature file that is read: far more than any vendor's.
const SIGNATURE_MAX: usize = 16 << 20;

/// Where the keys are.
pub(super) struct Opening<'a> {
    pub(super) machine: &'a Machine,
    pub(super) tpm: &'a TpmDevice,
    /// Signatures of PCR values, where they are not at systemd's places.
    pub(super) signature: Option<&'a Path>,
    /// What the names of options begin with, for hints.
    pub(super) prefix: &'a str,
}

impl Opening<'_> {
    /// Opens what was read from `file`.
    pub(super) fn open(
        &self,
        file: &Path,
        credential: &EncryptedCredential,
        want: &Requirements,
    ) -> Result<Credential> {
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
        credential
            .decrypt(&mut keys, want)
            .map_err(|error| self.explain(file, error))
    }

    fn signatures(&self) -> Result<Option<PcrSignatures>> {
        let found = self
            .signature
            .map(PathBuf::from)
            .or_else(|| self.machine.search(SIGNATURE_FILE));
        let Some(path) = found else { return Ok(None) };
        let json = file::read(&path, SIGNATURE_MAX)?;
        let read = PcrSignatures::from_json(&json);
        read.map(Some).map_err(|error| {
            anyhow::Error::new(error).context(format!("cannot use `{}`", path.display()))
        })
    }

    /// Names the file, and says what can be done.
    fn explain(&self, file: &Path, error: Error) -> anyhow::Error {
        let prefix = self.prefix;
        let hint = match &error {
            Error::Expired { not_after } => {
                format!("it was good until {}", moment::show(*not_after))
            }
            Error::NameMismatch { embedded, .. } => {
                format!("open it with --name={embedded}, or with --name= to take any name")
            }
            Error::NullKeyRefused => "--allow-null takes it all the same".to_owned(),
            Error::Scoped => {
                format!("give --{prefix}uid=USER, and --{prefix}machine-id= and --{prefix}host-secret= for another machine's").to_owned()
            }
            Error::SignatureMissing => format!("give --{prefix}tpm2-signature=FILE"),
            Error::HandleEmpty { .. } => "systemd-tpm2-setup makes the storage root key".to_owned(),
            _ => String::new(),
        };
        let error =
            anyhow::Error::new(error).context(format!("cannot open {}", file::shown_input(file)));
        if hint.is_empty() {
            error
        } else {
            with_hint(error, hint)
        }
    }
}
