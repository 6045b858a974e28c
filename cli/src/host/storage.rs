//! `[[iscsi]]`, `[[nbd]]`, `[[nvme-tcp]]`: disks over the network, each a credential of lines `KEY=VALUE` that the extension
//! of its recipe reads (docs/host.md has the formats).
//!
//! The first line is the version of the format. An extension refuses a version and a key it does not know, in a sentence on
//! the console: a setting that is passed over in silence would be a boot nobody asked for.

use schemars::JsonSchema;
use serde::Deserialize;

use super::source::{Part, Shape, Source};
use super::word::{Address, IscsiName, Nqn, Portal, Server, Token};

/// The version of the three formats.
const VERSION: &str = "version=1\n";

/// A disk over iSCSI.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Iscsi {
    /// The name of this host.
    pub initiator: IscsiName,
    /// The name of the target.
    pub target: IscsiName,
    /// Where it is.
    pub portal: Portal,
    /// The portal group [default: 1]
    pub tpgt: Option<u16>,
    /// The disk of the target, as `[root]` needs it when it names no device.
    pub lun: Option<u16>,
    /// How this host proves itself.
    pub chap: Option<Chap>,
}

/// CHAP (RFC 7143, 12.1.3): this host proves itself and, with `mutual`, the target to it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Chap {
    /// The name the target knows this host by.
    pub user: Token,
    /// The secret.
    pub password: Source,
    /// The secret that will replace it. It is tried when the first does not serve: both sides never change at once.
    pub next_password: Option<Source>,
    /// How the target proves itself.
    pub mutual: Option<Mutual>,
}

/// What the target proves itself with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Mutual {
    /// The name this host knows the target by.
    pub user: Token,
    /// The secret.
    pub password: Source,
    /// The secret that will replace it, tried together with the next of this host.
    pub next_password: Option<Source>,
}

/// A disk over the network block device protocol.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Nbd {
    /// The server.
    pub server: Server,
    /// Its port [default: 10809]
    pub port: Option<u16>,
    /// What it exports [default: the server's default]
    pub export: Option<Token>,
}

/// A disk over NVMe on TCP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct NvmeTcp {
    /// The address of the controller.
    pub address: Address,
    /// Its port [default: 4420]
    pub port: Option<u16>,
    /// The subsystem.
    pub subsystem: Nqn,
    /// The name of this host.
    pub host: Nqn,
    /// The key with which this host proves itself, as `DHHC-1:…:`.
    pub key: Option<Source>,
    /// The key with which the controller does, as `DHHC-1:…:`.
    pub controller_key: Option<Source>,
}

impl Iscsi {
    /// The credential `iscsi.target`.
    pub(crate) fn content(&self) -> Vec<Part> {
        let (address, port) = self.portal.parts();
        let mut lines = Lines::new();
        lines.add("initiator", &self.initiator);
        lines.add("target", &self.target);
        lines.add("address", address);
        lines.add("port", port);
        lines.add("tpgt", self.tpgt.unwrap_or(1));
        let Some(chap) = &self.chap else {
            return lines.parts;
        };
        lines.add("user", &chap.user);
        lines.secret("password", Some(&chap.password));
        lines.secret("password_next", chap.next_password.as_ref());
        if let Some(mutual) = &chap.mutual {
            lines.add("user_in", &mutual.user);
            lines.secret("password_in", Some(&mutual.password));
            lines.secret("password_in_next", mutual.next_password.as_ref());
        }
        lines.parts
    }

    /// The disk, by the name udev gives it.
    pub(crate) fn device(&self) -> Option<String> {
        let (address, port) = self.portal.parts();
        let address = address.trim_matches(['[', ']']);
        let (target, lun) = (&self.target, self.lun?);
        Some(format!(
            "/dev/disk/by-path/ip-{address}:{port}-iscsi-{target}-lun-{lun}"
        ))
    }
}

impl Nbd {
    /// The credential `nbd.target`.
    pub(crate) fn content(&self) -> Vec<Part> {
        let mut lines = Lines::new();
        lines.add("host", &self.server);
        lines.add("port", self.port.unwrap_or(NBD_PORT));
        if let Some(export) = &self.export {
            lines.add("export", export);
        }
        lines.parts
    }
}

impl NvmeTcp {
    /// The credential `nvme.target`.
    pub(crate) fn content(&self) -> Vec<Part> {
        let mut lines = Lines::new();
        lines.add("nqn", &self.subsystem);
        lines.add("address", &self.address);
        lines.add("port", self.port.unwrap_or(NVME_TCP_PORT));
        lines.add("hostnqn", &self.host);
        lines.secret("key", self.key.as_ref());
        lines.secret("ctrl_key", self.controller_key.as_ref());
        lines.parts
    }
}

/// Registered with IANA, as the next one.
const NBD_PORT: u16 = 10809;
const NVME_TCP_PORT: u16 = 4420;

/// Lines `KEY=VALUE`, some of whose values are read later.
struct Lines {
    parts: Vec<Part>,
}

impl Lines {
    fn new() -> Self {
        Self {
            parts: vec![Part::Text(VERSION.to_owned())],
        }
    }

    fn add(&mut self, key: &str, value: impl ToString) {
        let line = format!("{key}={}\n", value.to_string());
        match self.parts.last_mut() {
            Some(Part::Text(text)) => text.push_str(&line),
            _ => self.parts.push(Part::Text(line)),
        }
    }

    fn secret(&mut self, key: &str, source: Option<&Source>) {
        let Some(source) = source else { return };
        self.parts.push(Part::Text(format!("{key}=")));
        self.parts.push(Part::Read(source.clone(), Shape::Word));
        self.parts.push(Part::Text("\n".to_owned()));
    }
}
