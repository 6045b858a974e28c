//! `ukikit explain`

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use ukikit::check::{Circumstances, Subject, base_of};
use ukikit::explain::{Evidence, Explanation, explain};
use ukikit::journal::Journal;
use ukikit_esp::{Esp, EventLog, UkiPath};

use super::esp::discover;
use super::predict::Started;
use crate::file;
use crate::output::{Json, Output, with_hint};
use crate::system;

/// In bytes; a boot that logged more is no boot to explain.
const LARGEST_JOURNAL: usize = 1 << 30;

/// Without --eventlog=, --journal= and --imported= it is this machine's boot.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Root directory of the EFI system partition [default: where it is mounted]
    #[arg(long, value_name = "DIR")]
    esp: Option<PathBuf>,
    #[command(flatten)]
    started: Started,
    /// The firmware's event log of the boot, as in /sys/kernel/security/tpm0/binary_bios_measurements
    #[arg(long, value_name = "FILE")]
    eventlog: Option<PathBuf>,
    /// The journal of the boot, as journalctl --boot --output=json or =export writes it; - is standard input
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// A directory with the credentials PID 1 imported, as /run/credentials/@encrypted
    #[arg(long, value_name = "DIR")]
    imported: Option<PathBuf>,
    /// Print the explanation as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl Explain {
    /// Status 1 when something was otherwise than expected.
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        let mut started = self.started;
        let evidence = match (&self.eventlog, &self.journal, &self.imported) {
            (None, None, None) => {
                if !started.is_named() {
                    started = started.of(started_uki()?);
                }
                started = started.securely(system::boot_facts().secure_boot);
                of_this_boot()?
            }
            (log, journal, imported) => Evidence::new(
                log.as_deref().map(event_log).transpose()?,
                journal.as_deref().map(read_journal).transpose()?,
                imported.as_deref().map(names).transpose()?,
            ),
        };
        let esp = match &self.esp {
            Some(root) => Esp::at(root)?,
            None => discover::esp(started.target().as_ref())?,
        };
        let planned = started.read(&esp)?;
        let uki = planned.uki_path.to_string();
        let base = base_of(&planned);
        if let Err(fault) = &base {
            out.note(format_args!("what the initrd is is not known: {fault}"));
        }
        let circumstances = Circumstances::default();
        let subject = Subject::new(uki.clone(), &planned, &[], base, &circumstances);
        let explanation = explain(&subject, &evidence)?;
        let as_expected = explanation.is_as_expected();
        let report = Report {
            schema: 1,
            uki: &uki,
            explanation,
        };
        out.show(&report, self.json)?;
        Ok(if as_expected {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn event_log(path: &Path) -> Result<EventLog> {
    let cannot_use = || format!("cannot use `{}`", path.display());
    EventLog::parse(&fs::read(path).with_context(cannot_use)?).with_context(cannot_use)
}

fn read_journal(path: &Path) -> Result<Journal> {
    let journal = file::read(path, LARGEST_JOURNAL)?;
    Journal::parse(&journal).with_context(|| format!("cannot use {}", file::shown_input(path)))
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let cannot_read = || format!("cannot read `{}`", directory.display());
    let entries = fs::read_dir(directory).with_context(cannot_read)?;
    let name = |entry: std::io::Result<fs::DirEntry>| {
        Ok(entry?.file_name().to_string_lossy().into_owned())
    };
    entries
        .map(name)
        .collect::<Result<_>>()
        .with_context(cannot_read)
}

/// What the running system kept; a machine without TPM has no event log, one whose initrd imported nothing no directory.
fn of_this_boot() -> Result<Evidence> {
    const LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
    const IMPORTED: &str = "/run/credentials/@encrypted";
    let there = |path: &'static str| Some(Path::new(path)).filter(|path| path.exists());
    Ok(Evidence::new(
        there(LOG).map(event_log).transpose()?,
        Some(journal_of_this_boot()?),
        there(IMPORTED).map(names).transpose()?,
    ))
}

fn journal_of_this_boot() -> Result<Journal> {
    let output = Command::new("journalctl")
        .args(["--boot", "--output=json", "--no-pager", "--quiet"])
        .output();
    let output = output.map_err(|error| {
        let error = anyhow::Error::new(error).context("cannot run `journalctl`");
        with_hint(error, "name the journal of a boot with --journal=FILE")
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`journalctl` failed: {}", said.trim());
    }
    Journal::parse(&output.stdout).context("cannot use the journal of this boot")
}

/// The UKI the stub says it is.
fn started_uki() -> Result<UkiPath> {
    let Some(path) = system::stub_image() else {
        let error = anyhow::anyhow!("no UKI says that it was started");
        return Err(with_hint(error, "name it with --uki=PATH"));
    };
    path.parse().with_context(|| format!("cannot use `{path}`"))
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: u32,
    uki: &'a str,
    #[serde(flatten)]
    explanation: Explanation,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explanation.fmt(f)
    }
}
