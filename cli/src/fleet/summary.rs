//! What a run did, or would do: counts, and for each kind of credential what its policy stops and what breaks it.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Error;
use serde::Serialize;

use super::host::{Job, word};
use super::policy::Explanation;

/// What a run did, or would do: counts, policies said aloud, failures.
#[derive(Debug, Default)]
pub struct Summary {
    /// Why single hosts failed, in the order of the fleet file.
    pub errors: Vec<Error>,
    pub(super) applied: bool,
    pub(super) hosts: usize,
    pub(super) not_begun: usize,
    pub(super) made: usize,
    pub(super) unchanged: usize,
    pub(super) removed: usize,
    pub(super) described: BTreeMap<Described, usize>,
    pub(super) changes: Vec<Change>,
}

impl Summary {
    pub(super) fn merge(mut self, other: Self) -> Self {
        self.errors.extend(other.errors);
        self.hosts += other.hosts;
        self.made += other.made;
        self.unchanged += other.unchanged;
        self.removed += other.removed;
        for (kind, hosts) in other.described {
            *self.described.entry(kind).or_default() += hosts;
        }
        self.changes.extend(other.changes);
        self
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Change { path, why } in &self.changes {
            writeln!(f, "{path}: {why}")?;
        }
        for (kind, hosts) in &self.described {
            let Described {
                name,
                pinned,
                encoding,
                reason,
                explanation,
            } = kind;
            let pinned = if *pinned { "pinned" } else { "un-pinned" };
            writeln!(
                f,
                "{name}: {}, {encoding}, {pinned} ({reason}), bound to {}",
                count(*hosts, "host"),
                explanation.bound_to
            )?;
            writeln!(f, "  stops: {}", explanation.stops.join("; "))?;
            writeln!(f, "  breaks with: {}", explanation.breaks.join("; "))?;
        }
        let made = if self.applied { "made" } else { "to make" };
        let removed = if self.applied { "removed" } else { "to remove" };
        write!(
            f,
            "{}: {} {made}, {} unchanged, {} {removed}",
            count(self.hosts, "host"),
            self.made,
            self.unchanged,
            self.removed
        )?;
        if !self.errors.is_empty() {
            write!(
                f,
                "; {} failed, {} not begun",
                count(self.errors.len(), "host"),
                self.not_begun
            )?;
        }
        writeln!(f)
    }
}

impl Serialize for Summary {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Kind<'a> {
            #[serde(flatten)]
            described: &'a Described,
            hosts: usize,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Json<'a> {
            schema: u32,
            applied: bool,
            hosts: usize,
            failed: usize,
            not_begun: usize,
            made: usize,
            unchanged: usize,
            removed: usize,
            credentials: Vec<Kind<'a>>,
            changes: &'a [Change],
        }
        let kinds = self.described.iter().map(|(described, hosts)| Kind {
            described,
            hosts: *hosts,
        });
        Json {
            schema: 1,
            applied: self.applied,
            hosts: self.hosts,
            failed: self.errors.len(),
            not_begun: self.not_begun,
            made: self.made,
            unchanged: self.unchanged,
            removed: self.removed,
            credentials: kinds.collect(),
            changes: &self.changes,
        }
        .serialize(serializer)
    }
}

/// Why a file is made or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Why {
    New,
    StorageKey,
    Options,
    Value,
    Expired,
    File,
    Gone,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "make: it is new",
            Self::StorageKey => "make: the host has another storage key",
            Self::Options => "make: what the fleet file says of it changed",
            Self::Value => "make: its value changed",
            Self::Expired => "make: it has expired",
            Self::File => "make: its file is missing or was changed",
            Self::Gone => "remove: it is no longer wanted",
        })
    }
}

/// One file of a dry run.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    /// From the output directory.
    pub(super) path: String,
    pub(super) why: Why,
}

/// What hosts have in common in a credential.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Described {
    name: String,
    pinned: bool,
    encoding: &'static str,
    reason: &'static str,
    #[serde(flatten)]
    explanation: Explanation,
}

impl Described {
    pub(super) fn of(job: &Job) -> Self {
        Self {
            name: job.name.to_string(),
            pinned: job.form.pinned,
            encoding: word(job.form.encoding),
            reason: job.form.reason,
            explanation: job.explanation(),
        }
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
