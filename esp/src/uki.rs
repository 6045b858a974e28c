//! A unified kernel image: the PE sections that make it one.

use crate::{Architecture, Error, Pe};

/// A UKI, borrowed from the bytes of its file.
///
/// ```no_run
/// let file = std::fs::read("/efi/EFI/Linux/vendor.efi").unwrap();
/// let uki = ukikit_esp::Uki::parse(&file)?;
/// println!("{} bytes of initrd", uki.initrd()?.len());
/// # Ok::<(), ukikit_esp::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Uki<'a> {
    pe: Pe<'a>,
}

impl<'a> Uki<'a> {
    /// Reads the section table of a UKI. Multi-profile UKIs are read as their base, profile 0.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] for what is not a PE file or a damaged one, [`Error::MissingSection`] for
    /// one without a kernel.
    pub fn parse(file: &'a [u8]) -> Result<Self, Error> {
        let pe = Pe::parse(file)?;
        let section = ".linux";
        if pe.section(section).is_none() {
            return Err(Error::MissingSection { section });
        }
        Ok(Self { pe })
    }

    /// The bytes of a section as systemd-stub measures them, by its name with the dot.
    pub fn section(&self, name: &str) -> Option<&'a [u8]> {
        self.pe.section(name)
    }

    /// The bytes of a section when this profile is booted, see [`Pe::section_in_profile`].
    pub fn section_in_profile(&self, profile: u32, name: &str) -> Option<&'a [u8]> {
        self.pe.section_in_profile(profile, name)
    }

    /// How many profiles can be chosen: one at least.
    pub fn profiles(&self) -> usize {
        self.pe.profiles()
    }

    /// The initrd: cpio archives, most often compressed.
    ///
    /// # Errors
    ///
    /// [`Error::MissingSection`] for a UKI without one.
    pub fn initrd(&self) -> Result<&'a [u8], Error> {
        let section = ".initrd";
        self.section(section)
            .ok_or(Error::MissingSection { section })
    }

    /// The os-release file of the UKI's vendor.
    pub fn osrel(&self) -> Option<&'a [u8]> {
        self.section(".osrel")
    }

    /// The kernel version, as `uname -r` says it.
    pub fn uname(&self) -> Option<&'a [u8]> {
        self.section(".uname").map(until_nul)
    }

    /// The kernel command line of the vendor.
    pub fn cmdline(&self) -> Option<&'a [u8]> {
        self.section(".cmdline").map(until_nul)
    }

    /// The version of systemd its stub is from, `None` if it does not say so.
    pub fn stub_version(&self) -> Option<u32> {
        let magic = str::from_utf8(until_nul(self.section(".sdmagic")?)).ok()?;
        let rest = magic.strip_prefix("#### LoaderInfo: systemd-stub ")?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    }

    /// The processor it is made for, `None` if systemd has no word for it.
    pub fn architecture(&self) -> Option<Architecture> {
        self.pe.architecture()
    }
}

/// The stub reads text sections as C strings.
fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pe::tests::pe_file;

    #[test]
    fn reads_the_parts_of_a_uki() {
        let file = pe_file(&[
            (".linux", b"kernel"),
            (".initrd", b"cpio"),
            (".osrel", b"ID=vendor\n"),
            (".uname", b"6.18.0\0\0"),
            (".cmdline", b"quiet"),
        ]);
        let uki = Uki::parse(&file).unwrap();
        assert_eq!(uki.initrd().unwrap(), b"cpio");
        assert_eq!(uki.osrel(), Some(&b"ID=vendor\n"[..]));
        assert_eq!(uki.uname(), Some(&b"6.18.0"[..]));
        assert_eq!(uki.cmdline(), Some(&b"quiet"[..]));
        assert_eq!(uki.section(".splash"), None);
        assert_eq!(uki.architecture(), Some(Architecture::X86_64));
    }

    #[test]
    fn says_what_is_missing() {
        let addon = pe_file(&[(".cmdline", b"quiet")]);
        assert_eq!(
            Uki::parse(&addon).unwrap_err().to_string(),
            "not a UKI: it has no .linux section"
        );
        let bare = pe_file(&[(".linux", b"kernel")]);
        assert_eq!(
            Uki::parse(&bare).unwrap().initrd().unwrap_err().to_string(),
            "not a UKI: it has no .initrd section"
        );
    }
}
