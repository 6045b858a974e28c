//! What the options of `encrypt` and `reencrypt` ask for: a [`Wish`] becomes a [`Recipe`], the recipe a key, the key a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};
use ukikit::delivery::Delivery;
use ukikit_creds::catalog::Reader;
use ukikit_creds::tpm::Tpm;
use ukikit_creds::{
    Credential, EncryptedCredential, HostIdentity, HostSecret, Key, Kind, Name, PUBLIC_KEY_FILE,
    PcrMask, PcrPolicy, PcrValues, PcrWish, PolicyKey, SignedPcrWish, SignedPolicy, Timestamp,
    TpmBinding, catalog,
};

use super::judgement::raise;
use super::{Encoding, Machine, TpmDevice, moment, read_identity};
use crate::file;
use crate::output::{Output, with_hint};
use crate::system;

const PUBLIC_KEY_MAX: usize = 1 << 20;
const PCR_VALUES_MAX: usize = 1 << 20;
/// First systemd that reads a pinned key.
const PINNED_SINCE: u16 = 262;

#[derive(Debug, Args)]
pub(super) struct Wish {
    /// What it is encrypted with [default: auto; for a credential there is, what it has]
    #[arg(long, value_enum, value_name = "KEY")]
    pub(super) with_key: Option<WithKey>,
    /// Seal to the TPM of the host with this identity file instead of this machine's
    #[arg(long = "for", value_name = "IDENTITY", conflicts_with = "device")]
    pub(super) identity: Option<PathBuf>,
    /// The systemd that will read it, such as 257: decides what --pinned= and --encoding= leave open
    #[arg(long, value_name = "VERSION")]
    pub(super) target_systemd: Option<u16>,
    /// How the credential is written [default: base64, or what its reader in --target-systemd= takes]
    #[arg(long, value_enum)]
    pub(super) encoding: Option<Encoding>,
    /// Name the storage root key in the credential: systemd 262 and later [default: no, or by --target-systemd=]
    #[arg(long, value_enum)]
    pub(super) pinned: Option<YesNo>,
    #[command(flatten)]
    pub(super) tpm: TpmDevice,
    /// PCRs to bind to, such as 7+14 for their values of now, or 7:sha256=HEX
    #[arg(long = "tpm2-pcrs", value_name = "PCRS")]
    pub(super) pcrs: Option<PcrWish>,
    /// Take the values of PCRs from this file instead of the TPM: JSON of systemd-analyze pcrs, of ukikit predict, or {"sha256": {"7": "HEX"}}
    #[arg(long = "tpm2-pcr-values", value_name = "FILE", requires = "pcrs")]
    pub(super) pcr_values: Option<PathBuf>,
    /// Accept PCR values signed by this RSA key, in PEM
    #[arg(long = "tpm2-public-key", value_name = "FILE")]
    pub(super) public_key: Option<PathBuf>,
    /// PCRs that the signatures cover, such as 11:sha384 in another bank than SHA-256 [default: 11]
    #[arg(long = "tpm2-public-key-pcrs", value_name = "PCRS")]
    pub(super) public_key_pcrs: Option<SignedPcrWish>,
    /// When it was made, such as @1700000000 [default: now; for a credential there is, what it says]
    #[arg(long, value_name = "TIME")]
    pub(super) timestamp: Option<String>,
    /// The last moment at which it opens, such as +30d [default: for ever; for a credential there is, what it says]
    #[arg(long, value_name = "TIME")]
    pub(super) not_after: Option<String>,
    #[command(flatten)]
    pub(super) machine: Machine,
    /// Make it even if its reader would not take it, or it cannot reach its reader
    #[arg(long)]
    pub(super) force: bool,
    /// Say what would be made, and write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum YesNo {
    Yes,
    No,
}

/// `--with-key=`, in systemd's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum WithKey {
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
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) kind: Kind,
    pub(super) name: Option<Name>,
    pub(super) encoding: Encoding,
    /// Whose signatures over PCR values count.
    pub(super) signed: Option<SignedPolicy>,
    /// The PCRs to bind to by value, and the bank of all.
    pub(super) pcrs: PcrWish,
}

impl Wish {
    /// What is to be made under these keys. Raises whatever keeps it from its reader.
    pub(super) fn recipe(
        &self,
        mut kind: Kind,
        name: Option<Name>,
        signed: Option<SignedPolicy>,
        out: &mut Output,
    ) -> Result<Recipe> {
        kind.signed = signed.is_some();
        if kind.id().is_none() {
            let error = anyhow!(
                "a credential scoped to a user needs the host secret, and its key is {}",
                kind.with_key()
            );
            return Err(with_hint(error, "give --with-key=host or host+tpm2"));
        }
        raise(
            self.delivery(name.as_ref(), kind).objections(),
            self.force,
            out,
        )?;
        let encoding = self
            .encoding
            .unwrap_or_else(|| self.encoding_for(name.as_ref()));
        let mut pcrs = self.pcrs.clone().unwrap_or_default();
        if let Some(path) = &self.pcr_values {
            let reader = name.as_ref().map_or(Reader::Service, Reader::of);
            let taken = PcrValues::from_json(&file::read(path, PCR_VALUES_MAX)?, reader)
                .and_then(|values| pcrs.take_from(&values));
            taken.with_context(|| format!("cannot use `{}`", path.display()))?;
        }
        if let Some(signed) = self.public_key_pcrs {
            pcrs.bank = signed.bank_beside(pcrs.bank)?;
        }
        Ok(Recipe {
            kind,
            name,
            encoding,
            signed,
            pcrs,
        })
    }

    /// Raises what keeps a file of `size` bytes from its reader.
    pub(super) fn check_size(&self, recipe: &Recipe, size: usize, out: &mut Output) -> Result<()> {
        let delivery = self.delivery(recipe.name.as_ref(), recipe.kind);
        raise(delivery.oversize(size), self.force, out)
    }

    fn delivery<'a>(&self, name: Option<&'a Name>, kind: Kind) -> Delivery<'a> {
        let systemd = self.target_systemd;
        Delivery {
            name,
            kind,
            systemd,
        }
    }

    /// Which keys `--with-key=` means here.
    pub(super) fn keys(&self, out: &mut Output) -> Result<Kind> {
        let mut kind = Kind::default();
        match self.with_key.unwrap_or(WithKey::Auto) {
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

    pub(super) fn is_pinned(&self) -> Option<bool> {
        let by_target = || self.target_systemd.map(|version| version >= PINNED_SINCE);
        self.pinned
            .map(|answer| answer == YesNo::Yes)
            .or_else(by_target)
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

    /// The signed policy asked for; where the mode wants one, with the key that systemd would find.
    pub(super) fn signed_policy(&self, kind: Kind) -> Result<Option<SignedPolicy>> {
        let Some(path) = self.public_key_file(kind)? else {
            return Ok(None);
        };
        let key = PolicyKey::from_pem(&file::read(&path, PUBLIC_KEY_MAX)?);
        let key = key.with_context(|| format!("cannot use `{}`", path.display()))?;
        let pcrs = self
            .public_key_pcrs
            .map_or_else(|| [11].into_iter().collect(), |wish| wish.pcrs);
        Ok(kind.tpm.then_some(SignedPolicy { key, pcrs }))
    }

    /// The public key of a signed policy: the one named; where the mode wants one, the one systemd would find.
    fn public_key_file(&self, kind: Kind) -> Result<Option<PathBuf>> {
        match (&self.public_key, self.with_key.unwrap_or(WithKey::Auto)) {
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

    /// When it is said to be made, if that was asked for.
    pub(super) fn timestamp(&self) -> Result<Option<Timestamp>> {
        moment_of(self.timestamp.as_deref())
    }

    /// When it is to expire, if that was asked for.
    pub(super) fn not_after(&self) -> Result<Option<Timestamp>> {
        moment_of(self.not_after.as_deref())
    }

    /// Encrypts by the recipe.
    pub(super) fn encrypt(
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
        warn_of_moving_pcrs(&recipe.pcrs, out);
        let policy = PcrPolicy {
            signed: recipe.signed.clone(),
            ..PcrPolicy::default()
        };
        match &self.identity {
            Some(path) => binding_to_identity(path, recipe, policy),
            None => self.binding_to_own_tpm(recipe, policy),
        }
    }

    fn binding_to_own_tpm(&self, recipe: &Recipe, mut policy: PcrPolicy) -> Result<TpmBinding> {
        let (mut transport, mut rng) = (self.tpm.open()?, system::random());
        let mut tpm = Tpm::new(&mut *transport, &mut rng);
        let (pcrs, pinned) = (&recipe.pcrs, recipe.kind.pinned);
        let wanted: PcrMask = pcrs.values.keys().copied().collect();
        policy.bank = match pcrs.bank {
            Some(bank) => bank,
            None => tpm.best_bank(wanted)?,
        };
        policy.literal = given_values(pcrs);
        policy
            .literal
            .extend(tpm.read_pcrs(policy.bank, pcrs.to_read())?);
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
}

/// Another machine's PCRs cannot be read, so every value has to be given.
fn binding_to_identity(path: &Path, recipe: &Recipe, mut policy: PcrPolicy) -> Result<TpmBinding> {
    let identity = read_identity(path)?;
    let pcrs = &recipe.pcrs;
    if !pcrs.to_read().is_empty() {
        let error = anyhow!("the values of PCR {} are not known here", pcrs.to_read());
        return Err(with_hint(
            error,
            "give them, as in --tpm2-pcrs=7:sha256=HEX, or a file of them with --tpm2-pcr-values=",
        ));
    }
    policy.bank = pcrs.bank.unwrap_or(policy.bank);
    policy.literal = given_values(pcrs);
    let pinned = recipe.kind.pinned;
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

/// The stub measures companions into PCR 12 and the kernel its initrds into PCR 9: a file there cannot know its own value.
fn warn_of_moving_pcrs(pcrs: &PcrWish, out: &mut Output) {
    for pcr in [9, 12].iter().filter(|pcr| pcrs.values.contains_key(pcr)) {
        out.warning(format_args!("PCR {pcr} covers the credential itself when it lies on the EFI system partition: there it will never open"));
    }
}

fn given_values(pcrs: &PcrWish) -> BTreeMap<u32, Vec<u8>> {
    let values = pcrs.values.iter();
    values
        .filter_map(|(pcr, value)| value.clone().map(|value| (*pcr, value)))
        .collect()
}

fn moment_of(text: Option<&str>) -> Result<Option<Timestamp>> {
    let now = Timestamp::from_micros(system::now_micros());
    text.map(|time| moment::parse(time, now)).transpose()
}
