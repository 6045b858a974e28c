//! `ukikit first-boot`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};
use ukikit::first_boot::{
    AllowedSigners, Configuration, Decision, Facts, Machine, Metadata, Record, Source, Unsigned,
    decide, signed_by, wipe,
};
use ukikit::host::{self, Destination, Plan, Report, Sources, State};
use ukikit_creds::tpm::Tpm;
use ukikit_creds::{Error, HostIdentity, Timestamp};
use ukikit_esp::{Esp, Target, UkiPath};

use super::cred::{TpmDevice, read_identity};
use super::esp::{Changing, with_remedy};
use super::host::refuse_errors;
use crate::file;
use crate::output::{Output, with_hint};
use crate::system;

#[derive(Debug, Args)]
pub(crate) struct FirstBoot {
    /// Where metadata is: a directory, a volume or an image of one, a file, or the words smbios and fw-cfg
    /// [default: volumes called cidata or config-2, then fw-cfg, then smbios]
    #[arg(long, value_name = "SOURCE")]
    source: Vec<String>,
    /// The UKI to place beside, by its path on the ESP [default: the one there is]
    #[arg(long, value_name = "PATH")]
    uki: Option<UkiPath>,
    /// Take devices, sysfs, settings and state from below DIR
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Whose SSH signatures count, as ssh-keygen(1) has allowed signers
    /// [default: etc/ukikit/allowed_signers or usr/lib/ukikit/allowed_signers below --root]
    #[arg(long, value_name = "FILE")]
    allowed_signers: Option<PathBuf>,
    /// What becomes of metadata that nobody signed [default: refuse if there are allowed signers, else once]
    #[arg(long, value_enum, value_name = "POLICY")]
    unsigned: Option<Policy>,
    /// What this machine is [default: as systemd-detect-virt says]
    #[arg(long, value_enum, value_name = "KIND")]
    machine: Option<Kind>,
    /// Overwrite the source once it is applied
    #[arg(long)]
    wipe: bool,
    /// Place it though `ukikit check` finds errors, and over files that something else has put there
    #[arg(long)]
    force: bool,
    /// Show what would be made for the host with this identity file
    #[arg(
        long = "for",
        value_name = "IDENTITY",
        requires = "dry_run",
        conflicts_with = "device"
    )]
    identity: Option<PathBuf>,
    #[command(flatten)]
    tpm: TpmDevice,
    #[command(flatten)]
    changing: Changing,
}

/// `--unsigned=`
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Policy {
    /// It never counts
    Refuse,
    /// It counts once
    Once,
    /// In a virtual machine it counts again when it names another instance
    EachInstance,
}

/// `--machine=`
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Hardware
    BareMetal,
    /// A virtual machine
    Virtual,
    /// One that is protected from its hypervisor
    Confidential,
}

const STATE: &str = "var/lib/ukikit/first-boot";
const SIGNERS: [&str; 2] = [
    "etc/ukikit/allowed_signers",
    "usr/lib/ukikit/allowed_signers",
];
/// What messages and fingerprints call the host.
const NAME: &str = "first-boot";

impl FirstBoot {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let Some((source, metadata)) = self.metadata()? else {
            out.note("no metadata is there: nothing to do");
            return Ok(ExitCode::SUCCESS);
        };
        let directory = self.root.join(STATE);
        let place = || format!("metadata of {}", metadata.place);
        let signers = self.signers()?;
        let signer = signers
            .as_ref()
            .map(|signers| signed_by(&metadata.files, signers));
        let signer = signer.transpose().with_context(place)?.flatten();
        let instance = metadata.instance().with_context(place)?;
        let applied = Record::read(&directory)?;
        let facts = Facts {
            origin: metadata.origin,
            machine: self.machine(),
            signed: signer.is_some(),
            instance: &instance,
            applied: applied.as_ref().map(|record| &*record.instance),
        };
        match decide(&facts, self.unsigned(signers.is_some())) {
            Decision::Nothing(reason) => {
                out.note(format_args!("{}: {reason}", place()));
                return Ok(ExitCode::SUCCESS);
            }
            Decision::Refuse(reason) => return Err(anyhow!("{}: {reason}", place())),
            Decision::Apply => {}
        }
        let by = signer.as_ref().map_or("nobody".to_owned(), Clone::clone);
        out.note(format_args!(
            "{}: instance {instance}, signed by {by}",
            place()
        ));
        let configuration = Configuration::of(&metadata).with_context(place)?;
        for what in &configuration.ignored {
            out.warning(format_args!("ignored: {what}"));
        }
        self.apply(&configuration, &directory, out)?;
        if self.changing.dry_run {
            return Ok(ExitCode::SUCCESS);
        }
        Record::new(instance, metadata.origin, signer).put(&directory)?;
        if self.wipe {
            let wiped = wipe(&source, &self.root);
            wiped.with_context(|| format!("it is applied, but cannot wipe {}", metadata.place))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The first source that has any.
    fn metadata(&self) -> Result<Option<(Source, Metadata)>> {
        let named = self.source.iter().map(|source| match source.as_str() {
            "smbios" => Source::Smbios,
            "fw-cfg" => Source::FwCfg,
            path => Source::Path(path.into()),
        });
        let named: Vec<Source> = named.collect();
        let sources = if named.is_empty() {
            Source::usual()
        } else {
            named
        };
        for source in sources {
            if let Some(metadata) = source.read(&self.root)? {
                return Ok(Some((source, metadata)));
            }
        }
        Ok(None)
    }

    fn signers(&self) -> Result<Option<AllowedSigners>> {
        const LIMIT: usize = 1 << 20;
        let usual = || {
            SIGNERS
                .map(|path| self.root.join(path))
                .into_iter()
                .find(|path| path.exists())
        };
        let Some(path) = self.allowed_signers.clone().or_else(usual) else {
            return Ok(None);
        };
        let shown = || format!("`{}`", path.display());
        let text = file::read(&path, LIMIT)?;
        let text = str::from_utf8(&text)
            .ok()
            .with_context(|| format!("{} is no text", shown()))?;
        AllowedSigners::parse(text).with_context(shown).map(Some)
    }

    fn unsigned(&self, have_signers: bool) -> Unsigned {
        match (self.unsigned, have_signers) {
            (Some(Policy::Refuse), _) | (None, true) => Unsigned::Refuse,
            (Some(Policy::Once), _) | (None, false) => Unsigned::Once,
            (Some(Policy::EachInstance), _) => Unsigned::EachInstance,
        }
    }

    fn machine(&self) -> Machine {
        match self.machine {
            Some(Kind::BareMetal) => Machine::BareMetal,
            Some(Kind::Virtual) => Machine::Virtual,
            Some(Kind::Confidential) => Machine::Confidential,
            None => system::machine(),
        }
    }

    fn uki(&self, esp: &Esp) -> Result<UkiPath> {
        if let Some(uki) = &self.uki {
            return Ok(uki.clone());
        }
        let ukis = esp.ukis()?;
        let shown = esp.root().display();
        match &*ukis {
            [uki] => Ok(uki.clone()),
            [] => Err(anyhow!("there is no UKI on `{shown}`")),
            many => {
                let paths: Vec<&str> = many.iter().map(UkiPath::as_str).collect();
                Err(with_hint(
                    anyhow!("there are {} UKIs on `{shown}`", many.len()),
                    format!("name one: --uki={}", paths.join(" or --uki=")),
                ))
            }
        }
    }

    /// This machine's TPM, with a storage root key: one is made if missing, as systemd-tpm2-setup would.
    fn identity(&self, out: &mut Output) -> Result<HostIdentity> {
        if let Some(path) = &self.identity {
            return read_identity(path);
        }
        let (mut transport, mut rng) = (self.tpm.open()?, system::random());
        let mut tpm = Tpm::new(&mut *transport, &mut rng);
        let mut identity = HostIdentity::of_tpm(&mut tpm)?;
        if identity.storage_root_key.is_none() {
            let made = if self.changing.dry_run {
                tpm.future_storage_root_key()
            } else {
                tpm.create_storage_root_key()
            };
            match made {
                Err(Error::OwnerLocked) => {}
                made => {
                    identity.storage_root_key = Some(made?);
                    if !self.changing.dry_run {
                        out.note("the TPM had no storage root key: it has one now");
                    }
                }
            }
        }
        Ok(identity)
    }

    /// As `ukikit host apply` does.
    fn apply(
        &self,
        configuration: &Configuration,
        directory: &Path,
        out: &mut Output,
    ) -> Result<()> {
        let target = self.uki.clone().map(Target::Uki);
        let esps = self.changing.open(target.as_ref(), out)?;
        let [esp] = &*esps else {
            return Err(anyhow!(
                "a first boot is for one EFI system partition: give --esp= once"
            ));
        };
        let identity = self.identity(out)?;
        let (label, mut rng) = (Path::new(NAME), system::random());
        let destination = Destination::new(
            esp,
            self.uki(esp)?,
            &identity,
            Path::new("the TPM"),
            Timestamp::from_micros(system::now_micros()),
        );
        let plan = Plan::new(&configuration.host, label, destination)?;
        let state = State::of(label, Some(directory));
        let (known, values) = (state.record()?, configuration.values()?);
        let sources = Sources {
            values: &values,
            ask: &|_| Err(anyhow!("nobody is there to be asked")),
        };
        if self.changing.dry_run {
            let findings = plan.findings(&sources, &known, &mut rng)?;
            out.note(Report::new(&plan, &known, findings));
        }
        let key = state.key(&mut rng)?;
        let mut apply = host::Apply::new(&plan, esp, &sources, &key, NAME, &known);
        apply.force = self.force;
        let applied = apply.run(&mut rng);
        let applied = applied.map_err(|error| match error.downcast::<ukikit_esp::Error>() {
            Ok(error) => with_remedy(error),
            Err(error) => error,
        })?;
        refuse_errors(&applied.findings, self.force, out)?;
        if !self.changing.dry_run {
            state.keep(&key)?;
        }
        self.changing
            .apply(&[(esp.clone(), applied.changes)], out)?;
        if self.changing.dry_run {
            return Ok(());
        }
        state.put(applied.record)?;
        fs::File::open(directory)?.sync_all()?;
        Ok(())
    }
}
