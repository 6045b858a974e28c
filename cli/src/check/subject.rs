//! One boot, with all the rules may look at.

use ukikit_creds::{BootFacts, BootPolicy, HostIdentity};
use ukikit_esp::{Boot, Error, Uki};
use ukikit_sysext::initrd::Facts;
use ukikit_sysext::{Certificate, Tree};

use super::Rehearsal;
use crate::model::Model;
use crate::{Base, PlannedBoot};

/// What is known beyond the ESP.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Circumstances {
    /// The firmware enforces Secure Boot, `None` if nobody said.
    pub secure_boot: Option<bool>,
    /// The machine's TPM.
    pub identity: Option<HostIdentity>,
    /// What images are for, where no UKI tells.
    pub base: Option<Base>,
    /// The systemd of the initrd, where its files do not tell.
    pub systemd: Option<u16>,
    /// Who is trusted for extensions beside the certificates in the initrd: by the kernel's keyrings.
    pub trusted: Vec<Certificate>,
    /// The time, in microseconds since 1970.
    pub now: u64,
    /// Whether the initrd's own programs are asked too.
    pub rehearse: bool,
}

/// What the initrd of a boot's UKI is, without its addons; none of a UKI that is not there.
///
/// # Errors
///
/// Why the UKI or its initrd cannot be read, as one sentence.
pub fn base_of(planned: &PlannedBoot) -> Result<Option<Base>, String> {
    let base = planned.uki().map(Base::of_uki).transpose();
    base.map_err(|error| format!("{error:#}"))
}

fn with_addons(base: Base, boot: &Boot<'_>) -> Base {
    let initrds = boot
        .addons
        .iter()
        .filter_map(|addon| addon.initrd.as_deref());
    base.with_addons(initrds)
}

/// One boot.
#[derive(Debug)]
#[non_exhaustive]
pub struct Subject<'a> {
    /// What it is called in findings: the UKI or the boot entry.
    pub label: String,
    /// What takes part.
    pub planned: &'a PlannedBoot,
    /// The `extra` lines of the entry.
    pub extras: &'a [String],
    /// How the stub plays it; an error when the UKI would not start.
    pub boot: Result<Boot<'a>, Error>,
    /// What the initrd makes of it.
    pub model: Model,
    /// What the initrd is, `None` without a UKI or when it cannot be read.
    pub base: Option<Base>,
    /// Why the UKI or its initrd cannot be read.
    pub fault: Option<String>,
    /// What the initrd's own programs did, if they were asked.
    pub rehearsal: Option<Rehearsal>,
    /// What is known beyond the ESP.
    pub circumstances: &'a Circumstances,
}

impl<'a> Subject<'a> {
    /// Plays the boot and looks into everything that takes part. `base` is what the initrd of the UKI is, or why it cannot be
    /// read. Nothing is an error here: the rules say it.
    pub fn new(
        label: String,
        planned: &'a PlannedBoot,
        extras: &'a [String],
        base: Result<Option<Base>, String>,
        circumstances: &'a Circumstances,
    ) -> Self {
        let uki = planned.uki().and_then(|file| Uki::parse(file).ok());
        let boot = Boot::new(uki.as_ref(), &planned.files, &planned.start);
        let (base, fault) = match (base, &boot) {
            (Ok(Some(base)), Ok(boot)) => (Some(with_addons(base, boot)), None),
            (Ok(base), _) => (base, None),
            (Err(fault), _) => (None, Some(fault)),
        };
        let base = base
            .or_else(|| circumstances.base.clone())
            .map(|base| base.trusting(&circumstances.trusted));
        let model = match &boot {
            Ok(boot) => Model::new(boot, &planned.files, base.as_ref()),
            Err(_) => Model::default(),
        };
        Self {
            label,
            planned,
            extras,
            boot,
            model,
            base,
            fault,
            rehearsal: None,
            circumstances,
        }
    }

    /// The kernel's command line, empty if it is not known.
    pub(super) fn command_line(&self) -> &str {
        let boot = self.boot.as_ref().ok();
        boot.and_then(|boot| boot.command_line.as_deref())
            .unwrap_or_default()
    }

    /// The last value of an option, with or without the `rd.` prefix.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        let options = self.command_line().split_ascii_whitespace();
        let mut values = options.filter_map(|option| {
            let option = option.strip_prefix("rd.").unwrap_or(option);
            option.strip_prefix(name)?.strip_prefix('=')
        });
        values.next_back()
    }

    /// Whether an option of yes or no says no.
    pub(super) fn is_off(&self, name: &str) -> bool {
        matches!(
            self.option(name),
            Some("no" | "n" | "false" | "f" | "off" | "0")
        )
    }

    /// What the files of the initrd tell.
    pub(super) fn facts(&self) -> Option<&Facts> {
        let initrd = self.base.as_ref()?.initrd.as_ref()?;
        Some(&initrd.facts)
    }

    /// The files of the initrd.
    pub(super) fn initrd(&self) -> Option<&Tree> {
        let initrd = self.base.as_ref()?.initrd.as_ref()?;
        Some(&initrd.tree)
    }

    /// The version of systemd in the initrd.
    pub(super) fn systemd(&self) -> Option<u16> {
        let told = self.facts().and_then(|facts| facts.systemd);
        let told = told.and_then(|version| u16::try_from(version).ok());
        told.or(self.circumstances.systemd)
    }

    /// Whether the boot refuses credentials under the null key.
    pub(super) fn refuses_null(&self) -> bool {
        let facts = BootFacts {
            secure_boot: self.circumstances.secure_boot == Some(true),
            tpm: true,
            first_boot: false,
        };
        !BootPolicy::from_command_line(self.command_line()).accepts_null(facts)
    }

    /// A section of the UKI as this boot sees it.
    pub(super) fn section(&self, name: &str) -> Option<&'a [u8]> {
        let uki = Uki::parse(self.planned.uki()?).ok()?;
        uki.section_in_profile(self.boot.as_ref().ok()?.profile, name)
    }

    /// Where findings about the UKI itself belong.
    pub(crate) fn uki(&self) -> &str {
        self.planned.uki_path.as_str()
    }
}
