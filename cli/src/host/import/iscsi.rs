//! open-iscsi: the initiator's name, and the node record of the disk that the initrd logs in to.

use std::collections::BTreeMap;

use super::text::{HostText, Table, quoted};
use super::{Left, TextFile};
use crate::host::word::{Address, IscsiName, Token};

/// Lines `KEY = VALUE`; `#` begins a comment.
fn settings(text: &str) -> BTreeMap<&str, &str> {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.trim(), value.trim()))
        .filter(|(_, value)| *value != "<empty>")
        .collect()
}

/// Completes the target that the command line names, or takes the one that is started at boot.
pub(super) fn read(initiator: &str, nodes: &[TextFile], host: &mut HostText, left: &mut Vec<Left>) {
    let initiator = settings(initiator)
        .get("InitiatorName")
        .map(|name| (*name).to_owned());
    let named = host
        .iscsi
        .first()
        .and_then(|table| table.value("target"))
        .map(ToOwned::to_owned);
    let mut taken = false;
    for node in nodes {
        let record = settings(&node.text);
        let target = record.get("node.name").copied().unwrap_or_default();
        let wanted = match &named {
            Some(named) => *named == quoted(target),
            None => record.get("node.startup") == Some(&"onboot"),
        };
        if !wanted {
            continue;
        }
        if taken {
            left.push(Left::new(
                &node.path,
                "the extension logs in to one target at one portal",
            ));
            continue;
        }
        match target_of(&record, &node.path, host, left) {
            Ok(()) => taken = true,
            Err(reason) => left.push(Left::new(&node.path, reason)),
        }
    }
    for table in &mut host.iscsi {
        if let Some(name) = initiator.as_deref().filter(|_| !table.has("initiator")) {
            table.text("initiator", name);
        }
        if !table.has("initiator") {
            let place = "/etc/iscsi/initiatorname.iscsi";
            left.push(Left::new(
                place,
                "it names no initiator: give `initiator` in [[iscsi]]",
            ));
        }
    }
}

fn target_of(
    record: &BTreeMap<&str, &str>,
    path: &str,
    host: &mut HostText,
    left: &mut Vec<Left>,
) -> Result<(), String> {
    let value = |key: &str| record.get(key).copied().unwrap_or_default();
    let (target, address) = (value("node.name"), value("node.conn[0].address"));
    IscsiName::try_from(target.to_owned())?;
    Address::try_from(address.to_owned())?;
    let port = record.get("node.conn[0].port").copied().unwrap_or("3260");
    let port = port.parse::<u16>().map_err(|_| "its port is no number")?;
    let mut table = host.iscsi.pop().unwrap_or_default();
    table.text("target", target);
    let address = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    table.text("portal", &format!("{address}:{port}"));
    if let Some(group) = record
        .get("node.tpgt")
        .and_then(|group| group.parse::<u16>().ok())
        .filter(|group| *group != 1)
    {
        table.raw("tpgt", group.to_string());
    }
    let user = value("node.session.auth.username");
    if !user.is_empty() {
        chap(user, value("node.session.auth.username_in"), &mut table)?;
        let reason = "its secrets are not copied: put node.session.auth.password into the file iscsi.password, password_in into \
                      iscsi.password-in, both beside the host file and for their owner alone";
        left.push(Left::new(path, reason));
    }
    host.iscsi.push(table);
    Ok(())
}

fn chap(user: &str, user_in: &str, table: &mut Table) -> Result<(), String> {
    Token::try_from(user.to_owned())?;
    let mut chap = format!(
        "{{ user = {}, password = {{ file = \"iscsi.password\" }}",
        quoted(user)
    );
    if !user_in.is_empty() {
        Token::try_from(user_in.to_owned())?;
        chap.push_str(&format!(
            ", mutual = {{ user = {}, password = {{ file = \"iscsi.password-in\" }} }}",
            quoted(user_in)
        ));
    }
    chap.push_str(" }");
    table.raw("chap", chap);
    Ok(())
}
