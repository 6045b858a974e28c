//! The tables of `FLEET.toml` as TOML has them, and how they become what the rest works with.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use toml::Spanned;
use ukikit_creds::{Encoding, Name, PcrWish, PolicyKey, Timestamp};
use ukikit_esp::{Target, UkiPath};

use super::file::{Host, Settings, Shared, directory};
use super::policy::Bind;
use super::value::Source;
use crate::moment;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(default)]
    pub(crate) credential: Vec<Entry>,
    #[serde(default)]
    pub(crate) host: Vec<HostEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Entry {
    name: Spanned<String>,
    hosts: Option<BTreeSet<String>>,
    tags: Option<BTreeSet<String>>,
    file: Option<String>,
    command: Option<Vec<String>>,
    #[serde(default)]
    stdin: bool,
    bind: Option<Bind>,
    tpm2_pcrs: Option<String>,
    tpm2_public_key: Option<PathBuf>,
    tpm2_public_key_pcrs: Option<String>,
    pinned: Option<bool>,
    encoding: Option<EncodingWord>,
    not_after: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct HostEntry {
    name: Spanned<String>,
    identity: PathBuf,
    #[serde(default)]
    tags: BTreeSet<String>,
    uki: Option<String>,
    target_systemd: Option<u16>,
    tpm2_pcrs: Option<String>,
    tpm2_pcr_values: Option<PathBuf>,
    #[serde(default)]
    credential: Vec<Entry>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum EncodingWord {
    Base64,
    Binary,
}

impl From<EncodingWord> for Encoding {
    fn from(word: EncodingWord) -> Self {
        match word {
            EncodingWord::Base64 => Self::Base64,
            EncodingWord::Binary => Self::Binary,
        }
    }
}

/// Turns what TOML holds into what the rest works with, and knows the lines for the sentences.
pub(crate) struct Reading<'a> {
    path: &'a Path,
    text: &'a str,
    /// Offsets of the newlines, ascending.
    newlines: Vec<usize>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(path: &'a Path, text: &'a str) -> Self {
        let newlines = text.match_indices('\n').map(|(offset, _)| offset).collect();
        Self {
            path,
            text,
            newlines,
        }
    }

    /// The line of a byte, from 1.
    fn line(&self, offset: usize) -> usize {
        self.newlines.partition_point(|newline| *newline < offset) + 1
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    pub(crate) fn refusal(&self, error: &toml::de::Error) -> anyhow::Error {
        let line = error.span().map_or(1, |span| self.line(span.start));
        let what = error.message().replace('\n', ", ");
        match self.name_at(line) {
            Some(name) => anyhow!("{}: {name}: {what}", self.at(line)),
            None => anyhow!("{}: {what}", self.at(line)),
        }
    }

    /// The host or shared credential whose table a line belongs to, when it has a name. The text is searched, since it
    /// may be anything but a fleet file.
    fn name_at(&self, line: usize) -> Option<String> {
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        let header =
            |line: &&str| line.starts_with("[[host]]") || line.starts_with("[[credential]]");
        let start = lines.get(..line)?.iter().rposition(header)?;
        let noun = lines
            .get(start)?
            .trim_start_matches('[')
            .split(']')
            .next()?;
        let table = lines
            .get(start + 1..)?
            .iter()
            .take_while(|line| !line.starts_with('['));
        let name = table
            .filter_map(|line| line.strip_prefix("name"))
            .find_map(|rest| rest.trim_start().strip_prefix('='))?;
        Some(format!("{noun} {}", name.trim().trim_matches('"')))
    }

    pub(crate) fn shared(&self, mut entry: Entry) -> Result<Shared> {
        let (hosts, tags) = (entry.hosts.take(), entry.tags.take());
        let settings = self.settings(entry, "credential")?;
        Ok(Shared {
            settings,
            hosts,
            tags,
        })
    }

    pub(crate) fn host(&self, entry: HostEntry) -> Result<Host> {
        let line = self.line(entry.name.span().start);
        let name = entry.name.into_inner();
        let place = || format!("{}: host {name}", self.at(line));
        check_host_name(&name).with_context(place)?;
        let uki = entry
            .uki
            .as_deref()
            .map(str::parse::<UkiPath>)
            .transpose()
            .with_context(place)?;
        let pcrs = entry
            .tpm2_pcrs
            .as_deref()
            .map(literal_pcrs)
            .transpose()
            .with_context(place)?;
        let noun = format!("host {name}, credential");
        let own = entry
            .credential
            .into_iter()
            .map(|entry| self.settings(entry, &noun))
            .collect::<Result<Vec<_>>>()?;
        Ok(Host {
            identity: directory(self.path).join(entry.identity),
            target: uki.map_or(Target::Global, Target::Uki),
            target_systemd: entry.target_systemd,
            pcrs,
            pcr_values: entry
                .tpm2_pcr_values
                .map(|path| directory(self.path).join(path)),
            own,
            tags: entry.tags,
            name,
            line,
        })
    }

    fn settings(&self, entry: Entry, noun: &str) -> Result<Settings> {
        let line = self.line(entry.name.span().start);
        let name = entry.name.get_ref().clone();
        self.checked(entry, line)
            .with_context(|| format!("{}: {noun} {name}", self.at(line)))
    }

    fn checked(&self, entry: Entry, line: usize) -> Result<Settings> {
        ensure!(
            entry.hosts.is_none() && entry.tags.is_none(),
            "`hosts` and `tags` are for shared credentials"
        );
        let name: Name = entry.name.get_ref().parse()?;
        // What lies on the ESP is a file of this name.
        format!("{name}.cred").parse::<ukikit_esp::Name>()?;
        if let Some(text) = &entry.not_after {
            moment::parse(text, Timestamp::from_micros(0)).context("not-after")?;
        }
        let settings = Settings {
            line,
            name,
            source: source(entry.file, entry.command, entry.stdin)?,
            bind: entry.bind,
            pcrs: entry.tpm2_pcrs.as_deref().map(literal_pcrs).transpose()?,
            public_key: entry
                .tpm2_public_key
                .map(|path| self.public_key(&path))
                .transpose()?,
            public_key_pcrs: entry
                .tpm2_public_key_pcrs
                .map(|pcrs| pcrs.parse())
                .transpose()?,
            pinned: entry.pinned,
            encoding: entry.encoding.map(Encoding::from),
            not_after: entry.not_after,
        };
        if let Some(bind) = settings.bind {
            bind.check(settings.pcrs.is_some(), settings.public_key.is_some())?;
        }
        Ok(settings)
    }

    fn public_key(&self, path: &Path) -> Result<PolicyKey> {
        read_public_key(&directory(self.path).join(path))
    }
}

/// The key that signs PCR values, in PEM.
pub(crate) fn read_public_key(path: &Path) -> Result<PolicyKey> {
    let pem = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    PolicyKey::from_pem(&pem).with_context(|| format!("cannot use `{}`", path.display()))
}

fn source(
    file: Option<String>,
    command: Option<Vec<String>>,
    stdin: bool,
) -> Result<Option<Source>> {
    match (file, command, stdin) {
        (None, None, false) => Ok(None),
        (Some(path), None, false) => Ok(Some(Source::File(path))),
        (None, Some(argv), false) => {
            ensure!(!argv.is_empty(), "the command is empty");
            Ok(Some(Source::Command(argv)))
        }
        (None, None, true) => Ok(Some(Source::Secrets)),
        _ => bail!("`file`, `command` and `stdin` exclude each other"),
    }
}

/// PCRs, and the values they will have unless the host's file of values has them.
pub(crate) fn literal_pcrs(text: &str) -> Result<PcrWish> {
    let wish: PcrWish = text.parse()?;
    ensure!(!wish.values.is_empty(), "tpm2-pcrs names no PCR");
    // The stub measures companions into PCR 12 and the kernel its initrds into PCR 9.
    if let Some(pcr) = [9, 12]
        .into_iter()
        .find(|pcr| wish.values.contains_key(pcr))
    {
        bail!(
            "PCR {pcr} covers the credential itself when it lies on the EFI system partition: there it would never open"
        );
    }
    Ok(wish)
}

/// The name becomes a directory, and part of file names and command lines that the fleet file builds.
fn check_host_name(name: &str) -> Result<()> {
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rest = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    ensure!(
        first && rest && name.len() <= HOST_NAME_MAX,
        "a host's name has letters, digits, `.`, `_` and `-`, begins with a letter or digit, and has at most {HOST_NAME_MAX} characters"
    );
    Ok(())
}

/// With `.json` behind it, it still has to be a file name.
const HOST_NAME_MAX: usize = 250;
