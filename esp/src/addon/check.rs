//! What firmware, shim and the stub would say of an addon, before they say it with silence.

use std::fmt;

use serde::Serialize;

use super::Sbat;
use crate::{Architecture, Error, FormatError, Pe, Uki};

/// The sections for which the stub uses an addon.
pub(super) const USEFUL: [&str; 5] = [".cmdline", ".dtb", ".dtbauto", ".initrd", ".ucode"];
/// Those it reads only since systemd 257.
const SINCE_257: [&str; 2] = [".initrd", ".ucode"];

/// What an addon will lie beside; what is not known is not checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddonTarget {
    /// The processor of the UKI.
    pub architecture: Option<Architecture>,
    /// Its kernel version.
    pub uname: Option<String>,
    /// The systemd version of its stub.
    pub stub: Option<u32>,
}

impl AddonTarget {
    /// As far as a UKI tells.
    pub fn of(uki: &Uki<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            architecture: uki.architecture(),
            uname: uki.uname().map(text),
            stub: uki.stub_version(),
        }
    }
}

/// One thing that speaks against an addon.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddonFinding {
    /// The firmware or shim would not load it.
    Layout(FormatError),
    /// Firmware with strict memory protection would not load it.
    NotNxCompatible,
    /// It is for another processor.
    OtherArchitecture {
        /// That of the addon, if systemd has a word for it.
        addon: Option<Architecture>,
        /// That of the UKI.
        uki: Architecture,
    },
    /// It has a kernel, so the stub takes it for a UKI.
    Kernel,
    /// It has none of the sections for which there are addons.
    NothingOfUse,
    /// It is for another kernel.
    OtherKernel {
        /// That of the addon.
        addon: String,
        /// That of the UKI.
        uki: String,
    },
    /// Its kernel version is not terminated, so it fits all versions that begin with it.
    OpenKernelVersion {
        /// What they begin with.
        prefix: String,
    },
    /// The stub is older than the section.
    OldStub {
        /// The section.
        section: &'static str,
        /// The version of the stub.
        version: u32,
    },
    /// Two sections of one name; the stub reads the first.
    Twice {
        /// The section.
        section: &'static str,
    },
    /// shim would not load it.
    Sbat {
        /// What is wrong with its rows.
        what: String,
    },
}

impl AddonFinding {
    /// Whether the addon would have no effect. The others are warnings: they matter on some machines only.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Layout(_)
            | Self::OtherArchitecture { .. }
            | Self::Kernel
            | Self::NothingOfUse
            | Self::OtherKernel { .. }
            | Self::OldStub { .. } => true,
            Self::NotNxCompatible
            | Self::OpenKernelVersion { .. }
            | Self::Twice { .. }
            | Self::Sbat { .. } => false,
        }
    }
}

impl fmt::Display for AddonFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(fault) => write!(f, "firmware would not load it: {fault}"),
            Self::NotNxCompatible => {
                f.write_str("it is not marked as NX compatible, which some firmware asks for")
            }
            Self::OtherArchitecture { addon, uki } => {
                let addon = addon.map_or("another processor", Architecture::name);
                write!(f, "it is for {addon}, the UKI for {}", uki.name())
            }
            Self::Kernel => f.write_str("it has a .linux section, so it is a UKI and no addon"),
            Self::NothingOfUse => {
                let (last, others) = USEFUL.split_last().unwrap_or((&"", &[]));
                write!(
                    f,
                    "it has none of {} and {last}, so the stub passes over it",
                    others.join(", ")
                )
            }
            Self::OtherKernel { addon, uki } => {
                write!(f, "it is for the kernel {addon}, the UKI has {uki}")
            }
            Self::OpenKernelVersion { prefix } => {
                write!(
                    f,
                    "its kernel version has no NUL at its end, so it fits every version that begins with {prefix}"
                )
            }
            Self::OldStub { section, version } => {
                write!(
                    f,
                    "its {section} section is read by systemd-stub 257 and later, the UKI has {version}"
                )
            }
            Self::Twice { section } => write!(
                f,
                "it has two {section} sections, and the stub reads the first"
            ),
            Self::Sbat { what } => write!(f, "shim would not load it: {what}"),
        }
    }
}

impl Serialize for AddonFinding {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("AddonFinding", 2)?;
        fields.serialize_field("refusal", &self.is_refusal())?;
        fields.serialize_field("what", &self.to_string())?;
        fields.end()
    }
}

/// All that speaks against an addon of any maker beside this UKI; signatures aside.
pub fn check_addon(file: &[u8], target: &AddonTarget) -> Vec<AddonFinding> {
    let layout = match crate::pe::check_layout(file) {
        Ok(layout) => layout,
        Err(fault) => return vec![AddonFinding::Layout(fault)],
    };
    let pe = match Pe::parse(file) {
        Ok(pe) => pe,
        Err(fault) => return vec![AddonFinding::Layout(fault)],
    };
    let mut findings = Vec::new();
    if !layout.nx_compat {
        findings.push(AddonFinding::NotNxCompatible);
    }
    findings.extend(check_fit(&pe, target));
    findings.extend(check_sections(&pe, target));
    findings.extend(check_sbat(&pe));
    findings
}

fn check_fit(pe: &Pe<'_>, target: &AddonTarget) -> Option<AddonFinding> {
    let (addon, uki) = (pe.architecture(), target.architecture?);
    (addon != Some(uki)).then_some(AddonFinding::OtherArchitecture { addon, uki })
}

fn check_sections(pe: &Pe<'_>, target: &AddonTarget) -> Vec<AddonFinding> {
    let mut findings = Vec::new();
    let filled = |name: &str| {
        pe.section_anywhere(name)
            .is_some_and(|data| !data.is_empty())
    };
    if filled(".linux") {
        findings.push(AddonFinding::Kernel);
    }
    if !USEFUL.into_iter().any(filled) {
        findings.push(AddonFinding::NothingOfUse);
    }
    for section in USEFUL.into_iter().chain([".uname", ".sbat"]) {
        if pe.count(section) > 1 && section != ".dtbauto" {
            findings.push(AddonFinding::Twice { section });
        }
    }
    if let Some(version) = target.stub.filter(|&version| version < 257) {
        let old = SINCE_257.into_iter().filter(|section| filled(section));
        findings.extend(old.map(|section| AddonFinding::OldStub { section, version }));
    }
    findings.extend(check_uname(pe, target));
    findings
}

/// The stub compares both texts up to the size of the section or the end of the first.
fn check_uname(pe: &Pe<'_>, target: &AddonTarget) -> Option<AddonFinding> {
    let section = pe
        .section_anywhere(".uname")
        .filter(|section| !section.is_empty())?;
    let (text, open) = match section.iter().position(|&byte| byte == 0) {
        Some(end) => (section.get(..end)?, false),
        None => (section, true),
    };
    let addon = String::from_utf8_lossy(text).into_owned();
    match &target.uname {
        Some(uki) if *uki == addon => None,
        Some(uki) if open && uki.as_bytes().starts_with(text) => {
            Some(AddonFinding::OpenKernelVersion { prefix: addon })
        }
        Some(uki) => Some(AddonFinding::OtherKernel {
            addon,
            uki: uki.clone(),
        }),
        None => open.then_some(AddonFinding::OpenKernelVersion { prefix: addon }),
    }
}

fn check_sbat(pe: &Pe<'_>) -> Option<AddonFinding> {
    let what = match pe.section_anywhere(".sbat").map(Sbat::parse) {
        None => "it has no .sbat section".to_owned(),
        Some(Err(Error::Sbat { what })) => format!("its .sbat section: {what}"),
        Some(Ok(sbat)) if sbat.has_policy() => return None,
        Some(_) => "its .sbat section has no row for `sbat`".to_owned(),
    };
    Some(AddonFinding::Sbat { what })
}
