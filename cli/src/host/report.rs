//! A plan for people and for programs.

use std::fmt;

use serde::Serialize;

use super::plan::{Plan, Planned, reader};
use super::provision::{By, Provision};
use super::source::Source;
use crate::check::Findings;
use crate::fleet::{SealedCredential, word};

/// What `ukikit host plan` prints. No value of a secret is in it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Report {
    schema: u32,
    /// The systemd of the UKI, if it can be told.
    systemd: Option<u16>,
    credentials: Vec<Line>,
    extensions: Vec<Provision>,
    /// Paths of credentials that go.
    remove: Vec<String>,
    findings: Findings,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    name: String,
    from: String,
    reader: String,
    path: String,
    with_key: &'static str,
    pinned: bool,
    encoding: &'static str,
    bound_to: String,
    stops: Vec<&'static str>,
    breaks: Vec<&'static str>,
    secret: bool,
    /// Where values come from.
    sources: Vec<String>,
    /// Bytes of the content; unknown of a secret.
    size: Option<usize>,
    state: Standing,
}

/// What is known of it from an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Standing {
    /// It was not sealed before.
    New,
    /// It will be made anew.
    Changed,
    /// It stays unless its value changed.
    Known,
}

impl Report {
    /// Of a plan, what an earlier run sealed, and what is predicted.
    pub fn new(plan: &Plan, known: &[SealedCredential], findings: Findings) -> Self {
        let line = |planned: &Planned| Line::new(planned, plan, known);
        Self {
            schema: 1,
            systemd: plan.systemd,
            credentials: plan.credentials.iter().map(line).collect(),
            extensions: plan.provisions.clone(),
            remove: plan.gone(known),
            findings,
        }
    }

    /// Whether the boot will not be what the host file says.
    pub fn is_bad(&self) -> bool {
        let missing = |provision: &Provision| matches!(provision.by, By::Missing(_));
        self.findings.has_errors() || self.extensions.iter().any(missing)
    }
}

impl Line {
    fn new(planned: &Planned, plan: &Plan, known: &[SealedCredential]) -> Self {
        let Planned { wanted, job } = planned;
        let explanation = job.explanation();
        let before = known.iter().find(|known| known.path == job.path);
        Self {
            name: wanted.name.to_string(),
            from: wanted.from.clone(),
            reader: reader(wanted, &plan.provisions),
            path: job.path.clone(),
            with_key: job.with_key(),
            pinned: job.form.pinned,
            encoding: word(job.form.encoding),
            bound_to: explanation.bound_to,
            stops: explanation.stops,
            breaks: explanation.breaks,
            secret: wanted.secret,
            sources: wanted.sources().map(Source::to_string).collect(),
            size: wanted.size(),
            state: match before {
                None => Standing::New,
                Some(before) if job.is_as(before, plan.now()) => Standing::Known,
                Some(_) => Standing::Changed,
            },
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.credentials {
            write!(f, "{line}")?;
        }
        for Provision {
            recipe,
            because,
            by,
        } in &self.extensions
        {
            writeln!(
                f,
                "extension {recipe} (for {}): from {by}",
                because.join(", ")
            )?;
        }
        for path in &self.remove {
            writeln!(f, "remove {path}")?;
        }
        for finding in &self.findings.0 {
            writeln!(f, "{finding}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            Standing::New => "new",
            Standing::Changed => "make anew",
            Standing::Known => "keep unless its value changed",
        };
        writeln!(f, "credential {} ({}): {state}", self.name, self.from)?;
        let size = self
            .size
            .map_or("secret".to_owned(), |size| format!("{size} bytes"));
        let from = if self.sources.is_empty() {
            String::new()
        } else {
            format!(" from {}", self.sources.join(", "))
        };
        writeln!(f, "  content    {size}{from}")?;
        writeln!(f, "  read by    {}", self.reader)?;
        let pinned = if self.pinned { "pinned" } else { "un-pinned" };
        writeln!(
            f,
            "  form       {}, {pinned}, {}, bound to {}",
            self.with_key, self.encoding, self.bound_to
        )?;
        writeln!(f, "  place      {}", self.path)?;
        if self.secret {
            writeln!(f, "  stops      {}", self.stops.join("; "))?;
            writeln!(f, "  breaks     {}", self.breaks.join("; "))?;
        }
        Ok(())
    }
}
