//! `ukikit ext list`

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use ukikit_sysext::{Entry, Kind, Tree, escape};

use super::{SCHEMA, files};
use crate::output::{Json, Output};

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The image: an extension of any maker, or a bare EROFS or squashfs
    image: PathBuf,
    /// Mode, owner, size and time too, and extended attributes
    #[arg(long, short)]
    long: bool,
    /// How to print it; JSON always has everything
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl List {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let tree = files::read(&self.image, true)?;
        let listed = Listed {
            schema: SCHEMA,
            image: &self.image,
            entries: rows(&tree),
            long: self.long,
        };
        out.show(&listed, self.json)
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    schema: u32,
    image: &'a Path,
    entries: Vec<Row>,
    #[serde(skip)]
    long: bool,
}

/// One path. Names, targets and attributes are shown as [`escape`] spells them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    path: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Octal.
    mode: String,
    uid: u32,
    gid: u32,
    /// Of a regular file, in bytes.
    size: Option<u64>,
    /// In seconds since 1970.
    mtime: i64,
    target: Option<String>,
    /// Major and minor number.
    device: Option<(u32, u32)>,
    /// The first path of the same file.
    hard_link: Option<String>,
    /// Values in hex.
    xattrs: BTreeMap<String, String>,
    #[serde(skip)]
    bits: u16,
}

/// All but the root.
fn rows(tree: &Tree) -> Vec<Row> {
    let mut first: BTreeMap<usize, &[u8]> = BTreeMap::new();
    let paths = tree.inodes().filter(|(path, ..)| !path.is_empty());
    paths
        .map(|(path, inode, entry)| {
            let known = *first.entry(inode).or_insert(path);
            row(path, entry, (known != path).then_some(known))
        })
        .collect()
}

fn row(path: &[u8], entry: &Entry, hard_link: Option<&[u8]>) -> Row {
    let xattrs = entry.xattrs.iter();
    Row {
        path: escape(path),
        kind: entry.kind.word(),
        mode: format!("{:04o}", entry.mode),
        uid: entry.uid,
        gid: entry.gid,
        size: match &entry.kind {
            Kind::File(content) => Some(content.size()),
            _ => None,
        },
        mtime: entry.mtime,
        target: match &entry.kind {
            Kind::Symlink(target) => Some(escape(target)),
            _ => None,
        },
        device: entry.kind.device(),
        hard_link: hard_link.map(escape),
        xattrs: xattrs
            .map(|(name, value)| (escape(name), hex::encode(value)))
            .collect(),
        bits: entry.mode,
    }
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.long {
            return self
                .entries
                .iter()
                .try_for_each(|row| writeln!(f, "{}", row.name()));
        }
        let width = |column: fn(&Row) -> String| {
            self.entries
                .iter()
                .map(|row| column(row).len())
                .max()
                .unwrap_or_default()
        };
        let (owner, size) = (width(Row::owner), width(Row::measure));
        for row in &self.entries {
            let (mode, time, name) = (row.permissions(), time(row.mtime), row.name());
            write!(
                f,
                "{mode}  {:<owner$}  {:>size$}  {time}  {name}",
                row.owner(),
                row.measure()
            )?;
            match (&row.target, &row.hard_link) {
                (Some(target), _) => writeln!(f, " -> {target}")?,
                (None, Some(first)) => writeln!(f, " link to {first}")?,
                (None, None) => writeln!(f)?,
            }
            for (name, value) in &row.xattrs {
                writeln!(f, "            {name}=0x{value}")?;
            }
        }
        Ok(())
    }
}

impl Row {
    /// The path, with a slash behind a directory's.
    fn name(&self) -> String {
        let slash = if self.kind == "directory" { "/" } else { "" };
        format!("{}{slash}", self.path)
    }

    fn owner(&self) -> String {
        format!("{}:{}", self.uid, self.gid)
    }

    /// Size of a file, numbers of a device.
    fn measure(&self) -> String {
        match (self.size, self.device) {
            (Some(size), _) => size.to_string(),
            (None, Some((major, minor))) => format!("{major},{minor}"),
            (None, None) => "-".into(),
        }
    }

    /// As ls(1) shows them.
    fn permissions(&self) -> String {
        let kind = match self.kind {
            "directory" => 'd',
            "symlink" => 'l',
            "char-device" => 'c',
            "block-device" => 'b',
            "fifo" => 'p',
            _ => '-',
        };
        let has = |bit: u16| self.bits & bit != 0;
        let mut shown = String::from(kind);
        for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
            shown.push(if has(0o4 << shift) { 'r' } else { '-' });
            shown.push(if has(0o2 << shift) { 'w' } else { '-' });
            shown.push(match (has(special), has(0o1 << shift)) {
                (true, true) => letter,
                (true, false) => letter.to_ascii_uppercase(),
                (false, true) => 'x',
                (false, false) => '-',
            });
        }
        shown
    }
}

/// In UTC; what no calendar has stays a number.
fn time(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time
            .to_zoned(TimeZone::UTC)
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        Err(_) => format!("@{seconds}"),
    }
}
