//! `ukikit esp`: its verbs, and the options that say where.

mod carry;
pub(super) mod discover;
mod export;
mod gc;
mod list;
mod pcrlock;
mod place;
mod remove;
mod undo;
pub(super) mod verify;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use ukikit_esp::{Changes, Error, Esp, NoTrial, Target, UkiPath};

use crate::output::{Json, Output, with_hint};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show the companions of one UKI, or of all, and what becomes of them
    List(list::List),
    /// Put credentials, extension images and addons beside a UKI
    Place(place::Place),
    /// Take companions away from beside a UKI
    Remove(remove::Remove),
    /// Undo the last change: every file gets back the bytes it had before
    Undo(undo::Undo),
    /// Bring the companions of the UKI there is to one that is about to come, as far as it would use them
    Carry(carry::Carry),
    /// Write the companions of a UKI as the initrds that the stub would make of them, for loaders without it
    Export(export::Export),
    /// Remove what nobody needs any more of what was placed, and finish what was interrupted
    Gc(gc::Gc),
}

impl Verb {
    pub(crate) fn run(self, out: &mut Output) -> Result<ExitCode> {
        match self {
            Self::List(verb) => verb.run(out),
            Self::Place(verb) => verb.run(out),
            Self::Remove(verb) => verb.run(out),
            Self::Undo(verb) => verb.run(out),
            Self::Carry(verb) => verb.run(out),
            Self::Export(verb) => verb.run(out),
            Self::Gc(verb) => verb.run(out),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// `--esp=` or `--esp-image=`
#[derive(Debug, Args)]
pub(super) struct Root {
    /// Root directory of the EFI system partition; several times for several that are to be alike
    /// [default: where bootctl would find it, on XBOOTLDR if the UKI is there]
    #[arg(long, value_name = "DIR")]
    esp: Vec<PathBuf>,
    /// Image of a disk or of the partition alone, which is read and changed unmounted; several times too
    #[arg(long, value_name = "FILE")]
    esp_image: Vec<PathBuf>,
}

impl Root {
    /// At least one.
    pub(super) fn open(&self, target: Option<&Target>) -> Result<Vec<Esp>> {
        if self.esp.is_empty() && self.esp_image.is_empty() {
            return Ok(vec![discover::esp(target)?]);
        }
        let mounted = self.esp.iter().map(|path| Ok(Esp::at(path)?));
        let images = self.esp_image.iter().map(|path| in_image(path, target));
        mounted.chain(images).collect()
    }
}

/// `--esp=` or `--esp-image=` of a verb that looks at one.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct OneRoot {
    /// Root directory of the EFI system partition
    #[arg(long, value_name = "DIR")]
    esp: Option<PathBuf>,
    /// Image of a disk or of the partition alone, which is read unmounted
    #[arg(long, value_name = "FILE")]
    esp_image: Option<PathBuf>,
}

impl OneRoot {
    /// The ESP, or XBOOTLDR in the image if the UKI is there.
    pub(crate) fn open(&self, uki: Option<&UkiPath>) -> Result<Esp> {
        match (&self.esp, &self.esp_image) {
            (Some(path), _) => Ok(Esp::at(path)?),
            (None, Some(path)) => in_image(path, uki.cloned().map(Target::Uki).as_ref()),
            (None, None) => bail!("no EFI system partition is named"),
        }
    }
}

/// The partition of an image that has the UKI, or else the ESP.
pub(crate) fn in_image(path: &Path, target: Option<&Target>) -> Result<Esp> {
    let mut first = None;
    for esp in Esp::in_image(path)? {
        match target {
            Some(Target::Uki(uki)) if esp.find_uki(uki)?.is_none() => {
                first.get_or_insert(esp);
            }
            _ => return Ok(esp),
        }
    }
    first.with_context(|| format!("`{}` has no EFI system partition", path.display()))
}

/// Keeps other processes away, finishes what was interrupted, or takes it back, and says so.
pub(crate) fn locked(esp: Esp, out: &mut Output) -> Result<Esp> {
    let esp = esp.locked().map_err(with_remedy)?;
    for recovered in esp.recover().map_err(with_remedy)? {
        out.note(format_args!("{}: {recovered}", esp.root().display()));
    }
    Ok(esp)
}

/// The options of every verb that changes something.
#[derive(Debug, Args)]
pub(super) struct Changing {
    #[command(flatten)]
    root: Root,
    /// Bytes that have to stay free on the ESP at every moment
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024)]
    keep_free: u64,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print the changes as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl Changing {
    /// The partitions, locked, with everything finished that was interrupted.
    pub(super) fn open(&self, target: Option<&Target>, out: &mut Output) -> Result<Vec<Esp>> {
        let all = self.root.open(target)?.into_iter().map(|esp| {
            let esp = esp.keep_free(self.keep_free);
            if self.dry_run {
                Ok(esp)
            } else {
                locked(esp, out)
            }
        });
        all.collect()
    }

    /// Makes the changes, planned for all partitions before the first is made.
    pub(super) fn apply(&self, planned: &[(Esp, Changes)], out: &mut Output) -> Result<()> {
        for (esp, changes) in planned {
            changes
                .check_room(esp)
                .map_err(|error| hint_at_room(error, esp))?;
        }
        for (esp, changes) in planned {
            if !self.dry_run {
                changes.apply(esp).map_err(with_remedy)?;
            }
            self.report(esp, changes, out)?;
        }
        Ok(())
    }

    fn report(&self, esp: &Esp, changes: &Changes, out: &mut Output) -> Result<()> {
        let report = Report {
            schema: 1,
            applied: !self.dry_run,
            esp: esp.root().display().to_string(),
            changes,
        };
        out.show(&report, self.json)
    }
}

/// `--uki=` or `--global`
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// Companions of the UKI at this path on the ESP, with or without its boot counter
    #[arg(long, value_name = "PATH")]
    uki: Option<UkiPath>,
    /// Companions of all UKIs on the ESP
    #[arg(long)]
    global: bool,
}

impl Whose {
    fn target(self) -> Target {
        self.uki.map_or(Target::Global, Target::Uki)
    }
}

/// What a verb changes, or with `--dry-run` would change.
#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: u32,
    applied: bool,
    esp: String,
    #[serde(flatten)]
    changes: &'a Changes,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes.fmt(f)?;
        if !self.applied && !self.changes.is_empty() {
            writeln!(f, "{}", self.changes.room())?;
        }
        Ok(())
    }
}

/// Names the UKIs there are when one was not found.
pub(super) fn hint_at_ukis(error: Error, esp: &Esp) -> anyhow::Error {
    let ukis = esp.ukis().unwrap_or_default();
    if !matches!(error, Error::NoUki { .. }) || ukis.is_empty() {
        return with_remedy(error);
    }
    let paths: Vec<&str> = ukis.iter().map(UkiPath::as_str).collect();
    let hint = format!(
        "--uki= takes a path from the root of the ESP, here {}",
        paths.join(" or ")
    );
    with_hint(error, hint)
}

/// Tells what to do about what stands in the way of a change.
pub(super) fn with_remedy(error: Error) -> anyhow::Error {
    let hint = match &error {
        Error::Foreign { .. } | Error::ChangedSince { .. } => "--force does it all the same",
        Error::Interrupted { .. } => "the next change finishes it, and so does `ukikit esp gc`",
        Error::Trial {
            why: NoTrial::OnTrial,
            ..
        } => "`ukikit host apply` without --tries= makes it stay, `ukikit esp undo` takes it back",
        Error::Busy { .. } | Error::Outdated { .. } => "try again when it is done",
        _ => return error.into(),
    };
    with_hint(error, hint)
}

/// Names what could be removed.
fn hint_at_room(error: Error, esp: &Esp) -> anyhow::Error {
    let garbage = esp.garbage().map_or(0, |garbage| {
        garbage.iter().filter_map(|change| change.before).sum()
    });
    let kept = esp.kept_for_undo().unwrap_or(0);
    let hint = format!(
        "`ukikit esp gc` would free {garbage} bytes that nobody needs, `ukikit esp gc --forget-undo` {kept} more"
    );
    with_hint(error, hint)
}
