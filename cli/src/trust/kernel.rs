//! What a kernel's configuration tells of the keys by which dm-verity checks signatures (the kernel's
//! `drivers/md/Kconfig`, `security/integrity/Kconfig`).

use std::fmt;

use serde::Serialize;
use ukikit_sysext::{Kind, Tree};

/// By which keys the kernel accepts an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct KernelTrust {
    /// Where the configuration was found; `None` when it is not known, and with it nothing else is.
    pub configuration: Option<String>,
    /// Keys built into the kernel.
    pub built_in: Configured,
    /// Keys that one of those has signed.
    pub secondary: Configured,
    /// Certificates of the firmware's db, and of shim's list of machine owner keys.
    pub platform: Configured,
}

/// Whether something is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Configured {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// Nothing tells.
    Unknown,
}

const SIGNATURES: &str = "CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG";
const SECONDARY: &str = "CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG_SECONDARY_KEYRING";
const PLATFORM: [&str; 3] = [
    "CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG_PLATFORM_KEYRING",
    "CONFIG_INTEGRITY_PLATFORM_KEYRING",
    "CONFIG_LOAD_UEFI_KEYS",
];

/// In bytes; a configuration has a quarter of a megabyte.
const CONFIGURATION_MAX: usize = 4 << 20;

impl KernelTrust {
    /// Nothing is known.
    pub fn unknown() -> Self {
        Self {
            configuration: None,
            built_in: Configured::Unknown,
            secondary: Configured::Unknown,
            platform: Configured::Unknown,
        }
    }

    /// Reads a configuration, lines such as `CONFIG_A=y`.
    pub fn of_configuration(place: &str, text: &str) -> Self {
        let on = |name: &str| {
            text.lines().any(|line| {
                line.strip_prefix(name)
                    .is_some_and(|value| value == "=y" || value == "=m")
            })
        };
        let configured = |wanted: bool| {
            if wanted && on(SIGNATURES) {
                Configured::Yes
            } else {
                Configured::No
            }
        };
        Self {
            configuration: Some(place.to_owned()),
            built_in: configured(true),
            secondary: configured(on(SECONDARY)),
            platform: configured(PLATFORM.into_iter().all(on)),
        }
    }

    /// Looks for a configuration in an initrd, where a few distributions put it.
    pub fn of_initrd(tree: &Tree) -> Self {
        let is_configuration = |path: &str| {
            (path.starts_with("usr/lib/modules/") && path.ends_with("/config"))
                || path.starts_with("boot/config-")
        };
        for (path, entry) in tree.iter() {
            if let (Ok(path), Kind::File(content)) = (str::from_utf8(path), &entry.kind)
                && is_configuration(path)
                && let Ok(text) = content.read(CONFIGURATION_MAX)
            {
                return Self::of_configuration(
                    &format!("/{path}"),
                    &String::from_utf8_lossy(&text),
                );
            }
        }
        Self::unknown()
    }
}

impl fmt::Display for KernelTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(configuration) = &self.configuration else {
            return f.write_str(
                "its keyrings are not known: the UKI has no configuration of its kernel",
            );
        };
        let keyrings = [
            ("built-in keys", self.built_in),
            ("keys signed by those", self.secondary),
            ("db and MOK", self.platform),
        ];
        let taken: Vec<&str> = keyrings
            .into_iter()
            .filter(|(_, configured)| *configured == Configured::Yes)
            .map(|(keyring, _)| keyring)
            .collect();
        let taken = if taken.is_empty() {
            "no keys".to_owned()
        } else {
            taken.join(", ")
        };
        write!(f, "takes {taken} for dm-verity, says {configuration}")
    }
}
