//! `ukikit predict`

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args, ValueEnum};
use serde::Serialize;
use ukikit::PlannedBoot;
use ukikit::predict::{
    Difference, PCRS, Prediction, Variant, difference, pcrlock, programs, secure_boot,
    signature_policy,
};
use ukikit_creds::PolicyKey;
use ukikit_esp::{Bank, Boot, Companion, Esp, EventLog, LoaderEntry, Start, Target, UkiPath};

use super::esp::OneRoot;
use crate::file;
use crate::output::{Json, Output};

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("started").required(true).multiple(true).args(["uki", "entry"])))]
pub(crate) struct Predict {
    #[command(flatten)]
    root: OneRoot,
    #[command(flatten)]
    started: Started,
    /// Only these banks [default: sha256, sha384, sha512, sha1; with --secure-boot-log= those it has]
    #[arg(long, value_name = "BANK", value_delimiter = ',', value_parser = bank)]
    bank: Vec<Bank>,
    /// What starts the UKI, for PCR 4: the path of the boot loader on the ESP, or none when the firmware does
    #[arg(long, value_name = "PATH")]
    loader: Option<String>,
    /// Take PCR 7 from the event log of a boot: it stays while the keys of Secure Boot do, and the signers of all that is started
    #[arg(long, value_name = "EVENTLOG")]
    secure_boot_log: Option<PathBuf>,
    /// As if these companions lay beside the UKI, each under its own name
    #[arg(long, value_name = "FILE")]
    place: Vec<PathBuf>,
    /// As if the companions of these names were gone from beside the UKI
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,
    /// Whether the initrd measures os-separator into PCR 12 and 13, as with systemd-pcrosseparator.service
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "yes",
        action = clap::ArgAction::Set,
        value_parser = boolean
    )]
    os_separator: bool,
    /// Hold the prediction against the event log of a boot and name the first event that differs
    #[arg(long, value_name = "EVENTLOG")]
    diff: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    format: Format,
    /// For --format=policy: the phases to sign for, as systemd-measure takes them; `:` is before all
    #[arg(long, value_name = "PATH")]
    phase: Vec<String>,
    /// For --format=policy: the public key, in PEM, that the signatures will be checked with
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// For --format=pcrlock: the directory of components, such as /var/lib/pcrlock.d
    #[arg(long, value_name = "DIR", required_if_eq("format", "pcrlock"))]
    output: Option<PathBuf>,
    /// Print the prediction as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

/// What the boot loader starts, and with what.
#[derive(Debug, Args)]
pub(crate) struct Started {
    /// The UKI at this path on the ESP, with or without its boot counter; it need not be there yet
    #[arg(long, value_name = "PATH")]
    uki: Option<UkiPath>,
    /// The boot entry, of type #1, that starts it: a path on the ESP, or a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["profile", "cmdline", "extra"])]
    entry: Option<PathBuf>,
    /// The profile of the UKI that is chosen
    #[arg(long, value_name = "N", default_value_t)]
    profile: u32,
    /// The command line that the boot loader passes
    #[arg(long, value_name = "STRING")]
    cmdline: Option<String>,
    /// A file on the ESP that the boot loader passes, as in an extra line of an entry
    #[arg(long, value_name = "PATH")]
    extra: Vec<String>,
    /// The kernel version of a UKI that is not there yet, for its addons
    #[arg(long, value_name = "VERSION")]
    uname: Option<String>,
    /// The firmware enforces Secure Boot
    #[arg(long)]
    secure_boot: bool,
}

impl Started {
    /// Whether it says what is started; the options take it for granted.
    pub(crate) fn is_named(&self) -> bool {
        self.uki.is_some() || self.entry.is_some()
    }

    /// The UKI it names.
    pub(crate) fn target(&self) -> Option<Target> {
        self.uki.clone().map(Target::Uki)
    }

    /// The same, with Secure Boot if the machine enforces it.
    pub(crate) fn securely(self, enforced: bool) -> Self {
        Self {
            secure_boot: self.secure_boot || enforced,
            ..self
        }
    }

    /// The same of this UKI.
    pub(crate) fn of(self, uki: UkiPath) -> Self {
        Self {
            uki: Some(uki),
            ..self
        }
    }

    /// Reads everything that takes part.
    pub(crate) fn read(self, esp: &Esp) -> Result<PlannedBoot> {
        let (uki, extras, mut start) = match &self.entry {
            Some(path) => self.by_entry(esp, path)?,
            None => self.by_options()?,
        };
        start.secure_boot = self.secure_boot;
        start.uname = self.uname;
        PlannedBoot::read(esp, uki, &extras, start)
    }

    fn by_entry(&self, esp: &Esp, path: &Path) -> Result<(UkiPath, Vec<String>, Start)> {
        let entry = read_entry(esp, path)?;
        let named = entry
            .uki
            .as_ref()
            .with_context(|| format!("`{}` starts no UKI: it has no line `uki`", path.display()))?;
        let own: UkiPath = named.replace('\\', "/").parse()?;
        if let Some(asked) = &self.uki
            && !asked.is_named_by(named)
        {
            bail!("`{}` starts `{own}`, not `{asked}`", path.display());
        }
        let start = PlannedBoot::start_of(&entry);
        Ok((own, entry.extras, start))
    }

    fn by_options(&self) -> Result<(UkiPath, Vec<String>, Start)> {
        let uki = self.uki.clone().context("no UKI is named")?;
        let mut start = Start::default();
        start.profile = self.profile;
        start.options.clone_from(&self.cmdline);
        Ok((uki, self.extra.clone(), start))
    }
}

/// On the ESP, or else anywhere.
fn read_entry(esp: &Esp, path: &Path) -> Result<LoaderEntry> {
    if let Some(entry) = path.to_str().and_then(|path| esp.loader_entry(path).ok()) {
        return Ok(entry);
    }
    let file = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(LoaderEntry::parse(&file))
}

/// `--format=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// Values and events
    #[default]
    Values,
    /// What is to be signed for a PCR 11 policy, as systemd-measure policy-digest writes it; JSON
    Policy,
    /// Components of systemd-pcrlock for PCR 12 and 13, into --output=; with --place= and --remove= as it is and as it will be
    Pcrlock,
}

fn bank(word: &str) -> Result<Bank, String> {
    let found = Bank::ALL.into_iter().find(|bank| bank.as_str() == word);
    found.ok_or_else(|| "a bank is sha1, sha256, sha384 or sha512".to_owned())
}

fn boolean(word: &str) -> Result<bool, String> {
    match word {
        "yes" | "true" | "1" | "on" => Ok(true),
        "no" | "false" | "0" | "off" => Ok(false),
        _ => Err("yes or no".to_owned()),
    }
}

const BANKS: [Bank; 4] = [Bank::Sha256, Bank::Sha384, Bank::Sha512, Bank::Sha1];

impl Predict {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let esp = self.root.open(self.started.uki.as_ref())?;
        let mut planned = self.started.read(&esp)?;
        if planned.uki.is_none() {
            let path = &planned.uki_path;
            out.note(format_args!("`{path}` is not on the ESP: no PCR 11"));
        }
        let secure_boot_log = self.secure_boot_log.as_deref().map(read_log).transpose()?;
        let banks = match &secure_boot_log {
            _ if !self.bank.is_empty() => self.bank,
            Some(log) => log.banks(),
            None => BANKS.to_vec(),
        };
        let target = Target::Uki(planned.uki_path.clone());
        let placed = self.place.iter().map(|path| Companion::read(path));
        let placed = placed.collect::<Result<Vec<_>, _>>()?;
        if let (Format::Pcrlock, Some(output)) = (self.format, &self.output) {
            let mut variants = variants(&planned, &banks)?;
            planned.change(&target, &self.remove, &placed)?;
            variants.extend(self::variants(&planned, &banks)?);
            return write_variants(output, &variants, out);
        }
        planned.change(&target, &self.remove, &placed)?;
        let boot = planned.boot()?;
        let mut prediction = Prediction::new(&boot, &banks, self.os_separator);
        if let Some(loader) = self.loader.as_deref() {
            let own = (loader != "none").then(|| esp.read(loader)).transpose()?;
            let own = own.as_deref().map(|file| (loader, file));
            if let Some(programs) = programs(&planned, &boot, own, &banks)? {
                prediction = prediction.with_firmware(programs);
            }
        }
        if let Some(log) = &secure_boot_log {
            prediction = prediction.with_firmware(secure_boot(log, &banks)?);
        }
        if let Some(path) = &self.diff {
            return compare(&planned, &boot, &prediction, path, self.json, out);
        }
        match self.format {
            Format::Values => {
                let report = Report {
                    schema: 1,
                    uki: planned.uki_path.as_str(),
                    profile: boot.profile,
                    command_line: boot.command_line.as_deref(),
                    prediction: &prediction,
                };
                out.show(&report, self.json)?;
            }
            Format::Policy => {
                let key = self.public_key.as_deref().map(read_key).transpose()?;
                let policy = signature_policy(&prediction, &banks, &self.phase, key.as_ref())?;
                let text = match self.json {
                    Json::Short => serde_json::to_string(&policy)?,
                    _ => serde_json::to_string_pretty(&policy)?,
                };
                out.bytes(format!("{text}\n").as_bytes())?;
            }
            Format::Pcrlock => {}
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn variants(planned: &PlannedBoot, banks: &[Bank]) -> Result<Vec<Variant>> {
    let prediction = Prediction::new(&planned.boot()?, banks, true);
    Ok(pcrlock(planned.uki_path.as_str(), &prediction))
}

/// Adds variants to what is there: those of other boots stay, until somebody removes them.
fn write_variants(directory: &Path, variants: &[Variant], out: &mut Output) -> Result<ExitCode> {
    for variant in variants {
        let component = directory.join(variant.component);
        let cannot_write = || format!("cannot write into `{}`", component.display());
        fs::create_dir_all(&component).with_context(cannot_write)?;
        let path = component.join(&variant.file_name);
        if !path.exists() {
            let text = format!("{}\n", variant.content);
            file::write(&path, text.as_bytes(), out)?;
            out.note(format_args!("`{}` written", path.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read_key(path: &Path) -> Result<PolicyKey> {
    let cannot_use = || format!("cannot use `{}`", path.display());
    let pem = fs::read(path).with_context(cannot_use)?;
    PolicyKey::from_pem(&pem).with_context(cannot_use)
}

fn read_log(path: &Path) -> Result<EventLog> {
    let cannot_read = || format!("cannot read `{}`", path.display());
    let file = fs::read(path).with_context(cannot_read)?;
    EventLog::parse(&file).with_context(cannot_read)
}

/// Status 1 when something differs.
fn compare(
    planned: &PlannedBoot,
    boot: &Boot<'_>,
    prediction: &Prediction,
    path: &Path,
    json: Json,
    out: &mut Output,
) -> Result<ExitCode> {
    let log = read_log(path)?;
    let firmware = |pcr: u32| prediction.events.iter().any(|event| event.pcr == pcr);
    let compared = PCRS.into_iter().filter(|&pcr| pcr > 7 || firmware(pcr));
    let comparison = Comparison {
        schema: 1,
        uki: planned.uki_path.as_str(),
        difference: difference(prediction, boot, &planned.files, &log)?,
        compared: compared.collect(),
    };
    let same = comparison.difference.is_none();
    out.show(&comparison, json)?;
    Ok(if same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    schema: u32,
    uki: &'a str,
    profile: u32,
    /// `None` when the UKI is not there to tell its own.
    command_line: Option<&'a str>,
    #[serde(flatten)]
    prediction: &'a Prediction,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prediction.fmt(f)
    }
}

/// What `--diff=` prints.
#[derive(Debug, Serialize)]
struct Comparison<'a> {
    schema: u32,
    uki: &'a str,
    difference: Option<Difference>,
    /// The PCRs, for people.
    #[serde(skip)]
    compared: Vec<u32>,
}

impl fmt::Display for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.difference {
            Some(difference) => difference.fmt(f),
            None => {
                let all: Vec<String> = self.compared.iter().map(u32::to_string).collect();
                let all = all.join(", ");
                let (most, last) = all.rsplit_once(", ").unwrap_or(("", &all));
                write!(f, "every event of PCR {most} and {last} is as predicted")
            }
        }
    }
}
