//! A PE addon as a value: what systemd-stub takes beside a UKI (`load_addons` in systemd's `stub.c`).
//!
//! ```text
//! .text │ .sbat │ .uname │ .cmdline │ .ucode │ .dtb │ .initrd
//! ```
//!
//! The stub adds the command line, the devicetree, the microcode and the initrd to those of the UKI, if
//! `.uname` is that of the UKI or absent. Under Secure Boot the firmware loads it only when it is signed.

mod check;
mod sbat;
#[cfg(test)]
mod tests;

pub use check::{AddonFinding, AddonTarget, check_addon};
pub use sbat::{Sbat, SbatEntry};

use crate::pe::write;
use crate::{Architecture, Error, Pe};

/// What an addon carries.
///
/// ```
/// use ukikit_esp::{AddonImage, Architecture, Sbat};
///
/// let mut addon = AddonImage::new(Architecture::X86_64, Sbat::new("console", 1)?);
/// addon.cmdline = Some("console=ttyS0".to_owned());
/// let file = addon.to_bytes()?;
/// assert_eq!(AddonImage::parse(&file)?, addon);
/// # Ok::<(), ukikit_esp::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddonImage {
    /// The processor of the UKIs it is for.
    pub architecture: Architecture,
    /// What it may be revoked by.
    pub sbat: Sbat,
    /// The kernel it is for, as `uname -r` says it; `None` for all.
    pub uname: Option<String>,
    /// What is put behind the kernel's command line, with one space between.
    pub cmdline: Option<String>,
    /// A cpio archive with microcode, which the kernel reads in front of all others.
    pub ucode: Option<Vec<u8>>,
    /// A devicetree.
    pub dtb: Option<Vec<u8>>,
    /// Cpio archives, compressed or not, which the kernel unpacks behind all others.
    pub initrd: Option<Vec<u8>>,
}

impl AddonImage {
    /// One that carries nothing yet.
    pub fn new(architecture: Architecture, sbat: Sbat) -> Self {
        Self {
            architecture,
            sbat,
            uname: None,
            cmdline: None,
            ucode: None,
            dtb: None,
            initrd: None,
        }
    }

    /// The file, unsigned.
    ///
    /// # Errors
    ///
    /// [`Error::AddonEmpty`] when the stub would find nothing in it, [`Error::AddonText`] for a command line
    /// or kernel version that would not arrive as it is, [`Error::AddonArchitecture`] for a processor other
    /// than x86-64 and arm64, [`Error::AddonTooLarge`] over 1 GiB.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let sbat = self.sbat.to_string();
        // The stub compares as many bytes as the section has: without its NUL it would fit longer versions too.
        let uname = self.uname.as_ref().map(|text| format!("{text}\0"));
        for (section, text) in [(".uname", &self.uname), (".cmdline", &self.cmdline)] {
            if let Some(text) = text {
                check_text(section, text)?;
            }
        }
        let sections: Vec<(&'static str, &[u8])> = [
            (".sbat", Some(sbat.as_bytes())),
            (".uname", uname.as_deref().map(str::as_bytes)),
            (".cmdline", self.cmdline.as_deref().map(str::as_bytes)),
            (".ucode", self.ucode.as_deref()),
            (".dtb", self.dtb.as_deref()),
            (".initrd", self.initrd.as_deref()),
        ]
        .into_iter()
        .filter_map(|(name, data)| {
            data.filter(|data| !data.is_empty())
                .map(|data| (name, data))
        })
        .collect();
        if !sections
            .iter()
            .any(|(name, _)| check::USEFUL.contains(name))
        {
            return Err(Error::AddonEmpty);
        }
        write(self.architecture, &sections)
    }

    /// Reads an addon of any maker, as the stub would.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] for what firmware would not load or text that is none, [`Error::AddonArchitecture`]
    /// for a processor systemd has no word for, [`Error::Sbat`] for rows that are damaged.
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        crate::pe::check_layout(file)?;
        let pe = Pe::parse(file)?;
        let section = |name| pe.section_anywhere(name).filter(|data| !data.is_empty());
        let bytes = |name| section(name).map(<[u8]>::to_vec);
        Ok(Self {
            architecture: pe.architecture().ok_or(Error::UnknownArchitecture)?,
            sbat: Sbat::parse(section(".sbat").unwrap_or_default())?,
            uname: section(".uname")
                .map(|text| text_of(".uname", text))
                .transpose()?,
            cmdline: section(".cmdline")
                .map(|text| text_of(".cmdline", text))
                .transpose()?,
            ucode: bytes(".ucode"),
            dtb: bytes(".dtb"),
            initrd: bytes(".initrd"),
        })
    }
}

fn check_text(section: &'static str, text: &str) -> Result<(), Error> {
    let fault = |what: &str| {
        Err(Error::AddonText {
            section,
            what: what.to_owned(),
        })
    };
    match text {
        "" => fault("it is empty"),
        _ if text.trim() != text => fault("there is a space at its edge, which the stub removes"),
        _ if text.chars().any(char::is_control) => fault("a control character is in it"),
        _ => Ok(()),
    }
}

/// A text section up to its first NUL.
fn text_of(section: &'static str, bytes: &[u8]) -> Result<String, Error> {
    let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::AddonText {
        section,
        what: "it is not UTF-8".to_owned(),
    })
}
