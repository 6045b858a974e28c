//! Everything a person or a program gets to read: human text, JSON, errors. Nothing else prints.

use std::fmt;
use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;
use ukikit_sysext::escape;

/// `--json=`: how facts are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Json {
    /// Indented
    Pretty,
    /// On one line
    Short,
    /// Text for people
    #[default]
    Off,
}

/// An error with something to do about it: printed as `hint: …` below the error.
#[derive(Debug)]
pub(crate) struct Hint(pub(crate) String);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Attaches a hint to an error. The hint is shown below the error, not as part of its sentence.
pub(crate) fn with_hint(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> anyhow::Error {
    error.into().context(Hint(hint.into()))
}

/// Standard output for data, standard error for everything else.
pub(crate) struct Output {
    data: Box<dyn Write>,
    notes: Box<dyn Write>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

impl Output {
    pub(crate) fn stdio() -> Self {
        Self {
            data: Box::new(io::stdout()),
            notes: Box::new(io::stderr()),
        }
    }

    /// Bytes as they are, for `-` as the output file.
    pub(crate) fn bytes(&mut self, data: &[u8]) -> Result<()> {
        self.data
            .write_all(data)
            .and_then(|()| self.data.flush())
            .context("cannot write to standard output")
    }

    /// A value for people or, with `--json=`, the same value for programs.
    pub(crate) fn show<T: Serialize + fmt::Display>(
        &mut self,
        value: &T,
        json: Json,
    ) -> Result<()> {
        let text = match json {
            Json::Off => harmless(&value.to_string()),
            Json::Short => serde_json::to_string(value)?,
            Json::Pretty => serde_json::to_string_pretty(value)?,
        };
        let end = if text.ends_with('\n') || text.is_empty() {
            ""
        } else {
            "\n"
        };
        self.bytes(format!("{text}{end}").as_bytes())
    }

    /// A line on standard error about what was done.
    pub(crate) fn note(&mut self, text: impl fmt::Display) {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(self.notes, "{}", harmless(&text.to_string()));
    }

    /// `warning: …` on standard error; the work goes on.
    pub(crate) fn warning(&mut self, text: impl fmt::Display) {
        self.note(format_args!("warning: {text}"));
    }

    /// `error: …` in one sentence, its causes joined, then the hint if there is one.
    pub(crate) fn error(&mut self, error: &anyhow::Error) {
        let mut parts: Vec<String> = Vec::new();
        let mut hint = error.downcast_ref::<Hint>().map(ToString::to_string);
        for cause in error.chain() {
            let text = plain(&cause.to_string()).to_owned();
            if hint.as_ref() == Some(&text) {
                continue;
            }
            // Libraries may repeat their cause in their own text; say it once.
            if !parts.last().is_some_and(|last| last.ends_with(&text)) {
                parts.push(text);
            }
        }
        self.note(format_args!("error: {}", parts.join(": ")));
        if let Some(hint) = hint.take() {
            self.note(format_args!("\nhint: {hint}"));
        }
    }
}

/// Text for people in which nothing moves the cursor, whatever a file said of itself: control and formatting
/// characters are spelled out, apart from the ends of lines.
fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' | '\t' | '\\' => harmless.push(char),
            other => harmless.push_str(&escape(other.encode_utf8(&mut [0; 4]).as_bytes())),
        }
    }
    harmless
}

/// A cause without what libraries add behind the system's words: its number, a temporary file's path.
fn plain(text: &str) -> &str {
    text.split_once(" (os error ")
        .map_or(text, |(words, _)| words)
}
