//! What was sealed for a host, beside its file: with the keyed fingerprints of the values, so that a second run changes nothing.
//!
//! ```text
//! DIR/key          the key of the fingerprints, mode 0600
//! DIR/NAME.json    what stands on the ESP of the host file NAME.toml, as in the state of a fleet
//! ```

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rand_core::CryptoRng;

use super::file::directory;
use crate::fleet::{FingerprintKey, HostRecord, RECORD_SCHEMA, SealedCredential};

/// The state of one host file.
#[derive(Debug, Clone)]
pub struct State {
    directory: PathBuf,
    name: String,
}

/// Beside the host file.
const DIRECTORY: &str = ".ukikit-host";

impl State {
    /// In `directory`, or else beside the host file. It need not be there yet.
    pub fn of(host_file: &Path, given: Option<&Path>) -> Self {
        let name = host_file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let directory = given.map_or_else(|| directory(host_file).join(DIRECTORY), Path::to_owned);
        Self { directory, name }
    }

    /// What the host is called in records and fingerprints.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key of the fingerprints: the one there is, or a new one, which is not kept yet.
    ///
    /// # Errors
    ///
    /// A key that others can read, what the file system says.
    pub fn key(&self, rng: &mut impl CryptoRng) -> Result<FingerprintKey> {
        let known = FingerprintKey::read(&self.key_path())?;
        Ok(known.unwrap_or_else(|| FingerprintKey::random(rng)))
    }

    /// What an earlier run sealed. A damaged record is none: everything is sealed anew.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or a later version wrote it.
    pub fn record(&self) -> Result<Vec<SealedCredential>> {
        let path = self.path();
        let json = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.with_context(|| format!("cannot read `{}`", path.display()))?,
        };
        let Ok(record) = serde_json::from_slice::<HostRecord>(&json) else {
            return Ok(Vec::new());
        };
        let (shown, schema) = (path.display(), record.schema);
        ensure!(
            schema == RECORD_SCHEMA,
            "`{shown}` is of schema {schema}, this program writes {RECORD_SCHEMA}"
        );
        Ok(record.credentials)
    }

    /// Keeps the key, unless there is one.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn keep(&self, key: &FingerprintKey) -> Result<()> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory);
        made.with_context(|| format!("cannot make the directory `{}`", self.directory.display()))?;
        key.keep(&self.key_path())
    }

    /// Keeps what stands there now, beside the key.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn put(&self, credentials: Vec<SealedCredential>) -> Result<()> {
        let record = HostRecord {
            schema: RECORD_SCHEMA,
            host: self.name.clone(),
            credentials,
        };
        let json = serde_json::to_string_pretty(&record)? + "\n";
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(json.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(self.path())?;
            File::open(&self.directory)?.sync_all()
        };
        write().with_context(|| format!("cannot write `{}`", self.path().display()))
    }

    fn key_path(&self) -> PathBuf {
        self.directory.join("key")
    }

    fn path(&self) -> PathBuf {
        self.directory.join(format!("{}.json", self.name))
    }
}
