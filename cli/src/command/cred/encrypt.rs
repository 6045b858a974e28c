//! `ukikit cred encrypt`: what the options ask for becomes a `Recipe`, the recipe a binding, the binding a file.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use ukikit_creds::tpm::Tpm;
use ukikit_creds::{
    Credential, EncryptedCredential, HostIdentity, HostSecret, Key, Kind, LINE, Name,
    PLAINTEXT_MAX, PUBLIC_KEY_FILE, PcrMask, PcrPolicy, PcrWish, PolicyKey, Secret, SignedPolicy,
    Timestamp, TpmBinding, UNIT_LINE, catalog,
};

use super::{Encoding, Machine, TpmDevice, moment, name};
use crate::file;
use crate::output::{Output, with_hint};
use crate::system;

const IDENTITY_MAX: usize = 1 << 20;
const PUBLIC_KEY_MAX: usize = 1 << 20;
/// First systemd that reads a pinned key.
const PINNED_SINCE: u16 = 262;
/// First systemd that imports a key sealed by arithmetic.
const IMPORT_SINCE: u16 = 255;

#[derive(Debug, Args)]
pub(crate) struct Encrypt {
    /// The plaintext, or - for standard input
    input: PathBuf,
    /// Where the credential goes, or - for standard output
    output: PathBuf,
    /// The name it will be read under; empty for none [default: the output's file name without .cred]
    #[arg(long)]
    name: Option<String>,
    /// What it is encrypted with
    #[arg(long, value_enum, value_name = "KEY", default_value = "auto")]
    with_key: WithKey,
    /// Seal to the TPM of the host with this identity file instead of this machine's
    #[arg(long = "for", value_name = "IDENTITY", conflicts_with = "device")]
    identity: Option<PathBuf>,
    /// The systemd that will read it, such as 257: decides what --pinned= and --encoding= leave open
    #[arg(long, value_name = "VERSION")]
    target_systemd: Option<u16>,
    /// How the credential is written [default: base64, or what its reader in --target-systemd= takes]
    #[arg(long, value_enum)]
    encoding: Option<Encoding>,
    /// Name the storage root key in the credential: systemd 262 and later [default: no, or by --target-systemd=]
    #[arg(long, value_enum)]
    pinned: Option<YesNo>,
    #[command(flatten)]
    tpm: TpmDevice,
    /// PCRs to bind to, such as 7+14 for their values of now, or 7:sha256=HEX
    #[arg(
        long = "tpm2-pcrs",
        value_name = "PCRS",
        default_value = "",
        hide_default_value = true
    )]
    pcrs: PcrWish,
    /// Accept PCR values signed by this RSA key, in PEM
    #[arg(long = "tpm2-public-key", value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// PCRs that the signatures cover
    #[arg(
        long = "tpm2-public-key-pcrs",
        value_name = "PCRS",
        default_value = "11"
    )]
    public_key_pcrs: PcrMask,
    /// When it was made, such as @1700000000 [default: now]
    #[arg(long, value_name = "TIME")]
    timestamp: Option<String>,
    /// The last moment at which it opens, such as +30d [default: for ever]
    #[arg(long, value_name = "TIME")]
    not_after: Option<String>,
    #[command(flatten)]
    machine: Machine,
    /// Write a line for a unit file
    #[arg(short, long)]
    pretty: bool,
    /// Say what would be made, and write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum YesNo {
    Yes,
    No,
}

/// `--with-key=`, in systemd's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WithKey {
    /// TPM and host secret, whichever this machine has
    Auto,
    /// The TPM, or the null key on a machine without one
    AutoInitrd,
    /// A key everybody knows
    #[value(alias = "tpm2-absent")]
    Null,
    /// The host secret
    Host,
    /// The TPM
    Tpm2,
    /// Both
    #[value(name = "host+tpm2", alias = "tpm2+host")]
    HostTpm2,
    /// The TPM, under signed PCR values
    Tpm2WithPublicKey,
    /// Both, under signed PCR values
    #[value(
        name = "host+tpm2-with-public-key",
        alias = "tpm2-with-public-key+host"
    )]
    HostTpm2WithPublicKey,
}

/// What is to be made, before any key is touched.
struct Recipe {
    kind: Kind,
    name: Option<Name>,
    encoding: Encoding,
    public_key: Option<PathBuf>,
}

impl Encrypt {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let recipe = self.recipe(out)?;
        let credential = self.credential(&recipe)?;
        let encrypted = self.encrypt(&recipe, &credential, out)?;
        if !self.dry_run {
            let text = match recipe.encoding {
                Encoding::Binary => encrypted.as_bytes().to_vec(),
                Encoding::Base64 => self.text(&recipe, &encrypted).into_bytes(),
            };
            file::write(&self.output, &text, out)?;
        }
        let (recipe, encrypted) = (&recipe, &encrypted);
        out.note(format_args!(
            "{}: {}",
            file::shown_output(&self.output),
            Summary { recipe, encrypted }
        ));
        Ok(())
    }

    fn text(&self, recipe: &Recipe, encrypted: &EncryptedCredential) -> String {
        if !self.pretty {
            return encrypted.to_text(LINE);
        }
        let text = encrypted.to_text(UNIT_LINE);
        match &recipe.name {
            Some(name) if file::is_pipe(&self.output) => unit_line(name, &text),
            _ => text,
        }
    }

    fn recipe(&self, out: &mut Output) -> Result<Recipe> {
        let name = name(self.name.as_deref(), &self.output)?;
        match &name {
            None if self.name.is_none() => out
                .warning("no name is embedded; --name= gives one, or an empty one to silence this"),
            Some(name) if name.as_str().ends_with(".cred") => out.warning(format_args!(
                "the embedded name {name} ends in .cred, which systemd cuts off the file's name"
            )),
            _ => {}
        }
        let mut kind = self.keys(out)?;
        kind.scoped = self.machine.uid.is_some();
        let public_key = self.public_key_file(kind)?;
        kind.signed |= kind.tpm && public_key.is_some();
        kind.pinned = kind.tpm && self.is_pinned();
        if kind.id().is_none() {
            let error = anyhow!(
                "a credential scoped to a user needs the host secret, and its key is {}",
                kind.with_key()
            );
            return Err(with_hint(error, "give --with-key=host or host+tpm2"));
        }
        self.check_target(kind)?;
        let encoding = self
            .encoding
            .unwrap_or_else(|| self.encoding_for(name.as_ref()));
        if self.pretty && encoding == Encoding::Binary {
            bail!("--pretty writes text, and the encoding is binary");
        }
        Ok(Recipe {
            kind,
            name,
            encoding,
            public_key,
        })
    }

    /// Which keys `--with-key=` means here.
    fn keys(&self, out: &mut Output) -> Result<Kind> {
        let mut kind = Kind::default();
        match self.with_key {
            WithKey::Null => {}
            WithKey::Host => kind.host = true,
            WithKey::Tpm2 => kind.tpm = true,
            WithKey::HostTpm2 => (kind.host, kind.tpm) = (true, true),
            WithKey::Tpm2WithPublicKey => (kind.tpm, kind.signed) = (true, true),
            WithKey::HostTpm2WithPublicKey => {
                (kind.host, kind.tpm, kind.signed) = (true, true, true)
            }
            WithKey::AutoInitrd => {
                kind.tpm = self.has_tpm();
                if !kind.tpm {
                    out.warning(
                        "no TPM: the credential is under the null key, which protects nothing",
                    );
                }
            }
            WithKey::Auto => {
                (kind.host, kind.tpm) = (self.has_host_secret(), self.has_tpm());
                if !kind.host && !kind.tpm {
                    let error = anyhow!(
                        "this machine has neither a TPM nor a lasting place for a host secret"
                    );
                    return Err(with_hint(
                        error,
                        "give --for=IDENTITY to seal to another machine's TPM",
                    ));
                }
            }
        }
        Ok(kind)
    }

    fn has_tpm(&self) -> bool {
        self.identity.is_some() || self.tpm.is_given() || system::has_tpm_driver()
    }

    /// Another machine's host secret is used only when it was named.
    fn has_host_secret(&self) -> bool {
        self.machine.host_secret.is_some()
            || self.identity.is_none()
                && !system::is_temporary(&self.machine.root.join("var/lib/systemd"))
    }

    fn is_pinned(&self) -> bool {
        match self.pinned {
            Some(answer) => answer == YesNo::Yes,
            None => self
                .target_systemd
                .is_some_and(|version| version >= PINNED_SINCE),
        }
    }

    fn encoding_for(&self, name: Option<&Name>) -> Encoding {
        match self
            .target_systemd
            .map(|version| catalog::encoding(name, version))
        {
            Some(ukikit_creds::Encoding::Binary) => Encoding::Binary,
            _ => Encoding::Base64,
        }
    }

    fn check_target(&self, kind: Kind) -> Result<()> {
        let since = if kind.tpm {
            kind.since().max(IMPORT_SINCE)
        } else {
            kind.since()
        };
        match self.target_systemd {
            Some(target) if target < since => bail!(
                "systemd {target} cannot read a credential of type {}{}{}: it takes {since} or later",
                kind.with_key(),
                if kind.scoped { ", scoped" } else { "" },
                if kind.pinned { ", pinned" } else { "" },
            ),
            _ => Ok(()),
        }
    }

    /// The public key of a signed policy: the one named; where the mode wants one, the one systemd would find.
    fn public_key_file(&self, kind: Kind) -> Result<Option<PathBuf>> {
        match (&self.public_key, self.with_key) {
            (Some(_), WithKey::Null | WithKey::Host | WithKey::Tpm2 | WithKey::HostTpm2) => {
                Err(with_hint(
                    anyhow!("this --with-key= uses no public key"),
                    "give --with-key=tpm2-with-public-key or host+tpm2-with-public-key",
                ))
            }
            (Some(path), _) => Ok(Some(path.clone())),
            (None, WithKey::Auto | WithKey::AutoInitrd) if self.identity.is_none() && kind.tpm => {
                Ok(self.machine.search(PUBLIC_KEY_FILE))
            }
            (None, _) if kind.signed => match self.machine.search(PUBLIC_KEY_FILE) {
                None => Err(with_hint(
                    anyhow!("there is no {PUBLIC_KEY_FILE} where systemd looks for it"),
                    "give --tpm2-public-key=FILE",
                )),
                found => Ok(found),
            },
            (None, _) => Ok(None),
        }
    }

    fn credential(&self, recipe: &Recipe) -> Result<Credential> {
        let now = Timestamp::from_micros(system::now_micros());
        let made = self
            .timestamp
            .as_deref()
            .map_or(Ok(now), |time| moment::parse(time, now))?;
        let plaintext = file::read(&self.input, PLAINTEXT_MAX)?;
        let mut credential =
            Credential::new(recipe.name.clone(), made, Secret::copied_from(&plaintext));
        credential.not_after = self
            .not_after
            .as_deref()
            .map(|time| moment::parse(time, now))
            .transpose()?;
        credential.scope = self.machine.scope()?;
        Ok(credential)
    }

    fn encrypt(
        &self,
        recipe: &Recipe,
        credential: &Credential,
        out: &mut Output,
    ) -> Result<EncryptedCredential> {
        let host = if recipe.kind.host {
            Some(self.host_secret()?)
        } else {
            None
        };
        let binding = if recipe.kind.tpm {
            Some(self.binding(recipe, out)?)
        } else {
            None
        };
        let key = match (&host, &binding) {
            (None, None) => Key::Null,
            (Some(host), None) => Key::Host(host),
            (None, Some(binding)) => Key::Tpm(binding),
            (Some(host), Some(binding)) => Key::HostAndTpm(host, binding),
        };
        Ok(credential.encrypt(&key, &mut system::random())?)
    }

    /// The host secret, made as systemd makes it when this machine has none yet.
    fn host_secret(&self) -> Result<HostSecret> {
        if self.machine.host_secret.is_some() || self.identity.is_some() || self.dry_run {
            return self.machine.host_secret();
        }
        let path = self.machine.host_secret_path();
        Ok(HostSecret::read_or_create(
            &path,
            self.machine.machine_id()?,
            &mut system::random(),
        )?)
    }

    fn binding(&self, recipe: &Recipe, out: &mut Output) -> Result<TpmBinding> {
        self.warn_of_moving_pcrs(out);
        let mut policy = PcrPolicy::default();
        if let Some(path) = &recipe.public_key {
            let key = PolicyKey::from_pem(&file::read(path, PUBLIC_KEY_MAX)?);
            let key = key.with_context(|| format!("cannot use `{}`", path.display()))?;
            policy.signed = Some(SignedPolicy {
                key,
                pcrs: self.public_key_pcrs,
            });
        }
        match &self.identity {
            Some(path) => self.binding_to_identity(path, recipe.kind.pinned, policy),
            None => self.binding_to_own_tpm(recipe.kind.pinned, policy),
        }
    }

    /// Another machine's PCRs cannot be read, so every value has to be given.
    fn binding_to_identity(
        &self,
        path: &Path,
        pinned: bool,
        mut policy: PcrPolicy,
    ) -> Result<TpmBinding> {
        let read = HostIdentity::from_json(&file::read(path, IDENTITY_MAX)?);
        let identity = read.with_context(|| format!("cannot use `{}`", path.display()))?;
        if !self.pcrs.to_read().is_empty() {
            let error = anyhow!(
                "the values of PCR {} are not known here",
                self.pcrs.to_read()
            );
            return Err(with_hint(
                error,
                "give them, as in --tpm2-pcrs=7:sha256=HEX",
            ));
        }
        policy.bank = self.pcrs.bank.unwrap_or(policy.bank);
        policy.literal = self.given_values();
        let parent = identity.parent(pinned).map_err(|error| {
            let other = if pinned { "no" } else { "yes" };
            let error =
                anyhow::Error::new(error).context(format!("cannot seal to `{}`", path.display()));
            with_hint(
                error,
                format!("--pinned={other} takes the other key, if it is there"),
            )
        })?;
        Ok(TpmBinding { parent, policy })
    }

    fn binding_to_own_tpm(&self, pinned: bool, mut policy: PcrPolicy) -> Result<TpmBinding> {
        let (mut transport, mut rng) = (self.tpm.open()?, system::random());
        let mut tpm = Tpm::new(&mut *transport, &mut rng);
        let wanted: PcrMask = self.pcrs.values.keys().copied().collect();
        policy.bank = match self.pcrs.bank {
            Some(bank) => bank,
            None => tpm.best_bank(wanted)?,
        };
        policy.literal = self.given_values();
        policy
            .literal
            .extend(tpm.read_pcrs(policy.bank, self.pcrs.to_read())?);
        let mut identity = HostIdentity::of_tpm(&mut tpm)?;
        if pinned && identity.storage_root_key.is_none() && !self.dry_run {
            identity.storage_root_key = Some(tpm.create_storage_root_key()?);
        }
        let parent = identity.parent(pinned).map_err(|error| {
            let hint = if pinned {
                "systemd-tpm2-setup makes the storage root key"
            } else {
                "the owner hierarchy has a password; --pinned=yes works without it"
            };
            with_hint(error, hint)
        })?;
        Ok(TpmBinding { parent, policy })
    }

    fn given_values(&self) -> std::collections::BTreeMap<u32, Vec<u8>> {
        let values = self.pcrs.values.iter();
        values
            .filter_map(|(pcr, value)| value.clone().map(|value| (*pcr, value)))
            .collect()
    }

    /// The stub measures companions into PCR 12 and the kernel its initrds into PCR 9: a file there cannot know its own value.
    fn warn_of_moving_pcrs(&self, out: &mut Output) {
        for pcr in [9, 12]
            .iter()
            .filter(|pcr| self.pcrs.values.contains_key(pcr))
        {
            out.warning(format_args!("PCR {pcr} covers the credential itself when it lies on the EFI system partition: there it will never open"));
        }
    }
}

/// One line about what was made.
struct Summary<'a> {
    recipe: &'a Recipe,
    encrypted: &'a EncryptedCredential,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(shown) = self.encrypted.describe() else {
            return Err(fmt::Error);
        };
        write!(f, "{}", shown.with_key)?;
        if let Some(tpm) = &shown.tpm {
            f.write_str(if shown.pinned {
                ", pinned"
            } else {
                ", un-pinned"
            })?;
            match (tpm.pcrs.is_empty(), &tpm.signed_pcrs) {
                (true, None) => f.write_str(", bound to no PCR")?,
                (false, None) => write!(f, ", bound to PCR {} ({})", tpm.pcrs, tpm.bank)?,
                (true, Some(signed)) => write!(f, ", bound to signed PCR {signed} ({})", tpm.bank)?,
                (false, Some(signed)) => write!(
                    f,
                    ", bound to PCR {} and signed PCR {signed} ({})",
                    tpm.pcrs, tpm.bank
                )?,
            }
        }
        let encoding = if self.recipe.encoding == Encoding::Binary {
            "binary"
        } else {
            "base64"
        };
        write!(
            f,
            ", {encoding}, for systemd {} and later",
            shown.readable_since
        )
    }
}

/// `SetCredentialEncrypted=` with its value in continued, indented lines.
fn unit_line(name: &Name, text: &str) -> String {
    let name = name.as_str().replace('\\', "\\\\");
    let lines: Vec<&str> = text.lines().collect();
    format!(
        "SetCredentialEncrypted={name}: \\\n        {}\n",
        lines.join(" \\\n        ")
    )
}
