//! One boot of a UKI as systemd-boot and systemd-stub make it (systemd's `boot.c`, `stub.c`): which files
//! they take, what they hand to the kernel, and what they measure.
//!
//! ```text
//! BootFiles ─ boot ─ Boot { archives, addons, command line, measurements }
//! ```
//!
//! Everything is a value: what is on the ESP comes in, nothing is read or written here.

mod addon;
mod command_line;
mod measured;

use std::ffi::OsStr;

pub use addon::{Addon, AddonVerdict};
pub use measured::{Event, Measurement};

use ukikit_signing::Certificates;

use crate::{Archive, ArchiveKind, Error, Kind, Target, Uki, UkiPath};

/// A file of the ESP and all of its bytes.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct File {
    /// From the root of the ESP, as it is spelt there, without a leading slash.
    pub path: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

impl File {
    /// A file with this path and these bytes.
    pub fn new(path: impl Into<String>, content: Vec<u8>) -> Self {
        let path = path.into();
        Self { path, content }
    }

    /// The last part of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "File({}, {} bytes)", self.path, self.content.len())
    }
}

/// The files that take part in one boot: those in the directories the stub looks into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BootFiles {
    /// In the directory of the UKI's companions.
    pub own: Vec<File>,
    /// In `loader/credentials`.
    pub global_credentials: Vec<File>,
    /// In `loader/extensions`.
    pub global_extensions: Vec<File>,
    /// In `loader/addons`.
    pub global_addons: Vec<File>,
    /// What the `extra` lines of the boot entry name, in their order; those that are there.
    pub extras: Vec<File>,
}

impl BootFiles {
    /// All of them, each once.
    pub fn iter(&self) -> impl Iterator<Item = &File> {
        self.own
            .iter()
            .chain(&self.global_credentials)
            .chain(&self.global_extensions)
            .chain(&self.global_addons)
            .chain(&self.extras)
    }

    /// Puts a file where the stub looks for its kind, in place of one of that name.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] for a name that is no companion's.
    pub fn put(&mut self, target: &Target, name: &str, content: Vec<u8>) -> Result<(), Error> {
        let kind = name.parse::<crate::Name>()?.kind();
        let path = format!("{}/{name}", target.directory(kind));
        let files = self.directory(target, kind);
        files.retain(|file| !file.name().eq_ignore_ascii_case(name));
        files.push(File::new(path, content));
        Ok(())
    }

    /// Takes a file away, whether it is there or not.
    pub fn remove(&mut self, target: &Target, name: &str) {
        if let Ok(kind) = Kind::taken_by_stub(OsStr::new(name)) {
            self.directory(target, kind)
                .retain(|file| !file.name().eq_ignore_ascii_case(name));
        }
    }

    fn directory(&mut self, target: &Target, kind: Kind) -> &mut Vec<File> {
        match (target, kind) {
            (Target::Uki(_), _) => &mut self.own,
            (Target::Global, Kind::Credential) => &mut self.global_credentials,
            (Target::Global, Kind::Extension | Kind::Confext) => &mut self.global_extensions,
            (Target::Global, Kind::Addon) => &mut self.global_addons,
        }
    }

    /// The files that go into one archive.
    fn of(&self, kind: ArchiveKind) -> Vec<&File> {
        let directory = match kind {
            ArchiveKind::Credentials | ArchiveKind::Extensions | ArchiveKind::Confexts => &self.own,
            ArchiveKind::GlobalCredentials => &self.global_credentials,
            ArchiveKind::GlobalExtensions | ArchiveKind::GlobalConfexts => &self.global_extensions,
            _ => return Vec::new(),
        };
        taken(directory, kind.kind())
    }
}

/// The files the stub takes for this kind.
fn taken(files: &[File], kind: Kind) -> Vec<&File> {
    let of_kind = |file: &&File| Kind::taken_by_stub(OsStr::new(file.name())) == Ok(kind);
    files.iter().filter(of_kind).collect()
}

/// What the boot loader passes to the UKI, and what the firmware enforces.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Start {
    /// The profile chosen, 0 for the first.
    pub profile: u32,
    /// The `options` of a type #1 entry, joined by one space; `None` for a UKI the loader found by itself.
    pub options: Option<String>,
    /// Whether the firmware enforces Secure Boot: a UKI with a command line of its own then drops another, and addons
    /// have to be signed.
    pub secure_boot: bool,
    /// The signers whom the firmware's db or shim's list of keys has, by their own certificates. Empty: not known, and with
    /// Secure Boot every signature over the addon counts.
    pub db: Certificates,
    /// The `.uname` of a UKI that is not there yet.
    pub uname: Option<String>,
}

/// What comes of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Boot<'a> {
    /// The profile the stub boots: the one that was chosen, unless the options hold a control character.
    pub profile: u32,
    /// The archives of companions, in the order in which the kernel unpacks them; files of later ones
    /// take the place of earlier ones.
    pub archives: Vec<Archive>,
    /// Every addon with what the stub makes of it: global ones first.
    pub addons: Vec<Addon>,
    /// The kernel's command line; `None` when the UKI is not there to tell its own. What the firmware's SMBIOS adds is not in it.
    pub command_line: Option<String>,
    measurements: Vec<Measurement<'a>>,
}

impl<'a> Boot<'a> {
    /// Plays the boot. Without a UKI, which then is only planned, there is no PCR 11 and no command line.
    ///
    /// # Errors
    ///
    /// [`Error::NoProfile`] when the UKI has no such profile: it would not start.
    pub fn new(uki: Option<&Uki<'a>>, files: &BootFiles, start: &Start) -> Result<Self, Error> {
        let passed = command_line::passed(start.profile, start.options.as_deref());
        let (profile, received) = command_line::received(passed.as_deref());
        if let Some(uki) = uki {
            let profiles = uki.profiles();
            if usize::try_from(profile).is_ok_and(|profile| profile >= profiles) {
                return Err(Error::NoProfile { profile, profiles });
            }
        }
        let extras: Vec<&File> = files.extras.iter().collect();
        let mut archives = Archive::pack_extras(&extras);
        archives.extend(
            ArchiveKind::ALL
                .into_iter()
                .filter(|kind| !kind.is_of_entry())
                .filter_map(|kind| Archive::pack(kind, &files.of(kind))),
        );
        let uname = match uki {
            Some(uki) => uki.section_in_profile(profile, ".uname"),
            None => start.uname.as_deref().map(str::as_bytes),
        };
        let addons = [&files.global_addons, &files.own]
            .into_iter()
            .flat_map(|directory| addon::read(&taken(directory, Kind::Addon), uname, start))
            .collect();
        let mut boot = Self {
            profile,
            archives,
            addons,
            command_line: None,
            measurements: Vec::new(),
        };
        boot.measure(uki, start, received);
        Ok(boot)
    }

    /// What is measured from the boot loader up to the start of the kernel, into PCR 11, 12 and 13, in its order.
    pub fn measurements(&self) -> &[Measurement<'a>] {
        &self.measurements
    }

    /// The bytes that are measured.
    pub fn data<'b>(&'b self, measurement: &'b Measurement<'a>) -> &'b [u8] {
        measurement.data(&self.archives)
    }
}

/// The way to the UKI as a boot entry writes it.
impl UkiPath {
    /// Whether an entry's path, with a slash or backslash in front, means this UKI. FAT does not look at case.
    pub fn is_named_by(&self, entry: &str) -> bool {
        let path = entry.replace('\\', "/");
        let given: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        given.join("/").eq_ignore_ascii_case(self.as_str())
    }
}

#[cfg(test)]
mod tests;
