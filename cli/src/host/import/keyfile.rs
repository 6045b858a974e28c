//! Files of systemd-networkd, taken as they are, and connections of NetworkManager (nm-settings-keyfile(5)), taken apart.

use std::collections::BTreeMap;

use super::text::{HostText, Table, quoted};
use super::{Left, TextFile};
use crate::host::word::{Address, AddressWithPrefix, InterfaceName, MacAddress};

/// Takes what the network generator knows, but for files with keys: what it places can be read by all.
pub(super) fn networkd(files: &[TextFile], host: &mut HostText, left: &mut Vec<Left>) {
    for file in files {
        let kind = file.path.rsplit_once('.').map_or("", |(_, kind)| kind);
        if !["network", "netdev", "link"].contains(&kind) {
            continue;
        }
        if file.text.contains("PrivateKey=") || file.text.contains("PresharedKey=") {
            left.push(Left::new(
                &file.path,
                "it holds a key: give it as a credential network.wireguard.*",
            ));
            continue;
        }
        let mut table = Table::default();
        table.text("file", &file.path);
        host.networks.push(table);
    }
}

/// Sections of a keyfile, each with its keys.
#[derive(Default)]
struct Keyfile<'a>(BTreeMap<(&'a str, &'a str), &'a str>);

impl<'a> Keyfile<'a> {
    fn parse(text: &'a str) -> Self {
        let (mut found, mut section) = (BTreeMap::new(), "");
        for line in text.lines().map(str::trim) {
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                section = name;
            } else if let Some((key, value)) =
                line.split_once('=').filter(|_| !line.starts_with('#'))
            {
                found.insert((section, key.trim()), value.trim());
            }
        }
        Self(found)
    }

    fn get(&self, section: &'a str, key: &'a str) -> Option<&'a str> {
        self.0
            .get(&(section, key))
            .copied()
            .filter(|value| !value.is_empty())
    }

    /// `address1`, `address2` and so on, or one key with a list.
    fn list(&self, section: &'a str, key: &'a str) -> Vec<&'a str> {
        let numbered = |name: &str| {
            name.strip_prefix(key)
                .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let values = self
            .0
            .iter()
            .filter(|((of, name), _)| *of == section && numbered(name));
        values
            .flat_map(|(_, value)| value.split(';'))
            .filter(|value| !value.is_empty())
            .collect()
    }

    /// The name of the controller, and what the connection is of it.
    fn controller(&self) -> Option<(&'a str, &'a str)> {
        let name = self
            .get("connection", "controller")
            .or(self.get("connection", "master"))?;
        let kind = self
            .get("connection", "port-type")
            .or(self.get("connection", "slave-type"))?;
        Some((name, kind))
    }
}

/// Takes connections over Ethernet, VLANs, bonds and bridges.
pub(super) fn connections(files: &[TextFile], host: &mut HostText, left: &mut Vec<Left>) {
    let all: Vec<(&TextFile, Keyfile<'_>)> = files
        .iter()
        .map(|file| (file, Keyfile::parse(&file.text)))
        .collect();
    for (file, keyfile) in &all {
        // A port is named by what it belongs to.
        if keyfile.controller().is_some() {
            continue;
        }
        match connection(keyfile, &all) {
            Ok(table) => host.networks.push(table),
            Err(reason) => left.push(Left::new(&file.path, reason)),
        }
    }
}

fn connection(keyfile: &Keyfile<'_>, all: &[(&TextFile, Keyfile<'_>)]) -> Result<Table, String> {
    let mut table = Table::default();
    let name = keyfile.get("connection", "interface-name");
    match keyfile.get("connection", "type").unwrap_or_default() {
        "ethernet" | "802-3-ethernet" => ethernet(keyfile, name, &mut table)?,
        "vlan" => {
            interface(&mut table, name.or(keyfile.get("vlan", "interface-name")))?;
            let (link, id) = (keyfile.get("vlan", "parent"), keyfile.get("vlan", "id"));
            let (link, id) = link.zip(id).ok_or("it names no parent or no number")?;
            InterfaceName::try_from(link.to_owned())?;
            let id = id.parse::<u16>().map_err(|_| "its number is none")?;
            table.raw("vlan", format!("{{ link = {}, id = {id} }}", quoted(link)));
        }
        kind @ ("bond" | "bridge") => {
            interface(&mut table, name)?;
            let mode = keyfile.get("bond", "mode").filter(|_| kind == "bond");
            let mode = mode.map_or(String::new(), |mode| format!(", mode = {}", quoted(mode)));
            let ports = ports(keyfile, all).join(", ");
            table.raw(
                if kind == "bond" { "bond" } else { "bridge" },
                format!("{{ interfaces = [{ports}]{mode} }}"),
            );
        }
        other => {
            return Err(format!(
                "a connection of type {other:?} is not one that systemd-networkd in the initrd makes"
            ));
        }
    }
    addresses(keyfile, &mut table)?;
    Ok(table)
}

fn interface(table: &mut Table, name: Option<&str>) -> Result<(), String> {
    let name = name.ok_or("it names no interface")?;
    InterfaceName::try_from(name.to_owned())?;
    table.text("name", name);
    Ok(())
}

fn ethernet(keyfile: &Keyfile<'_>, name: Option<&str>, table: &mut Table) -> Result<(), String> {
    let mac = keyfile
        .get("ethernet", "mac-address")
        .or(keyfile.get("802-3-ethernet", "mac-address"));
    if let Some(mac) = mac {
        MacAddress::try_from(mac.to_owned())?;
    }
    if name.is_some() || mac.is_none() {
        interface(table, name.or(Some("*")))?;
    }
    table.text_if("mac-address", mac);
    let mtu = keyfile
        .get("ethernet", "mtu")
        .and_then(|mtu| mtu.parse::<u32>().ok())
        .filter(|mtu| *mtu != 0);
    if let Some(mtu) = mtu {
        table.raw("mtu", mtu.to_string());
    }
    Ok(())
}

/// The interfaces of the connections that belong to this one, by its interface or its UUID.
fn ports(keyfile: &Keyfile<'_>, all: &[(&TextFile, Keyfile<'_>)]) -> Vec<String> {
    let names = ["interface-name", "uuid", "id"].map(|key| keyfile.get("connection", key));
    let belongs = |other: &Keyfile<'_>| {
        other
            .controller()
            .is_some_and(|(name, _)| names.contains(&Some(name)))
    };
    let ports = all.iter().filter(|(_, other)| belongs(other));
    ports
        .filter_map(|(_, other)| other.get("connection", "interface-name"))
        .map(quoted)
        .collect()
}

fn addresses(keyfile: &Keyfile<'_>, table: &mut Table) -> Result<(), String> {
    let method = |family| keyfile.get(family, "method").unwrap_or("disabled");
    match (
        method("ipv4") == "auto",
        method("ipv6") == "auto" || method("ipv6") == "dhcp",
    ) {
        (true, true) => table.text("dhcp", "yes"),
        (true, false) => table.text("dhcp", "ipv4"),
        (false, true) => table.text("dhcp", "ipv6"),
        (false, false) => {}
    }
    let (mut own, mut gateways, mut servers) = (Vec::new(), Vec::new(), Vec::new());
    for family in ["ipv4", "ipv6"] {
        for entry in keyfile.list(family, "address") {
            let (address, gateway) = entry
                .split_once(',')
                .map_or((entry, None), |(address, gateway)| (address, Some(gateway)));
            AddressWithPrefix::try_from(address.to_owned())?;
            own.push(address);
            gateways.extend(gateway);
        }
        gateways.extend(keyfile.get(family, "gateway"));
        servers.extend(keyfile.list(family, "dns"));
    }
    for address in gateways.iter().chain(&servers) {
        Address::try_from((*address).to_owned())?;
    }
    table.texts("address", &own);
    table.texts("gateway", &gateways);
    table.texts("dns", &servers);
    Ok(())
}
