//! Whether what is about to be made can reach its reader and be read there: what stands in the way, with the reason.
//!
//! Generators and PID 1 read encrypted credentials only as the boot stub delivered them. For their names a rule of the EFI
//! system partition is a refusal; services find theirs in credential stores and carriers too, so there it is a warning.

use ukikit_creds::catalog::WellKnown;
use ukikit_creds::{Kind, Name};

/// First systemd that imports a key sealed by arithmetic.
const IMPORT_SINCE: u16 = 255;
/// Most bytes that PID 1 takes from the EFI system partition, in one file as in all together.
const BUDGET: usize = 1024 * 1024;

/// What stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// It cannot work at all, rather than only in some ways of delivery.
    pub fatal: bool,
    /// The reason, as a sentence.
    pub reason: String,
    /// What to do about it.
    pub remedy: Option<&'static str>,
}

impl Objection {
    fn fatal(reason: String, remedy: Option<&'static str>) -> Self {
        Self {
            fatal: true,
            reason,
            remedy,
        }
    }

    fn warning(reason: String) -> Self {
        Self {
            fatal: false,
            reason,
            remedy: None,
        }
    }
}

/// A credential on its way.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The name it will be read under.
    pub name: Option<&'a Name>,
    /// How it is encrypted.
    pub kind: Kind,
    /// The systemd that will read it, if it is known.
    pub systemd: Option<u16>,
}

impl Delivery<'_> {
    /// Everything that stands in the way before a byte is encrypted.
    pub fn objections(&self) -> Vec<Objection> {
        let entry = self.name.and_then(WellKnown::find);
        let mut found: Vec<Objection> = self.too_old().into_iter().collect();
        if let (Some(name), Some(entry)) = (self.name, entry) {
            found.extend(self.unread(name, &entry));
            found.extend(self.wrong_key(name, &entry));
        }
        if let Some(name) = self.name {
            found.extend(unfit_for_esp(name, entry.as_ref()));
        }
        found
    }

    /// What stands in the way of a file of `size` bytes, encoded as it will lie on the EFI system partition.
    pub fn oversize(&self, size: usize) -> Option<Objection> {
        if size <= BUDGET {
            return None;
        }
        let reason = format!(
            "its file has {size} bytes, and PID 1 takes {BUDGET} from the EFI system partition, all credentials together"
        );
        Some(if self.is_early() {
            Objection::fatal(reason, None)
        } else {
            Objection::warning(reason)
        })
    }

    fn is_early(&self) -> bool {
        self.name
            .and_then(WellKnown::find)
            .is_some_and(|entry| entry.reader.is_early())
    }

    /// The type is newer than the reader.
    fn too_old(&self) -> Option<Objection> {
        let Kind {
            tpm,
            pinned,
            scoped,
            ..
        } = self.kind;
        let since = if tpm {
            self.kind.since().max(IMPORT_SINCE)
        } else {
            self.kind.since()
        };
        let target = self.systemd.filter(|target| *target < since)?;
        let remedy = match (pinned, scoped && since == self.kind.since()) {
            (true, _) => Some("give --pinned=no for what systemd 255 and later read"),
            (false, true) => Some("only systemd 256 and later scope credentials to a user"),
            (false, false) if tpm => Some(
                "it cannot import a key sealed outside its TPM: let systemd-creds encrypt on that host",
            ),
            _ => None,
        };
        let reason = format!(
            "systemd {target} cannot read a credential of type {}{}{}: it takes {since} or later",
            self.kind.with_key(),
            if scoped { ", scoped" } else { "" },
            if pinned { ", pinned" } else { "" },
        );
        Some(Objection::fatal(reason, remedy))
    }

    /// The name is newer than the reader.
    fn unread(&self, name: &Name, entry: &WellKnown) -> Option<Objection> {
        let target = self.systemd.filter(|target| *target < entry.since)?;
        let reason = format!(
            "systemd {target} does not read {name}: {} and later do",
            entry.since
        );
        Some(Objection::fatal(reason, None))
    }

    /// The key is one that the reader cannot have.
    fn wrong_key(&self, name: &Name, entry: &WellKnown) -> Option<Objection> {
        let Kind {
            host,
            signed,
            scoped,
            ..
        } = self.kind;
        if scoped {
            let reason =
                format!("{name} is read by the system, which opens no credential scoped to a user");
            return Some(Objection::fatal(reason, Some("leave --uid= out")));
        }
        if host && !entry.acts.host {
            let reason = format!("{name} is read in the initrd alone, which has no host secret");
            return Some(Objection::fatal(reason, Some("give --with-key=tpm2")));
        }
        if host && entry.acts.initrd {
            return Some(Objection::warning(format!(
                "{name} will open on the host alone: the initrd has no host secret"
            )));
        }
        let before_enter_initrd = signed && entry.reader.is_early() && entry.acts.initrd;
        before_enter_initrd.then(|| {
            Objection::warning(format!(
                "{name} is read before PCR 11 takes enter-initrd: the signatures must cover the phase before it"
            ))
        })
    }
}

fn unfit_for_esp(name: &Name, entry: Option<&WellKnown>) -> Option<Objection> {
    let rule = unfit_for_fat(name.as_str())?;
    Some(match entry {
        Some(entry) if entry.reader.is_early() => Objection::fatal(
            format!(
                "{name} is read from the EFI system partition alone, which cannot hold it: {rule}"
            ),
            None,
        ),
        _ => Objection::warning(format!(
            "the EFI system partition cannot hold {name}.cred: {rule}; a carrier or /etc/credstore.encrypted can"
        )),
    })
}

/// The rule that keeps `NAME.cred` from being a companion, if one does.
pub fn unfit_for_fat(name: &str) -> Option<String> {
    match format!("{name}.cred").parse::<ukikit_esp::Name>() {
        Err(ukikit_esp::Error::Name { rule, .. }) => Some(rule.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is objected to a credential of this name, key and target: `!` stands before what is fatal.
    fn objections(name: &str, with: &str, systemd: Option<u16>) -> Vec<String> {
        let name: Name = name.parse().unwrap();
        let mut kind = Kind::default();
        for word in with.split(' ') {
            match word {
                "host" => kind.host = true,
                "tpm" => kind.tpm = true,
                "signed" => kind.signed = true,
                "pinned" => kind.pinned = true,
                "scoped" => kind.scoped = true,
                _ => panic!("{word}"),
            }
        }
        let delivery = Delivery {
            name: Some(&name),
            kind,
            systemd,
        };
        let shown = |objection: Objection| {
            format!(
                "{}{}",
                if objection.fatal { "!" } else { "" },
                objection.reason
            )
        };
        delivery.objections().into_iter().map(shown).collect()
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        for (name, with, systemd, expected) in [
            ("my.secret", "tpm pinned", Some(262), vec![]),
            ("fstab.extra", "tpm", Some(257), vec![]),
            (
                "my.secret",
                "tpm pinned",
                Some(261),
                vec![
                    "!systemd 261 cannot read a credential of type tpm2, pinned: it takes 262 or later",
                ],
            ),
            (
                "my.secret",
                "tpm",
                Some(254),
                vec!["!systemd 254 cannot read a credential of type tpm2: it takes 255 or later"],
            ),
            (
                "my.secret",
                "host scoped",
                Some(255),
                vec![
                    "!systemd 255 cannot read a credential of type host, scoped: it takes 256 or later",
                ],
            ),
            ("my.secret", "host scoped", Some(256), vec![]),
            (
                "import.pull",
                "tpm",
                Some(256),
                vec!["!systemd 256 does not read import.pull: 257 and later do"],
            ),
            (
                "fstab.extra.initrd",
                "host tpm",
                None,
                vec!["!fstab.extra.initrd is read in the initrd alone, which has no host secret"],
            ),
            (
                "fstab.extra",
                "host tpm",
                None,
                vec!["fstab.extra will open on the host alone: the initrd has no host secret"],
            ),
            (
                "network.dns",
                "host scoped",
                None,
                vec![
                    "!network.dns is read by the system, which opens no credential scoped to a user",
                ],
            ),
            (
                "fstab.extra",
                "tpm signed",
                None,
                vec![
                    "fstab.extra is read before PCR 11 takes enter-initrd: the signatures must cover the phase before it",
                ],
            ),
            ("network.dns", "tpm signed", None, vec![]),
            (
                "systemd.extra-unit.a\\x2db.service",
                "tpm",
                None,
                vec![
                    "!systemd.extra-unit.a\\x2db.service is read from the EFI system partition alone, which cannot hold it: FAT cannot hold the character '\\\\'",
                ],
            ),
            (
                "a*",
                "tpm",
                None,
                vec![
                    "the EFI system partition cannot hold a*.cred: FAT cannot hold the character '*'; a carrier or /etc/credstore.encrypted can",
                ],
            ),
        ] {
            assert_eq!(
                objections(name, with, systemd),
                expected,
                "{name} {with} {systemd:?}"
            );
        }
    }

    #[test]
    fn the_budget_binds_what_comes_from_the_esp_alone() {
        for (name, fatal) in [("fstab.extra", true), ("my.secret", false)] {
            let name: Name = name.parse().unwrap();
            let delivery = Delivery {
                name: Some(&name),
                kind: Kind::default(),
                systemd: None,
            };
            assert_eq!(delivery.oversize(BUDGET), None);
            assert_eq!(
                delivery
                    .oversize(BUDGET + 1)
                    .map(|objection| objection.fatal),
                Some(fatal)
            );
        }
    }
}
