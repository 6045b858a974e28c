//! `ukikit addon inspect`

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use sha2::{Digest, Sha256};
use ukikit_esp::{AddonImage, Pe, Sbat};
use ukikit_sysext::{Kind, Tree, initrd};

use super::{SCHEMA, read_pe, usable};
use crate::output::{Json, Output};

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The addon, of any maker
    addon: PathBuf,
    /// How to print it
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl Inspect {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let bytes = read_pe(&self.addon)?;
        let addon = usable(&self.addon, AddonImage::parse(&bytes))?;
        let pe = usable(&self.addon, Pe::parse(&bytes).map_err(Into::into))?;
        let tree = addon.initrd.as_deref().map(initrd::read).transpose();
        let tree = tree.with_context(|| format!("the initrd in `{}`", self.addon.display()))?;
        let description = Description {
            schema: SCHEMA,
            size: bytes.len(),
            architecture: addon.architecture.name(),
            uname: addon.uname,
            cmdline: addon.cmdline,
            sbat: addon.sbat,
            sections: sections(&pe),
            initrd: tree.map(|tree| files(&tree)),
        };
        out.show(&description, self.json)
    }
}

fn sections(pe: &Pe<'_>) -> Vec<Section> {
    let describe = |(name, data): (&[u8], Option<&[u8]>)| Section {
        name: String::from_utf8_lossy(name).into_owned(),
        size: data.map(<[u8]>::len),
        sha256: data.map(|data| hex::encode(Sha256::digest(data))),
    };
    pe.sections().map(describe).collect()
}

fn files(tree: &Tree) -> Vec<File> {
    let entries = tree.iter().filter(|(_, entry)| !entry.is_directory());
    entries
        .map(|(path, entry)| {
            let (size, target) = match &entry.kind {
                Kind::File(content) => (Some(content.size()), None),
                Kind::Symlink(target) => (None, Some(String::from_utf8_lossy(target).into_owned())),
                _ => (None, None),
            };
            File {
                path: format!("/{}", String::from_utf8_lossy(path)),
                mode: format!("{:04o}", entry.mode),
                size,
                target,
            }
        })
        .collect()
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    schema: u32,
    /// Of the file, in bytes.
    size: usize,
    architecture: &'static str,
    uname: Option<String>,
    cmdline: Option<String>,
    sbat: Sbat,
    sections: Vec<Section>,
    /// What the initrd holds but directories.
    initrd: Option<Vec<File>>,
}

#[derive(Debug, Serialize)]
struct Section {
    name: String,
    size: Option<usize>,
    sha256: Option<String>,
}

#[derive(Debug, Serialize)]
struct File {
    path: String,
    mode: String,
    size: Option<u64>,
    target: Option<String>,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "size          {}", self.size)?;
        writeln!(f, "architecture  {}", self.architecture)?;
        for (title, text) in [("kernel", &self.uname), ("command line", &self.cmdline)] {
            if let Some(text) = text {
                writeln!(f, "{title:<13} {}", text.escape_debug())?;
            }
        }
        for entry in self.sbat.entries() {
            writeln!(f, "sbat          {entry}")?;
        }
        for section in &self.sections {
            let size = section
                .size
                .map_or("not in the file".to_owned(), |size| format!("{size} bytes"));
            writeln!(f, "section       {}, {size}", section.name.escape_debug())?;
        }
        self.initrd
            .iter()
            .flatten()
            .try_for_each(|file| writeln!(f, "initrd        {file}"))
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.escape_debug())?;
        match (self.size, &self.target) {
            (Some(size), _) => write!(f, ", {size} bytes, mode {}", self.mode),
            (None, Some(target)) => write!(f, " -> {}", target.escape_debug()),
            (None, None) => write!(f, ", mode {}", self.mode),
        }
    }
}
