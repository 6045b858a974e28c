//! A host file being written: its tables with their keys, and how they look.

use std::fmt;

/// A table, with its keys and their values as TOML has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table(Vec<(&'static str, String)>);

impl Table {
    /// A text.
    pub(crate) fn text(&mut self, key: &'static str, value: &str) {
        self.raw(key, quoted(value));
    }

    /// A text that may be missing.
    pub(crate) fn text_if(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.text(key, value);
        }
    }

    /// Texts; none leave the key out.
    pub(crate) fn texts<T: AsRef<str>>(&mut self, key: &'static str, values: &[T]) {
        if !values.is_empty() {
            let values: Vec<String> = values.iter().map(|value| quoted(value.as_ref())).collect();
            self.raw(key, format!("[{}]", values.join(", ")));
        }
    }

    /// As it stands, in place of what the key had.
    pub(crate) fn raw(&mut self, key: &'static str, value: String) {
        match self.0.iter_mut().find(|(other, _)| *other == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(other, _)| *other == key)
    }

    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(other, _)| *other == key)
            .map(|(_, value)| value.as_str())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|(key, value)| writeln!(f, "{key} = {value}"))
    }
}

/// The host file of a system. `Display` is its text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostText {
    pub(crate) hostname: String,
    pub(crate) root: Table,
    pub(crate) mounts: Vec<Table>,
    pub(crate) nfs: Table,
    pub(crate) networks: Vec<Table>,
    pub(crate) iscsi: Vec<Table>,
    pub(crate) luks: Vec<Table>,
    /// Whether something needs the network without saying how it is reached.
    pub(crate) wants_network: bool,
}

impl HostText {
    pub(crate) fn needs_network(&self) -> bool {
        self.wants_network
            || !self.nfs.is_empty()
            || !self.iscsi.is_empty()
            || !self.networks.is_empty()
    }

    fn has_secrets(&self) -> bool {
        let secret =
            |table: &Table| table.has("chap") || table.has("key") || table.has("passphrase");
        self.iscsi.iter().chain(&self.luks).any(secret)
    }
}

impl fmt::Display for HostText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.hostname.is_empty() {
            writeln!(f, "hostname = {}", quoted(&self.hostname))?;
        }
        if self.has_secrets() {
            write!(f, "\n[seal]\nbind = \"none\"\n")?;
        }
        for (name, table) in [("root", &self.root), ("nfs", &self.nfs)] {
            if !table.is_empty() {
                write!(f, "\n[{name}]\n{table}")?;
            }
        }
        for (name, tables) in [
            ("mount", &self.mounts),
            ("network", &self.networks),
            ("iscsi", &self.iscsi),
            ("luks", &self.luks),
        ] {
            for table in tables {
                write!(f, "\n[[{name}]]\n{table}")?;
            }
        }
        Ok(())
    }
}

/// A basic string of TOML.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if char.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(char))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
