//! What a host file will make of one UKI's companions, before anything is made: no secret is read.
//!
//! ```text
//! Wanted ─ identity, systemd of the UKI ─▶ jobs: name, place, key, encoding, policy
//!        ─ initrd, images ──────────────▶ provisions: who brings each recipe
//!        ─ sealed placeholders ─────────▶ findings: what `ukikit check` would say
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rand_core::CryptoRng;
use ukikit_creds::catalog::WellKnown;
use ukikit_creds::{HostIdentity, Secret, Timestamp};
use ukikit_esp::{BootFiles, Companion, Esp, Kind, Start, Target, UkiPath};
use ukikit_sysext::recipe::Feature;

use super::file::{HostFile, directory};
use super::provision::{By, Provision, is_named, provisions};
use super::source::{Part, Sources};
use super::wanted::WantedCredential;
use crate::check::{Circumstances, Findings, check_boot};
use crate::fleet::{self, Job, SealedCredential, job};
use crate::{Base, PlannedBoot};

/// For which machine, beside which UKI.
#[derive(Debug)]
pub struct Destination<'a> {
    /// The partition.
    pub esp: &'a Esp,
    /// The UKI on it.
    pub uki: UkiPath,
    /// The machine's TPM.
    pub identity: &'a HostIdentity,
    /// What the identity is called in messages.
    pub identity_name: &'a Path,
    /// Images to be placed along.
    pub images: Vec<Companion>,
    /// The time embedded in the credentials.
    pub now: Timestamp,
    /// Whether it is placed as a set on trial, which has to give up by itself where somebody would be asked what to do.
    pub on_trial: bool,
}

impl<'a> Destination<'a> {
    /// Without images, and not on trial.
    pub fn new(
        esp: &'a Esp,
        uki: UkiPath,
        identity: &'a HostIdentity,
        identity_name: &'a Path,
        now: Timestamp,
    ) -> Self {
        Self {
            esp,
            uki,
            identity,
            identity_name,
            images: Vec::new(),
            now,
            on_trial: false,
        }
    }
}

/// What will be made.
pub struct Plan {
    pub(crate) credentials: Vec<Planned>,
    pub(crate) provisions: Vec<Provision>,
    pub(crate) images: Vec<Companion>,
    pub(crate) target: Target,
    /// The systemd that will read it.
    pub(crate) systemd: Option<u16>,
    boot: PlannedBoot,
    circumstances: Circumstances,
}

/// One credential and how it will be sealed.
pub(crate) struct Planned {
    pub(crate) wanted: WantedCredential,
    pub(crate) job: Job,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plan")
    }
}

impl Plan {
    /// Plans; `host_file` is where the host file was read from.
    ///
    /// # Errors
    ///
    /// A UKI that is not there or cannot be read, a policy that its reader could not meet, a key the identity lacks.
    pub fn new(file: &HostFile, host_file: &Path, destination: Destination<'_>) -> Result<Self> {
        let Destination {
            esp,
            uki,
            identity,
            identity_name,
            images,
            now,
            on_trial,
        } = destination;
        let boot = PlannedBoot::read(esp, uki.clone(), &[], Start::default())?;
        let bytes = boot.uki.as_deref();
        let bytes = bytes
            .with_context(|| format!("there is no UKI {uki} on `{}`", esp.root().display()))?;
        let base = Base::of_uki(bytes).with_context(|| format!("cannot use `{uki}`"))?;
        let systemd = systemd(&base).or(identity.systemd_version);
        let target = Target::Uki(uki);
        let mut wanted = file.wanted()?;
        if on_trial {
            ensure!(
                systemd.is_none_or(|systemd| systemd >= 256),
                "no set can be tried over `{}`: its systemd takes no drop-in that would end a boot which fails, 256 does",
                boot.uki_path
            );
            wanted.give_up()?;
        }

        let mut host = host(host_file, identity_name, &target, systemd);
        let values = file.seal.tpm2_pcr_values.as_ref();
        host.pcr_values = values.map(|path| directory(host_file).join(path));
        let credentials = wanted.credentials.into_iter().map(|wanted| {
            let place = format!("{}: {} {}", host_file.display(), wanted.from, wanted.name);
            let job = || {
                let settings =
                    file.seal
                        .settings(wanted.name.clone(), wanted.bound, &directory(host_file))?;
                job(&settings, &host, identity, now, &place)
            };
            let job = job().with_context(|| place.clone())?;
            Ok(Planned { wanted, job })
        });
        let credentials = credentials.collect::<Result<Vec<_>>>()?;

        let circumstances = Circumstances {
            identity: Some(identity.clone()),
            now: now.as_micros(),
            ..Circumstances::default()
        };
        let mut plan = Self {
            credentials,
            provisions: Vec::new(),
            images,
            target,
            systemd,
            boot,
            circumstances,
        };
        plan.put_images()?;
        let merged = plan
            .boot
            .files
            .own
            .iter()
            .chain(&plan.boot.files.global_extensions);
        let merged = merged
            .filter(|file| Kind::taken_by_stub(file.name().as_ref()).ok() == Some(Kind::Extension));
        let initrd = base.initrd.context("the UKI has no initrd")?;
        let merged = merged.map(|file| (file.path.as_str(), file.content.as_slice()));
        let names = plan
            .credentials
            .iter()
            .map(|planned| planned.wanted.name.as_str());
        plan.provisions = provisions(
            &wanted.recipes,
            &names.collect::<Vec<_>>(),
            &initrd.tree,
            merged,
        )?;
        Ok(plan)
    }

    /// The images given take part in the boot.
    fn put_images(&mut self) -> Result<()> {
        for image in &self.images {
            let name = image.name();
            ensure!(
                name.kind() == Kind::Extension,
                "`{name}` is no extension image: NAME.sysext.raw or NAME.raw"
            );
            self.boot
                .files
                .put(&self.target, &name.to_string(), image.content().to_vec())?;
        }
        Ok(())
    }

    /// The UKI that is started.
    pub(crate) fn uki(&self) -> &UkiPath {
        &self.boot.uki_path
    }

    /// Who brings each recipe.
    pub fn provisions(&self) -> &[Provision] {
        &self.provisions
    }

    /// What `ukikit check` would say of the boot, with placeholders of the same form in place of secrets.
    ///
    /// # Errors
    ///
    /// What keeps a file from being read that is no secret.
    pub fn findings(
        &self,
        sources: &Sources<'_>,
        known: &[SealedCredential],
        rng: &mut impl CryptoRng,
    ) -> Result<Findings> {
        let mut files = self.boot.files.clone();
        for Planned { wanted, job } in &self.credentials {
            let place = || job.place.clone();
            let value = placeholder(wanted, sources).with_context(place)?;
            let file = job.seal(&value, self.now(), rng).with_context(place)?;
            files.put(&self.target, &format!("{}.cred", wanted.name), file)?;
        }
        for gone in self.gone(known) {
            files.remove(&self.target, name_of(&gone));
        }
        self.findings_of(files)
    }

    /// The same with these files.
    pub(crate) fn findings_of(&self, files: BootFiles) -> Result<Findings> {
        let mut boot = self.boot.clone();
        boot.files = files;
        let circumstances = Circumstances {
            identity: self.circumstances.identity.clone(),
            now: self.circumstances.now,
            ..Circumstances::default()
        };
        let label = boot.uki_path.to_string();
        check_boot(&label, boot, &circumstances)
    }

    /// The files of the boot as it is, with the images given.
    pub(crate) fn files(&self) -> BootFiles {
        self.boot.files.clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.circumstances.now)
    }

    /// What an earlier run placed beside this UKI and nobody wants any more, by path.
    pub(crate) fn gone(&self, known: &[SealedCredential]) -> Vec<String> {
        let wanted: BTreeSet<&str> = self
            .credentials
            .iter()
            .map(|planned| planned.job.path.as_str())
            .collect();
        let directory = format!("{}/", self.target.directory(Kind::Credential));
        let ours = known
            .iter()
            .filter(|sealed| sealed.path.starts_with(&directory));
        let gone = ours.filter(|sealed| !wanted.contains(sealed.path.as_str()));
        gone.map(|sealed| sealed.path.clone()).collect()
    }

    /// The recipes that nothing brings.
    pub fn missing(&self) -> Vec<&str> {
        let missing = self
            .provisions
            .iter()
            .filter(|provision| matches!(provision.by, By::Missing(_)));
        missing.map(|provision| provision.recipe.as_str()).collect()
    }
}

/// The version of systemd in the initrd.
fn systemd(base: &Base) -> Option<u16> {
    let told = base.initrd.as_ref()?.facts.systemd?;
    u16::try_from(told).ok()
}

/// The host, in the terms of a fleet.
fn host(host_file: &Path, identity: &Path, target: &Target, systemd: Option<u16>) -> fleet::Host {
    fleet::Host {
        name: host_file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        line: 0,
        identity: identity.to_owned(),
        target: target.clone(),
        target_systemd: systemd,
        pcrs: None,
        pcr_values: None,
        own: Vec::new(),
        tags: BTreeSet::new(),
    }
}

/// What is no secret, and something of the size of one for the rest.
fn placeholder(wanted: &WantedCredential, sources: &Sources<'_>) -> Result<Secret> {
    if !wanted.secret {
        return sources.read(&wanted.content);
    }
    let size = wanted.content.iter().map(|part| match part {
        Part::Text(text) => text.len(),
        Part::Read(..) => 16,
    });
    Ok(Secret::new(vec![b'x'; size.sum()]))
}

/// Who reads a credential.
pub(crate) fn reader(wanted: &WantedCredential, provisions: &[Provision]) -> String {
    if let Some(known) = WellKnown::find(&wanted.name) {
        return known.program.to_owned();
    }
    let reads = |provision: &&Provision| {
        let feature = Feature::find(&provision.recipe).ok();
        feature.is_some_and(|feature| {
            feature
                .recipe
                .credentials
                .iter()
                .any(|used| is_named(&used.name, wanted.name.as_str()))
        })
    };
    let recipe = provisions.iter().find(reads);
    recipe.map_or_else(
        || wanted.from.clone(),
        |provision| format!("the extension of recipe {}", provision.recipe),
    )
}

/// The last part of a path on the ESP.
fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}
