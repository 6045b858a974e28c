//! What the TPM will show of a boot: PCR 11, 12 and 13 at every moment, and the events that lead there.
//!
//! ```text
//! ukikit_esp::Boot ─ Prediction ─┬─ points: moment → bank → PCR → value
//!                                └─ events, held against a real log by difference()
//! ```

mod difference;
mod format;
mod pcrlock;
mod programs;
mod secure_boot;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use rayon::prelude::*;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use ukikit_esp::{Bank, Boot, Event, Hash};

pub use difference::{Difference, Seen, difference};
pub use format::{phase_path, signature_policy};
pub use pcrlock::{PcrlockPolicy, Variant, pcrlock};
pub use programs::programs;
pub use secure_boot::secure_boot;

/// The PCRs the boot loader, the stub and the initrd measure into (systemd's `tpm2-pcr.h`), and those of the programs the
/// firmware starts and of Secure Boot.
pub const PCRS: [u32; 5] = [4, 7, 11, 12, 13];

/// Those that say nothing until something is measured into them: without the UKI, without knowing what starts it, without the
/// log of a boot.
const OPEN: [u32; 3] = [4, 7, 11];

/// A moment of the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Moment {
    /// The kernel starts: nothing in the initrd has run. So generators and PID 1 see the PCRs.
    AfterStub,
    /// `systemd-pcrphase-initrd.service` has extended PCR 11.
    EnterInitrd,
    /// `systemd-pcrosseparator.service`, where the initrd has it, has extended PCR 12 and 13, and others as well, 4 and 7 among them.
    OsSeparator,
    /// The initrd is left.
    LeaveInitrd,
    /// The host has its basic units.
    Sysinit,
    /// The host is up.
    Ready,
}

impl Moment {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [
        Self::AfterStub,
        Self::EnterInitrd,
        Self::OsSeparator,
        Self::LeaveInitrd,
        Self::Sysinit,
        Self::Ready,
    ];

    /// Its name in the output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AfterStub => "after-stub",
            Self::EnterInitrd => "enter-initrd",
            Self::OsSeparator => "os-separator",
            Self::LeaveInitrd => "leave-initrd",
            Self::Sysinit => "sysinit",
            Self::Ready => "ready",
        }
    }

    /// The word that is measured when it comes, and into which PCRs.
    fn measured(self) -> Option<(&'static [u32], &'static str)> {
        match self {
            Self::AfterStub => None,
            Self::OsSeparator => Some((&[4, 7, 12, 13], self.as_str())),
            _ => Some((&[11], self.as_str())),
        }
    }
}

/// The PCRs of a boot at each moment.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Prediction {
    /// By moment.
    pub points: Points,
    /// What is measured up to the start of the kernel, in its order.
    pub events: Vec<Predicted>,
}

/// The values at each moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Points(pub Vec<(Moment, Vec<(Bank, Registers)>)>);

/// PCRs and their values, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registers(pub Vec<(u32, Hash)>);

/// One measurement that will be made.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Predicted {
    /// Where to.
    pub pcr: u32,
    /// `EV_IPL` or `EV_EVENT_TAG`; in PCR 4 `EV_EFI_ACTION`, `EV_SEPARATOR` or `EV_EFI_BOOT_SERVICES_APPLICATION`; in
    /// PCR 7 what the log calls it, or `other`.
    #[serde(rename = "type")]
    pub event_type: &'static str,
    /// The tag of an `EV_EVENT_TAG`.
    pub tag: Option<u32>,
    /// What the event log says of it.
    pub description: String,
    /// The files of the ESP behind it.
    pub files: Vec<String>,
    /// How many bytes are measured.
    pub size: usize,
    /// Their hash, by bank.
    pub digests: Digests,
}

/// The hash of one measurement in every bank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests(pub Vec<(Bank, Hash)>);

impl Digests {
    /// In this bank.
    pub fn of(&self, bank: Bank) -> Option<&Hash> {
        let found = self.0.iter().find(|(known, _)| *known == bank);
        found.map(|(_, hash)| hash)
    }
}

impl Prediction {
    /// Measures a boot in these banks. Without the separator, which is for initrds without
    /// `systemd-pcrosseparator.service`, that moment does not come.
    pub fn new(boot: &Boot<'_>, banks: &[Bank], separator: bool) -> Self {
        Self::of(events(boot, banks), banks, separator)
    }

    /// The same with what the firmware measures: from [`programs`], from [`secure_boot`].
    #[must_use]
    pub fn with_firmware(self, mut measured: Vec<Predicted>) -> Self {
        let banks: Vec<Bank> = self.banks().collect();
        let mut moments = self.points.0.iter().map(|(moment, _)| *moment);
        let separator = moments.any(|moment| moment == Moment::OsSeparator);
        measured.extend(self.events);
        Self::of(measured, &banks, separator)
    }

    fn of(events: Vec<Predicted>, banks: &[Bank], separator: bool) -> Self {
        let moments = Moment::ALL
            .into_iter()
            .filter(|moment| separator || *moment != Moment::OsSeparator);
        let mut values: Vec<(Bank, Registers)> = banks
            .iter()
            .map(|&bank| (bank, Registers::after(&events, bank)))
            .collect();
        let points = moments.map(|moment| {
            if let Some((pcrs, word)) = moment.measured() {
                for (bank, registers) in &mut values {
                    registers.extend(*bank, pcrs, word);
                }
            }
            (moment, values.clone())
        });
        Self {
            points: Points(points.collect()),
            events,
        }
    }

    /// The banks, in the order in which they were asked for.
    pub fn banks(&self) -> impl Iterator<Item = Bank> {
        let first = self.points.0.first().into_iter();
        first.flat_map(|(_, banks)| banks.iter().map(|(bank, _)| *bank))
    }

    /// A value.
    pub fn value(&self, moment: Moment, bank: Bank, pcr: u32) -> Option<&Hash> {
        let (_, banks) = self.points.0.iter().find(|(at, _)| *at == moment)?;
        let (_, registers) = banks.iter().find(|(known, _)| *known == bank)?;
        let (_, value) = registers.0.iter().find(|(number, _)| *number == pcr)?;
        Some(value)
    }
}

/// Hashes everything in every bank, on all threads: the kernel of the UKI is most of it.
fn events(boot: &Boot<'_>, banks: &[Bank]) -> Vec<Predicted> {
    let measurements = boot.measurements();
    let data = measurements
        .iter()
        .enumerate()
        .map(|(at, measurement)| (at, boot.data(measurement)));
    let mut work: Vec<(usize, Bank, &[u8])> = data
        .flat_map(|(at, data)| banks.iter().map(move |&bank| (at, bank, data)))
        .collect();
    // What takes longest comes first, so that no thread is left with it at the end.
    work.sort_by_key(|(_, bank, data)| Reverse((data.len(), bank.size())));
    let hashed = work
        .into_iter()
        .par_bridge()
        .map(|(at, bank, data)| ((at, bank), bank.hash(&[data])));
    let hashes: BTreeMap<(usize, Bank), Hash> = hashed.collect();
    let digests = |at| {
        let of_bank = |&bank: &Bank| Some((bank, hashes.get(&(at, bank))?.clone()));
        Digests(banks.iter().filter_map(of_bank).collect())
    };
    measurements
        .iter()
        .enumerate()
        .map(|(at, measurement)| {
            let (event_type, tag) = match measurement.event {
                Event::Tag(tag) => ("EV_EVENT_TAG", Some(tag)),
                _ => ("EV_IPL", None),
            };
            Predicted {
                pcr: measurement.pcr,
                event_type,
                tag,
                description: measurement.description.clone(),
                files: measurement.files.clone(),
                size: boot.data(measurement).len(),
                digests: digests(at),
            }
        })
        .collect()
}

impl Registers {
    /// PCR 12 and 13, and the others as far as they are known.
    fn after(events: &[Predicted], bank: Bank) -> Self {
        let known = PCRS
            .into_iter()
            .filter(|pcr| !OPEN.contains(pcr) || events.iter().any(|event| event.pcr == *pcr));
        let value = |pcr| {
            let of_pcr = events.iter().filter(|event| event.pcr == pcr);
            of_pcr
                .filter_map(|event| event.digests.of(bank))
                .fold(bank.zero(), |value, hash| value.extended(bank, hash))
        };
        Self(known.map(|pcr| (pcr, value(pcr))).collect())
    }

    fn extend(&mut self, bank: Bank, pcrs: &[u32], word: &str) {
        let measured = bank.hash(&[word.as_bytes()]);
        for (_, value) in self.0.iter_mut().filter(|(pcr, _)| pcrs.contains(pcr)) {
            *value = value.extended(bank, &measured);
        }
    }
}

impl Serialize for Points {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (moment, banks) in &self.0 {
            map.serialize_entry(moment.as_str(), &Banks(banks))?;
        }
        map.end()
    }
}

struct Banks<'a>(&'a [(Bank, Registers)]);

impl Serialize for Banks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(bank, registers)| (bank, registers)))
    }
}

impl Serialize for Registers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.iter().map(|(pcr, value)| (pcr.to_string(), value));
        serializer.collect_map(text)
    }
}

impl Serialize for Digests {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(bank, hash)| (bank, hash)))
    }
}

impl fmt::Display for Predicted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:2}  {} ({} bytes)",
            self.pcr, self.description, self.size
        )?;
        self.files
            .iter()
            .try_for_each(|file| write!(f, "\n      {file}"))
    }
}

impl fmt::Display for Prediction {
    /// The events, then the values of the first bank at every moment where one changes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            writeln!(f, "{event}")?;
        }
        let mut before: Option<&Registers> = None;
        for (moment, banks) in &self.points.0 {
            let Some((bank, registers)) = banks.first() else {
                continue;
            };
            writeln!(f, "\n{}, {bank}", moment.as_str())?;
            for (pcr, value) in &registers.0 {
                if before.is_none_or(|before| !before.0.contains(&(*pcr, value.clone()))) {
                    writeln!(f, "{pcr:2}  {value}")?;
                }
            }
            before = Some(registers);
        }
        Ok(())
    }
}
