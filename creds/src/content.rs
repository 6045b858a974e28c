//! What the readers of well-known credentials take: each format refuses what its reader would skip or fail on, no more.
//!
//! A refusal names the line and the rule, never the text: it may be a secret. The rules are those of systemd 257 and
//! 262, the stricter where they differ.

mod lines;
mod udev;
mod unit;

use std::fmt;
use std::str::FromStr;

use crate::machine::MachineId;

pub(crate) use unit::check_name as check_unit_name;

/// The format of a credential's plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Anything.
    Bytes,
    /// Text that its reader takes line by line, or as a whole.
    Text,
    /// One value. Its reader takes a newline at the end as a part of it.
    Value,
    /// One of these words, without a newline.
    Word(&'static [&'static str]),
    /// 32 hexadecimal digits, a UUID, or `firmware`.
    MachineId,
    /// A host name of at most 64 characters.
    HostName,
    /// A hash as crypt(5) makes it, or a locked password.
    HashedPassword,
    /// An absolute path.
    Path,
    /// A JSON object.
    Json,
    /// Lines of fstab(5).
    Fstab,
    /// A unit, a drop-in or another file in the syntax of systemd.syntax(7).
    Unit,
    /// Lines of udev(7) rules.
    UdevRules,
    /// Lines of tmpfiles.d(5).
    Tmpfiles,
    /// Lines of sysusers.d(5).
    Sysusers,
    /// Lines of sysctl.d(5).
    Sysctl,
    /// Lines of sshd's `authorized_keys`.
    SshKeys,
    /// Lines as in `systemd.pull=`.
    Pulls,
}

/// Why a reader would not take a plaintext, or a line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The line, counted from 1; `None` when it is about the whole.
    pub line: Option<usize>,
    /// The rule it breaks.
    pub what: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(self.what),
        }
    }
}

impl Content {
    /// Its name in one or two words.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Text => "text",
            Self::Value => "value",
            Self::Word(_) => "word",
            Self::MachineId => "machine ID",
            Self::HostName => "host name",
            Self::HashedPassword => "hashed password",
            Self::Path => "path",
            Self::Json => "JSON",
            Self::Fstab => "fstab",
            Self::Unit => "unit file",
            Self::UdevRules => "udev rules",
            Self::Tmpfiles => "tmpfiles.d",
            Self::Sysusers => "sysusers.d",
            Self::Sysctl => "sysctl.d",
            Self::SshKeys => "SSH keys",
            Self::Pulls => "pulls",
        }
    }

    /// Checks a plaintext.
    ///
    /// # Errors
    ///
    /// The first [`Violation`]. What is not text is refused by every format but [`Content::Bytes`].
    pub fn check(&self, data: &[u8]) -> Result<(), Violation> {
        if *self == Self::Bytes {
            return Ok(());
        }
        let text = text(data)?;
        match self {
            Self::Bytes | Self::Text => Ok(()),
            Self::Fstab => lines::check(text, lines::fstab),
            Self::Tmpfiles => lines::check(text, lines::tmpfiles),
            Self::Sysusers => lines::check(text, lines::sysusers),
            Self::Sysctl => lines::check(text, lines::sysctl),
            Self::SshKeys => lines::check(text, lines::ssh_key),
            Self::Pulls => lines::check(text, lines::pull),
            Self::Unit => unit::check(text),
            Self::UdevRules => udev::check(text),
            _ => self
                .check_value(text)
                .map_err(|what| Violation { line: None, what }),
        }
    }

    /// The formats of a single value.
    fn check_value(&self, text: &str) -> Result<(), &'static str> {
        match self {
            // The text of JSON may have lines of its own.
            Self::Json => json(text),
            _ if text.ends_with('\n') => {
                Err("it ends in a newline, which its reader takes as a part of the value")
            }
            _ if text.contains('\n') => Err("it has more than one line"),
            Self::Word(words) if !words.contains(&text) => {
                Err("it is none of the words its reader knows")
            }
            Self::MachineId => machine_id(text),
            Self::HostName => host_name(text),
            Self::HashedPassword => hashed_password(text),
            Self::Path if !text.starts_with('/') => Err("it is not an absolute path"),
            _ => Ok(()),
        }
    }
}

fn text(data: &[u8]) -> Result<&str, Violation> {
    let line_at = |offset: usize| {
        let before = data.get(..offset).unwrap_or_default();
        Some(before.iter().filter(|&&byte| byte == b'\n').count() + 1)
    };
    let text = std::str::from_utf8(data).map_err(|error| Violation {
        line: line_at(error.valid_up_to()),
        what: "it is not UTF-8 text",
    })?;
    match text.find('\0') {
        Some(offset) => Err(Violation {
            line: line_at(offset),
            what: "it has a NUL byte",
        }),
        None => Ok(text),
    }
}

fn json(text: &str) -> Result<(), &'static str> {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
        Ok(_) => Ok(()),
        Err(error) if error.is_data() => Err("it is JSON, but not an object"),
        Err(_) => Err("it is not JSON"),
    }
}

fn machine_id(text: &str) -> Result<(), &'static str> {
    let groups = text.split('-').map(str::len);
    let shaped = groups.clone().eq([32]) || groups.eq([8, 4, 4, 4, 12]);
    if text == "firmware" || shaped && MachineId::from_str(text).is_ok() {
        Ok(())
    } else {
        Err("it is neither 32 hexadecimal digits, not all zero, nor `firmware`")
    }
}

/// systemd's `hostname_is_valid`: labels of letters, digits and inner dashes, `?` and `$` as wildcards (258 and later).
fn host_name(text: &str) -> Result<(), &'static str> {
    const LENGTH_MAX: usize = 64;
    let dotted = text.strip_suffix('.').filter(|rest| rest.contains('.'));
    let mut labels = dotted.unwrap_or(text).split('.');
    let character = |byte: u8| byte.is_ascii_alphanumeric() || b"-?$".contains(&byte);
    let good = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(character)
    };
    if text.len() > LENGTH_MAX {
        Err("it is longer than 64 characters")
    } else if labels.all(good) {
        Ok(())
    } else {
        Err("it is not a host name: labels of letters, digits and inner dashes, joined by dots")
    }
}

/// What crypt(5) puts in front of a hash, and what stands for no password.
fn hashed_password(text: &str) -> Result<(), &'static str> {
    const PREFIXES: [&str; 14] = [
        "$y$", "$gy$", "$7$", "$2a$", "$2b$", "$2x$", "$2y$", "$6$", "$5$", "$sha1", "$md5", "$1$",
        "$3$", "_",
    ];
    const DES_LENGTH: usize = 13;
    let hash = text.trim_start_matches(['!', '*']);
    let des = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    if text.contains(':') {
        Err("it has a colon, which ends the field of the shadow file")
    } else if hash.is_empty()
        || PREFIXES.iter().any(|prefix| hash.starts_with(prefix))
        || hash.len() == DES_LENGTH && hash.bytes().all(des)
    {
        Ok(())
    } else {
        Err("it is no hash of crypt(5), such as `mkpasswd` makes")
    }
}

#[cfg(test)]
mod tests;
