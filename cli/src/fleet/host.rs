//! One host: what it gets, and for each credential the form, the binding and the place. Reads its identity, nothing else.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};
use ukikit_creds::catalog::WellKnown;
use ukikit_creds::{
    Credential, Encoding, EncryptedCredential, HostIdentity, Key, Kind, LINE, Name, Parent,
    PcrBank, PcrMask, PcrPolicy, Secret, Timestamp, TpmBinding, catalog,
};
use ukikit_esp::Kind as CompanionKind;

use rand_core::CryptoRng;

use super::file::{Fleet, Host, Settings};
use super::policy::{Explanation, policy};
use super::record::SealedCredential;
use super::value::Source;
use crate::delivery::{Delivery, Objection};
use crate::moment;

/// First systemd that reads a pinned key.
const PINNED_SINCE: u16 = 262;
/// First systemd that imports a key sealed by arithmetic.
const IMPORT_SINCE: u16 = 255;

/// One credential to be sealed for one host.
pub(crate) struct Job {
    /// Where it stands in the fleet file, with its host: what a sentence about it begins with.
    pub(crate) place: String,
    pub(crate) name: Name,
    /// From the root of the ESP.
    pub(crate) path: String,
    pub(crate) binding: TpmBinding,
    pub(crate) form: Form,
    pub(crate) not_after: Option<Timestamp>,
    /// SHA-256 over everything that decides the file, but for the value and the storage key; hexadecimal.
    pub(crate) options: String,
}

/// How a credential is written, and why so.
pub(crate) struct Form {
    pub(crate) pinned: bool,
    pub(crate) encoding: Encoding,
    pub(crate) reason: &'static str,
}

impl Job {
    /// Seals a value: the bytes of the file.
    pub(crate) fn seal(
        &self,
        value: &Secret,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>> {
        let mut credential = Credential::new(
            Some(self.name.clone()),
            now,
            Secret::copied_from(value.expose()),
        );
        credential.not_after = self.not_after;
        let file = credential.encrypt(&Key::Tpm(&self.binding), rng)?;
        Ok(self.form.write(&file))
    }

    pub(crate) fn explanation(&self) -> Explanation {
        Explanation::of(&self.binding.policy, &self.name)
    }

    /// Whether its reader takes the value. Nothing of it stands in the error.
    pub(crate) fn check(&self, value: &Secret) -> Result<()> {
        let Some(entry) = WellKnown::find(&self.name) else {
            return Ok(());
        };
        entry
            .check(&self.name, value.expose())
            .map_err(|violation| {
                let (program, content) = (entry.program, entry.content.as_str());
                anyhow!("{program} would not take its value ({content}): {violation}")
            })
    }

    /// The keys, as `--with-key=` spells them.
    pub(crate) fn with_key(&self) -> &'static str {
        if self.binding.policy.signed.is_some() {
            "tpm2-with-public-key"
        } else {
            "tpm2"
        }
    }

    /// Whether it was sealed in the same way and still opens.
    pub(crate) fn is_as(&self, known: &SealedCredential, now: Timestamp) -> bool {
        let expired = known
            .not_after
            .is_some_and(|moment| moment <= now.as_micros());
        !expired && known.storage_key == self.storage_key() && known.options == self.options
    }

    /// The storage key's TPM name, hexadecimal: the part of the identity that decides who opens it.
    pub(crate) fn storage_key(&self) -> String {
        hex::encode(self.binding.parent.public().name())
    }
}

impl Form {
    fn write(&self, file: &EncryptedCredential) -> Vec<u8> {
        match self.encoding {
            Encoding::Base64 => file.to_text(LINE).into_bytes(),
            Encoding::Binary => file.as_bytes().to_vec(),
        }
    }

    /// Follows the entry, else the systemd that will read it there.
    fn choose(settings: &Settings, target: Option<u16>) -> Result<Self> {
        if let Some(target) = target {
            ensure!(
                target >= IMPORT_SINCE,
                "systemd {target} cannot read what is sealed without its TPM: that takes {IMPORT_SINCE} or later"
            );
        }
        let (pinned, reason) = match (settings.pinned, target) {
            (Some(true), Some(target)) if target < PINNED_SINCE => {
                bail!(
                    "systemd {target} cannot read a pinned credential: that takes {PINNED_SINCE} or later"
                )
            }
            (Some(true), _) => (true, "the fleet file says so"),
            (Some(false), _) => (false, "the fleet file says so"),
            (None, Some(target)) if target >= PINNED_SINCE => {
                (true, "target-systemd is 262 or later")
            }
            (None, Some(_)) => (false, "target-systemd is before 262"),
            (None, None) => (
                false,
                "no target-systemd says that only 262 or later will read it",
            ),
        };
        let wanted = target.map(|target| catalog::encoding(Some(&settings.name), target));
        let encoding = settings.encoding.or(wanted).unwrap_or(Encoding::Base64);
        if let (Some(target), Some(wanted)) = (target, wanted)
            && encoding != wanted
        {
            bail!(
                "who reads it under systemd {target} takes {}, and `encoding` is {}",
                word(wanted),
                word(encoding)
            );
        }
        Ok(Self {
            pinned,
            encoding,
            reason,
        })
    }
}

/// As `--encoding=` spells it.
pub(crate) fn word(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Base64 => "base64",
        Encoding::Binary => "binary",
    }
}

const IDENTITY_MAX: usize = 1 << 20;

impl Fleet {
    /// Everything `host` gets, by name, each with where its value comes from.
    pub(crate) fn jobs(&self, host: &Host, now: Timestamp) -> Result<Vec<(Source, Job)>> {
        let settings = self.settings(host)?;
        let identity = identity(host)
            .with_context(|| format!("{}: host {}", self.at(host.line), host.name))?;
        let job = |settings: Settings| {
            let place = format!(
                "{}: host {}, credential {}",
                self.at(settings.line),
                host.name,
                settings.name
            );
            let job = || -> Result<(Source, Job)> {
                let source = settings.source.clone();
                let source =
                    source.context("it has no value: give `file`, `command` or `stdin`")?;
                Ok((source, job(&settings, host, &identity, now, &place)?))
            };
            job().with_context(|| place.clone())
        };
        settings.into_values().map(job).collect()
    }

    /// The entries for `host`, its own over the shared ones. Keyed by what FAT tells apart.
    fn settings(&self, host: &Host) -> Result<BTreeMap<String, Settings>> {
        let mut all: BTreeMap<String, Settings> = BTreeMap::new();
        for shared in self.shared_for(host) {
            if let Some(other) =
                all.insert(shared.name.as_str().to_ascii_lowercase(), shared.clone())
            {
                bail!(
                    "{}: host {}, credential {}: it is given twice, first in line {}",
                    self.at(shared.line),
                    host.name,
                    shared.name,
                    other.line
                );
            }
        }
        let mut own: BTreeMap<String, &Settings> = BTreeMap::new();
        for entry in &host.own {
            let key = entry.name.as_str().to_ascii_lowercase();
            if let Some(other) = own.insert(key.clone(), entry) {
                bail!(
                    "{}: host {}, credential {}: it is given twice, first in line {}",
                    self.at(entry.line),
                    host.name,
                    entry.name,
                    other.line
                );
            }
            let merged = all
                .get(&key)
                .map_or_else(|| entry.clone(), |base| entry.over(base));
            all.insert(key, merged);
        }
        Ok(all)
    }
}

fn identity(host: &Host) -> Result<HostIdentity> {
    let shown = host.identity.display();
    let json =
        fs::File::open(&host.identity).and_then(|file| crate::read_wiped(file, IDENTITY_MAX));
    let json = json.with_context(|| format!("cannot read `{shown}`"))?;
    HostIdentity::from_json(&json).with_context(|| format!("cannot use `{shown}`"))
}

/// What is to be sealed for a host with this identity: everything but the value.
pub(crate) fn job(
    settings: &Settings,
    host: &Host,
    identity: &HostIdentity,
    now: Timestamp,
    place: &str,
) -> Result<Job> {
    let form = Form::choose(settings, host.target_systemd)?;
    let policy = policy(settings, host)?;
    check_reader(&settings.name, &form, &policy, host)?;
    let parent = identity
        .parent(form.pinned)
        .with_context(|| format!("cannot seal to `{}`", host.identity.display()))?;
    let binding = TpmBinding { parent, policy };
    let path = format!(
        "{}/{}.cred",
        host.target.directory(CompanionKind::Credential),
        settings.name
    );
    let options = Options::of(&path, &binding, &form, settings.not_after.as_deref())?.digest()?;
    let not_after = settings
        .not_after
        .as_deref()
        .map(|text| moment::parse(text, now))
        .transpose()?;
    if let Some(not_after) = not_after.filter(|not_after| *not_after <= now) {
        bail!("not-after: {} is past", moment::show(not_after));
    }
    Ok(Job {
        place: place.to_owned(),
        name: settings.name.clone(),
        path,
        binding,
        form,
        not_after,
        options,
    })
}

/// Refuses what could never reach its reader, or be read there.
fn check_reader(name: &Name, form: &Form, policy: &PcrPolicy, host: &Host) -> Result<()> {
    let mut kind = Kind::default();
    (kind.tpm, kind.pinned, kind.signed) = (true, form.pinned, policy.signed.is_some());
    let delivery = Delivery {
        name: Some(name),
        kind,
        systemd: host.target_systemd,
    };
    let fatal = |objection: &Objection| objection.fatal;
    match delivery.objections().into_iter().find(fatal) {
        Some(objection) => bail!(objection.reason),
        None => Ok(()),
    }
}

/// What decides the file beside the value and the storage key. Its digest tells a later run whether anything changed.
#[derive(Serialize)]
struct Options<'a> {
    path: &'a str,
    handle: Option<u32>,
    encoding: &'a str,
    policy: [u8; 32],
    bank: PcrBank,
    pcrs: PcrMask,
    signed_pcrs: Option<PcrMask>,
    public_key: Option<String>,
    /// As written: `+30d` does not change from day to day.
    not_after: Option<&'a str>,
}

impl<'a> Options<'a> {
    fn of(
        path: &'a str,
        binding: &TpmBinding,
        form: &Form,
        not_after: Option<&'a str>,
    ) -> Result<Self> {
        let TpmBinding { parent, policy } = binding;
        Ok(Self {
            path,
            handle: match parent {
                Parent::StorageRootKey(key) => Some(key.handle),
                Parent::Legacy(_) => None,
            },
            encoding: word(form.encoding),
            policy: policy.digest()?,
            bank: policy.bank,
            pcrs: policy.mask(),
            signed_pcrs: policy.signed.as_ref().map(|signed| signed.pcrs),
            public_key: policy
                .signed
                .as_ref()
                .map(|signed| signed.key.fingerprint()),
            not_after,
        })
    }

    fn digest(&self) -> Result<String> {
        Ok(hex::encode(Sha256::digest(serde_json::to_vec(self)?)))
    }
}
