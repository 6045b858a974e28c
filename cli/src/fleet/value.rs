//! Where the secrets come from: files, programs, or one decrypted JSON object on a pipe. Never the fleet file, an argument
//! or the environment.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use ukikit_creds::{Name, PLAINTEXT_MAX, Secret};

use crate::read_wiped;

/// `file`, `command` or `stdin`. `{host}` in the first two stands for the host's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The content of a file.
    File(String),
    /// What a program writes to its standard output. No shell is involved.
    Command(Vec<String>),
    /// A member of the JSON object.
    Secrets,
}

/// What `{host}` in a source stands for.
const PLACEHOLDER: &str = "{host}";

impl Source {
    fn for_host(&self, host: &str) -> Self {
        let filled = |text: &String| text.replace(PLACEHOLDER, host);
        match self {
            Self::File(path) => Self::File(filled(path)),
            Self::Command(argv) => Self::Command(argv.iter().map(filled).collect()),
            Self::Secrets => Self::Secrets,
        }
    }

    /// Whether every host gets the same from it.
    fn is_shared(&self) -> bool {
        let same = |text: &String| !text.contains(PLACEHOLDER);
        match self {
            Self::File(path) => same(path),
            Self::Command(argv) => argv.iter().all(same),
            Self::Secrets => false,
        }
    }
}

/// All secrets of a fleet. What hosts share is read once and kept, the rest is read when its host's turn comes.
#[derive(Debug)]
pub struct Values {
    directory: PathBuf,
    secrets: BTreeMap<String, Arc<Secret>>,
    shared: Mutex<BTreeMap<Source, Arc<Secret>>>,
}

impl Values {
    /// Values whose files and programs are found from `directory`; `secrets` is the JSON object, if one was given.
    ///
    /// Its members are called `NAME`, or `HOST/NAME` for one host alone. A value is a string, or `{"base64": "…"}`.
    ///
    /// # Errors
    ///
    /// When `secrets` is not such an object. No value stands in the error.
    pub fn new(directory: PathBuf, secrets: Option<&[u8]>) -> Result<Self> {
        let secrets = secrets.map(parse_secrets).transpose()?.unwrap_or_default();
        Ok(Self {
            directory,
            secrets,
            shared: Mutex::default(),
        })
    }

    /// The content of a file.
    pub(crate) fn file(&self, path: &Path) -> Result<Secret> {
        read_file(&self.directory.join(path))
    }

    /// What a program writes.
    pub(crate) fn command(&self, argv: &[String]) -> Result<Secret> {
        run(argv, &self.directory)
    }

    /// A member of the JSON object.
    pub(crate) fn member(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name).map(|secret| &**secret)
    }

    /// The value of the credential `name` for `host`.
    pub(crate) fn read(&self, source: &Source, name: &Name, host: &str) -> Result<Arc<Secret>> {
        if !source.is_shared() {
            return self.read_once(&source.for_host(host), name, host);
        }
        // Held while it is read, so that a program that asks for a password asks once.
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = shared.get(source) {
            return Ok(Arc::clone(value));
        }
        let value = self.read_once(source, name, host)?;
        shared.insert(source.clone(), Arc::clone(&value));
        Ok(value)
    }

    /// The value, unless it takes running a program for this host alone.
    pub(crate) fn foresee(
        &self,
        source: &Source,
        name: &Name,
        host: &str,
    ) -> Result<Option<Arc<Secret>>> {
        match source {
            Source::Command(_) if !source.is_shared() => Ok(None),
            _ => self.read(source, name, host).map(Some),
        }
    }

    fn read_once(&self, source: &Source, name: &Name, host: &str) -> Result<Arc<Secret>> {
        match source {
            Source::File(path) => read_file(&self.directory.join(path)).map(Arc::new),
            Source::Command(argv) => run(argv, &self.directory).map(Arc::new),
            Source::Secrets => {
                let own = self.secrets.get(&format!("{host}/{name}"));
                let value = own.or_else(|| self.secrets.get(name.as_str()));
                value.cloned().with_context(|| {
                    format!(
                        "the secrets have neither {:?} nor {:?}: give them with --secrets=",
                        format!("{host}/{name}"),
                        name.as_str()
                    )
                })
            }
        }
    }
}

fn read_file(path: &Path) -> Result<Secret> {
    let read = File::open(path).and_then(|file| read_wiped(file, PLAINTEXT_MAX));
    let bytes = read.with_context(|| format!("cannot read `{}`", path.display()))?;
    ensure!(
        bytes.len() <= PLAINTEXT_MAX,
        "`{}` is longer than {PLAINTEXT_MAX} bytes",
        path.display()
    );
    Ok(Secret::copied_from(&bytes))
}

/// Runs a program and takes what it writes. A path with a slash is relative to `directory`, where it runs.
fn run(argv: &[String], directory: &Path) -> Result<Secret> {
    let Some((program, arguments)) = argv.split_first() else {
        bail!("the command is empty");
    };
    // It runs in `directory`, and a path is relative to that, whatever the system makes of both together.
    let directory = fs::canonicalize(Path::new(".").join(directory))
        .with_context(|| format!("cannot use `{}`", directory.display()))?;
    let path = if program.contains('/') {
        directory.join(program)
    } else {
        program.into()
    };
    let child = Command::new(path)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.with_context(|| format!("cannot run `{program}`"))?;
    let output = child
        .stdout
        .take()
        .map(|output| read_wiped(output, PLAINTEXT_MAX));
    let bytes = output
        .transpose()
        .with_context(|| format!("cannot read from `{program}`"))?
        .unwrap_or_default();
    // Its end of the pipe is closed by now: one that has more to say ends by itself.
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{program}`"))?;
    ensure!(
        bytes.len() <= PLAINTEXT_MAX,
        "`{program}` writes more than {PLAINTEXT_MAX} bytes"
    );
    ensure!(status.success(), "`{}` failed: {status}", argv.join(" "));
    Ok(Secret::copied_from(&bytes))
}

fn parse_secrets(json: &[u8]) -> Result<BTreeMap<String, Arc<Secret>>> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(json).map_err(|error| {
        // The parser's own words may quote what it met.
        anyhow::anyhow!(
            "the secrets are not a JSON object: see line {}, column {}",
            error.line(),
            error.column()
        )
    })?;
    let value = |(name, value): (String, &RawValue)| {
        let value = secret(value).with_context(|| format!("the secrets, {name:?}"))?;
        Ok((name, Arc::new(value)))
    };
    members.into_iter().map(value).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InBase64<'a> {
    base64: &'a str,
}

fn secret(value: &RawValue) -> Result<Secret> {
    let text = value.get();
    if let Some(inner) = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
    {
        return unescape(inner).context("its value has an escape that stands for no character");
    }
    match serde_json::from_str(text) {
        Ok(InBase64 { base64 }) => {
            let bytes = STANDARD
                .decode(base64)
                .ok()
                .context("its value is not Base64")?;
            Ok(Secret::new(bytes))
        }
        Err(_) => bail!("its value is neither a string nor {{\"base64\": \"…\"}}"),
    }
}

/// The text of a JSON string that was found well-formed, into a buffer that never grows: serde_json would leave copies.
fn unescape(text: &str) -> Option<Secret> {
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let mut after = escape.chars();
        let character = match after.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => utf16(&mut after)?,
            other => other,
        };
        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = after.as_str();
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(Secret::copied_from(&bytes))
}

/// The character of `\uXXXX`, or of two of them that make one. What follows the first `u` is taken from `after`.
fn utf16(after: &mut std::str::Chars<'_>) -> Option<char> {
    let first = hex_digits(after)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::decode_utf16([first]).next()?.ok();
    }
    let pair = (after.next()?, after.next()?);
    let second = hex_digits(after).filter(|_| pair == ('\\', 'u'))?;
    char::decode_utf16([first, second]).next()?.ok()
}

fn hex_digits(after: &mut std::str::Chars<'_>) -> Option<u16> {
    let digits = after.as_str().get(..4)?;
    *after = after.as_str().get(4..)?.chars();
    u16::from_str_radix(digits, 16).ok()
}
