//! `HOST.toml`: what one host is to be. Every refusal names the file, the line and the thing.
//!
//! ```toml
//! hostname = "web1"
//! [root]
//! device = "UUID=11111111-2222-4333-8444-555555555555"
//! [[network]]
//! name = "*"
//! dhcp = "yes"
//! [[iscsi]]
//! initiator = "iqn.2026-01.example:web1"
//! target = "iqn.2026-01.example:disk"
//! portal = "192.0.2.7"
//! chap = { user = "web1", password = { file = "chap" } }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use super::luks::Luks;
use super::mount::{Mount, Nfs, Root};
use super::network::Network;
use super::recovery::Recovery;
use super::seal::Seal;
use super::source::Source;
use super::storage::{Iscsi, Nbd, NvmeTcp};
use super::unit::{File, Unit};
use super::word::{AbsolutePath, CredentialName, HostName, MachineId, RecipeName, UnitName};

/// What one host is to be: everything an initrd is told about it. Paths are relative to the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct HostFile {
    /// The host's name.
    pub hostname: Option<HostName>,
    /// Its machine ID: 32 hexadecimal digits, or `firmware` for what the firmware says.
    pub machine_id: Option<MachineId>,
    /// What its secrets are bound to beside its TPM.
    pub seal: Seal,
    /// The root file system.
    pub root: Option<Root>,
    /// Further file systems that the initrd mounts below the root, such as /usr.
    pub mount: Vec<Mount>,
    /// Network interfaces.
    pub network: Vec<Network>,
    /// Disks over iSCSI.
    pub iscsi: Vec<Iscsi>,
    /// Disks over the network block device protocol.
    pub nbd: Vec<Nbd>,
    /// Disks over NVMe on TCP.
    pub nvme_tcp: Vec<NvmeTcp>,
    /// A file system over NFS.
    pub nfs: Option<Nfs>,
    /// Encrypted volumes.
    pub luks: Vec<Luks>,
    /// What lets an administrator in when the boot fails.
    pub recovery: Option<Recovery>,
    /// Files, by their path, that systemd-tmpfiles writes in the initrd and on the host.
    pub files: BTreeMap<AbsolutePath, File>,
    /// Units, by their name.
    pub units: BTreeMap<UnitName, Unit>,
    /// Credentials as they are, by their name, for what has no table of its own. A text here is no secret.
    pub credentials: BTreeMap<CredentialName, Source>,
    /// Recipes whose extensions the host needs beside those that follow from the rest.
    pub recipes: Vec<RecipeName>,
}

impl HostFile {
    /// Reads a host file, and no other: secrets and files that it names stay closed.
    ///
    /// # Errors
    ///
    /// One sentence with file, line and table: an unknown key, a value that its reader would not take.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read `{}`", path.display()))?;
        Self::parse(&text, path)
    }

    /// The same from a text; `path` is for messages.
    ///
    /// # Errors
    ///
    /// As [`HostFile::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let places = Places { path, text };
        let file: Self = toml::from_str(text).map_err(|error| places.refusal(&error))?;
        file.check(&places)?;
        Ok(file)
    }

    /// Refuses secrets that stand in the file, unless they may.
    ///
    /// # Errors
    ///
    /// Naming the first, without its value.
    pub fn refuse_inline_secrets(&self) -> Result<()> {
        for credential in self.wanted()?.credentials {
            if credential.secret && credential.is_inline() {
                let (name, from) = (&credential.name, &credential.from);
                bail!("{from}: a secret of credential {name} stands in the host file");
            }
        }
        Ok(())
    }

    /// What no single value shows.
    fn check(&self, places: &Places<'_>) -> Result<()> {
        super::network::check(&self.network)
            .map_err(|(at, what)| places.nth("[[network]]", at, what))?;
        once(
            "[[luks]]",
            self.luks.iter().map(|luks| luks.name.as_str()),
            places,
        )?;
        let mounts = self.mount.iter().map(|mount| mount.path.as_str());
        once("[[mount]]", mounts, places)?;
        for (table, count) in [
            ("[[iscsi]]", self.iscsi.len()),
            ("[[nbd]]", self.nbd.len()),
            ("[[nvme-tcp]]", self.nvme_tcp.len()),
        ] {
            if count > 1 {
                return Err(places.nth(table, 1, "the extension connects to one of these".into()));
            }
        }
        if let Some(reason) = self.rootless() {
            bail!("{}: {reason}", places.at("[root]"));
        }
        self.check_names(places)
    }

    /// Why it cannot be told what the root is.
    fn rootless(&self) -> Option<&'static str> {
        let over_nfs = self.nfs.as_ref().is_some_and(Nfs::is_root);
        match &self.root {
            Some(_) if over_nfs => Some("the root is the one of [nfs] already"),
            Some(root) if root.device.is_none() && self.root_device().is_none() => Some(
                "give `device`: it follows only from an [[iscsi]] with `lun`, an [[nbd]] or one [[luks]]",
            ),
            _ => None,
        }
    }

    /// Two things that come to the same credential would hide one another.
    fn check_names(&self, places: &Places<'_>) -> Result<()> {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        for credential in self.wanted()?.credentials {
            let (name, from) = (credential.name.to_string(), credential.from);
            if let Some(other) = seen.insert(name.to_ascii_lowercase(), from.clone()) {
                let table = from.split(' ').next().unwrap_or_default();
                bail!(
                    "{}: credential {name} comes from {other} as well",
                    places.at(table)
                );
            }
        }
        Ok(())
    }
}

/// Names that may stand once.
fn once<'a>(table: &str, names: impl Iterator<Item = &'a str>, places: &Places<'_>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (at, name) in names.enumerate() {
        if !seen.insert(name) {
            return Err(places.nth(table, at, format!("{name} is named twice")));
        }
    }
    Ok(())
}

/// Where things stand in the file.
struct Places<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Places<'_> {
    /// What the parser did not take, with its line, table and key.
    fn refusal(&self, error: &toml::de::Error) -> anyhow::Error {
        let start = error.span().map_or(0, |span| span.start);
        let before = self.text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let what = error.message().replace('\n', ", ");
        let shown = self.path.display();
        match self.name_at(line) {
            Some(name) => anyhow!("{shown}:{line}: {name}: {what}"),
            None => anyhow!("{shown}:{line}: {what}"),
        }
    }

    /// The table and key of a line. The text is searched, since it may be anything but a host file.
    fn name_at(&self, line: usize) -> Option<String> {
        let lines: Vec<&str> = self.text.lines().take(line).map(str::trim).collect();
        let last = *lines.last()?;
        let table = lines.iter().rev().find(|line| line.starts_with('['));
        let table = table.map(|line| line.split('#').next().unwrap_or_default().trim_end());
        let key = last.split_once('=').map(|(key, _)| key.trim());
        let key = key.filter(|_| !last.starts_with(['[', '#', '{', '}']));
        let parts: Vec<&str> = table.into_iter().chain(key).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }

    /// File, line if it shows, and table: the beginning of a sentence.
    fn at(&self, table: &str) -> String {
        self.place(table, 0)
    }

    fn nth(&self, table: &str, at: usize, what: String) -> anyhow::Error {
        anyhow!("{}: {what}", self.place(table, at))
    }

    fn place(&self, table: &str, at: usize) -> String {
        let lines = self.text.lines().enumerate();
        let mut headers = lines.filter(|(_, line)| line.trim().starts_with(table));
        let shown = self.path.display();
        match headers.nth(at) {
            Some((line, _)) => format!("{shown}:{}: {table}", line + 1),
            None => format!("{shown}: {table}"),
        }
    }
}

/// The JSON schema of host files, generated from their types.
pub fn schema() -> String {
    let schema = schemars::schema_for!(HostFile);
    let text = serde_json::to_string_pretty(&schema);
    text.unwrap_or_else(|_| unreachable!("a schema is a tree of plain values")) + "\n"
}

/// The directory of a host file, from which its paths start.
pub fn directory(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}
