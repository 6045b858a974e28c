//! What a boot made of each companion, from what it left behind, beside what was to be expected of it.
//!
//! ```text
//! Subject (boot, model) ────────┐
//! EventLog, Journal, names of ──┴─ told, one for each file: expected, measured, taken, and the lines that say why
//! imported credentials
//! ```

use std::fmt;

use anyhow::{Result, bail};
use serde::Serialize;
use ukikit_esp::EventLog;

use crate::check::Subject;
use crate::journal::Journal;
use crate::model::{Delivered, Extension, Import, Model, Outcome};
use crate::predict::{Difference, Predicted, Prediction, difference};

/// What a boot left behind; what is not at hand says nothing.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Evidence {
    /// The firmware's event log: what was handed over.
    pub event_log: Option<EventLog>,
    /// What systemd said.
    pub journal: Option<Journal>,
    /// The names of the files in `/run/credentials/@encrypted`, where PID 1 puts what it imports, without `.cred`.
    pub imported: Option<Vec<String>>,
}

impl Evidence {
    /// All there is.
    pub fn new(
        event_log: Option<EventLog>,
        journal: Option<Journal>,
        imported: Option<Vec<String>>,
    ) -> Self {
        Self {
            event_log,
            journal,
            imported,
        }
    }
}

/// Everything that can be said of one boot.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// One for each companion, in the order of [`Model`], then addons.
    pub companions: Vec<Told>,
    /// The first event that is not as predicted.
    pub difference: Option<Difference>,
    /// What systemd said of credentials and extensions without naming one.
    pub remarks: Vec<String>,
}

/// One companion.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Told {
    /// Its path on the ESP.
    pub file: String,
    /// What was to be expected of it: `imported`, `merged`, or what keeps it from that.
    pub expected: String,
    /// How it was measured; `None` without an event log, and when it is not handed over.
    pub measured: Option<Measured>,
    /// Whether the boot took it, `None` when nothing tells.
    pub taken: Option<bool>,
    /// Whether anything is otherwise than expected.
    pub differs: bool,
    /// What systemd said of it.
    pub because: Vec<String>,
}

/// How the archive a file is in was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Measured {
    /// As predicted: this file had these bytes at that boot.
    AsPredicted,
    /// Something in it was other than now.
    Otherwise,
    /// Nothing of the kind was.
    Missing,
}

/// What systemd-sysext says, naming an image, when it merges nothing for that one's sake (262).
const UNREADABLE: &str = "Failed to read metadata for image";

/// What it says without naming one when it merges nothing, or less than there is.
const UNMERGED: [&str; 4] = [
    "No suitable extensions found",
    "does not match image policy",
    "Failed to merge hierarchies",
    "Failed to discover images",
];

/// What PID 1 says of credentials without naming one (262).
const UNOPENED: [&str; 2] = [
    "Failed to set up credentials",
    "Credential uses null key, but",
];

/// What the kernel says of an image whose signer it does not know. It says so too when user space knows the signer.
const SIGNER: [&str; 2] = [
    "Root hash verification failed",
    "Required key not available",
];

/// Words of a line that says why something was not done.
const TROUBLE: [&str; 9] = [
    "ailed",
    "ignor",
    "refus",
    "does not",
    "not valid",
    "exceeds",
    "Couldn't",
    "expired",
    "skipp",
];

/// Joins a boot, as it would go with the files that are there, with what one left behind.
///
/// # Errors
///
/// For evidence of nothing, an event log whose banks nobody knows, and a boot that cannot be played.
pub fn explain(subject: &Subject<'_>, evidence: &Evidence) -> Result<Explanation> {
    if evidence.event_log.is_none() && evidence.journal.is_none() && evidence.imported.is_none() {
        bail!("that boot left neither an event log nor a journal behind");
    }
    let boot = match &subject.boot {
        Ok(boot) => boot,
        Err(error) => bail!("cannot use `{}`: {error}", subject.uki()),
    };
    let log = evidence.event_log.as_ref();
    let banks = log.map(EventLog::banks).unwrap_or_default();
    let prediction = Prediction::new(boot, &banks, true);
    let found = log.map(|log| difference(&prediction, boot, &subject.planned.files, log));
    let witness = Witness {
        evidence,
        prediction: &prediction,
    };
    let Model {
        credentials,
        extensions,
    } = &subject.model;
    let credentials = credentials.iter().map(|file| witness.of_credential(file));
    let extensions = extensions.iter().map(|file| witness.of_extension(file));
    let addons = boot
        .addons
        .iter()
        .map(|addon| witness.of_addon(&addon.path, &addon.verdict));
    Ok(Explanation {
        companions: credentials.chain(extensions).chain(addons).collect(),
        difference: found.transpose()?.flatten(),
        remarks: witness.remarks(),
    })
}

/// Evidence, and the events it is held against.
struct Witness<'a> {
    evidence: &'a Evidence,
    prediction: &'a Prediction,
}

impl Witness<'_> {
    fn of_credential(&self, credential: &Delivered) -> Told {
        let expected = credential.import == Import::Taken;
        let name = credential.name.as_deref().unwrap_or_default();
        let imported = self.evidence.imported.as_ref();
        // The one that hides another has its name.
        let taken = match credential.import {
            Import::Hidden { .. } => None,
            _ => imported.map(|names| names.iter().any(|file| file == name)),
        };
        let because = if expected {
            self.lines_about(name)
        } else {
            Vec::new()
        };
        self.told(
            &credential.file.path,
            &credential.import,
            expected,
            taken,
            because,
        )
    }

    fn of_extension(&self, extension: &Extension) -> Told {
        let expected = matches!(extension.outcome, Outcome::Merged);
        let name = extension.name.as_deref().unwrap_or_default();
        let taken = match extension.outcome {
            Outcome::Hidden(_) => None,
            _ => self.merged().map(|names| names.contains(&name)),
        };
        let because = match taken {
            Some(true) => Vec::new(),
            _ => self.lines_about(name),
        };
        self.told(
            &extension.file.path,
            &extension.outcome,
            expected,
            taken,
            because,
        )
    }

    fn of_addon(&self, path: &str, verdict: &impl fmt::Display) -> Told {
        self.told(path, verdict, false, None, Vec::new())
    }

    fn told(
        &self,
        file: &str,
        expected: &impl fmt::Display,
        takes: bool,
        taken: Option<bool>,
        because: Vec<String>,
    ) -> Told {
        let measured = self.measured(file);
        let otherwise = measured.is_some_and(|measured| measured != Measured::AsPredicted);
        let trouble = takes && !because.is_empty();
        Told {
            file: file.to_owned(),
            expected: expected.to_string(),
            measured,
            taken,
            differs: otherwise || trouble || taken.is_some_and(|taken| taken != takes),
            because,
        }
    }

    /// The worst of the events that the file has a part in.
    fn measured(&self, file: &str) -> Option<Measured> {
        let log = self.evidence.event_log.as_ref()?;
        let has_part = |event: &&Predicted| event.files.iter().any(|part| part == file);
        let events = self.prediction.events.iter().filter(has_part);
        let verdicts = events.map(|event| {
            let same = log.of(event.pcr).any(|seen| {
                let mut digests = seen.digests.iter();
                digests.any(|(bank, digest)| event.digests.of(*bank) == Some(digest))
            });
            let mut alike = log
                .of(event.pcr)
                .filter(|seen| seen.description().as_deref() == Some(event.description.as_str()));
            match (same, alike.next()) {
                (true, _) => Measured::AsPredicted,
                (false, Some(_)) => Measured::Otherwise,
                (false, None) => Measured::Missing,
            }
        });
        verdicts.max_by_key(|verdict| *verdict as u8)
    }

    /// The names of the extensions that systemd-sysext and systemd-confext said they use; `None` if they were not heard.
    fn merged(&self) -> Option<Vec<&str>> {
        const USED: &str = "Using extensions '";
        let journal = self.evidence.journal.as_ref()?;
        let used = journal.with(&[USED]).filter_map(|message| {
            let (_, names) = message.split_once(USED)?;
            Some(names.trim_end_matches("'.").split("', '").map(bare))
        });
        let used: Vec<&str> = used.flatten().collect();
        let unmerged = [&UNMERGED[..], &[UNREADABLE]].concat();
        let heard = !used.is_empty() || journal.with(&unmerged).next().is_some();
        heard.then_some(used)
    }

    /// What was said of this name that sounds of trouble.
    fn lines_about(&self, name: &str) -> Vec<String> {
        let names = |message: &&str| {
            let is_part = |char: char| char.is_alphanumeric() || "._-".contains(char);
            let mut words = message.split(|char| !is_part(char));
            words.any(|word| bare(word.trim_end_matches('.')) == name)
        };
        let journal = self.evidence.journal.iter();
        let lines = journal.flat_map(|journal| journal.with(&TROUBLE));
        lines.filter(names).map(str::to_owned).collect()
    }

    fn remarks(&self) -> Vec<String> {
        let Some(journal) = &self.evidence.journal else {
            return Vec::new();
        };
        let mut words = [&UNMERGED[..], &UNOPENED].concat();
        if self.merged().is_some_and(|names| names.is_empty()) {
            words.extend(SIGNER);
        }
        let mut remarks: Vec<String> = journal.with(&words).map(str::to_owned).collect();
        remarks.dedup();
        remarks
    }
}

/// A name without the suffixes of companions.
fn bare(name: &str) -> &str {
    [".raw", ".sysext", ".confext", ".cred"]
        .into_iter()
        .fold(name, |name, suffix| {
            name.strip_suffix(suffix).unwrap_or(name)
        })
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.differs { "differs" } else { "ok" };
        write!(f, "{mark:7}  {}: {}", self.file, self.expected)?;
        match self.taken {
            Some(true) if self.differs => f.write_str(", and at that boot it was taken")?,
            Some(false) if self.differs => f.write_str(", but at that boot it was not taken")?,
            Some(_) => f.write_str(", as at that boot")?,
            None => {}
        }
        match self.measured {
            Some(Measured::Otherwise) => f.write_str("; it was measured with other content")?,
            Some(Measured::Missing) => f.write_str("; it was not measured")?,
            Some(Measured::AsPredicted) | None => {}
        }
        self.because
            .iter()
            .try_for_each(|line| write!(f, "\n           {line}"))
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for told in &self.companions {
            writeln!(f, "{told}")?;
        }
        if let Some(difference) = &self.difference {
            writeln!(f, "{difference}")?;
        }
        for remark in &self.remarks {
            writeln!(f, "journal: {remark}")?;
        }
        let (all, others) = (
            self.companions.len(),
            self.companions.iter().filter(|told| told.differs).count(),
        );
        writeln!(f, "{all} companions, {others} otherwise than expected")
    }
}

impl Explanation {
    /// Whether everything was as expected.
    pub fn is_as_expected(&self) -> bool {
        self.difference.is_none() && self.companions.iter().all(|told| !told.differs)
    }
}
