//! The kernel's command line: the root, dracut's options for LUKS, iSCSI and the network. What a credential cannot bring is left.

use super::Left;
use super::text::{HostText, Table};
use crate::host::word::{Address, AddressWithPrefix, Device, IscsiName, VolumeName};

const PLACE: &str = "kernel command line";

/// Splits at white space outside of double quotes, which go.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for char in line.chars() {
        match char {
            '"' => quoted = !quoted,
            char if char.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            other => word.push(other),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

pub(super) fn read(line: &str, host: &mut HostText, left: &mut Vec<Left>) {
    let mut stay = Vec::new();
    let mut initiator = None;
    let all = words(line);
    for word in &all {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let mut taken = Ok(());
        match key {
            "root" => taken = root(value, host),
            "rootfstype" => host.root.text("type", value),
            "rootflags" => flags(value, host),
            "ro" | "rw" => mode(key, host),
            "rd.luks.name" => taken = luks_name(value, host),
            "rd.luks.uuid" => {
                let uuid = value.trim_start_matches("luks-");
                taken = luks(uuid, &format!("luks-{uuid}"), host);
            }
            "rd.iscsi.initiator" => initiator = Some(value),
            "netroot" => taken = netroot(value, host),
            "ip" => taken = ip(value, host),
            "rd.neednet" => host.wants_network = value != "0",
            "systemd.hostname" => value.clone_into(&mut host.hostname),
            "BOOT_IMAGE" | "initrd" => {}
            _ => stay.push(word.as_str()),
        }
        if let Err(reason) = taken {
            left.push(Left::new(format!("{PLACE}: {word}"), reason));
        }
    }
    if let Some(initiator) = initiator {
        for table in &mut host.iscsi {
            table.text("initiator", initiator);
        }
    }
    if !stay.is_empty() {
        let reason = "no credential brings kernel options: what is still wanted of these, `ukikit addon build --cmdline=` does";
        left.push(Left::new(format!("{PLACE}: {}", stay.join(" ")), reason));
    }
}

fn root(value: &str, host: &mut HostText) -> Result<(), String> {
    if value.starts_with("iscsi:") || value.starts_with("nfs") {
        return netroot(value, host);
    }
    // dracut's words for "it comes over the network".
    if matches!(value, "dhcp" | "dhcp6" | "/dev/nfs") {
        host.wants_network = true;
        return Err("it leaves the root to what DHCP says: name it".to_owned());
    }
    Device::try_from(value.to_owned())?;
    host.root.text("device", value);
    Ok(())
}

fn flags(value: &str, host: &mut HostText) {
    let subvolume = value
        .split(',')
        .find_map(|option| option.strip_prefix("subvol="));
    host.root.text_if("subvolume", subvolume);
    let options: Vec<&str> = value
        .split(',')
        .filter(|option| !option.is_empty() && !option.starts_with("subvol="))
        .collect();
    host.root.texts("options", &options);
}

/// `ro` and `rw` count where nothing else says how the root is mounted.
fn mode(word: &str, host: &mut HostText) {
    if !host.root.has("options") {
        host.root.texts("options", &[word]);
    }
}

fn luks_name(value: &str, host: &mut HostText) -> Result<(), String> {
    let (uuid, name) = value.split_once('=').ok_or("it is not UUID=NAME")?;
    luks(uuid, name, host)
}

fn luks(uuid: &str, name: &str, host: &mut HostText) -> Result<(), String> {
    let device = format!("UUID={}", uuid.trim_start_matches("luks-"));
    VolumeName::try_from(name.to_owned())?;
    Device::try_from(device.clone())?;
    let mut table = Table::default();
    table.text("name", name);
    table.text("device", &device);
    host.luks.push(table);
    Ok(())
}

/// `iscsi:[USER:PASSWORD[:USER_IN:PASSWORD_IN]@]ADDRESS:PROTOCOL:PORT:[INTERFACE:[DEVICE:]]LUN:TARGET` of dracut.cmdline(7).
fn netroot(value: &str, host: &mut HostText) -> Result<(), String> {
    let Some(rest) = value.strip_prefix("iscsi:") else {
        host.wants_network = true;
        return Err(
            "only iscsi: is known of dracut's roots over the network: give [nfs] or another table"
                .to_owned(),
        );
    };
    let (proof, rest) = match rest.rsplit_once('@') {
        Some((proof, rest)) => (proof, rest),
        None => ("", rest),
    };
    let (address, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (format!("[{address}]"), rest.trim_start_matches(':')),
        None => rest
            .split_once(':')
            .map(|(address, rest)| (address.to_owned(), rest))
            .ok_or("it ends early")?,
    };
    // The target's own name has colons.
    let start = ["iqn.", "eui.", "naa."]
        .iter()
        .filter_map(|kind| rest.find(kind))
        .min();
    let (fields, target) = rest.split_at(start.ok_or("it names no target")?);
    IscsiName::try_from(target.to_owned())?;
    Address::try_from(address.trim_matches(['[', ']']).to_owned())?;
    let fields: Vec<&str> = fields.trim_end_matches(':').split(':').collect();
    let port = fields
        .get(1)
        .copied()
        .filter(|port| !port.is_empty())
        .unwrap_or("3260");
    let lun = fields
        .get(2..)
        .and_then(<[&str]>::last)
        .copied()
        .filter(|lun| !lun.is_empty())
        .unwrap_or("0");
    let (port, lun) = (
        port.parse::<u16>().map_err(|_| "its port is no number")?,
        lun.parse::<u16>().map_err(|_| "its LUN is no number")?,
    );
    let mut table = Table::default();
    table.text("target", target);
    table.text("portal", &format!("{address}:{port}"));
    table.raw("lun", lun.to_string());
    host.iscsi.push(table);
    if proof.is_empty() {
        return Ok(());
    }
    Err("its CHAP secret stands in the command line, readable by all: change it, and give it as `chap`".to_owned())
}

/// `ip=` of dracut.cmdline(7): `METHOD`, `INTERFACE:METHOD`, or with addresses.
fn ip(value: &str, host: &mut HostText) -> Result<(), String> {
    let fields: Vec<&str> = value.split(':').collect();
    let mut table = Table::default();
    match &*fields {
        [method] => {
            table.text("name", "*");
            table.text("dhcp", dhcp(method)?);
        }
        [name, method] => {
            table.text("name", name);
            table.text("dhcp", dhcp(method)?);
        }
        [address, _, gateway, mask, _, name, method, ..]
            if matches!(*method, "none" | "off" | "static" | "") =>
        {
            let length = prefix_length(mask).ok_or("its netmask is none")?;
            let address = format!("{address}/{length}");
            AddressWithPrefix::try_from(address.clone())?;
            table.text("name", if name.is_empty() { "*" } else { name });
            table.texts("address", &[address]);
            if !gateway.is_empty() {
                Address::try_from((*gateway).to_owned())?;
                table.texts("gateway", &[gateway]);
            }
        }
        _ => return Err("it is a form that is not taken: give [[network]]".to_owned()),
    }
    host.networks.push(table);
    Ok(())
}

fn dhcp(method: &str) -> Result<&'static str, String> {
    match method {
        "dhcp" | "on" | "single-dhcp" => Ok("ipv4"),
        "dhcp6" | "auto6" => Ok("ipv6"),
        "any" | "either6" => Ok("yes"),
        other => Err(format!("the method {other} is not taken: give [[network]]")),
    }
}

/// `24` or `255.255.255.0`.
fn prefix_length(mask: &str) -> Option<u32> {
    if let Ok(length) = mask.parse::<u32>() {
        return (length <= 128).then_some(length);
    }
    let mask = u32::from(mask.parse::<std::net::Ipv4Addr>().ok()?);
    (mask.leading_ones() + mask.trailing_zeros() == 32 || mask == u32::MAX)
        .then_some(mask.leading_ones())
}
