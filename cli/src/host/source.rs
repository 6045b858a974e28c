//! Where a value of a host file comes from, and how it is read. A secret stands in the file only by permission.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use ukikit_creds::Secret;

use crate::fleet::Values;

/// Where a value comes from: a text as it stands, or a table with one of `text`, `file`, `command`, `stdin` and `prompt`.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// It stands in the host file.
    Text(String),
    /// The content of a file; a relative path starts at the host file.
    File(PathBuf),
    /// What a program writes. No shell is involved.
    Command(Vec<String>),
    /// A member of the JSON object that `--secrets=` names.
    Stdin(String),
    /// What is typed on the terminal when this question is asked.
    Prompt(String),
}

impl fmt::Debug for Source {
    /// Without the text, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({self})")
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("the host file"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Command(argv) => write!(f, "command {}", argv.first().map_or("", String::as_str)),
            Self::Stdin(name) => write!(f, "--secrets={name:?}"),
            Self::Prompt(_) => f.write_str("prompt"),
        }
    }
}

/// The table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    text: Option<String>,
    file: Option<PathBuf>,
    command: Option<Vec<String>>,
    stdin: Option<String>,
    prompt: Option<String>,
}

impl Table {
    fn source(self) -> Option<Source> {
        let command = self.command.filter(|argv| !argv.is_empty());
        let mut given = [
            self.text.map(Source::Text),
            self.file.map(Source::File),
            command.map(Source::Command),
            self.stdin.map(Source::Stdin),
            self.prompt.map(Source::Prompt),
        ]
        .into_iter()
        .flatten();
        let first = given.next()?;
        given.next().is_none().then_some(first)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Forms)
    }
}

struct Forms;

impl<'de> Visitor<'de> for Forms {
    type Value = Source;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a text, or a table with one of `text`, `file`, `command`, `stdin` and `prompt`",
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Source, E> {
        Ok(Source::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Source, A::Error> {
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        let one = "give one of `text`, `file`, `command`, `stdin` and `prompt`";
        table.source().ok_or_else(|| A::Error::custom(one))
    }
}

impl JsonSchema for Source {
    fn schema_name() -> Cow<'static, str> {
        "Source".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = |key: &str, value: Schema, about: &str| {
            json_schema!({
                "type": "object", "description": about, "required": [key],
                "properties": { key: value }, "additionalProperties": false,
            })
        };
        let text = || json_schema!({ "type": "string" });
        let argv = json_schema!({ "type": "array", "items": { "type": "string" }, "minItems": 1 });
        json_schema!({
            "description": "Where a value comes from. A secret stands in the file only with --allow-inline-secrets.",
            "anyOf": [
                text(),
                one("text", text(), "It stands here."),
                one("file", text(), "The content of this file; a relative path starts at the host file."),
                one("command", argv, "What this program writes. No shell is involved."),
                one("stdin", text(), "This member of the JSON object that --secrets= names."),
                one("prompt", text(), "What is typed when this question is asked."),
            ],
        })
    }
}

/// How a value has to be to stand where it is to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As it is.
    Bytes,
    /// One line; a newline at its end is left out.
    Line,
    /// A line without white space.
    Word,
}

impl Shape {
    fn fit(self, value: Secret) -> Result<Secret> {
        if self == Self::Bytes {
            return Ok(value);
        }
        let line = value.expose();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        ensure!(!line.is_empty(), "it is empty");
        ensure!(
            !line.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)),
            "it has more than one line"
        );
        let word = line.iter().all(|byte| (0x21..0x7f).contains(byte));
        ensure!(
            self != Self::Word || word,
            "it has characters other than printable ASCII without white space"
        );
        Ok(Secret::copied_from(line))
    }
}

/// A piece of a credential's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it stands here.
    Text(String),
    /// What a source gives.
    Read(Source, Shape),
}

/// What gives the values: the one place where secrets come in.
pub struct Sources<'a> {
    /// Finds files and programs, and has the object of `--secrets=`.
    pub values: &'a Values,
    /// Asks on the terminal.
    pub ask: &'a dyn Fn(&str) -> Result<Secret>,
}

impl fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

impl<'a> Sources<'a> {
    /// Where nobody is there to be asked.
    pub fn unattended(values: &'a Values) -> Self {
        Self {
            values,
            ask: &|_| bail!("nobody is there to be asked"),
        }
    }
}

impl Sources<'_> {
    /// The whole content. No value stands in an error.
    pub(crate) fn read(&self, parts: &[Part]) -> Result<Secret> {
        let pieces = parts
            .iter()
            .map(|part| self.piece(part))
            .collect::<Result<Vec<_>>>()?;
        // Of its full size from the start: a buffer that grows leaves copies behind.
        let size = pieces.iter().map(|piece| piece.expose().len()).sum();
        let mut whole = Vec::with_capacity(size);
        for piece in &pieces {
            whole.extend_from_slice(piece.expose());
        }
        Ok(Secret::new(whole))
    }

    fn piece(&self, part: &Part) -> Result<Secret> {
        match part {
            Part::Text(text) => Ok(Secret::copied_from(text.as_bytes())),
            Part::Read(source, shape) => {
                let value = self.value(source)?;
                shape
                    .fit(value)
                    .with_context(|| format!("what comes from {source}"))
            }
        }
    }

    fn value(&self, source: &Source) -> Result<Secret> {
        match source {
            Source::Text(text) => Ok(Secret::copied_from(text.as_bytes())),
            Source::File(path) => self.values.file(path),
            Source::Command(argv) => self.values.command(argv),
            Source::Stdin(name) => match self.values.member(name) {
                Some(value) => Ok(Secret::copied_from(value.expose())),
                None => bail!("the secrets have no {name:?}: give them with --secrets="),
            },
            Source::Prompt(question) => (self.ask)(question),
        }
    }
}
