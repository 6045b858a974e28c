//! The well-known credentials: who reads which, where, since when, what stands in it, and so in which encoding.
//!
//! Up to systemd 261 generators and PID 1 read an encrypted credential as raw bytes, services as Base64; from 262 on all
//! read Base64 (docs/credential.md, "Who reads what").

mod table;

use crate::content::{Content, Violation, check_unit_name};
use crate::credential::Name;
use crate::text::Encoding;

/// First systemd whose generators and PID 1 read Base64.
pub const BASE64_EVERYWHERE: u16 = 262;

/// Who decrypts a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A generator, before any unit runs.
    Generator,
    /// The service manager itself.
    Manager,
    /// A service, through `ImportCredential=` or its kin.
    Service,
}

impl Reader {
    /// Who reads a credential of this name: of those systemd does not know, a service.
    pub fn of(name: &Name) -> Self {
        WellKnown::find(name).map_or(Self::Service, |known| known.reader)
    }

    /// Whether it reads what came with the boot alone: encrypted, that is from the EFI system partition, never from a
    /// credential store.
    pub fn is_early(self) -> bool {
        matches!(self, Self::Generator | Self::Manager)
    }
}

/// Where a credential can act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acts {
    /// In the initrd, if the reader is in it.
    pub initrd: bool,
    /// On the host.
    pub host: bool,
    /// It can decide what becomes the root file system, or how.
    pub root: bool,
}

/// One entry of the catalog. At most one `*` in its pattern stands for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WellKnown {
    /// The name, or what is common to the names.
    pub pattern: &'static str,
    /// Who decrypts it.
    pub reader: Reader,
    /// The unit or program that is the reader.
    pub program: &'static str,
    /// Where it acts.
    pub acts: Acts,
    /// First systemd that knows it.
    pub since: u16,
    /// What its plaintext is.
    pub content: Content,
    /// What it does, in a line.
    pub about: &'static str,
    /// What goes wrong with this one in particular.
    pub trap: Option<&'static str>,
}

impl WellKnown {
    /// All entries, grouped by reader.
    pub fn all() -> impl Iterator<Item = Self> {
        table::READERS.iter().flat_map(|&(reader, program, rows)| {
            rows.iter()
                .map(move |&(pattern, since, acts, content, about)| Self {
                    pattern,
                    reader,
                    program,
                    acts,
                    since,
                    content,
                    about,
                    trap: table::TRAPS
                        .iter()
                        .find(|(of, _)| *of == pattern)
                        .map(|(_, trap)| *trap),
                })
        })
    }

    /// The entry for `name`, if systemd knows such a credential: the one that says most of the name.
    pub fn find(name: &Name) -> Option<Self> {
        Self::all()
            .filter(|entry| entry.fits(name.as_str()))
            .max_by_key(|entry| entry.pattern.len())
    }

    /// Checks that the reader will take this name and plaintext.
    ///
    /// # Errors
    ///
    /// The first rule that is broken. No text of the plaintext stands in it.
    pub fn check(&self, name: &Name, plaintext: &[u8]) -> Result<(), Violation> {
        self.check_name(name)?;
        self.content.check(plaintext)
    }

    /// Checks that the reader will take this name.
    ///
    /// # Errors
    ///
    /// The rule that is broken.
    pub fn check_name(&self, name: &Name) -> Result<(), Violation> {
        check_unit_name(name.as_str()).map_err(|what| Violation { line: None, what })
    }

    /// The encoding in which its reader takes it from the EFI system partition under this systemd.
    pub fn encoding(&self, systemd: u16) -> Encoding {
        if self.reader.is_early() && systemd < BASE64_EVERYWHERE {
            Encoding::Binary
        } else {
            Encoding::Base64
        }
    }

    fn fits(&self, name: &str) -> bool {
        match self.pattern.split_once('*') {
            Some((start, end)) => name
                .strip_prefix(start)
                .is_some_and(|rest| rest.ends_with(end)),
            None => name == self.pattern,
        }
    }
}

/// The encoding in which the reader of `name` takes it from the EFI system partition under this systemd. Names that are not
/// well-known are somebody's service's.
pub fn encoding(name: Option<&Name>, systemd: u16) -> Encoding {
    let entry = name.and_then(WellKnown::find);
    entry.map_or(Encoding::Base64, |entry| entry.encoding(systemd))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn generators_of_old_systemd_want_binary() {
        for (name, systemd, wanted) in [
            ("fstab.extra", 261, Encoding::Binary),
            ("fstab.extra", 262, Encoding::Base64),
            ("system.hostname", 257, Encoding::Binary),
            ("systemd.extra-unit.a.service", 257, Encoding::Binary),
            ("cryptsetup.passphrase", 257, Encoding::Base64),
            ("my.secret", 257, Encoding::Base64),
        ] {
            assert_eq!(
                encoding(Some(&name.parse().unwrap()), systemd),
                wanted,
                "{name} {systemd}"
            );
        }
        assert_eq!(encoding(None, 257), Encoding::Base64);
    }

    #[test]
    fn the_entry_that_says_most_is_found() {
        for (name, pattern) in [
            ("fstab.extra.initrd", Some("fstab.extra.initrd")),
            ("fstab.extra.other", None),
            ("network.wireguard.private.wg0", Some("network.wireguard.*")),
            ("wol.password", Some("wol.password")),
            ("10-eth.link.wol.password", Some("*.link.wol.password")),
            ("tty.serial.ttyS0.agetty.autologin", Some("tty.*")),
            ("network.conf.", Some("network.conf.*")),
            ("my.secret", None),
        ] {
            let found = WellKnown::find(&name.parse().unwrap());
            assert_eq!(found.map(|entry| entry.pattern), pattern, "{name}");
        }
    }

    #[test]
    fn the_table_is_sound() {
        let patterns: Vec<_> = WellKnown::all().map(|entry| entry.pattern).collect();
        let distinct: BTreeSet<_> = patterns.iter().collect();
        assert_eq!(patterns.len(), distinct.len());
        for (of, _) in table::TRAPS {
            assert!(patterns.contains(of), "{of}");
        }
        for entry in WellKnown::all() {
            assert!(entry.acts.initrd || entry.acts.host, "{entry:?}");
            assert!(entry.acts.initrd || !entry.acts.root, "{entry:?}");
            assert!((249..=262).contains(&entry.since), "{entry:?}");
        }
    }
}
