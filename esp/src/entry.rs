//! A boot entry of type #1 as systemd-boot reads it (Boot Loader Specification; systemd's `boot.c`,
//! `boot_entry_add_type1`), as far as it decides what a UKI is started with.
//!
//! ```text
//! uki      /TOKEN/vendor.efi
//! profile  1
//! options  quiet
//! extra    /TOKEN/fstab.extra.cred
//! ```

/// What an entry says. Keys that do not matter to a UKI are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LoaderEntry {
    /// The path of the UKI, as written. `None` for an entry that starts something else.
    pub uki: Option<String>,
    /// The profile of the UKI.
    pub profile: u32,
    /// All `options`, joined by one space; not cleaned up any further.
    pub options: Option<String>,
    /// The paths of the `extra` lines, as written.
    pub extras: Vec<String>,
}

impl LoaderEntry {
    /// Reads an entry. Nothing is an error: what systemd-boot does not understand it passes over.
    ///
    /// ```
    /// let entry = ukikit_esp::LoaderEntry::parse(b"uki /a.efi\noptions  quiet \noptions splash\n");
    /// assert_eq!(entry.options.as_deref(), Some("quiet splash"));
    /// ```
    pub fn parse(file: &[u8]) -> Self {
        let text = String::from_utf8_lossy(file);
        // The loader reads a C string.
        let text = text.split('\0').next().unwrap_or_default();
        let mut entry = Self::default();
        for (key, value) in text.split(['\n', '\r']).filter_map(key_and_value) {
            entry.add(key, value);
        }
        entry
    }

    fn add(&mut self, key: &str, value: &str) {
        match key {
            "uki" => self.uki = Some(value.to_owned()),
            "profile" => self.profile = value.parse().unwrap_or(self.profile),
            "options" => match &mut self.options {
                Some(options) => *options = format!("{options} {value}"),
                None => self.options = Some(value.to_owned()),
            },
            "extra" => self.extras.push(value.to_owned()),
            _ => {}
        }
    }
}

/// A line without the blanks around key and value and without quotes around the value.
pub(crate) fn key_and_value(line: &str) -> Option<(&str, &str)> {
    const BLANKS: [char; 2] = [' ', '\t'];
    let line = line.trim_matches(BLANKS);
    if line.starts_with('#') {
        return None;
    }
    let (key, value) = line.split_once(BLANKS)?;
    let value = value.trim_start_matches(BLANKS);
    let unquoted = ['"', '\''].into_iter().find_map(|quote| {
        let value = value.strip_prefix(quote)?;
        value.strip_suffix(quote)
    });
    Some((key, unquoted.unwrap_or(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn reads_an_entry_as_the_loader_does() {
        let entry = LoaderEntry::parse(
            b"title lab\n# uki /no.efi\r\n uki \t /tok/multi.efi\nprofile 1\nversion 3\n\
              options   console=ttyS0  quiet \nextra /tok/z.cred\noptions  lab.opt=1\nextra \"/tok/a b.cred\"\nextra\n",
        );
        assert_eq!(
            entry,
            LoaderEntry {
                uki: Some("/tok/multi.efi".into()),
                profile: 1,
                options: Some("console=ttyS0  quiet lab.opt=1".into()),
                extras: vec!["/tok/z.cred".into(), "/tok/a b.cred".into()],
            }
        );
    }

    proptest! {
        /// Any bytes are an entry.
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = LoaderEntry::parse(&bytes);
        }
    }
}
