//! What will go wrong at the next boot, before it: one small rule for each thing, over the model of the boot.
//!
//! ```text
//! Esp ─ listing ─┐
//! PlannedBoot ─ Boot ─ Model ─ Subject ─┴─ RULES ─ findings
//! ```
//!
//! `docs/rules/` has a page for each rule, with how it was verified.

mod credentials;
mod elf;
mod extensions;
mod initrd;
mod names;
mod plan;
mod played;
mod rehearse;
mod rules;
mod start;
mod subject;
mod units;

use std::fmt;

use serde::Serialize;

pub use names::Listing;
pub use plan::{Planned, boots, check_boot, check_directory, check_esp, check_placing, play_esp};
pub use played::{Judged, Packed, Played};
pub use rehearse::{Rehearsal, rehearse};
pub use rules::{RULES, Rule};
pub use subject::{Circumstances, Subject, base_of};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Level {
    /// The file will not do what it is for, or the boot suffers.
    Error,
    /// It will, in a way that is easily not meant.
    Warning,
    /// Worth knowing.
    Note,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// What a rule found about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The file, by its path on the ESP.
    pub file: String,
    /// What is wrong with it, as one sentence.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl Found {
    pub(crate) fn new(
        file: impl Into<String>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            file: file.into(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

/// One finding, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The rule, by its id: `docs/rules/ID.md` tells more.
    pub rule: &'static str,
    /// How bad it is.
    pub level: Level,
    /// The file, by its path on the ESP.
    pub file: String,
    /// The UKIs, or boot entries, with which it is so; empty when it does not depend on them.
    pub boots: Vec<String>,
    /// What is wrong with it, as one sentence.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    fn is_same(&self, other: &Self) -> bool {
        (self.rule, &self.file, &self.reason) == (other.rule, &other.file, &other.reason)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            level,
            file,
            reason,
            remedy,
            ..
        } = self;
        writeln!(f, "{level}: {file}: {reason} [{rule}]")?;
        if self.boots.len() > 1 {
            writeln!(f, "  with: {}", self.boots.join(", "))?;
        }
        write!(f, "  remedy: {remedy}")
    }
}

/// Findings over all boots that were looked at. What several have in common is said once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// Applies the rules that look at the ESP as a whole.
    pub fn of_listing(&mut self, listing: &names::Listing) {
        for rule in RULES {
            if let rules::Look::Listing(find) = rule.look {
                self.add(rule, None, find(listing));
            }
        }
    }

    /// Applies the rules that look at one boot.
    pub fn of_boot(&mut self, subject: &Subject<'_>) {
        for rule in RULES {
            if let rules::Look::Boot(find) = rule.look {
                self.add(rule, Some(&subject.label), find(subject));
            }
        }
    }

    /// Takes up those of other boots.
    pub fn merge(&mut self, more: Self) {
        for finding in more.0 {
            self.put(finding);
        }
    }

    fn add(&mut self, rule: &Rule, boot: Option<&String>, found: Vec<Found>) {
        for found in found {
            self.put(Finding {
                rule: rule.id,
                level: rule.level,
                file: found.file,
                boots: boot.cloned().into_iter().collect(),
                reason: found.reason,
                remedy: found.remedy,
            });
        }
    }

    fn put(&mut self, finding: Finding) {
        match self.0.iter_mut().find(|known| known.is_same(&finding)) {
            Some(known) => known.boots.extend(finding.boots),
            None => self.0.push(finding),
        }
    }

    /// Whether it says the same of the same file, with whatever boots.
    pub(crate) fn has(&self, finding: &Finding) -> bool {
        self.0.iter().any(|known| known.is_same(finding))
    }

    /// In the order in which they are shown: the worst first, then by file.
    pub fn sort(&mut self) {
        for finding in &mut self.0 {
            finding.boots.dedup();
        }
        self.0.sort_by(|a, b| {
            (a.level, &a.file, a.rule, &a.reason).cmp(&(b.level, &b.file, b.rule, &b.reason))
        });
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.level == Level::Error)
    }
}
