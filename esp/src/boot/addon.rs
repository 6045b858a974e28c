//! PE addons as the stub takes them (systemd's `stub.c`, `load_addons`).

use std::fmt;

use serde::Serialize;
use ukikit_signing::Certificates;

use super::{File, Start, command_line};
use crate::{Pe, SignablePe};

/// One addon and what the stub makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Addon {
    /// Its path on the ESP.
    pub path: String,
    /// Whether the stub uses it.
    pub verdict: AddonVerdict,
    /// Its command line after clean-up.
    pub command_line: Option<String>,
    /// An initrd that the kernel unpacks behind all others.
    pub initrd: Option<Vec<u8>>,
    /// Microcode for the processor.
    pub ucode: Option<Vec<u8>>,
    /// A devicetree, for machines that have one.
    pub devicetree: Option<Vec<u8>>,
}

/// Whether the stub uses an addon, or why it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AddonVerdict {
    /// It does.
    Taken,
    /// The file is no PE image, or a damaged one.
    NotPe,
    /// It is made for the UKI with another kernel.
    OtherKernel,
    /// It has a kernel, so it is a UKI.
    Uki,
    /// It has no section of use.
    Useless,
    /// Secure Boot wants a signature, and there is none.
    Unsigned,
    /// What is signed is another file: this one was changed.
    Changed,
    /// No signature is by a certificate of db.
    Untrusted,
}

impl fmt::Display for AddonVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Taken => "taken",
            Self::NotPe => "it is not a PE file",
            Self::OtherKernel => "its .uname is not that of the UKI",
            Self::Uki => "it has a .linux section, so it is a UKI",
            Self::Useless => "it has none of .cmdline, .dtb, .dtbauto, .initrd and .ucode",
            Self::Unsigned => "it is not signed, which Secure Boot requires",
            Self::Changed => "it was changed after it was signed",
            Self::Untrusted => "no given certificate of db is its signer's",
        })
    }
}

/// Judges the addons of one directory, in the stub's order.
pub(super) fn read(files: &[&File], uname: Option<&[u8]>, start: &Start) -> Vec<Addon> {
    let mut sorted = files.to_vec();
    sorted.sort_by(|a, b| a.name().cmp(b.name()));
    let judged = sorted.into_iter().map(|file| addon(file, uname, start));
    judged.collect()
}

fn addon(file: &File, uname: Option<&[u8]>, start: &Start) -> Addon {
    let mut addon = Addon {
        path: file.path.clone(),
        verdict: AddonVerdict::NotPe,
        command_line: None,
        initrd: None,
        ucode: None,
        devicetree: None,
    };
    let Ok(pe) = Pe::parse(&file.content) else {
        return addon;
    };
    addon.verdict = if start.secure_boot {
        signature(&file.content, &start.db)
    } else {
        AddonVerdict::Taken
    };
    if addon.verdict == AddonVerdict::Taken {
        addon.verdict = sections(&pe, uname);
    }
    if addon.verdict == AddonVerdict::Taken {
        let section = |name| pe.section_anywhere(name).map(<[u8]>::to_vec);
        addon.command_line = section(".cmdline").map(|text| command_line::of_section(&text));
        addon.initrd = section(".initrd");
        addon.ucode = section(".ucode");
        addon.devicetree = section(".dtbauto").or_else(|| section(".dtb"));
    }
    addon
}

const USEFUL: [&str; 5] = [".cmdline", ".dtb", ".dtbauto", ".initrd", ".ucode"];

/// What the firmware says of the file. It follows chains, too; here the certificate must be the signer's own.
fn signature(file: &[u8], db: &Certificates) -> AddonVerdict {
    // What has no room for a signature has none.
    let Ok(image) = SignablePe::parse(file) else {
        return AddonVerdict::Unsigned;
    };
    let Ok(digest) = image.digest(None) else {
        return AddonVerdict::Unsigned;
    };
    let digest = digest.as_bytes();
    let mut fitting = image
        .signatures()
        .iter()
        .filter(|signature| signature.is_over(digest))
        .peekable();
    if image.signatures().is_empty() {
        AddonVerdict::Unsigned
    } else if fitting.peek().is_none() {
        AddonVerdict::Changed
    } else if db.iter().next().is_some() && fitting.all(|one| one.check(digest, db).is_err()) {
        AddonVerdict::Untrusted
    } else {
        AddonVerdict::Taken
    }
}

/// What the stub says of it.
fn sections(pe: &Pe<'_>, uname: Option<&[u8]>) -> AddonVerdict {
    let has = |name| pe.section_anywhere(name).is_some();
    let other_kernel = match (uname, pe.section_anywhere(".uname")) {
        (Some(ours), Some(theirs)) => !same_up_to(ours, theirs),
        _ => false,
    };
    if !USEFUL.iter().any(|name| has(name)) {
        AddonVerdict::Useless
    } else if has(".linux") {
        AddonVerdict::Uki
    } else if other_kernel {
        AddonVerdict::OtherKernel
    } else {
        AddonVerdict::Taken
    }
}

/// The stub compares with `strncmp` up to the size of the addon's section: a shorter one fits as a prefix.
fn same_up_to(ours: &[u8], theirs: &[u8]) -> bool {
    let mut ours = ours.iter().copied().chain([0]);
    for &their in theirs {
        let our = ours.next().unwrap_or(0);
        if our != their {
            return false;
        }
        if our == 0 {
            return true;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_version_is_compared_as_the_stub_compares_it() {
        for (ours, theirs, same) in [
            ("6.18.0", "6.18.0", true),
            ("6.18.0", "6.18.0\0", true),
            ("6.18.0\0pad", "6.18.0\0other", true),
            ("6.18.0", "6.18", true),
            ("6.18", "6.18.0", false),
            ("6.18.0", "6.19.0", false),
        ] {
            assert_eq!(
                same_up_to(ours.as_bytes(), theirs.as_bytes()),
                same,
                "{ours:?} {theirs:?}"
            );
        }
    }
}
