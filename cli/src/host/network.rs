//! `[[network]]`: files of systemd-networkd, each a credential that systemd-network-generator puts in place.
//!
//! ```text
//! network.netdev.11-bond0      [NetDev] Name=bond0 Kind=bond
//! network.network.10-eno1      [Match] Name=eno1   [Network] Bond=bond0
//! ```
//!
//! The number is the place in the host file, from 10: of two files that match an interface, networkd takes the first. They
//! are readable by all while the initrd runs, so nothing secret belongs there.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::word::{Address, AddressWithPrefix, InterfaceName, MacAddress, Token};

/// A network interface, or a file of systemd-networkd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Network {
    /// A file of systemd-networkd as it is, NAME.network, NAME.netdev or NAME.link; nothing else stands beside it.
    pub file: Option<PathBuf>,
    /// The interface, by its name or a pattern; `*` is every Ethernet interface.
    pub name: Option<InterfaceName>,
    /// The interface by its hardware address, whatever it is called; `name` is then what other tables call it.
    pub mac_address: Option<MacAddress>,
    /// Whether it asks for its configuration.
    pub dhcp: Option<Dhcp>,
    /// Addresses with the length of their prefix.
    pub address: Vec<AddressWithPrefix>,
    /// Default gateways.
    pub gateway: Vec<Address>,
    /// Name servers.
    pub dns: Vec<Address>,
    /// Domains to search in.
    pub domains: Vec<Token>,
    /// Bytes of the largest packet.
    pub mtu: Option<u32>,
    /// It is a VLAN on another interface.
    pub vlan: Option<Vlan>,
    /// It is a bond of other interfaces.
    pub bond: Option<Bond>,
    /// It is a bridge over other interfaces.
    pub bridge: Option<Bridge>,
}

/// What is asked for, as `DHCP=` of systemd.network(5) spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words say it")]
pub enum Dhcp {
    Yes,
    No,
    Ipv4,
    Ipv6,
}

/// A VLAN.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vlan {
    /// The interface it is on.
    pub link: InterfaceName,
    /// Its number, from 1 to 4094.
    #[schemars(range(min = 1, max = 4094))]
    pub id: u16,
}

/// A bond.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bond {
    /// Its ports.
    pub interfaces: Vec<InterfaceName>,
    /// How the ports are used [default: balance-rr]
    pub mode: Option<BondMode>,
}

/// `Mode=` of systemd.netdev(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "systemd.netdev(5) says it")]
pub enum BondMode {
    BalanceRr,
    ActiveBackup,
    BalanceXor,
    Broadcast,
    #[serde(rename = "802.3ad")]
    Lacp,
    BalanceTlb,
    BalanceAlb,
}

impl BondMode {
    fn word(self) -> &'static str {
        match self {
            Self::BalanceRr => "balance-rr",
            Self::ActiveBackup => "active-backup",
            Self::BalanceXor => "balance-xor",
            Self::Broadcast => "broadcast",
            Self::Lacp => "802.3ad",
            Self::BalanceTlb => "balance-tlb",
            Self::BalanceAlb => "balance-alb",
        }
    }
}

/// A bridge.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    /// Its ports.
    pub interfaces: Vec<InterfaceName>,
}

/// The first entry that is wrong, by its place.
pub(crate) fn check(networks: &[Network]) -> Result<(), (usize, String)> {
    let mut names = BTreeSet::new();
    for (at, network) in networks.iter().enumerate() {
        network.check().map_err(|what| (at, what.to_owned()))?;
        let known = network.name.as_ref().map(InterfaceName::as_str);
        if let Some(name) = known.filter(|name| !names.insert(*name)) {
            return Err((at, format!("{name} is named twice")));
        }
    }
    Ok(())
}

/// The files, as the names of credentials and their content. What is only named as a port or link gets a file too.
pub(crate) fn files(networks: &[Network]) -> Vec<(String, String)> {
    let mut all: Vec<Network> = networks.to_vec();
    let linked = networks.iter().flat_map(Network::below);
    for name in linked {
        if !all
            .iter()
            .any(|network| network.name.as_ref() == Some(name))
        {
            all.push(Network {
                name: Some(name.clone()),
                ..Network::default()
            });
        }
    }
    let own = all
        .iter()
        .enumerate()
        .filter(|(_, network)| network.file.is_none());
    own.flat_map(|(at, network)| {
        let stem = format!("{}-{}", FIRST + at, network.label());
        let netdev = network
            .netdev()
            .map(|text| (format!("network.netdev.{stem}"), text));
        let file = (
            format!("network.network.{stem}"),
            network.file_text(networks),
        );
        netdev.into_iter().chain([file])
    })
    .collect()
}

/// The number of the first file: room before it for what the vendor's initrd has.
const FIRST: usize = 10;

impl Network {
    fn check(&self) -> Result<(), &'static str> {
        if let Some(file) = &self.file {
            if (Self {
                file: None,
                ..self.clone()
            }) != Self::default()
            {
                return Err("beside `file` nothing else counts");
            }
            return match self.credential_of_file() {
                Some(_) => Ok(()),
                None if file.file_name().is_none() => Err("`file` names no file"),
                None => Err(
                    "a file of systemd-networkd is called NAME.network, NAME.netdev or NAME.link",
                ),
            };
        }
        let virtual_kinds = [
            self.vlan.is_some(),
            self.bond.is_some(),
            self.bridge.is_some(),
        ];
        let count = virtual_kinds.into_iter().filter(|given| *given).count();
        let plain = |name: &InterfaceName| !name.as_str().contains(['*', '?', '[', '!']);
        match &self.name {
            None if self.mac_address.is_none() => Err("give `name`, `mac-address` or `file`"),
            _ if count > 1 => Err("`vlan`, `bond` and `bridge` exclude each other"),
            None if count == 1 => Err("a new interface needs a `name`"),
            Some(name) if count == 1 && !plain(name) => {
                Err("the name of a new interface is no pattern")
            }
            _ if count == 1 && self.mac_address.is_some() => {
                Err("`mac-address` finds an interface, and this one is made")
            }
            _ if self
                .vlan
                .as_ref()
                .is_some_and(|vlan| !(1..=4094).contains(&vlan.id)) =>
            {
                Err("the number of a VLAN is from 1 to 4094")
            }
            _ => Ok(()),
        }
    }

    /// `network.KIND.STEM` for a file as it is.
    pub(crate) fn credential_of_file(&self) -> Option<String> {
        let name = self.file.as_ref()?.file_name()?.to_str()?;
        let (stem, kind) = name.rsplit_once('.')?;
        let known = ["network", "netdev", "link"].contains(&kind);
        (known && !stem.is_empty()).then(|| format!("network.{kind}.{stem}"))
    }

    /// The interfaces it is made of.
    fn below(&self) -> impl Iterator<Item = &InterfaceName> {
        let link = self.vlan.iter().map(|vlan| &vlan.link);
        let bonded = self.bond.iter().flat_map(|bond| &bond.interfaces);
        let bridged = self.bridge.iter().flat_map(|bridge| &bridge.interfaces);
        link.chain(bonded).chain(bridged)
    }

    /// What it is called in a file name.
    fn label(&self) -> String {
        let name = self.name.as_ref().map(InterfaceName::as_str);
        let name = name
            .or(self.mac_address.as_ref().map(MacAddress::as_str))
            .unwrap_or_default();
        if name == "*" {
            return "ether".to_owned();
        }
        let fit = |char: char| {
            if char.is_ascii_alphanumeric() || "_-.".contains(char) {
                char
            } else {
                '_'
            }
        };
        name.chars().map(fit).collect()
    }

    fn netdev(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        let (kind, section) = match (&self.vlan, &self.bond, &self.bridge) {
            (Some(vlan), ..) => ("vlan", format!("\n[VLAN]\nId={}\n", vlan.id)),
            (_, Some(bond), _) => {
                let mode = bond.mode.unwrap_or(BondMode::BalanceRr).word();
                // Without it the kernel does not notice a link that is gone.
                (
                    "bond",
                    format!("\n[Bond]\nMode={mode}\nMIIMonitorSec=100ms\n"),
                )
            }
            (.., Some(_)) => ("bridge", String::new()),
            _ => return None,
        };
        Some(format!("[NetDev]\nName={name}\nKind={kind}\n{section}"))
    }

    fn file_text(&self, networks: &[Network]) -> String {
        let mut text = format!("[Match]\n{}\n[Network]\n", self.matching());
        if let Some(dhcp) = self.dhcp {
            let _ = writeln!(text, "DHCP={}", dhcp.word());
        }
        for (key, values) in [
            ("Address", lines(&self.address)),
            ("Gateway", lines(&self.gateway)),
            ("DNS", lines(&self.dns)),
            ("Domains", lines(&self.domains)),
        ] {
            for value in values {
                let _ = writeln!(text, "{key}={value}");
            }
        }
        if self.dhcp.is_none() && self.address.is_empty() {
            text.push_str("LinkLocalAddressing=no\n");
        }
        for above in networks
            .iter()
            .filter(|above| above.below().any(|name| Some(name) == self.name.as_ref()))
        {
            let key = match above {
                Self { vlan: Some(_), .. } => "VLAN",
                Self { bond: Some(_), .. } => "Bond",
                _ => "Bridge",
            };
            let _ = writeln!(
                text,
                "{key}={}",
                above.name.as_ref().map_or("", InterfaceName::as_str)
            );
        }
        if let Some(mtu) = self.mtu {
            let _ = write!(text, "\n[Link]\nMTUBytes={mtu}\n");
        }
        text
    }

    /// What comes with hardware is no VLAN that has the same address.
    fn matching(&self) -> String {
        match (&self.mac_address, &self.name) {
            (Some(mac), _) => format!("MACAddress={mac}\nKind=!*\n"),
            (None, Some(name)) if name.as_str() == "*" => "Type=ether\nKind=!*\n".to_owned(),
            (None, name) => format!("Name={}\n", name.as_ref().map_or("", InterfaceName::as_str)),
        }
    }
}

impl Dhcp {
    fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

fn lines<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
