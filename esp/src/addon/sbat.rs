//! The `.sbat` section: names and generations by which shim refuses what was revoked (shim's `SBAT.md`).
//!
//! ```text
//! sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md
//! COMPONENT,GENERATION,vendor,package,version,address
//! ```
//!
//! shim refuses an image when it knows a component of it with a higher generation, or when there is no
//! `sbat` row. Firmware without shim does not look at it.

use std::fmt;

use serde::Serialize;

use crate::Error;

/// The rows of the section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Sbat {
    entries: Vec<SbatEntry>,
}

/// One component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SbatEntry {
    /// Its name, for all versions the same.
    pub component: String,
    /// Counts up with each revocation of what was before; 1 or more.
    pub generation: u32,
    /// Vendor, package, version, address: for people.
    pub rest: [String; 4],
}

/// The row that says by which rules the others are read.
const POLICY: &str = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md";
/// What stands in front of the name of an addon of ours.
const COMPONENT: &str = "uki-addon.";
/// Rows of a section; the largest in the field have about ten.
const ROWS_MAX: usize = 1000;

impl Sbat {
    /// The policy row, and the component `uki-addon.NAME` with this generation.
    ///
    /// # Errors
    ///
    /// [`Error::Sbat`] for a name with anything but ASCII letters, digits, `.`, `_`, `-`, or generation 0.
    pub fn new(name: &str, generation: u32) -> Result<Self, Error> {
        let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || !name.chars().all(good) {
            let what =
                format!("`{name}` cannot name a component: letters, digits, `.`, `_` and `-` can");
            return Err(Error::Sbat { what });
        }
        let row = format!(
            "{COMPONENT}{name},{generation},ukikit,{name},{generation},https://uapi-group.org/specifications/specs/unified_kernel_image/"
        );
        Self::parse(format!("{POLICY}\n{row}\n").as_bytes())
    }

    /// Puts a component behind the others, in place of one of the same name.
    pub fn add(&mut self, entry: SbatEntry) {
        self.entries
            .retain(|other| other.component != entry.component);
        self.entries.push(entry);
    }

    /// Reads a section; one that is empty has no rows.
    ///
    /// # Errors
    ///
    /// [`Error::Sbat`] for text that is not UTF-8 or a row that is not six fields with a generation.
    pub fn parse(section: &[u8]) -> Result<Self, Error> {
        let section = section.split(|&byte| byte == 0).next().unwrap_or_default();
        let text = str::from_utf8(section).map_err(|_| Error::Sbat {
            what: "it is not text".to_owned(),
        })?;
        let rows = text
            .lines()
            .map(str::trim_end)
            .filter(|row| !row.is_empty());
        let entries: Vec<SbatEntry> = rows.take(ROWS_MAX).map(entry).collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }

    /// All components, in their order.
    pub fn entries(&self) -> &[SbatEntry] {
        &self.entries
    }

    /// Whether shim finds the row it looks for first.
    pub fn has_policy(&self) -> bool {
        self.entries.iter().any(|entry| entry.component == "sbat")
    }
}

fn entry(row: &str) -> Result<SbatEntry, Error> {
    let fault = || Error::Sbat {
        what: format!(
            "the row `{}` is not NAME,GENERATION and four more fields",
            row.escape_debug()
        ),
    };
    let fields: Vec<&str> = row.split(',').collect();
    let [component, generation, rest @ ..] = &fields[..] else {
        return Err(fault());
    };
    let rest: [&str; 4] = rest.try_into().map_err(|_| fault())?;
    let generation = generation.parse().ok().filter(|&generation| generation > 0);
    let empty = component.is_empty() || rest.iter().any(|field| field.is_empty());
    let control = row.chars().any(char::is_control);
    match generation {
        Some(generation) if !empty && !control => Ok(SbatEntry {
            component: (*component).to_owned(),
            generation,
            rest: rest.map(str::to_owned),
        }),
        _ => Err(fault()),
    }
}

impl fmt::Display for SbatEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{},{},{}",
            self.component,
            self.generation,
            self.rest.join(",")
        )
    }
}

impl fmt::Display for Sbat {
    /// The section, each row with its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries
            .iter()
            .try_for_each(|entry| writeln!(f, "{entry}"))
    }
}
