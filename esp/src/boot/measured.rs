//! What is measured before the kernel starts, in the order of systemd-boot and systemd-stub.

use std::fmt;

use serde::Serialize;

use super::addon::Addon;
use super::{Boot, Start, command_line};
use crate::{Archive, Uki};

/// How the event log names a measurement (TCG PC Client Platform Firmware Profile, "Event Types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Event {
    /// EV_IPL, with its description alone.
    Ipl,
    /// EV_EVENT_TAG, with this number in front of its description.
    Tag(u32),
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measurement<'a> {
    /// 11, 12 or 13.
    pub pcr: u32,
    /// How the event log names it.
    pub event: Event,
    /// What the event log says of it.
    pub description: String,
    /// The files of the ESP it comes from, in their order. Empty for what the UKI itself or the entry brings.
    pub files: Vec<String>,
    data: Data<'a>,
}

/// Where the measured bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Data<'a> {
    Own(Vec<u8>),
    Section(&'a [u8]),
    /// By its place in the list.
    Archive(usize),
}

impl<'a> Measurement<'a> {
    fn new(pcr: u32, event: Event, description: impl Into<String>, data: Data<'a>) -> Self {
        Self {
            pcr,
            event,
            description: description.into(),
            files: Vec::new(),
            data,
        }
    }

    fn text(pcr: u32, text: &str) -> Self {
        Self::new(pcr, Event::Ipl, text, Data::Own(command_line::utf16(text)))
    }

    fn from(mut self, files: impl IntoIterator<Item = String>) -> Self {
        self.files.extend(files);
        self
    }

    pub(super) fn data<'b>(&'b self, archives: &'b [Archive]) -> &'b [u8] {
        match &self.data {
            Data::Own(bytes) => bytes,
            Data::Section(bytes) => bytes,
            Data::Archive(at) => archives.get(*at).map(Archive::as_bytes).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Measurement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PCR {}: {}", self.pcr, self.description)?;
        match self.files.as_slice() {
            [] => Ok(()),
            files => write!(f, " ({})", files.join(", ")),
        }
    }
}

const KERNEL_BOOT: u32 = 11;
const KERNEL_CONFIG: u32 = 12;

/// systemd's `tpm2-pcr.h`.
const TAG_PROFILE: u32 = 0x13ae_d6db;
const TAG_DEVICETREE: u32 = 0x6c46_f751;
const TAG_UCODE: u32 = 0xdac0_8e1a;
const TAG_INITRD: u32 = 0x49df_fe0f;

/// The sections the stub measures, in its order (systemd's `uki.h`). `.pcrsig` is the one it reads and does not measure.
pub(super) const SECTIONS: [&str; 14] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat",
    ".pcrpkey", ".profile", ".dtbauto", ".hwids", ".efifw",
];

impl<'a> Boot<'a> {
    /// `received` is the command line the stub was passed, cleaned up.
    pub(super) fn measure(
        &mut self,
        uki: Option<&Uki<'a>>,
        start: &Start,
        received: Option<String>,
    ) {
        self.measure_archives(true);
        if let Some(passed) = command_line::passed(start.profile, start.options.as_deref()) {
            self.measurements
                .push(Measurement::text(KERNEL_CONFIG, &passed));
        }
        if self.profile != 0 {
            let number = self.profile.to_string();
            let data = Data::Own(command_line::utf16(&number));
            let event = Measurement::new(KERNEL_CONFIG, Event::Tag(TAG_PROFILE), number, data);
            self.measurements.push(event);
        }
        if let Some(uki) = uki {
            self.measure_sections(uki);
        }
        self.settle_command_line(uki, received, start.secure_boot);
        self.append_addons();
        self.measure_addons(TAG_DEVICETREE, |addon| addon.devicetree.clone(), false);
        self.measure_archives(false);
        self.measure_addons(TAG_UCODE, |addon| addon.ucode.clone(), true);
        self.measure_addons(TAG_INITRD, |addon| addon.initrd.clone(), false);
    }

    /// By the boot loader, or by the stub.
    fn measure_archives(&mut self, of_entry: bool) {
        for (at, archive) in self.archives.iter().enumerate() {
            if archive.kind.is_of_entry() == of_entry {
                let kind = archive.kind;
                let data = Data::Archive(at);
                let event = Measurement::new(kind.pcr(), Event::Ipl, kind.description(), data);
                self.measurements
                    .push(event.from(archive.files.iter().cloned()));
            }
        }
    }

    fn measure_sections(&mut self, uki: &Uki<'a>) {
        for name in SECTIONS {
            if let Some(section) = uki.section_in_profile(self.profile, name) {
                let with_nul = format!("{name}\0").into_bytes();
                for data in [Data::Own(with_nul), Data::Section(section)] {
                    let event = Measurement::new(KERNEL_BOOT, Event::Ipl, name, data);
                    self.measurements.push(event);
                }
            }
        }
    }

    /// The stub drops a passed line under Secure Boot if the UKI has its own; else it measures it.
    fn settle_command_line(
        &mut self,
        uki: Option<&Uki<'a>>,
        passed: Option<String>,
        secure_boot: bool,
    ) {
        let own = uki.and_then(|uki| uki.section_in_profile(self.profile, ".cmdline"));
        match passed.filter(|_| !(secure_boot && own.is_some())) {
            Some(line) => {
                self.measurements
                    .push(Measurement::text(KERNEL_CONFIG, &line));
                self.command_line = Some(line);
            }
            None if uki.is_some() => {
                self.command_line = Some(own.map(command_line::of_section).unwrap_or_default());
            }
            None => {}
        }
    }

    fn append_addons(&mut self) {
        let with_line = |addon: &&Addon| addon.command_line.is_some();
        let mut joined = String::new();
        let mut files = Vec::new();
        for addon in self.addons.iter().filter(with_line) {
            let line = addon.command_line.as_deref().unwrap_or_default();
            joined = command_line::append(&joined, line);
            files.push(addon.path.clone());
        }
        let joined = command_line::clean(&joined);
        if joined.is_empty() {
            return;
        }
        self.measurements
            .push(Measurement::text(KERNEL_CONFIG, &joined).from(files));
        if let Some(line) = &mut self.command_line {
            *line = command_line::append(line, &joined);
        }
    }

    fn measure_addons(&mut self, tag: u32, part: impl Fn(&Addon) -> Option<Vec<u8>>, back: bool) {
        let mut events: Vec<Measurement<'a>> = self
            .addons
            .iter()
            .filter_map(|addon| {
                let data = Data::Own(part(addon)?);
                let name = addon.path.rsplit('/').next().unwrap_or_default();
                let event = Measurement::new(KERNEL_CONFIG, Event::Tag(tag), name, data);
                Some(event.from([addon.path.clone()]))
            })
            .collect();
        if back {
            events.reverse();
        }
        self.measurements.extend(events);
    }
}
