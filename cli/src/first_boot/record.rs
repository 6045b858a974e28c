//! What was applied, so that it happens once: `applied.json` beside what was sealed for the host.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::policy::Origin;

/// Version of the JSON form; changes when a member changes its meaning or goes.
const SCHEMA: u32 = 1;
const NAME: &str = "applied.json";

/// One first boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Record {
    schema: u32,
    /// The instance.
    pub instance: String,
    /// Where its metadata came from.
    pub origin: Origin,
    /// Who signed it.
    pub signed_by: Option<String>,
}

impl Record {
    /// Of metadata that is being applied.
    pub fn new(instance: String, origin: Origin, signed_by: Option<String>) -> Self {
        Self {
            schema: SCHEMA,
            instance,
            origin,
            signed_by,
        }
    }

    /// The one in `directory`, if any.
    ///
    /// # Errors
    ///
    /// A damaged record: sources stay closed rather than open again.
    pub fn read(directory: &Path) -> Result<Option<Self>> {
        let path = path(directory);
        let json = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("cannot read `{}`", path.display()))?,
        };
        let record: Self = serde_json::from_slice(&json).ok().with_context(|| {
            format!(
                "`{}` is damaged: remove it to open the sources again",
                path.display()
            )
        })?;
        ensure!(
            record.schema == SCHEMA,
            "`{}` is of schema {}, this program writes {SCHEMA}",
            path.display(),
            record.schema
        );
        Ok(Some(record))
    }

    /// Keeps it; the directory is there.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn put(&self, directory: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(json.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path(directory))?;
            fs::File::open(directory)?.sync_all()
        };
        write().with_context(|| format!("cannot write `{}`", path(directory).display()))
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join(NAME)
}
