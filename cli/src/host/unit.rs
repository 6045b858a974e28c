//! `[files]` and `[units]`: what is written, and what is run.

use schemars::JsonSchema;
use serde::Deserialize;

use super::source::Source;
use super::word::UnitName;

/// A file that systemd-tmpfiles writes, in the initrd and on the host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct File {
    /// What stands in it. A text here is no secret.
    pub content: Source,
    /// Its mode in octal [default: 0644, or 0600 when its content is not a text here]
    pub mode: Option<Mode>,
}

/// The mode of a file, in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Mode(u16);

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mode = u16::from_str_radix(&text, 8).ok();
        let mode = mode.filter(|mode| *mode <= 0o7777);
        mode.map(Self)
            .ok_or_else(|| format!("{text:?} is no mode in octal, such as 0640"))
    }
}

/// A unit, in the initrd and on the host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Unit {
    /// What stands in it. Units are readable by all: no secrets.
    pub content: Source,
    /// What starts it, such as `initrd.target`.
    pub wanted_by: Option<UnitName>,
}

impl File {
    pub(crate) fn is_secret(&self) -> bool {
        !matches!(self.content, Source::Text(_))
    }

    /// A line of tmpfiles.d(5): the file is written anew at every boot.
    pub(crate) fn line(&self, path: &str, credential: &str) -> String {
        let usual = if self.is_secret() { 0o600 } else { 0o644 };
        let mode = self.mode.map_or(usual, |Mode(mode)| mode);
        let path = shown_path(path);
        format!("f+^ {path} {mode:04o} - - - {credential}\n")
    }
}

/// A path as a line of tmpfiles.d(5) has it: without specifiers, in quotes where it needs them.
pub(crate) fn shown_path(path: &str) -> String {
    let path = path.replace('%', "%%");
    if path.contains([' ', '"', '\'', '\\']) {
        format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        path
    }
}

/// The credential that holds a file. systemd-tmpfiles-setup.service imports what begins with `tmpfiles.`.
pub(crate) fn credential_of_file(path: &str) -> String {
    let fit = |char: char| match char {
        '/' => '.',
        char if char.is_ascii_alphanumeric() || "_-.".contains(char) => char,
        _ => '_',
    };
    let inside: String = path.trim_start_matches('/').chars().map(fit).collect();
    format!("tmpfiles.file.{inside}")
}
