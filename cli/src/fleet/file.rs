//! `FLEET.toml`: which credentials, bound to what, for which hosts. Every refusal names the file, the line and the host.
//!
//! ```toml
//! [[credential]]                      # for all hosts, or those in `hosts` or with one of `tags`
//! name = "iscsi.password"
//! file = "secrets/{host}/iscsi"       # or command = ["sops", "-d", "…"], or stdin = true
//! bind = "none"                       # or "pcrs", "signed", "pcrs+signed"
//!
//! [[host]]
//! name = "web1"
//! identity = "hosts/web1.json"
//! [[host.credential]]                 # this host's own, or what differs for it
//! name = "fstab.extra"
//! file = "fstab.web1"
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use ukikit_creds::{Encoding, Name, PcrWish, PolicyKey, SignedPcrWish};
use ukikit_esp::Target;

use super::entry::{File, Reading};
use super::policy::Bind;
use super::value::Source;

/// A fleet file, checked as far as it goes without looking at a host's identity or a secret.
#[derive(Debug)]
pub struct Fleet {
    /// As it was given, for messages.
    path: PathBuf,
    shared: Vec<Shared>,
    hosts: Vec<Host>,
}

/// A `[[credential]]` and whom it is for.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) hosts: Option<BTreeSet<String>>,
    pub(crate) tags: Option<BTreeSet<String>>,
}

impl Shared {
    pub(crate) fn is_for(&self, host: &Host) -> bool {
        match (&self.hosts, &self.tags) {
            (None, None) => true,
            (hosts, tags) => {
                let named = hosts
                    .as_ref()
                    .is_some_and(|hosts| hosts.contains(&host.name));
                named
                    || tags
                        .as_ref()
                        .is_some_and(|tags| !tags.is_disjoint(&host.tags))
            }
        }
    }
}

/// A `[[host]]`.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) identity: PathBuf,
    pub(crate) target: Target,
    pub(crate) target_systemd: Option<u16>,
    pub(crate) pcrs: Option<PcrWish>,
    /// The file with the values of its PCRs.
    pub(crate) pcr_values: Option<PathBuf>,
    pub(crate) own: Vec<Settings>,
    pub(crate) tags: BTreeSet<String>,
}

/// What one entry says of a credential. What it leaves open, another entry of the same name may say.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) line: usize,
    pub(crate) name: Name,
    pub(crate) source: Option<Source>,
    pub(crate) bind: Option<Bind>,
    pub(crate) pcrs: Option<PcrWish>,
    pub(crate) public_key: Option<PolicyKey>,
    pub(crate) public_key_pcrs: Option<SignedPcrWish>,
    pub(crate) pinned: Option<bool>,
    pub(crate) encoding: Option<Encoding>,
    pub(crate) not_after: Option<String>,
}

impl Settings {
    /// A credential of which nothing but its name is said.
    pub(crate) fn new(name: Name) -> Self {
        Self {
            line: 0,
            name,
            source: None,
            bind: None,
            pcrs: None,
            public_key: None,
            public_key_pcrs: None,
            pinned: None,
            encoding: None,
            not_after: None,
        }
    }

    /// These settings, and those of `base` where these leave something open.
    pub(crate) fn over(&self, base: &Self) -> Self {
        let (own, base) = (self.clone(), base.clone());
        Self {
            line: own.line,
            name: own.name,
            source: own.source.or(base.source),
            bind: own.bind.or(base.bind),
            pcrs: own.pcrs.or(base.pcrs),
            public_key: own.public_key.or(base.public_key),
            public_key_pcrs: own.public_key_pcrs.or(base.public_key_pcrs),
            pinned: own.pinned.or(base.pinned),
            encoding: own.encoding.or(base.encoding),
            not_after: own.not_after.or(base.not_after),
        }
    }
}

impl Fleet {
    /// Reads a fleet file and the public keys it names. Paths in it are relative to its directory.
    ///
    /// # Errors
    ///
    /// One sentence with file, line and host: an unknown key, a host named twice, a name that cannot be one.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read `{}`", path.display()))?;
        let reading = Reading::new(path, &text);
        let file: File = toml::from_str(&text).map_err(|error| reading.refusal(&error))?;
        let fleet = Self {
            path: path.to_owned(),
            shared: file
                .credential
                .into_iter()
                .map(|entry| reading.shared(entry))
                .collect::<Result<_>>()?,
            hosts: file
                .host
                .into_iter()
                .map(|entry| reading.host(entry))
                .collect::<Result<_>>()?,
        };
        fleet.check_hosts()?;
        fleet.check_audiences()?;
        Ok(fleet)
    }

    /// The directory of the fleet file, to which the paths in it are relative.
    pub fn directory(&self) -> PathBuf {
        directory(&self.path)
    }

    pub(crate) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    pub(crate) fn shared_for(&self, host: &Host) -> impl Iterator<Item = &Settings> {
        self.shared
            .iter()
            .filter(move |shared| shared.is_for(host))
            .map(|shared| &shared.settings)
    }

    pub(crate) fn host(&self, name: &str) -> Result<&Host> {
        let found = self.hosts.iter().find(|host| host.name == name);
        found.ok_or_else(|| anyhow!("{} has no host {name:?}", self.path.display()))
    }

    /// Where something stands in the file, to begin a sentence with.
    pub(crate) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    fn check_hosts(&self) -> Result<()> {
        let mut seen = std::collections::BTreeMap::new();
        for host in &self.hosts {
            if let Some(first) = seen.insert(&host.name, host.line) {
                bail!(
                    "{}: host {}: it is named twice, first in line {first}",
                    self.at(host.line),
                    host.name
                );
            }
        }
        Ok(())
    }

    /// A credential for a host or tag that does not exist would silently go nowhere.
    fn check_audiences(&self) -> Result<()> {
        let hosts: BTreeSet<&String> = self.hosts.iter().map(|host| &host.name).collect();
        let tags: BTreeSet<&String> = self.hosts.iter().flat_map(|host| &host.tags).collect();
        for shared in &self.shared {
            let (at, name) = (self.at(shared.settings.line), &shared.settings.name);
            if let Some(host) = shared
                .hosts
                .iter()
                .flatten()
                .find(|host| !hosts.contains(host))
            {
                bail!("{at}: credential {name}: there is no host {host:?}");
            }
            if let Some(tag) = shared.tags.iter().flatten().find(|tag| !tags.contains(tag)) {
                bail!("{at}: credential {name}: no host has the tag {tag:?}");
            }
        }
        Ok(())
    }
}

/// The directory a file lies in; empty for the one we are in, so that messages show paths as the file has them.
pub(crate) fn directory(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).to_owned()
}
