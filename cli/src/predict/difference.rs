//! Where a prediction and the event log of a real boot part.

use std::fmt;

use anyhow::{Context, Result};
use serde::Serialize;
use ukikit_esp::{Archive, Bank, Boot, BootFiles, EventLog, File, Hash, Logged};

use super::{OPEN, PCRS, Predicted, Prediction};

/// The first event that differs.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// The PCR it was measured into.
    pub pcr: u32,
    /// Its place among the events of that PCR, from 0.
    pub place: usize,
    /// The bank in which the two were compared.
    pub bank: Bank,
    /// What is predicted there, `None` when the log goes on.
    pub expected: Option<Predicted>,
    /// What the log has there, `None` when it ends.
    pub seen: Option<Seen>,
    /// The files that explain it: without them the measurement would be the one in the log.
    pub without: Vec<String>,
}

/// An event of the log.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Seen {
    /// What it says of itself.
    pub description: Option<String>,
    /// The hash of what was measured.
    pub digest: Hash,
}

impl Seen {
    fn new(event: &Logged, bank: Bank) -> Self {
        Self {
            description: event.description(),
            digest: event.digest(bank).cloned().unwrap_or(bank.zero()),
        }
    }
}

/// Holds the events of PCR 4, 11, 12 and 13 against a log, in the strongest bank both have. `None` if all are the same. PCR 11
/// is left out when the UKI is not there, PCR 4 when it is not predicted.
///
/// # Errors
///
/// When there is no such bank.
pub fn difference(
    prediction: &Prediction,
    boot: &Boot<'_>,
    files: &BootFiles,
    log: &EventLog,
) -> Result<Option<Difference>> {
    let has = |bank: &Bank| {
        let mut events = prediction.events.iter();
        events.all(|event| event.digests.of(*bank).is_some())
    };
    let bank = log.banks().into_iter().find(has);
    let bank = bank.context("the event log has no bank in common with the prediction")?;
    let first = PCRS
        .into_iter()
        .filter(|pcr| {
            let predicted = prediction.events.iter().any(|event| event.pcr == *pcr);
            predicted || !OPEN.contains(pcr)
        })
        .filter_map(|pcr| in_pcr(prediction, log, pcr, bank))
        .min_by_key(|(at, _)| *at);
    Ok(first.map(|(_, mut found)| {
        found.without = missing_files(&found, boot, files);
        found
    }))
}

/// The first difference in one PCR, and where it comes in the whole log.
fn in_pcr(
    prediction: &Prediction,
    log: &EventLog,
    pcr: u32,
    bank: Bank,
) -> Option<(usize, Difference)> {
    let mut seen = log.of(pcr);
    let mut expected = prediction.events.iter().filter(|event| event.pcr == pcr);
    for place in 0.. {
        let (expected, seen) = (expected.next(), seen.next());
        if expected.is_none() && seen.is_none() {
            return None;
        }
        let ours = expected.and_then(|event| event.digests.of(bank));
        let theirs = seen.and_then(|event| event.digest(bank));
        if ours == theirs {
            continue;
        }
        let at = seen.and_then(|seen| log.events.iter().position(|event| event == seen));
        let found = Difference {
            pcr,
            place,
            bank,
            expected: expected.cloned(),
            seen: seen.map(|event| Seen::new(event, bank)),
            without: Vec::new(),
        };
        return Some((at.unwrap_or(log.events.len()), found));
    }
    None
}

/// An archive that is as the log has it without one of its files: that file was not there.
fn missing_files(found: &Difference, boot: &Boot<'_>, files: &BootFiles) -> Vec<String> {
    let (Some(expected), Some(seen)) = (&found.expected, &found.seen) else {
        return Vec::new();
    };
    let Some(archive) = archive_of(expected, boot) else {
        return Vec::new();
    };
    let with_digest = |archive: &Archive| found.bank.hash(&[archive.as_bytes()]) == seen.digest;
    let fits = |left_out: &&String| {
        let rest: Vec<&File> = files
            .iter()
            .filter(|file| archive.files.contains(&file.path) && file.path != **left_out)
            .collect();
        Archive::pack(archive.kind, &rest).is_some_and(|archive| with_digest(&archive))
    };
    archive
        .files
        .iter()
        .find(fits)
        .cloned()
        .into_iter()
        .collect()
}

fn archive_of<'b>(event: &Predicted, boot: &'b Boot<'_>) -> Option<&'b Archive> {
    boot.archives.iter().find(|archive| {
        !archive.kind.is_of_entry() && archive.kind.description() == event.description
    })
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pcr, place) = (self.pcr, self.place + 1);
        match (&self.expected, &self.seen) {
            (Some(expected), Some(seen)) => {
                let theirs = seen.description.as_deref().unwrap_or("something else");
                write!(
                    f,
                    "event {place} of PCR {pcr} is `{}`",
                    expected.description
                )?;
                if theirs == expected.description {
                    f.write_str(", of other content than at that boot")?;
                } else {
                    write!(f, ", at that boot it was `{theirs}`")?;
                }
            }
            (Some(expected), None) => write!(
                f,
                "event {place} of PCR {pcr}, `{}`, was not there at that boot",
                expected.description
            )?,
            (None, Some(seen)) => write!(
                f,
                "that boot had one more event in PCR {pcr}: `{}`",
                seen.description.as_deref().unwrap_or("something else")
            )?,
            (None, None) => {}
        }
        if let [file] = self.without.as_slice() {
            write!(f, ": without {file} it would be the same")
        } else if let Some(files) = self.expected.as_ref().map(|event| &event.files)
            && !files.is_empty()
        {
            write!(f, ": {}", files.join(", "))
        } else {
            Ok(())
        }
    }
}
