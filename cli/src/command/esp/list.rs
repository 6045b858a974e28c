//! `ukikit esp list`

use std::fmt;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use sha2::{Digest, Sha256};
use ukikit_creds::{Encoding, EncryptedCredential};
use ukikit_esp::{Entry, Esp, Kind, Owner, Target};

use super::{Root, Whose, hint_at_ukis};
use crate::output::{Json, Output};

#[derive(Debug, Args)]
#[command(mut_group("Whose", |group| group.required(false)))]
pub(crate) struct List {
    #[command(flatten)]
    root: Root,
    #[command(flatten)]
    whose: Option<Whose>,
    /// Print the companions as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl List {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let only = self.whose.map(Whose::target);
        for esp in self.root.open(only.as_ref())? {
            let entries = esp
                .list(only.as_ref())
                .map_err(|error| hint_at_ukis(error, &esp))?;
            let companions = entries.into_iter().map(|entry| row(entry, &esp)).collect();
            let listing = Listing {
                schema: 1,
                companions,
            };
            out.show(&listing, self.json)?;
        }
        Ok(())
    }
}

/// The companions of an ESP, as a table for people.
#[derive(Debug, Serialize)]
struct Listing {
    schema: u32,
    companions: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    target: Target,
    path: String,
    kind: Option<Kind>,
    size: u64,
    /// Of a credential, hexadecimal.
    sha256: Option<String>,
    /// Who has put it there: `ukikit`, `changed` by something else since, or `other`.
    owner: Owner,
    /// Why it has no effect, or not the one that is hoped for.
    note: Option<String>,
}

fn row(entry: Entry, esp: &Esp) -> Row {
    let file = match entry.kind {
        Some(Kind::Credential) => Some(esp.read(&entry.path)),
        _ => None,
    };
    let sha256 = match &file {
        Some(Ok(file)) => Some(hex::encode(Sha256::digest(file))),
        _ => None,
    };
    let note = match (entry.note, file) {
        (Some(note), _) => Some(note.to_string()),
        (None, Some(Ok(file))) => note_on_credential(&file),
        (None, Some(Err(_))) => Some("cannot be read".to_owned()),
        (None, None) => None,
    };
    Row {
        target: entry.target,
        path: entry.path,
        kind: entry.kind,
        size: entry.size,
        sha256,
        owner: entry.owner,
        note,
    }
}

fn note_on_credential(file: &[u8]) -> Option<String> {
    let damage = EncryptedCredential::parse(file, Encoding::Base64).err()?;
    if EncryptedCredential::parse(file, Encoding::Binary).is_ok() {
        return Some("binary, which initrds of systemd 262 and later do not read".to_owned());
    }
    Some(format!("not an encrypted credential: {damage}"))
}

impl Row {
    fn cells(&self) -> [String; 6] {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        [
            self.target.to_string(),
            self.kind.map_or("-".to_owned(), |kind| kind.to_string()),
            name.replace(char::is_control, "\u{fffd}"),
            self.size.to_string(),
            self.owner.to_string(),
            self.note.clone().unwrap_or_default(),
        ]
    }
}

const HEADINGS: [&str; 6] = ["TARGET", "KIND", "NAME", "SIZE", "OWNER", "NOTE"];

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.companions.is_empty() {
            return Ok(());
        }
        let mut table = vec![HEADINGS.map(str::to_owned)];
        table.extend(self.companions.iter().map(Row::cells));
        let mut widths = [0; 6];
        for row in &table {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let [target, kind, name, size, owner, _] = widths;
        for [t, k, n, s, o, note] in &table {
            let line = format!("{t:target$}  {k:kind$}  {n:name$}  {s:>size$}  {o:owner$}  {note}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
