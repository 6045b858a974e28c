//! `ukikit cred reencrypt`: opens with the keys that `--from-…` names, makes anew what the other options ask for. The
//! plaintext stays in memory that is wiped, and nothing is written before everything is made.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use ukikit_creds::{
    Credential, EncryptedCredential, LINE, MachineId, PolicyKey, Requirements, SignedPolicy,
    Timestamp,
};

use super::opening::Opening;
use super::summary::Summary;
use super::wish::{Recipe, Wish};
use super::{Encoding, Machine, TpmDevice, read_either};
use crate::file;
use crate::output::{Output, with_hint};
use crate::system;

/// What is not asked for stays as it is: name, times, keys, signed policy, scope, encoding.
#[derive(Debug, Args)]
pub(crate) struct Reencrypt {
    /// The credentials, or - for standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Where the one credential goes, or - for standard output [default: each in its place]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    from: From,
}

/// What opens the credentials there are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options to open what there is")]
struct From {
    /// The TPM they are sealed to [default: as for --tpm2-device=]
    #[arg(long, value_name = "DEVICE")]
    from_tpm2_device: Option<String>,
    /// Signatures of its PCR values [default: tpm2-pcr-signature.json where systemd looks for it]
    #[arg(long, value_name = "FILE")]
    from_tpm2_signature: Option<PathBuf>,
    /// Take the files of their machine from below DIR
    #[arg(long, value_name = "DIR", default_value = "/")]
    from_root: PathBuf,
    /// The credential secret of their machine [default: below --from-root]
    #[arg(long, value_name = "FILE")]
    from_host_secret: Option<PathBuf>,
    /// The ID of their machine [default: below --from-root]
    #[arg(long, value_name = "ID")]
    from_machine_id: Option<MachineId>,
    /// The user they are scoped to, by number or name
    #[arg(long, value_name = "USER")]
    from_uid: Option<String>,
    /// The user's name on their machine
    #[arg(long, value_name = "NAME", requires = "from_uid")]
    from_user: Option<String>,
    /// Take credentials under the null key, which anybody can have made
    #[arg(long)]
    allow_null: bool,
}

/// A file that is ready to be written.
struct Made {
    output: PathBuf,
    encrypted: EncryptedCredential,
    encoding: Encoding,
    bytes: Vec<u8>,
}

impl Reencrypt {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let made: Vec<Made> = self
            .outputs()?
            .into_iter()
            .map(|(input, output)| self.make(input, output, out))
            .collect::<Result<_>>()?;
        for Made {
            output,
            encrypted,
            encoding,
            bytes,
        } in made
        {
            if !self.wish.dry_run {
                file::write(&output, &bytes, out)?;
            }
            let summary = Summary {
                encrypted: &encrypted,
                encoding,
            };
            out.note(format_args!("{}: {summary}", file::shown_output(&output)));
        }
        Ok(())
    }

    fn outputs(&self) -> Result<Vec<(&Path, &Path)>> {
        match (&self.output, self.inputs.as_slice()) {
            (Some(output), [input]) => Ok(vec![(input, output)]),
            (Some(_), _) => Err(anyhow!(
                "--output= takes one credential, and there are {}",
                self.inputs.len()
            )),
            (None, inputs) => Ok(inputs
                .iter()
                .map(|input| (input.as_path(), input.as_path()))
                .collect()),
        }
    }

    fn make(&self, input: &Path, output: &Path, out: &mut Output) -> Result<Made> {
        let (old, encoding) = read_either(input)?;
        let (encrypted, encoding) = if self.is_about_encoding() {
            (old, self.wish.encoding.unwrap_or(encoding))
        } else {
            self.encrypt(input, &old, encoding, out)
                .with_context(|| format!("cannot encrypt {} anew", file::shown_input(input)))?
        };
        let bytes = match encoding {
            Encoding::Binary => encrypted.as_bytes().to_vec(),
            Encoding::Base64 => encrypted.to_text(LINE).into_bytes(),
        };
        Ok(Made {
            output: output.to_owned(),
            encrypted,
            encoding,
            bytes,
        })
    }

    /// Whether nothing but the encoding may change: that takes no key.
    fn is_about_encoding(&self) -> bool {
        let Wish {
            with_key,
            identity,
            target_systemd,
            encoding,
            pinned,
            tpm,
            pcrs,
            public_key,
            timestamp,
            not_after,
            machine,
            ..
        } = &self.wish;
        let keys = with_key.is_none()
            && identity.is_none()
            && pinned.is_none()
            && !tpm.is_given()
            && machine.is_own();
        let policy = pcrs.is_none() && public_key.is_none() && target_systemd.is_none();
        encoding.is_some() && keys && policy && timestamp.is_none() && not_after.is_none()
    }

    fn encrypt(
        &self,
        input: &Path,
        old: &EncryptedCredential,
        encoding: Encoding,
        out: &mut Output,
    ) -> Result<(EncryptedCredential, Encoding)> {
        let credential = self.open(input, old)?;
        let recipe = self.recipe(old, encoding, &credential, out)?;
        let encrypted = self.wish.encrypt(&recipe, &credential, out)?;
        let size = match recipe.encoding {
            Encoding::Binary => encrypted.as_bytes().len(),
            Encoding::Base64 => encrypted.to_text(LINE).len(),
        };
        self.wish.check_size(&recipe, size, out)?;
        Ok((encrypted, recipe.encoding))
    }

    /// The plaintext side, with the times and the scope it is to have.
    fn open(&self, input: &Path, old: &EncryptedCredential) -> Result<Credential> {
        let machine = self.from.machine();
        let tpm = TpmDevice {
            device: self.from.from_tpm2_device.clone(),
        };
        let opening = Opening {
            machine: &machine,
            tpm: &tpm,
            signature: self.from.from_tpm2_signature.as_deref(),
            prefix: "from-",
        };
        let not_after = self.wish.not_after()?;
        let mut want = Requirements::any();
        // What has expired may be given a longer life, but only by name.
        want.now = not_after
            .is_none()
            .then(|| Timestamp::from_micros(system::now_micros()));
        want.scope = machine.scope()?;
        want.allow_null = self.from.allow_null;
        let mut credential = opening.open(input, old, &want)?;
        credential.timestamp = self.wish.timestamp()?.or(credential.timestamp);
        credential.not_after = not_after.or(credential.not_after);
        credential.scope = self.wish.machine.scope()?.or(credential.scope);
        Ok(credential)
    }

    fn recipe(
        &self,
        old: &EncryptedCredential,
        encoding: Encoding,
        credential: &Credential,
        out: &mut Output,
    ) -> Result<Recipe> {
        let mut kind = match self.wish.with_key {
            Some(_) => self.wish.keys(out)?,
            None => old.kind(),
        };
        if self.wish.identity.is_some() && !kind.tpm {
            let error = anyhow!(
                "--for= seals to a TPM, and the key is to be {}",
                kind.with_key()
            );
            return Err(with_hint(error, "give --with-key=tpm2"));
        }
        kind.scoped = credential.scope.is_some();
        kind.pinned = kind.tpm && self.wish.is_pinned().unwrap_or(old.kind().pinned);
        self.check_literal(old, kind.tpm)?;
        let signed = match self.wish.with_key.is_none() && self.wish.public_key.is_none() {
            true => signed_policy(old)?,
            false => self.wish.signed_policy(kind)?,
        };
        let mut recipe = self
            .wish
            .recipe(kind, credential.name.clone(), signed, out)?;
        let bank = old.sealed()?.map(|sealed| sealed.bank);
        recipe.pcrs.bank = recipe.pcrs.bank.or(bank);
        if self.wish.encoding.is_none() && self.wish.target_systemd.is_none() {
            recipe.encoding = encoding;
        }
        Ok(recipe)
    }

    /// PCR values cannot be taken over, only their digest is known: dropping the binding has to be asked for.
    fn check_literal(&self, old: &EncryptedCredential, tpm: bool) -> Result<()> {
        let Some(sealed) = old.sealed()?.filter(|_| tpm && self.wish.pcrs.is_none()) else {
            return Ok(());
        };
        if sealed.literal.is_empty() {
            return Ok(());
        }
        let error = anyhow!(
            "it is bound to the values of PCR {}, which cannot be taken over",
            sealed.literal
        );
        Err(with_hint(
            error,
            "give --tpm2-pcrs= with what to bind to, or with nothing",
        ))
    }
}

impl From {
    fn machine(&self) -> Machine {
        Machine {
            root: self.from_root.clone(),
            host_secret: self.from_host_secret.clone(),
            machine_id: self.from_machine_id,
            uid: self.from_uid.clone(),
            user: self.from_user.clone(),
        }
    }
}

/// The signed policy that it has.
fn signed_policy(old: &EncryptedCredential) -> Result<Option<SignedPolicy>> {
    let Some(signed) = old.sealed()?.and_then(|sealed| sealed.signed) else {
        return Ok(None);
    };
    Ok(Some(SignedPolicy {
        key: PolicyKey::from_pem(signed.pem)?,
        pcrs: signed.pcrs,
    }))
}
