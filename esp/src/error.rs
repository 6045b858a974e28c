//! What can go wrong on the boot partition.

use std::io;
use std::path::PathBuf;

use crate::Architecture;
use crate::companion::NameRule;
use crate::target::PathRule;
use crate::trial::NoTrial;

/// A file that is not what it should be, with the place where that shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {what}")]
#[non_exhaustive]
pub struct FormatError {
    /// Distance from the start of the file, in bytes.
    pub offset: u64,
    /// What is wrong there, lower case, without a full stop.
    pub what: String,
}

impl FormatError {
    pub(crate) fn new(offset: impl Into<u64>, what: impl Into<String>) -> Self {
        Self {
            offset: offset.into(),
            what: what.into(),
        }
    }
}

/// Why something on the boot partition could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image of a disk or partition without an ESP that can be read.
    #[error("cannot find an EFI system partition in `{path}`")]
    Image {
        /// The image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Bytes that are not a PE file, or a damaged one.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A signature that is not of this PE file, or not by who should have signed.
    #[error("the signature {what}")]
    PeSignature {
        /// The reason, behind "the signature".
        what: String,
    },
    /// A key or a certificate that cannot serve.
    #[error(transparent)]
    Signing(#[from] ukikit_signing::Error),
    /// A PE file that lacks a section it needs to be a UKI.
    #[error("not a UKI: it has no {section} section")]
    MissingSection {
        /// The name of the section, such as `.linux`.
        section: &'static str,
    },
    /// A profile the UKI does not have.
    #[error("the UKI has no profile {profile}, only {profiles} counted from 0")]
    NoProfile {
        /// The profile asked for.
        profile: u32,
        /// How many there are.
        profiles: usize,
    },
    /// An addon for a processor there is no code for.
    #[error("cannot make an addon for {}: only for x86-64 and arm64", architecture.name())]
    AddonArchitecture {
        /// The processor.
        architecture: Architecture,
    },
    /// A PE file for a processor systemd has no word for.
    #[error("it is made for a processor that systemd does not know")]
    UnknownArchitecture,
    /// An addon that carries nothing.
    #[error(
        "the addon would be empty: it needs a command line, an initrd, microcode or a devicetree"
    )]
    AddonEmpty,
    /// More than an addon may hold.
    #[error("the addon would hold more than {limit} bytes")]
    AddonTooLarge {
        /// In bytes.
        limit: usize,
    },
    /// A text section that the stub would not read as it is.
    #[error("the {section} section of the addon: {what}")]
    AddonText {
        /// Its name, such as `.cmdline`.
        section: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// Rows for revocation that shim would not read.
    #[error("the .sbat section: {what}")]
    Sbat {
        /// What is wrong with it.
        what: String,
    },
    /// A file name the stub, the initrd or FAT would not take.
    #[error("`{name}` cannot be a companion: {rule}")]
    Name {
        /// The file name as given.
        name: String,
        /// The rule it breaks.
        rule: NameRule,
    },
    /// A path that cannot be that of a UKI on a FAT file system.
    #[error("`{path}` cannot be the path of a UKI: {rule}")]
    UkiPath {
        /// The path as given.
        path: String,
        /// The rule it breaks.
        rule: PathRule,
    },
    /// No UKI lies where the target says.
    #[error("there is no UKI `{path}` on the ESP `{esp}`")]
    NoUki {
        /// The path on the ESP, as asked for.
        path: String,
        /// Where the ESP is mounted.
        esp: PathBuf,
    },
    /// Two file names that are one and the same to FAT.
    #[error("`{name}` and `{other}` differ only in case, which FAT does not tell apart")]
    CaseClash {
        /// The name that was to be placed.
        name: String,
        /// The name that is there, or is to be placed as well.
        other: String,
    },
    /// The same file name was given more than once.
    #[error("`{name}` is given twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A file larger than FAT can hold.
    #[error("`{name}` has {size} bytes, and a file on FAT holds at most 4294967295")]
    TooLarge {
        /// The file name.
        name: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A symbolic link, which FAT does not have and which could lead out of the ESP.
    #[error("`{path}` is a symbolic link, which is not followed")]
    SymbolicLink {
        /// Where it lies.
        path: PathBuf,
    },
    /// Something that should be a directory.
    #[error("`{path}` is not a directory")]
    NotADirectory {
        /// Where it lies.
        path: PathBuf,
    },
    /// Something that should be an ordinary file.
    #[error("`{path}` is not a regular file")]
    NotAFile {
        /// Where it lies.
        path: PathBuf,
    },
    /// The file system refused to read.
    #[error("cannot read `{path}`")]
    Read {
        /// What was read.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file system refused to write, rename or create.
    #[error("cannot write `{path}`")]
    Write {
        /// What was written.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file system refused to remove.
    #[error("cannot remove `{path}`")]
    Remove {
        /// What was to be removed.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file that something else has put there.
    #[error("`{path}` was not placed by ukikit, and what is not its own it leaves alone")]
    Foreign {
        /// Where it lies.
        path: PathBuf,
    },
    /// A file that no longer holds what ukikit put into it.
    #[error("`{path}` was changed by something else since ukikit placed it")]
    ChangedSince {
        /// Where it lies.
        path: PathBuf,
    },
    /// A change would take the room that has to stay free.
    #[error(
        "no room for the change: the ESP `{esp}` has {free} bytes free, of which {keep_free} have to stay so"
    )]
    NoRoom {
        /// Where the ESP is mounted.
        esp: PathBuf,
        /// What is free before the change, in bytes.
        free: u64,
        /// What a change has to leave free, in bytes.
        keep_free: u64,
    },
    /// Another process is changing the ESP.
    #[error("another process is changing the ESP `{esp}`")]
    Busy {
        /// Where the ESP is mounted.
        esp: PathBuf,
    },
    /// The ESP is not what the change was planned for.
    #[error("the ESP `{esp}` has changed since the change was planned")]
    Outdated {
        /// Where the ESP is mounted.
        esp: PathBuf,
    },
    /// An earlier change has to be finished or taken back first.
    #[error("a change of the ESP `{esp}` was interrupted and waits to be finished")]
    Interrupted {
        /// Where the ESP is mounted.
        esp: PathBuf,
    },
    /// A change failed, and so did taking it back.
    #[error("the change was interrupted, and the next one will finish it or take it back")]
    Unfinished {
        /// What failed first.
        source: Box<Error>,
    },
    /// Content that an interrupted change was to put in place, or back, is nowhere.
    #[error("the content for `{path}` is lost, and an interrupted change cannot be finished")]
    Lost {
        /// Where it should be.
        path: PathBuf,
    },
    /// What a power cut in the middle of a rename leaves on FAT until it is repaired.
    #[error(
        "`{path}` and `{other}` are one file with two names, as a power cut leaves them: run fsck.fat first"
    )]
    TwoNames {
        /// Where it should be.
        path: PathBuf,
        /// Where it was.
        other: PathBuf,
    },
    /// The medium does not give back what was written.
    #[error("`{path}` does not read back as it was written")]
    ReadBack {
        /// Where it lies.
        path: PathBuf,
    },
    /// A set of companions cannot be tried.
    #[error("no set of companions can be tried over `{uki}`: {why}")]
    Trial {
        /// The path of the UKI.
        uki: String,
        /// What is in the way.
        why: NoTrial,
    },
    /// No change is recorded.
    #[error("there is no change to undo on the ESP `{esp}`")]
    NothingToUndo {
        /// Where the ESP is mounted.
        esp: PathBuf,
    },
    /// The old content was given up.
    #[error("what `{path}` held before the last change was given up to free room")]
    UndoGone {
        /// Where it was.
        path: PathBuf,
    },
}
