//! The well-known credentials: who reads which, since when, and so in which encoding.
//!
//! Up to systemd 261 generators and PID 1 read an encrypted credential as raw bytes, services as Base64; from 262 on all
//! read Base64 (docs/credential.md, "Who reads what").

use crate::credential::Name;
use crate::text::Encoding;

/// First systemd whose generators and PID 1 read Base64.
const BASE64_EVERYWHERE: u16 = 262;

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

/// One entry of the catalog: a name, or all that begin with it when it ends in `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct WellKnown {
    /// The name or prefix.
    pub pattern: &'static str,
    /// Who decrypts it.
    pub reader: Reader,
    /// First systemd that knows it.
    pub since: u16,
}

impl WellKnown {
    /// The entry for `name`, if systemd knows such a credential.
    pub fn find(name: &Name) -> Option<Self> {
        CATALOG
            .iter()
            .map(|&(pattern, reader, since)| Self {
                pattern,
                reader,
                since,
            })
            .find(|entry| entry.fits(name.as_str()))
    }

    fn fits(&self, name: &str) -> bool {
        match self.pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == self.pattern,
        }
    }
}

/// The encoding in which the reader of `name` takes it from the ESP under this systemd. Names that are not well-known are
/// somebody's service's.
pub fn encoding(name: Option<&Name>, systemd: u16) -> Encoding {
    let reader = name
        .and_then(WellKnown::find)
        .map_or(Reader::Service, |entry| entry.reader);
    match reader {
        Reader::Generator | Reader::Manager if systemd < BASE64_EVERYWHERE => Encoding::Binary,
        _ => Encoding::Base64,
    }
}

use Reader::{Generator, Manager, Service};

/// systemd.system-credentials(7) of 262.
const CATALOG: [(&str, Reader, u16); 49] = [
    ("fstab.extra", Generator, 254),
    ("fstab.extra.initrd", Generator, 254),
    ("systemd.extra-unit.*", Generator, 256),
    ("systemd.unit-dropin.*", Generator, 256),
    ("import.pull", Generator, 257),
    ("ssh.listen", Generator, 256),
    ("getty.ttys.*", Generator, 254),
    ("getty.auto", Generator, 258),
    ("system.machine_id", Manager, 254),
    ("system.hostname", Manager, 254),
    ("vmm.notify_socket", Manager, 253),
    ("cryptsetup.*", Service, 256),
    ("pcrlock.*", Service, 256),
    ("network.network.*", Service, 256),
    ("network.netdev.*", Service, 256),
    ("network.link.*", Service, 256),
    ("network.conf.*", Service, 256),
    ("network.wireguard.*", Service, 256),
    ("network.dns", Service, 253),
    ("network.search_domains", Service, 253),
    ("network.hosts", Service, 252),
    ("udev.rules.*", Service, 256),
    ("udev.conf.*", Service, 256),
    ("tmpfiles.extra", Service, 252),
    ("sysusers.extra", Service, 252),
    ("sysctl.extra", Service, 252),
    ("vconsole.font_scale", Service, 262),
    ("vconsole.*", Service, 253),
    ("fsck.mode", Service, 258),
    ("fsck.repair", Service, 258),
    ("quotacheck.mode", Service, 258),
    ("journal.storage", Service, 256),
    ("journal.forward_to_socket", Service, 256),
    ("ssh.ephemeral-authorized_keys-all", Service, 256),
    ("ssh.authorized_keys.root", Service, 252),
    ("passwd.hashed-password.*", Service, 249),
    ("passwd.plaintext-password.*", Service, 249),
    ("passwd.shell.*", Service, 252),
    ("firstboot.*", Service, 252),
    ("login.*", Service, 252),
    ("agetty.*", Service, 254),
    ("tty.*", Service, 254),
    ("shell.*", Service, 257),
    ("home.create.*", Service, 256),
    ("home.register.*", Service, 258),
    ("home.add-signing-key.*", Service, 258),
    ("userdb.*", Service, 258),
    ("imds.*", Service, 261),
    ("wol.password", Service, 250),
];

#[cfg(test)]
mod tests {
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
}
