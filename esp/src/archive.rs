//! The cpio archives that systemd-stub and systemd-boot make of companions, byte for byte (systemd's
//! `cpio.c`; the format is newc, cpio(5)).
//!
//! ```text
//! stub   .extra | .extra/credentials | .extra/credentials/A | …/B | … | TRAILER!!!
//! boot   .extra | .extra/credentials | …/A | .extra | .extra/credentials | …/B | … | TRAILER!!!
//! ```
//!
//! The stub sorts the files and numbers inodes in each archive anew; the boot loader, which packs the
//! `extra` lines of an entry, keeps their order and has one sequence of inodes for all of them.

use std::ffi::OsStr;

use serde::Serialize;

use crate::Kind;
use crate::boot::File;

/// Which of the archives: who packs it, for whom, where it is unpacked, which PCR it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ArchiveKind {
    /// Credentials named by `extra` lines of a boot entry.
    EntryCredentials,
    /// Extensions named by `extra` lines.
    EntryExtensions,
    /// Confexts named by `extra` lines.
    EntryConfexts,
    /// Credentials beside the UKI.
    Credentials,
    /// Credentials for all UKIs.
    GlobalCredentials,
    /// Extensions beside the UKI.
    Extensions,
    /// Extensions for all UKIs.
    GlobalExtensions,
    /// Confexts beside the UKI.
    Confexts,
    /// Confexts for all UKIs.
    GlobalConfexts,
    /// Credentials in plain text that the initrd's systemd, 262 or later, trusts as it trusts itself. Neither stub nor
    /// boot loader makes it: only who puts the initrd together.
    System,
}

impl ArchiveKind {
    /// All that the boot loader and the stub make, in the order in which they are measured and handed to the kernel.
    pub const ALL: [Self; 9] = [
        Self::EntryCredentials,
        Self::EntryExtensions,
        Self::EntryConfexts,
        Self::Credentials,
        Self::GlobalCredentials,
        Self::Extensions,
        Self::GlobalExtensions,
        Self::Confexts,
        Self::GlobalConfexts,
    ];

    /// What the companions in it are.
    pub fn kind(self) -> Kind {
        match self {
            Self::EntryCredentials | Self::Credentials | Self::GlobalCredentials | Self::System => {
                Kind::Credential
            }
            Self::EntryExtensions | Self::Extensions | Self::GlobalExtensions => Kind::Extension,
            Self::EntryConfexts | Self::Confexts | Self::GlobalConfexts => Kind::Confext,
        }
    }

    /// Where it is unpacked in the initrd, without a leading slash.
    pub fn directory(self) -> &'static str {
        match self {
            Self::EntryCredentials | Self::Credentials => ".extra/credentials",
            Self::GlobalCredentials => ".extra/global_credentials",
            Self::EntryExtensions | Self::Extensions => ".extra/sysext",
            Self::GlobalExtensions => ".extra/global_sysext",
            Self::EntryConfexts | Self::Confexts => ".extra/confext",
            Self::GlobalConfexts => ".extra/global_confext",
            Self::System => ".extra/system_credentials",
        }
    }

    /// How the event log describes it.
    pub fn description(self) -> &'static str {
        match self {
            Self::EntryCredentials => "Entry credentials initrd",
            Self::EntryExtensions => "Entry system extension initrd",
            Self::EntryConfexts => "Entry configuration extension initrd",
            Self::Credentials => "Credentials initrd",
            Self::GlobalCredentials => "Global credentials initrd",
            Self::Extensions => "System extension initrd",
            Self::GlobalExtensions => "Global system extension initrd",
            Self::Confexts => "Configuration extension initrd",
            Self::GlobalConfexts => "Global configuration extension initrd",
            Self::System => "System credentials initrd",
        }
    }

    /// The PCR it is measured into: 13 for extensions, else 12.
    pub fn pcr(self) -> u32 {
        if self.kind() == Kind::Extension {
            13
        } else {
            12
        }
    }

    /// Whether the boot loader makes it.
    pub fn is_of_entry(self) -> bool {
        matches!(
            self,
            Self::EntryCredentials | Self::EntryExtensions | Self::EntryConfexts
        )
    }

    /// The kind of archive for what an `extra` line names, `None` for what the loader passes over. A
    /// plain `.raw`, which the stub takes, is not enough here.
    fn of_extra(name: &str) -> Option<Self> {
        match Kind::taken_by_stub(OsStr::new(name)).ok()? {
            Kind::Credential => Some(Self::EntryCredentials),
            Kind::Extension => name
                .to_ascii_lowercase()
                .ends_with(".sysext.raw")
                .then_some(Self::EntryExtensions),
            Kind::Confext => Some(Self::EntryConfexts),
            Kind::Addon => None,
        }
    }

    /// Permissions of the directory, then of a file.
    fn modes(self) -> (u32, u32) {
        if self.kind() == Kind::Credential {
            (0o500, 0o400)
        } else {
            (0o555, 0o444)
        }
    }
}

/// One archive and the files in it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Archive {
    /// Which one.
    pub kind: ArchiveKind,
    /// Its files in their order, by their path on the ESP.
    pub files: Vec<String>,
    bytes: Vec<u8>,
}

impl Archive {
    /// The archive, as the kernel unpacks and the TPM measures it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the stub makes of these files; `None` of none.
    ///
    /// ```
    /// use ukikit_esp::{Archive, ArchiveKind, File};
    ///
    /// let file = File::new("EFI/Linux/a.efi.extra.d/one.cred", b"text".to_vec());
    /// let archive = Archive::pack(ArchiveKind::Credentials, &[&file]).unwrap();
    /// assert_eq!(archive.as_bytes().len(), 520);
    /// assert_eq!(Archive::pack(ArchiveKind::Credentials, &[]), None);
    /// ```
    pub fn pack(kind: ArchiveKind, files: &[&File]) -> Option<Self> {
        let mut sorted = files.to_vec();
        // All names are ASCII, so this is the firmware's order of UTF-16 units.
        sorted.sort_by(|a, b| a.name().cmp(b.name()));
        let mut writer = Writer::new(kind);
        let mut inode = 0;
        writer.directories(&mut inode);
        for file in &sorted {
            writer.file(file, &mut inode);
        }
        writer.finish()
    }

    /// What the boot loader makes of the files that the `extra` lines of an entry name, in their order.
    /// Empty files and those of other kinds are passed over.
    pub fn pack_extras(files: &[&File]) -> Vec<Self> {
        let mut writers = [
            ArchiveKind::EntryCredentials,
            ArchiveKind::EntryExtensions,
            ArchiveKind::EntryConfexts,
        ]
        .map(Writer::new);
        let mut inode = 0;
        for file in files.iter().filter(|file| !file.content.is_empty()) {
            let Some(kind) = ArchiveKind::of_extra(file.name()) else {
                continue;
            };
            if let Some(writer) = writers.iter_mut().find(|writer| writer.kind == kind) {
                writer.directories(&mut inode);
                writer.file(file, &mut inode);
            }
        }
        writers.into_iter().filter_map(Writer::finish).collect()
    }
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Archive({:?}, {:?})", self.kind, self.files)
    }
}

/// An archive that grows.
struct Writer {
    kind: ArchiveKind,
    files: Vec<String>,
    bytes: Vec<u8>,
}

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

impl Writer {
    fn new(kind: ArchiveKind) -> Self {
        Self {
            kind,
            files: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Every directory on the way, each as a member of its own; only the last has the mode asked for.
    fn directories(&mut self, inode: &mut u32) {
        let path = self.kind.directory();
        let (mode, _) = self.kind.modes();
        for (end, _) in path.match_indices('/') {
            let parent = path.get(..end).unwrap_or_default();
            self.member(parent, DIRECTORY | 0o555, &[], inode);
        }
        self.member(path, DIRECTORY | mode, &[], inode);
    }

    fn file(&mut self, file: &File, inode: &mut u32) {
        let (_, mode) = self.kind.modes();
        let path = format!("{}/{}", self.kind.directory(), file.name());
        self.member(&path, REGULAR | mode, &file.content, inode);
        self.files.push(file.path.clone());
    }

    fn member(&mut self, path: &str, mode: u32, data: &[u8], inode: &mut u32) {
        *inode += 1;
        let (size, name_size) = (data.len(), path.len() + 1);
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}",
            0, 1
        );
        self.bytes.extend(header.bytes());
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Option<Archive> {
        if self.files.is_empty() {
            return None;
        }
        // A literal of systemd's: the only hexadecimal digit in upper case.
        self.bytes.extend(b"070701");
        for field in ["00000000"; 4] {
            self.bytes.extend(field.bytes());
        }
        self.bytes.extend(b"00000001");
        for field in ["00000000"; 6] {
            self.bytes.extend(field.bytes());
        }
        self.bytes.extend(b"0000000B00000000TRAILER!!!\0\0\0\0");
        Some(Archive {
            kind: self.kind,
            files: self.files,
            bytes: self.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &[u8]) -> File {
        File::new(path, content.to_vec())
    }

    /// The parts a program that unpacks it would look at.
    fn members(archive: &Archive) -> Vec<(String, String, String)> {
        let mut rest = archive.as_bytes();
        let mut found = Vec::new();
        while !rest.is_empty() {
            let field = |n: usize| str::from_utf8(&rest[6 + 8 * n..14 + 8 * n]).unwrap();
            let number = |n| usize::from_str_radix(field(n), 16).unwrap();
            let name_end = 110 + number(11);
            let data = name_end.next_multiple_of(4);
            let name = str::from_utf8(&rest[110..name_end - 1]).unwrap();
            found.push((field(0).into(), field(1).into(), name.into()));
            let next = (data + number(6)).next_multiple_of(4);
            rest = rest.get(next..).unwrap_or_default();
        }
        found
    }

    fn rows(rows: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
        rows.iter()
            .map(|(a, b, c)| (format!("000000{a}"), b.to_string(), c.to_string()))
            .collect()
    }

    #[test]
    fn the_stub_sorts_and_the_loader_does_not() {
        let (z, a) = (file("x/z.cred", b"z"), file("y/a.cred", b"abcde"));
        let stub = Archive::pack(ArchiveKind::Credentials, &[&z, &a]).unwrap();
        assert_eq!(
            members(&stub),
            rows(&[
                ("01", "0000416d", ".extra"),
                ("02", "00004140", ".extra/credentials"),
                ("03", "00008100", ".extra/credentials/a.cred"),
                ("04", "00008100", ".extra/credentials/z.cred"),
                ("00", "00000000", "TRAILER!!!"),
            ])
        );
        assert_eq!(stub.files, ["y/a.cred", "x/z.cred"]);

        let (raw, empty) = (file("plain.raw", b"raw"), file("e.cred", b""));
        let image = file("f.sysext.raw", b"image");
        let made = Archive::pack_extras(&[&z, &image, &raw, &empty, &a]);
        let kinds: Vec<_> = made.iter().map(|archive| archive.kind).collect();
        assert_eq!(
            kinds,
            [ArchiveKind::EntryCredentials, ArchiveKind::EntryExtensions]
        );
        assert_eq!(
            members(&made[0]),
            rows(&[
                ("01", "0000416d", ".extra"),
                ("02", "00004140", ".extra/credentials"),
                ("03", "00008100", ".extra/credentials/z.cred"),
                ("07", "0000416d", ".extra"),
                ("08", "00004140", ".extra/credentials"),
                ("09", "00008100", ".extra/credentials/a.cred"),
                ("00", "00000000", "TRAILER!!!"),
            ])
        );
        assert_eq!(
            members(&made[1])[2],
            rows(&[("06", "00008124", ".extra/sysext/f.sysext.raw")])[0]
        );
    }
}
