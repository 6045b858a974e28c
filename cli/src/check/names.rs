//! Rules about names and places: what the stub and the initrd leave alone before anybody looks inside.

use std::fs;
use std::path::Path;

use ukikit_esp::{Entry, Esp, Note, Target};

use super::Found;

/// What lies in the directories of companions, and the UKIs they belong to.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Listing {
    /// The files.
    pub entries: Vec<Entry>,
    /// The largest UKI or companion and its size in bytes.
    pub largest: Option<(String, u64)>,
    /// How many bytes the ESP still takes; `None` for what is no ESP.
    pub free: Option<u64>,
}

impl Listing {
    /// Of a whole ESP, or of what concerns one UKI.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn of(esp: &Esp, only: Option<&Target>) -> Result<Self, ukikit_esp::Error> {
        let mut entries = match only {
            None => esp.list(None)?,
            Some(target) => esp.list(Some(target)).or_else(|error| match error {
                ukikit_esp::Error::NoUki { .. } => Ok(Vec::new()),
                error => Err(error),
            })?,
        };
        if only.is_some_and(|target| *target != Target::Global) {
            entries.extend(esp.list(Some(&Target::Global))?);
        }
        Ok(Self {
            largest: largest(esp, &entries)?,
            free: Some(esp.free()?),
            entries,
        })
    }

    /// Of a directory that is no ESP: its files as companions of one UKI.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn of_directory(directory: &Path) -> Result<Self, ukikit_esp::Error> {
        let entries = Esp::at(directory)?.list_directory()?;
        Ok(Self {
            entries,
            ..Self::default()
        })
    }

    fn noted<'a>(&'a self, wanted: impl Fn(&Note) -> bool + 'a) -> impl Iterator<Item = &'a Entry> {
        self.entries
            .iter()
            .filter(move |entry| entry.note.as_ref().is_some_and(&wanted))
    }
}

fn largest(esp: &Esp, entries: &[Entry]) -> Result<Option<(String, u64)>, ukikit_esp::Error> {
    let ukis = esp.ukis()?.into_iter().filter_map(|uki| {
        let size = fs::metadata(esp.uki(&uki).ok()?).ok()?.len();
        Some((uki.to_string(), size))
    });
    let companions = entries.iter().map(|entry| (entry.path.clone(), entry.size));
    Ok(ukis.chain(companions).max_by_key(|(_, size)| *size))
}

/// Whether somebody meant it as a companion: it ends as one does.
fn looks_like_companion(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    [".cred", ".raw", ".addon.efi"]
        .iter()
        .any(|suffix| lower.ends_with(suffix))
}

pub(super) fn not_taken(listing: &Listing) -> Vec<Found> {
    let entries = listing.noted(|note| matches!(note, Note::Name(_) | Note::NotAFile));
    entries
        .filter(|entry| looks_like_companion(entry.name()))
        .map(|entry| {
            let reason = match &entry.note {
                Some(Note::Name(rule)) => rule.to_string(),
                _ => "it is not a regular file, and the stub skips it".to_owned(),
            };
            let remedy = "give it a name of ASCII characters that does not begin with a dot";
            Found::new(&entry.path, reason, remedy)
        })
        .collect()
}

pub(super) fn stray(listing: &Listing) -> Vec<Found> {
    let entries = listing.noted(|note| matches!(note, Note::Name(_) | Note::NotAFile));
    entries
        .filter(|entry| !looks_like_companion(entry.name()))
        .map(|entry| {
            let reason = "no boot looks at it: its name ends as no companion's does";
            Found::new(
                &entry.path,
                reason,
                "remove it, or give it the suffix of what it is",
            )
        })
        .collect()
}

pub(super) fn suffix_case(listing: &Listing) -> Vec<Found> {
    let entries = listing.noted(|note| matches!(note, Note::SuffixCase(_)));
    entries
        .filter_map(|entry| {
            let Some(Note::SuffixCase(suffix)) = entry.note else {
                return None;
            };
            let reason = "it is handed over and measured, and then ignored in the initrd";
            let remedy = format!("rename it: the suffix is {suffix}, in lower case");
            Some(Found::new(&entry.path, reason, remedy))
        })
        .collect()
}

pub(super) fn wrong_directory(listing: &Listing) -> Vec<Found> {
    let entries = listing.noted(|note| matches!(note, Note::BelongsIn(_)));
    entries
        .filter_map(|entry| {
            let Some(Note::BelongsIn(directory)) = entry.note else {
                return None;
            };
            let what = entry
                .kind
                .map_or("file".to_owned(), |kind| kind.to_string());
            let reason = format!("the stub does not look for a {what} here");
            Some(Found::new(
                &entry.path,
                reason,
                format!("move it to {directory}"),
            ))
        })
        .collect()
}

pub(super) fn counter(listing: &Listing) -> Vec<Found> {
    let entries = listing.noted(|note| matches!(note, Note::Counter));
    directories(entries)
        .map(|directory| {
            let reason = "the stub takes the boot counter out of the name it looks for";
            Found::new(
                directory,
                reason,
                "rename the directory: without the + and the numbers",
            )
        })
        .collect()
}

pub(super) fn no_uki(listing: &Listing) -> Vec<Found> {
    let entries = listing.noted(|note| matches!(note, Note::NoUki));
    directories(entries)
        .map(|directory| {
            let reason = "there is no UKI of that name, so nothing looks into it";
            Found::new(directory, reason, "remove it, or place the UKI")
        })
        .collect()
}

/// What is new is written beside what is there.
pub(super) fn space(listing: &Listing) -> Vec<Found> {
    let (Some((file, size)), Some(free)) = (&listing.largest, listing.free) else {
        return Vec::new();
    };
    if free >= *size {
        return Vec::new();
    }
    let reason =
        format!("it has {size} bytes and the ESP only {free} free, so it cannot be replaced");
    let remedy = "remove what no boot uses: ukikit esp gc";
    vec![Found::new(file, reason, remedy)]
}

/// Each directory once.
fn directories<'a>(entries: impl Iterator<Item = &'a Entry>) -> impl Iterator<Item = &'a str> {
    let mut found: Vec<&str> = entries
        .filter_map(|entry| Some(entry.path.rsplit_once('/')?.0))
        .collect();
    found.dedup();
    found.into_iter()
}

pub(super) fn case_clash(listing: &Listing) -> Vec<Found> {
    let mut rest = listing.entries.as_slice();
    let mut found = Vec::new();
    while let Some((entry, after)) = rest.split_first() {
        let alike = |other: &&Entry| other.path.eq_ignore_ascii_case(&entry.path);
        if let Some(other) = after.iter().find(alike) {
            let reason = format!("it differs from {} only in case", other.name());
            found.push(Found::new(
                &entry.path,
                reason,
                "rename one: FAT holds only one of them",
            ));
        }
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_file_has_to_find_room() {
        let mut listing = Listing {
            largest: Some(("EFI/Linux/a.efi".into(), 100)),
            free: Some(100),
            ..Listing::default()
        };
        assert_eq!(space(&listing), []);
        listing.free = Some(99);
        let reason = "it has 100 bytes and the ESP only 99 free, so it cannot be replaced";
        let remedy = "remove what no boot uses: ukikit esp gc";
        assert_eq!(
            space(&listing),
            [Found::new("EFI/Linux/a.efi", reason, remedy)]
        );
        listing.free = None;
        assert_eq!(space(&listing), []);
    }
}
