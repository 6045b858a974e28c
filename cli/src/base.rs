//! What an extension is merged into: the initrd of a UKI, as far as its files tell.

use anyhow::{Context, Result};
use serde::Serialize;
use ukikit_esp::Uki;
use ukikit_sysext::erofs::Compression;
use ukikit_sysext::initrd::{self, Codec, Facts, Kernel};
use ukikit_sysext::{Architecture, Certificate, Certificates, Release, Tree};

/// What an image has to fit and to be signed by.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Base {
    /// The `os-release` of the initrd.
    pub release: Release,
    /// Those the initrd trusts for signatures of images.
    pub certificates: Certificates,
    /// The machine the UKI is for, if it says so in a word systemd knows.
    pub architecture: Option<Architecture>,
    /// The initrd and what it tells; `None` when all that is known is an `os-release` file.
    pub initrd: Option<Initrd>,
}

/// An initrd, unpacked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Initrd {
    /// Its files.
    pub tree: Tree,
    /// What they tell.
    pub facts: Facts,
    /// The kernel that boots it, as the UKI says it.
    pub uname: Option<String>,
}

/// What a UKI or an initrd tells, for `ukikit uki inspect`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Inspection {
    /// The machine of a UKI.
    pub architecture: Option<Architecture>,
    /// The kernel of a UKI, as `uname -r` says it.
    pub uname: Option<String>,
    /// The kernel command line of a UKI.
    pub cmdline: Option<String>,
    /// What the files of the initrd tell.
    #[serde(flatten)]
    pub facts: Facts,
}

impl Base {
    /// Reads it from the bytes of a UKI, an initrd or, when they are neither, an `os-release` file.
    ///
    /// # Errors
    ///
    /// As for each of them.
    pub fn of_file(bytes: &[u8]) -> Result<Self> {
        if bytes.starts_with(b"MZ") {
            return Self::of_uki(bytes);
        }
        if is_initrd(bytes) {
            return Self::of_initrd(bytes);
        }
        let release = Release::parse(bytes).ok();
        let release = release
            .filter(|release| release.value("ID").is_some())
            .context("it is neither a UKI nor an initrd, nor an os-release file with an ID")?;
        Ok(Self {
            release,
            certificates: Certificates::default(),
            architecture: None,
            initrd: None,
        })
    }

    /// Reads it from the bytes of a UKI.
    ///
    /// # Errors
    ///
    /// What keeps the UKI or its initrd from being read, or an initrd without an `os-release`.
    pub fn of_uki(file: &[u8]) -> Result<Self> {
        let uki = Uki::parse(file)?;
        let mut base = Self::of_initrd(uki.initrd()?)?;
        base.architecture = architecture(&uki);
        if let Some(initrd) = &mut base.initrd {
            initrd.uname = uname(&uki);
        }
        Ok(base)
    }

    /// Reads it from the bytes of an initrd.
    ///
    /// # Errors
    ///
    /// What keeps the initrd from being read, or one without an `os-release`.
    pub fn of_initrd(bytes: &[u8]) -> Result<Self> {
        let initrd = Initrd::read(bytes)?;
        let release = initrd.facts.release.clone();
        Ok(Self {
            release: release
                .context("the initrd has no os-release file, so no extension fits it")?,
            certificates: initrd.facts.certificates.clone(),
            architecture: None,
            initrd: Some(initrd),
        })
    }

    /// The same, with these trusted too, as by the keyrings of the kernel.
    #[must_use]
    pub fn trusting(mut self, more: &[Certificate]) -> Self {
        let all = self.certificates.iter().chain(more).cloned();
        self.certificates = Certificates::new(all.collect::<Vec<_>>());
        self
    }

    /// What it is with the initrds of addons, which the kernel unpacks over that of the UKI. One that cannot be read changes
    /// nothing.
    #[must_use]
    pub fn with_addons<'a>(&self, initrds: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut base = self.clone();
        for bytes in initrds {
            let Some(initrd) = &base.initrd else { continue };
            let Ok(tree) = initrd::read_over(initrd.tree.clone(), bytes) else {
                continue;
            };
            let Ok(facts) = Facts::of(&tree) else {
                continue;
            };
            base.certificates = facts.certificates.clone();
            base.release = facts.release.clone().unwrap_or(base.release);
            let uname = initrd.uname.clone();
            base.initrd = Some(Initrd { tree, facts, uname });
        }
        base
    }

    /// What every kernel that merges the extension reads, as small as that allows.
    pub fn compression(&self) -> Compression {
        let codecs = self
            .kernel()
            .and_then(|kernel| kernel.erofs_codecs.as_ref());
        if codecs.is_some_and(|codecs| codecs.contains(&Codec::Zstd)) {
            Compression::ZSTD
        } else {
            Compression::LZ4
        }
    }

    /// The kernel an extension will meet, if the base tells which.
    pub fn kernel(&self) -> Option<&Kernel> {
        let initrd = self.initrd.as_ref()?;
        initrd.facts.kernel(initrd.uname.as_deref())
    }
}

impl Initrd {
    /// Unpacks the bytes of an initrd.
    ///
    /// # Errors
    ///
    /// What keeps it from being read.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let tree = initrd::read(bytes).context("cannot read the initrd")?;
        let facts = Facts::of(&tree).context("cannot read the os-release file of the initrd")?;
        Ok(Self {
            tree,
            facts,
            uname: None,
        })
    }
}

impl Inspection {
    /// Reads the bytes of a UKI or an initrd, also of one that no extension fits.
    ///
    /// # Errors
    ///
    /// Bytes that are neither, or damaged.
    pub fn of_file(bytes: &[u8]) -> Result<Self> {
        if bytes.starts_with(b"MZ") {
            let uki = Uki::parse(bytes)?;
            return Ok(Self {
                architecture: architecture(&uki),
                uname: uname(&uki),
                cmdline: uki.cmdline().map(text),
                facts: Initrd::read(uki.initrd()?)?.facts,
            });
        }
        anyhow::ensure!(is_initrd(bytes), "it is neither a UKI nor an initrd");
        Ok(Self {
            architecture: None,
            uname: None,
            cmdline: None,
            facts: Initrd::read(bytes)?.facts,
        })
    }
}

fn architecture(uki: &Uki<'_>) -> Option<Architecture> {
    uki.architecture().and_then(|word| word.name().parse().ok())
}

fn uname(uki: &Uki<'_>) -> Option<String> {
    uki.uname().map(text)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

fn is_initrd(bytes: &[u8]) -> bool {
    INITRD_SIGNATURES
        .iter()
        .any(|signature| bytes.starts_with(signature))
}

/// How cpio archives start, and what they are compressed with: gzip, xz, zstd, bzip2, lz4, lzo, lzma.
const INITRD_SIGNATURES: [&[u8]; 9] = [
    b"070701",
    b"070702",
    &[0x1F, 0x8B],
    &[0xFD, b'7', b'z', b'X', b'Z'],
    &[0x28, 0xB5, 0x2F, 0xFD],
    b"BZh",
    &[0x02, 0x21, 0x4C, 0x18],
    &[0x89, b'L', b'Z', b'O'],
    &[0x5D, 0x00, 0x00],
];
