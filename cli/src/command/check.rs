//! `ukikit check`

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{ArgGroup, Args};
use serde::Serialize;
use ukikit::Base;
use ukikit::check::{
    Circumstances, Findings, Level, Played, RULES, check_directory, check_esp, play_esp,
};
use ukikit_creds::HostIdentity;
use ukikit_esp::{Esp, Target, UkiPath};

use super::esp::in_image;
use crate::output::{Json, Output};
use crate::system;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").required(true).args(["esp", "esp_image", "directory", "rules"])))]
#[command(group(ArgGroup::new("partition").args(["esp", "esp_image"])))]
pub(crate) struct Check {
    /// A directory of credentials, images and addons to check without an ESP
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Root directory of the EFI system partition to check
    #[arg(long, value_name = "DIR")]
    esp: Option<PathBuf>,
    /// Image of a disk or of the partition alone to check, unmounted
    #[arg(long, value_name = "FILE")]
    esp_image: Option<PathBuf>,
    /// Only what concerns the UKI at this path on the ESP [default: all UKIs, and all boot entries that start one]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["directory", "rules"])]
    uki: Option<UkiPath>,
    /// The UKI, initrd or os-release that a directory of images is for
    #[arg(long, value_name = "FILE", requires = "directory")]
    base: Option<PathBuf>,
    /// The firmware enforces Secure Boot
    #[arg(long)]
    secure_boot: bool,
    /// The public identity of the host, as from ukikit tpm identity: finds credentials of other TPMs
    #[arg(long = "for", value_name = "IDENTITY")]
    identity: Option<PathBuf>,
    /// The systemd of the initrd, where its files do not tell
    #[arg(long, value_name = "VERSION")]
    target_systemd: Option<u16>,
    /// Show how each boot will go instead of what will go wrong: what is handed over, imported and merged
    #[arg(long, requires = "partition")]
    model: bool,
    /// Let the UKI's own generators, systemd-sysext and systemd-confext speak too, in namespaces of their own
    #[arg(long, requires = "partition")]
    rehearse: bool,
    /// Show the table of rules
    #[arg(long)]
    rules: bool,
    /// Print the findings as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl Check {
    /// Status 1 when there is an error.
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        if self.rules {
            out.show(&Rules::all(), self.json)?;
            return Ok(ExitCode::SUCCESS);
        }
        let circumstances = self.circumstances()?;
        let esp = self.esp()?;
        if let (true, Some(esp)) = (self.model, &esp) {
            let boots = play_esp(esp, self.uki.as_ref(), &circumstances)?;
            out.show(&Boots { schema: 1, boots }, self.json)?;
            return Ok(ExitCode::SUCCESS);
        }
        let findings = match (&esp, &self.directory) {
            (Some(esp), _) => check_esp(esp, self.uki.as_ref(), &circumstances)?,
            (None, Some(directory)) => check_directory(directory, &circumstances)?,
            (None, None) => Findings::default(),
        };
        let failed = findings.has_errors();
        out.show(
            &Report {
                schema: 1,
                findings,
            },
            self.json,
        )?;
        Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    fn esp(&self) -> Result<Option<Esp>> {
        let target = self.uki.clone().map(Target::Uki);
        Ok(match (&self.esp, &self.esp_image) {
            (Some(path), _) => Some(Esp::at(path)?),
            (None, Some(path)) => Some(in_image(path, target.as_ref())?),
            (None, None) => None,
        })
    }

    fn circumstances(&self) -> Result<Circumstances> {
        let mut circumstances = Circumstances::default();
        circumstances.secure_boot = self.secure_boot.then_some(true);
        circumstances.systemd = self.target_systemd;
        circumstances.now = system::now_micros();
        circumstances.rehearse = self.rehearse;
        if let Some(path) = &self.identity {
            let identity = HostIdentity::from_json(&read(path)?);
            circumstances.identity =
                Some(identity.with_context(|| format!("cannot use `{}`", path.display()))?);
        }
        if let Some(path) = &self.base {
            let base = Base::of_file(&read(path)?);
            circumstances.base =
                Some(base.with_context(|| format!("cannot use `{}`", path.display()))?);
        }
        Ok(circumstances)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    findings: Findings,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings.0 {
            writeln!(f, "{finding}")?;
        }
        let count = |level| {
            let of_level = self
                .findings
                .0
                .iter()
                .filter(|finding| finding.level == level);
            of_level.count()
        };
        let [errors, warnings, notes] = [Level::Error, Level::Warning, Level::Note].map(count);
        writeln!(f, "{errors} errors, {warnings} warnings, {notes} notes")
    }
}

/// What `--model` prints.
#[derive(Debug, Serialize)]
struct Boots {
    schema: u32,
    boots: Vec<Played>,
}

impl fmt::Display for Boots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.boots.iter().try_for_each(|boot| boot.fmt(f))
    }
}

/// The table of rules.
#[derive(Debug, Serialize)]
struct Rules {
    schema: u32,
    rules: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    id: &'static str,
    level: Level,
    about: &'static str,
}

impl Rules {
    fn all() -> Self {
        let row = |rule: &ukikit::check::Rule| Row {
            id: rule.id,
            level: rule.level,
            about: rule.about,
        };
        Self {
            schema: 1,
            rules: RULES.iter().map(row).collect(),
        }
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules
            .iter()
            .try_for_each(|row| writeln!(f, "{:7}  {:22}  {}", row.level, row.id, row.about))
    }
}
