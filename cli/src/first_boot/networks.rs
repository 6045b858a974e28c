//! network-config, versions 1 and 2, as the interfaces of a host file: these become files of systemd-networkd.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::document::{Document, is_true, scalar, texts};
use crate::host::{Address, Bond, BondMode, Bridge, Dhcp, Network, Token, Vlan};

/// What a network-config asks for.
#[derive(Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Networks {
    /// The interfaces.
    pub interfaces: Vec<Network>,
    /// What is not done, and why.
    pub ignored: Vec<String>,
}

type Table = Map<String, Value>;

impl Networks {
    /// Reads a network-config.
    ///
    /// # Errors
    ///
    /// YAML that cannot be read, another version, and values that no interface has, with the interface.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let document = Document::parse(bytes)?;
        let top = document.top();
        let top = top.get("network").and_then(Value::as_object).unwrap_or(top);
        let mut networks = Self::default();
        match top.get("version").and_then(Value::as_u64) {
            None if top.is_empty() => {}
            Some(1) => networks.first(top)?,
            Some(2) => networks.second(top)?,
            _ if top.get("config").and_then(scalar).as_deref() == Some("disabled") => {}
            _ => bail!("its version is neither 1 nor 2"),
        }
        crate::host::check_networks(&networks.interfaces)?;
        Ok(networks)
    }

    fn first(&mut self, top: &Table) -> Result<()> {
        let config = top
            .get("config")
            .and_then(Value::as_array)
            .context("it has no list `config`")?;
        let (mut dns, mut domains) = (Vec::new(), Vec::new());
        for (at, entry) in config.iter().enumerate() {
            let place = || format!("config, entry {}", at + 1);
            let entry = entry.as_object().with_context(place)?;
            let kind = entry.get("type").and_then(scalar).unwrap_or_default();
            match kind.as_str() {
                "physical" | "bond" | "bridge" | "vlan" => {
                    let network = self.entry(entry, &kind).with_context(place)?;
                    self.interfaces.push(network);
                }
                "nameserver" => {
                    dns.extend(words::<Address>(entry.get("address")).with_context(place)?);
                    domains.extend(words::<Token>(entry.get("search")).with_context(place)?);
                }
                other => self.ignored.push(format!("{}: type {other:?}", place())),
            }
        }
        // networkd has name servers per interface; those for all are asked through each.
        for network in &mut self.interfaces {
            if network.dhcp.is_some() || !network.address.is_empty() {
                network.dns.extend(dns.iter().cloned());
                network.domains.extend(domains.iter().cloned());
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Table, kind: &str) -> Result<Network> {
        let mut network = Network {
            name: word(entry.get("name"))?,
            mtu: number(entry.get("mtu"))?,
            ..Network::default()
        };
        match kind {
            "physical" => network.mac_address = word(entry.get("mac_address"))?,
            "bond" => {
                let mode = entry
                    .get("params")
                    .and_then(|params| params.get("bond-mode").or(params.get("mode")));
                network.bond = Some(Bond {
                    interfaces: words(entry.get("bond_interfaces"))?,
                    mode: bond_mode(mode)?,
                });
            }
            "bridge" => {
                network.bridge = Some(Bridge {
                    interfaces: words(entry.get("bridge_interfaces"))?,
                })
            }
            _ => {
                network.vlan = Some(Vlan {
                    link: word(entry.get("vlan_link"))?.context("it has no vlan_link")?,
                    id: vlan_number(entry.get("vlan_id"))?,
                })
            }
        }
        for subnet in entry
            .get("subnets")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            self.subnet(
                &mut network,
                subnet.as_object().context("a subnet is no mapping")?,
            )?;
        }
        Ok(network)
    }

    fn subnet(&mut self, network: &mut Network, subnet: &Table) -> Result<()> {
        let kind = subnet.get("type").and_then(scalar).unwrap_or_default();
        match kind.as_str() {
            "dhcp" | "dhcp4" | "dhcp6" | "ipv6_dhcpv6-stateful" => {
                let v4 = matches!(kind.as_str(), "dhcp" | "dhcp4");
                network.dhcp = dhcp(
                    v4 || asks(network, Dhcp::Ipv4),
                    !v4 || asks(network, Dhcp::Ipv6),
                );
            }
            "static" | "static6" => {
                let address = scalar(
                    subnet
                        .get("address")
                        .context("a static subnet has no address")?,
                )
                .unwrap_or_default();
                network
                    .address
                    .push(to_word(with_prefix(address, subnet.get("netmask"))?)?);
                network
                    .gateway
                    .extend(word::<Address>(subnet.get("gateway"))?);
                network
                    .dns
                    .extend(words::<Address>(subnet.get("dns_nameservers"))?);
                network
                    .domains
                    .extend(words::<Token>(subnet.get("dns_search"))?);
            }
            "manual" => {}
            other => self.ignored.push(format!("subnet of type {other:?}")),
        }
        Ok(())
    }

    fn second(&mut self, top: &Table) -> Result<()> {
        for (kind, value) in top {
            match kind.as_str() {
                "version" | "renderer" => continue,
                "ethernets" | "bonds" | "bridges" | "vlans" => {}
                other => {
                    self.ignored.push(format!("{other:?}"));
                    continue;
                }
            }
            for (id, told) in value
                .as_object()
                .with_context(|| format!("{kind} is no mapping"))?
            {
                let place = || format!("{kind}, {id:?}");
                let told = told.as_object().with_context(place)?;
                let network = self.interface(kind, id, told).with_context(place)?;
                self.interfaces.push(network);
            }
        }
        Ok(())
    }

    fn interface(&mut self, kind: &str, id: &str, told: &Table) -> Result<Network> {
        let found = told.get("match").and_then(Value::as_object);
        let matched = |key: &str| found.and_then(|found| found.get(key));
        let named = matched("name").and_then(scalar).unwrap_or(id.to_owned());
        let truth = |key: &str| is_true(told.get(key));
        let servers = |key: &str| told.get("nameservers").and_then(|servers| servers.get(key));
        let mut network = Network {
            name: Some(to_word(named)?),
            mac_address: word(matched("macaddress"))?,
            dhcp: dhcp(truth("dhcp4"), truth("dhcp6")),
            address: words(told.get("addresses"))?,
            dns: words(servers("addresses"))?,
            domains: words(servers("search"))?,
            mtu: number(told.get("mtu"))?,
            ..Network::default()
        };
        for key in ["gateway4", "gateway6"] {
            network.gateway.extend(word::<Address>(told.get(key))?);
        }
        self.routes(&mut network, id, told)?;
        match kind {
            "bonds" => {
                let mode = told
                    .get("parameters")
                    .and_then(|parameters| parameters.get("mode"));
                network.bond = Some(Bond {
                    interfaces: words(told.get("interfaces"))?,
                    mode: bond_mode(mode)?,
                });
            }
            "bridges" => {
                network.bridge = Some(Bridge {
                    interfaces: words(told.get("interfaces"))?,
                })
            }
            "vlans" => {
                network.vlan = Some(Vlan {
                    link: word(told.get("link"))?.context("it has no link")?,
                    id: vlan_number(told.get("id"))?,
                })
            }
            _ => {}
        }
        const KNOWN: [&str; 15] = [
            "match",
            "set-name",
            "dhcp4",
            "dhcp6",
            "addresses",
            "nameservers",
            "mtu",
            "gateway4",
            "gateway6",
            "routes",
            "parameters",
            "interfaces",
            "link",
            "id",
            "optional",
        ];
        let unknown = told.keys().filter(|key| !KNOWN.contains(&key.as_str()));
        self.ignored
            .extend(unknown.map(|key| format!("{id:?}: {key:?}")));
        if told.contains_key("set-name") {
            self.ignored
                .push(format!("{id:?}: \"set-name\": interfaces keep their names"));
        }
        Ok(network)
    }

    /// The route to everywhere is a gateway; others have no place in a host file.
    fn routes(&mut self, network: &mut Network, id: &str, told: &Table) -> Result<()> {
        for route in told
            .get("routes")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let to = route.get("to").and_then(scalar).unwrap_or_default();
            if matches!(to.as_str(), "default" | "0.0.0.0/0" | "::/0") {
                network.gateway.extend(word::<Address>(route.get("via"))?);
            } else {
                self.ignored
                    .push(format!("{id:?}: a route that is not the default one"));
            }
        }
        Ok(())
    }
}

fn asks(network: &Network, what: Dhcp) -> bool {
    network.dhcp == Some(Dhcp::Yes) || network.dhcp == Some(what)
}

fn dhcp(v4: bool, v6: bool) -> Option<Dhcp> {
    match (v4, v6) {
        (true, true) => Some(Dhcp::Yes),
        (true, false) => Some(Dhcp::Ipv4),
        (false, true) => Some(Dhcp::Ipv6),
        (false, false) => None,
    }
}

fn to_word<T: TryFrom<String, Error = String>>(text: String) -> Result<T> {
    T::try_from(text).map_err(anyhow::Error::msg)
}

fn word<T: TryFrom<String, Error = String>>(value: Option<&Value>) -> Result<Option<T>> {
    value.and_then(scalar).map(to_word).transpose()
}

fn words<T: TryFrom<String, Error = String>>(value: Option<&Value>) -> Result<Vec<T>> {
    let texts = value.map(texts).unwrap_or_default();
    texts
        .into_iter()
        .filter(|text| !text.is_empty())
        .map(to_word)
        .collect()
}

fn number(value: Option<&Value>) -> Result<Option<u32>> {
    let text = value.and_then(scalar);
    text.map(|text| text.parse().context("mtu is no number"))
        .transpose()
}

fn vlan_number(value: Option<&Value>) -> Result<u16> {
    let text = value.and_then(scalar).unwrap_or_default();
    text.parse().context("the number of the VLAN is none")
}

/// By name, or as the kernel numbers them.
fn bond_mode(value: Option<&Value>) -> Result<Option<BondMode>> {
    let Some(text) = value.and_then(scalar) else {
        return Ok(None);
    };
    Ok(Some(match text.as_str() {
        "0" | "balance-rr" => BondMode::BalanceRr,
        "1" | "active-backup" => BondMode::ActiveBackup,
        "2" | "balance-xor" => BondMode::BalanceXor,
        "3" | "broadcast" => BondMode::Broadcast,
        "4" | "802.3ad" => BondMode::Lacp,
        "5" | "balance-tlb" => BondMode::BalanceTlb,
        "6" | "balance-alb" => BondMode::BalanceAlb,
        _ => bail!("the mode of the bond is none"),
    }))
}

/// `192.0.2.10` and `255.255.255.0` as `192.0.2.10/24`.
fn with_prefix(address: String, netmask: Option<&Value>) -> Result<String> {
    if address.contains('/') {
        return Ok(address);
    }
    let mask = netmask
        .and_then(scalar)
        .context("a static subnet has neither a prefix nor a netmask")?;
    if mask.parse::<u8>().is_ok() {
        return Ok(format!("{address}/{mask}"));
    }
    let mask: std::net::Ipv4Addr = mask.parse().context("the netmask is none")?;
    let bits = u32::from(mask);
    if bits.leading_ones() + bits.trailing_zeros() < 32 {
        bail!("the netmask has a gap");
    }
    Ok(format!("{address}/{}", bits.leading_ones()))
}
