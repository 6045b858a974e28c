//! Metadata as a host file: what it says of a host, with its secrets apart.
//!
//! ```text
//! HOST.toml        as it is; values stand in it as texts, never as files or commands of this machine
//! meta-data        hostname, keys of root
//! user-data        users, passwords ─▶ sysusers.extra, passwd.hashed-password.*, tmpfiles.extra    mounts ─▶ fstab.extra
//! network-config   interfaces ─▶ network.*
//! ```
//!
//! What comes from the last three is for the host; the initrd needs no extension for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use zeroize::Zeroizing;

use super::cloud_config::{CloudConfig, User, WrittenFile};
use super::document::{self, MetaData};
use super::metadata::{HOST_FILE, META_DATA, Metadata, NETWORK_CONFIG, USER_DATA};
use super::networks::Networks;
use crate::fleet::{Bind, Values};
use crate::host::{
    HostFile, HostName, Recovery, Source, credential_of_file, fstab_field, network_files,
    tmpfiles_path,
};

/// What metadata says of a host.
#[derive(Debug)]
#[non_exhaustive]
pub struct Configuration {
    /// The host.
    pub host: HostFile,
    /// What of the metadata is not done, and why.
    pub ignored: Vec<String>,
    secrets: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

/// The first number of people's accounts.
const FIRST_UID: u32 = 1000;

impl Configuration {
    /// Of these files.
    ///
    /// # Errors
    ///
    /// What cannot be read or makes no sense, with its file; what two files say differently.
    pub fn of(metadata: &Metadata) -> Result<Self> {
        let bytes = |name: &str| metadata.files.get(name).map_or(&[][..], |bytes| bytes);
        let mut configuration = Self {
            host: host_file(bytes(HOST_FILE))?,
            ignored: Vec::new(),
            secrets: BTreeMap::new(),
        };
        // The place where it will run says nothing of its PCRs.
        configuration.host.seal.bind.get_or_insert(Bind::None);
        let meta_data = document::meta_data(bytes(META_DATA)).context(META_DATA)?;
        let mut cloud = CloudConfig::parse(bytes(USER_DATA)).context(USER_DATA)?;
        let networks = Networks::parse(bytes(NETWORK_CONFIG)).context(NETWORK_CONFIG)?;
        configuration.ignored.append(&mut cloud.ignored);
        let ignored = networks
            .ignored
            .iter()
            .map(|what| format!("{NETWORK_CONFIG}: {what}"));
        configuration.ignored.extend(ignored);
        configuration.identity(&cloud, &meta_data)?;
        configuration.users(&cloud.users, meta_data.keys, cloud.files)?;
        configuration.mounts(&cloud.mounts)?;
        for (name, text) in network_files(&networks.interfaces) {
            configuration.public(&name, text)?;
        }
        configuration.check_names()?;
        Ok(configuration)
    }

    /// What gives the secrets.
    ///
    /// # Errors
    ///
    /// None that a caller could cause.
    pub fn values(&self) -> Result<Values> {
        let secrets = self.secrets.iter();
        let secrets: BTreeMap<_, _> = secrets
            .map(|(name, value)| (name, json!({ "base64": STANDARD.encode(value) })))
            .collect();
        let json = Zeroizing::new(serde_json::to_vec(&secrets)?);
        Values::new(PathBuf::new(), Some(&json))
    }

    /// The partition does not tell upper case from lower.
    fn check_names(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for credential in self.host.wanted()?.credentials {
            let name = credential.name.as_str().to_ascii_lowercase();
            ensure!(
                seen.insert(name),
                "credential {} comes from two places of the metadata",
                credential.name
            );
        }
        Ok(())
    }

    fn identity(&mut self, cloud: &CloudConfig, meta_data: &MetaData) -> Result<()> {
        let told = cloud.hostname.clone().or(meta_data.hostname.clone());
        if let (None, Some(name)) = (&self.host.hostname, told) {
            let name = HostName::try_from(name).map_err(anyhow::Error::msg);
            self.host.hostname = Some(name.context("hostname")?);
        }
        Ok(())
    }

    fn users(&mut self, users: &[User], keys: Vec<String>, files: Vec<WrittenFile>) -> Result<()> {
        let (mut sysusers, mut tmpfiles) = (String::new(), String::new());
        let mut root_keys = keys;
        let mut uid = FIRST_UID;
        for user in users {
            if user.name == "root" {
                root_keys.extend(user.keys.iter().cloned());
            } else {
                let number = user.uid.unwrap_or(uid);
                uid = if number >= uid {
                    number.saturating_add(1)
                } else {
                    uid
                };
                sysusers += &account(user, number);
                self.home(user, &mut tmpfiles)?;
            }
            if let Some(hash) = &user.hash {
                let name = format!("passwd.hashed-password.{}", user.name);
                self.secret(&name, Zeroizing::new(hash.as_bytes().to_vec()))?;
            }
        }
        self.root_keys(&root_keys)?;
        for file in files {
            self.file(file, &mut tmpfiles)?;
        }
        for (name, text) in [("sysusers.extra", sysusers), ("tmpfiles.extra", tmpfiles)] {
            if !text.is_empty() {
                self.public(name, text)?;
            }
        }
        Ok(())
    }

    fn root_keys(&mut self, keys: &[String]) -> Result<()> {
        let mut lines = String::new();
        for key in keys {
            ensure!(
                !key.trim().contains(char::is_control),
                "a key of root has more than one line"
            );
            lines += &format!("{}\n", key.trim());
        }
        if lines.is_empty() {
            return Ok(());
        }
        let recovery = self.host.recovery.get_or_insert_with(Recovery::default);
        ensure!(
            recovery.ssh_keys.is_none(),
            "{HOST_FILE} and {USER_DATA} or {META_DATA} both name keys of root"
        );
        recovery.ssh_keys = Some(Source::Text(lines));
        Ok(())
    }

    /// The directory, keys and rules of a user.
    fn home(&mut self, user: &User, tmpfiles: &mut String) -> Result<()> {
        let name = &user.name;
        let home = user.home.clone().unwrap_or_else(|| format!("/home/{name}"));
        *tmpfiles += &format!("d {home} 0700 {name} {name} -\n");
        if !user.keys.is_empty() {
            let path = format!("{home}/.ssh/authorized_keys");
            let credential = credential_of_file(&path);
            *tmpfiles += &format!(
                "d {home}/.ssh 0700 {name} {name} -\nf+^ {path} 0600 {name} {name} - {credential}\n"
            );
            let keys = user.keys.iter().map(|key| format!("{}\n", key.trim()));
            self.public(&credential, keys.collect())?;
        }
        if !user.sudo.is_empty() {
            let path = format!("/etc/sudoers.d/90-{name}");
            let credential = credential_of_file(&path);
            *tmpfiles += &format!("f+^ {path} 0440 root root - {credential}\n");
            let rules = user.sudo.iter().map(|rule| format!("{name} {rule}\n"));
            self.public(&credential, rules.collect())?;
        }
        Ok(())
    }

    fn file(&mut self, file: WrittenFile, tmpfiles: &mut String) -> Result<()> {
        let path = file.path.as_str();
        let credential = credential_of_file(path);
        *tmpfiles += &format!(
            "f+^ {} {:04o} root root - {credential}\n",
            tmpfiles_path(path),
            file.mode
        );
        self.secret(&credential, file.content)
    }

    fn mounts(&mut self, mounts: &[[String; 6]]) -> Result<()> {
        let line = |fields: &[String; 6]| {
            fields.each_ref().map(|field| fstab_field(field)).join(" ") + "\n"
        };
        let lines: String = mounts.iter().map(line).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let own =
            self.host.root.is_some() || !self.host.mount.is_empty() || self.host.nfs.is_some();
        ensure!(!own, "{HOST_FILE} and {USER_DATA} both name file systems");
        self.public("fstab.extra", lines)
    }

    fn public(&mut self, name: &str, text: String) -> Result<()> {
        self.add(name, Source::Text(text))
    }

    fn secret(&mut self, name: &str, value: Zeroizing<Vec<u8>>) -> Result<()> {
        self.add(name, Source::Stdin(name.to_owned()))?;
        self.secrets.insert(name.to_owned(), value);
        Ok(())
    }

    fn add(&mut self, name: &str, source: Source) -> Result<()> {
        let key = name.to_owned().try_into();
        let key = key.map_err(|error: String| anyhow::Error::msg(error))?;
        if self.host.credentials.insert(key, source).is_some() {
            bail!("credential {name} comes from two places of the metadata");
        }
        Ok(())
    }
}

/// Lines of sysusers.d(5).
fn account(user: &User, number: u32) -> String {
    let name = &user.name;
    let home = user.home.clone().unwrap_or_else(|| format!("/home/{name}"));
    let shell = user.shell.as_deref().unwrap_or("/bin/bash");
    let groups = user
        .groups
        .iter()
        .map(|group| format!("m {name} {group}\n"));
    let groups: String = groups.collect();
    format!(
        "u {name} {number} \"{}\" {home} {shell}\n{groups}",
        user.gecos
    )
}

/// A host file of metadata says everything itself: it opens no file of this machine, runs none of its programs.
fn host_file(bytes: &[u8]) -> Result<HostFile> {
    let text = str::from_utf8(bytes)
        .ok()
        .context("HOST.toml is no text in UTF-8")?;
    let host = HostFile::parse(text, Path::new(HOST_FILE))?;
    for credential in host.wanted()?.credentials {
        for source in credential.sources() {
            ensure!(
                matches!(source, Source::Text(_)),
                "{HOST_FILE}: {}: a host file of metadata takes no {source}: give it as a text",
                credential.from
            );
        }
    }
    let seal = &host.seal;
    ensure!(
        seal.tpm2_pcr_values.is_none() && seal.tpm2_public_key.is_none(),
        "{HOST_FILE}: [seal]: a host file of metadata names no files of the machine"
    );
    Ok(host)
}
