//! What follows from a host file: credentials and extensions. No file is opened, no secret read.
//!
//! ```text
//! [root] [[mount]] [nfs] ─▶ fstab.extra            [[network]] ─▶ network.*             recipe network
//! [[luks]]   ─▶ unit, drop-in, luks.NAME           [[iscsi]]   ─▶ iscsi.target          recipes network, iscsi
//! [recovery] ─▶ hash, drop-ins                     [[nbd]]     ─▶ nbd.target            recipes network, nbd
//! [files] ─▶ tmpfiles.*    [units] ─▶ systemd.extra-unit.*    [credentials] ─▶ as they are
//! ```

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use ukikit_creds::Name;
use ukikit_creds::catalog::WellKnown;

use super::file::HostFile;
use super::mount::Nfs;
use super::recovery;
use super::source::{Part, Shape, Source};
use super::unit::credential_of_file;
use super::{luks::Luks, network};

/// Everything a host file asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wanted {
    /// The credentials, in the order of the host file.
    pub credentials: Vec<WantedCredential>,
    /// The recipes whose extensions it takes, each with what asks for it.
    pub recipes: BTreeMap<String, Vec<String>>,
}

/// What ends a boot on trial that fails.
pub(crate) const GIVE_UP: &str = "systemd.unit-dropin.emergency.service~tries";

/// One credential.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WantedCredential {
    /// Its name.
    pub name: Name,
    /// The table it comes from.
    pub from: String,
    /// What it holds.
    pub content: Vec<Part>,
    /// Whether that is a secret.
    pub secret: bool,
    /// Whether the policy of `[seal]` counts for it.
    pub bound: bool,
}

impl WantedCredential {
    /// Whether a secret of it stands in the host file.
    pub(crate) fn is_inline(&self) -> bool {
        let inline = |part: &Part| matches!(part, Part::Read(Source::Text(_), _));
        self.content.iter().any(inline)
    }

    /// Bytes of its content, unless that has to be read.
    pub(crate) fn size(&self) -> Option<usize> {
        let size = |part: &Part| match part {
            Part::Text(text) => Some(text.len()),
            Part::Read(..) => None,
        };
        self.content.iter().map(size).sum()
    }

    /// What is read to make it.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.content.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Read(source, _) => Some(source),
        })
    }
}

impl HostFile {
    /// What follows from it.
    ///
    /// # Errors
    ///
    /// A name that no credential can have, such as that of a file with a very long path.
    pub fn wanted(&self) -> Result<Wanted> {
        let mut wanted = Wanted::default();
        wanted.identity(self)?;
        wanted.file_systems(self)?;
        wanted.networks(self)?;
        wanted.storage(self)?;
        for luks in &self.luks {
            wanted.volume(luks)?;
        }
        wanted.recovery(self)?;
        wanted.raw(self)?;
        Ok(wanted)
    }

    /// The device of the root, where it follows from the rest.
    pub(crate) fn root_device(&self) -> Option<String> {
        let named = self.root.as_ref()?.device.as_ref();
        if let Some(device) = named {
            return Some(device.to_string());
        }
        match (&*self.luks, &*self.iscsi, &*self.nbd) {
            ([luks], ..) => Some(format!("/dev/mapper/{}", luks.name)),
            ([], [iscsi], []) => iscsi.device(),
            ([], [], [_]) => Some("/dev/nbd0".to_owned()),
            _ => None,
        }
    }
}

impl Wanted {
    fn identity(&mut self, host: &HostFile) -> Result<()> {
        if let Some(name) = &host.hostname {
            self.public("system.hostname", "hostname", name.to_string())?;
        }
        if let Some(id) = &host.machine_id {
            self.public("system.machine_id", "machine-id", id.to_string())?;
        }
        Ok(())
    }

    fn file_systems(&mut self, host: &HostFile) -> Result<()> {
        let root = host.root.as_ref().zip(host.root_device());
        let root = root.map(|(root, device)| root.line(&device, &host.luks));
        let over_nfs = host.nfs.as_ref().map(Nfs::line);
        let lines: String = root
            .into_iter()
            .chain(over_nfs)
            .chain(host.mount.iter().map(|mount| mount.line(&host.luks)))
            .collect();
        if !lines.is_empty() {
            let from = if host.root.is_some() {
                "[root]"
            } else {
                "[[mount]]"
            };
            self.public("fstab.extra", from, lines)?;
        }
        let types = host.root.iter().map(|root| &root.fs_type);
        let mut types = types.chain(host.mount.iter().map(|mount| &mount.fs_type));
        if types.any(|name| name.as_ref().is_some_and(|name| name.as_str() == "btrfs")) {
            self.recipe("btrfs", "[root]");
        }
        Ok(())
    }

    fn networks(&mut self, host: &HostFile) -> Result<()> {
        for (name, text) in network::files(&host.network) {
            self.public(&name, "[[network]]", text)?;
        }
        for network in &host.network {
            if let (Some(path), Some(name)) = (&network.file, network.credential_of_file()) {
                let content = vec![Part::Read(Source::File(path.clone()), Shape::Bytes)];
                self.add(&name, "[[network]]", content, false, false)?;
            }
        }
        if !host.network.is_empty() {
            self.recipe("network", "[[network]]");
        }
        Ok(())
    }

    fn storage(&mut self, host: &HostFile) -> Result<()> {
        for disk in &host.iscsi {
            self.disk("iscsi", "iscsi.target", disk.content())?;
        }
        for disk in &host.nbd {
            self.disk("nbd", "nbd.target", disk.content())?;
        }
        for disk in &host.nvme_tcp {
            self.disk("nvme-tcp", "nvme.target", disk.content())?;
        }
        if host.nfs.is_some() {
            self.recipe("network", "[nfs]");
            self.recipe("nfs", "[nfs]");
        }
        Ok(())
    }

    fn disk(&mut self, recipe: &str, credential: &str, content: Vec<Part>) -> Result<()> {
        let table = format!("[[{recipe}]]");
        let secret = content.iter().any(|part| matches!(part, Part::Read(..)));
        self.add(credential, &table, content, secret, secret)?;
        self.recipe("network", &table);
        self.recipe(recipe, &table);
        Ok(())
    }

    fn volume(&mut self, luks: &Luks) -> Result<()> {
        let table = "[[luks]]";
        self.public(
            &format!("systemd.extra-unit.{}", luks.unit_name()),
            table,
            luks.unit(),
        )?;
        let (name, text) = luks.drop_in();
        self.public(&name, table, text)?;
        if let Some((name, source, shape)) = luks.key() {
            self.add(&name, table, vec![Part::Read(source, shape)], true, true)?;
        }
        self.recipe("cryptsetup", table);
        Ok(())
    }

    fn recovery(&mut self, host: &HostFile) -> Result<()> {
        let Some(recovery) = &host.recovery else {
            return Ok(());
        };
        let table = "[recovery]";
        if let Some(hash) = &recovery.password_hash {
            let content = vec![Part::Read(hash.clone(), Shape::Line)];
            self.add(recovery::PASSWORD, table, content, true, false)?;
            for unit in recovery::SHELLS {
                let name = format!("systemd.unit-dropin.{unit}~recovery");
                self.public(&name, table, recovery.drop_in())?;
            }
        }
        for (name, source, secret) in [
            ("ssh.authorized_keys.root", &recovery.ssh_keys, false),
            ("ssh.host-key", &recovery.ssh_host_key, true),
        ] {
            if let Some(source) = source {
                let content = vec![Part::Read(source.clone(), Shape::Bytes)];
                self.add(name, table, content, secret, false)?;
            }
        }
        if recovery.ssh_host_key.is_some() {
            self.recipe("network", table);
            self.recipe("ssh", table);
        }
        if recovery.tools {
            self.recipe("recovery", table);
        }
        Ok(())
    }

    /// A boot that ends in the emergency shell is over: the next try.
    pub(crate) fn give_up(&mut self) -> Result<()> {
        let drop_in = "[Service]\nExecStartPre=/bin/systemctl --force reboot\n";
        self.public(GIVE_UP, "--tries=", drop_in.to_owned())
    }

    /// What the host file has as it is.
    fn raw(&mut self, host: &HostFile) -> Result<()> {
        let mut lines = String::new();
        for (path, file) in &host.files {
            let name = credential_of_file(path.as_str());
            lines.push_str(&file.line(path.as_str(), &name));
            let content = vec![as_it_is(&file.content)];
            self.add(
                &name,
                "[files]",
                content,
                file.is_secret(),
                file.is_secret(),
            )?;
        }
        if !lines.is_empty() {
            self.public("tmpfiles.extra", "[files]", lines)?;
        }
        for (name, unit) in &host.units {
            let content = vec![as_it_is(&unit.content)];
            self.add(
                &format!("systemd.extra-unit.{name}"),
                "[units]",
                content,
                false,
                false,
            )?;
            if let Some(target) = &unit.wanted_by {
                let drop_in = format!("systemd.unit-dropin.{target}~{name}");
                self.public(&drop_in, "[units]", format!("[Unit]\nWants={name}\n"))?;
            }
        }
        for (name, source) in &host.credentials {
            let secret = is_secret(name.as_str(), source);
            let content = vec![if secret {
                Part::Read(source.clone(), Shape::Bytes)
            } else {
                as_it_is(source)
            }];
            self.add(name.as_str(), "[credentials]", content, secret, secret)?;
        }
        for recipe in &host.recipes {
            self.recipe(recipe.as_str(), "recipes");
        }
        Ok(())
    }

    fn public(&mut self, name: &str, from: &str, text: String) -> Result<()> {
        self.add(name, from, vec![Part::Text(text)], false, false)
    }

    fn add(
        &mut self,
        name: &str,
        from: &str,
        content: Vec<Part>,
        secret: bool,
        bound: bool,
    ) -> Result<()> {
        let name: Name = name.parse().with_context(|| from.to_owned())?;
        // What lies on the ESP is a file of this name.
        format!("{name}.cred")
            .parse::<ukikit_esp::Name>()
            .with_context(|| from.to_owned())?;
        let from = from.to_owned();
        self.credentials.push(WantedCredential {
            name,
            from,
            content,
            secret,
            bound,
        });
        Ok(())
    }

    fn recipe(&mut self, name: &str, reason: &str) {
        let reasons = self.recipes.entry(name.to_owned()).or_default();
        if !reasons.iter().any(|known| known == reason) {
            reasons.push(reason.to_owned());
        }
    }
}

/// A text that stands in the host file is no secret where nothing else says so.
fn as_it_is(source: &Source) -> Part {
    match source {
        Source::Text(text) => Part::Text(text.clone()),
        other => Part::Read(other.clone(), Shape::Bytes),
    }
}

/// Whether a credential without a table of its own is a secret: what is read from elsewhere, and what systemd knows as one.
fn is_secret(name: &str, source: &Source) -> bool {
    const SECRETS: [&str; 5] = [
        "passwd.hashed-password.*",
        "passwd.plaintext-password.*",
        "network.wireguard.*",
        "wol.password",
        "*.link.wol.password",
    ];
    let pattern = name
        .parse()
        .ok()
        .as_ref()
        .and_then(WellKnown::find)
        .map(|known| known.pattern);
    let secret = |pattern: &str| SECRETS.contains(&pattern) || pattern.starts_with("cryptsetup.");
    !matches!(source, Source::Text(_)) || pattern.is_some_and(secret)
}
