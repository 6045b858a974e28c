//! The output directory. One worker writes one host, and no two hosts share a file.
//!
//! ```text
//! DIR/HOST/…                            the tree for the ESP of HOST
//! DIR/.ukikit-fleet/hosts/HOST.json     what stands in it
//! DIR/.ukikit-fleet/log.jsonl           who sealed what; log-I-of-N.jsonl for a shard
//! DIR/.ukikit-fleet/key                 of the fingerprints; the one thing not to be copied with the rest
//! DIR/.ukikit-fleet/tmp/HOST            a file on its way
//! DIR/.ukikit-fleet/trees/HOST          the tree of a new host on its way
//! ```
//!
//! Files are written aside and renamed; the host's record comes last, so that an interrupted host is done again. Nothing is
//! flushed one by one: [`Store::sync`] does so once. What a power cut damages before that no longer has the hash in the record.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock, syncfs};
use serde::Serialize;

use super::encrypt::Shard;
use super::record::{HostRecord, SCHEMA, SealedCredential};

const STATE: &str = ".ukikit-fleet";

/// An output directory of `ukikit fleet`.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store in this directory, which need not be there yet.
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Where the key of the fingerprints is unless told otherwise.
    pub fn key_path(&self) -> PathBuf {
        self.state("key")
    }

    /// Makes the directories that all hosts share; the state is its owner's alone.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn create(&self) -> Result<()> {
        for directory in [
            self.root.clone(),
            self.state(""),
            self.state("hosts"),
            self.state("tmp"),
            self.state("trees"),
        ] {
            let mut builder = DirBuilder::new();
            let mode = if directory == self.root { 0o777 } else { 0o700 };
            let made = builder.recursive(true).mode(mode).create(&directory);
            made.with_context(|| format!("cannot make the directory `{}`", directory.display()))?;
        }
        Ok(())
    }

    /// What was sealed for `host`. A damaged record, as a power cut leaves it, is none: the host will be done again.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or a later version wrote it.
    pub fn record(&self, host: &str) -> Result<Option<HostRecord>> {
        let path = self.record_path(host);
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read `{}`", path.display()));
            }
        };
        let record = serde_json::from_slice::<HostRecord>(&json).ok();
        if let Some(record) = record.as_ref().filter(|record| record.schema != SCHEMA) {
            bail!(
                "`{}` is of schema {}, this program writes {SCHEMA}",
                path.display(),
                record.schema
            );
        }
        Ok(record)
    }

    /// The hosts that have a record, sorted.
    ///
    /// # Errors
    ///
    /// When the directory is there and cannot be read.
    pub fn recorded_hosts(&self) -> Result<Vec<String>> {
        let directory = self.state("hosts");
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let entries = entries.with_context(|| format!("cannot read `{}`", directory.display()))?;
        let names = entries
            .iter()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut hosts: Vec<String> = names
            .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
            .collect();
        hosts.sort();
        Ok(hosts)
    }

    /// How many credentials the record of `host` names; a damaged record names none.
    ///
    /// # Errors
    ///
    /// When there is no such host, or its record cannot be read.
    pub(super) fn count(&self, host: &str) -> Result<usize> {
        if host.contains('/') || !self.record_path(host).exists() {
            bail!("`{}` has no host {host:?}", self.root.display());
        }
        let record = self.record(host)?;
        Ok(record.map_or(0, |record| record.credentials.len()))
    }

    /// Takes a host out: its tree, what was on its way, and its record.
    ///
    /// # Errors
    ///
    /// When something cannot be removed.
    pub(super) fn remove_host(&self, host: &str) -> Result<()> {
        let record = self.record_path(host);
        let tree = self.root.join(host);
        // The record last: an interrupted removal can be repeated.
        absent_is_fine(fs::remove_dir_all(&tree))
            .with_context(|| format!("cannot remove `{}`", tree.display()))?;
        absent_is_fine(fs::remove_file(self.state("tmp").join(host)))?;
        absent_is_fine(fs::remove_dir_all(self.state("trees").join(host)))?;
        fs::remove_file(&record).with_context(|| format!("cannot remove `{}`", record.display()))
    }

    /// Whether the file of `sealed` stands in the tree as it was written.
    pub(crate) fn holds(&self, host: &str, sealed: &SealedCredential) -> bool {
        fs::read(self.root.join(host).join(&sealed.path)).is_ok_and(|file| sealed.is(&file))
    }

    /// Puts files into the tree of `host`: all at once when it has no tree yet, else each in turn.
    pub(crate) fn put<'f>(
        &self,
        host: &str,
        files: impl Iterator<Item = (&'f str, &'f [u8])> + Clone,
    ) -> Result<()> {
        let tree = self.root.join(host);
        if !tree.exists() {
            let made = self.make_tree(&tree, host, files);
            return made.with_context(|| format!("cannot write `{}`", tree.display()));
        }
        for (path, file) in files {
            self.replace(host, &tree.join(path), file)?;
        }
        Ok(())
    }

    /// A tree made aside and renamed: one change of the directory that all hosts share, and no file is renamed by itself.
    fn make_tree<'f>(
        &self,
        tree: &Path,
        host: &str,
        files: impl Iterator<Item = (&'f str, &'f [u8])>,
    ) -> io::Result<()> {
        let trees = self.state("trees");
        let aside = trees.join(host);
        // What an interrupted run left may no longer be wanted.
        absent_is_fine(fs::remove_dir_all(&aside))?;
        for (path, file) in files {
            let path = aside.join(path);
            let mut made = match create(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    make_directories(&trees, &path)?;
                    create(&path)?
                }
                made => made?,
            };
            made.write_all(file)?;
        }
        match fs::rename(&aside, tree) {
            // A host whose every credential went away has nothing aside.
            Err(error) if error.kind() == ErrorKind::NotFound && !aside.exists() => Ok(()),
            done => done,
        }
    }

    /// Keeps the record of a host.
    pub(crate) fn put_record(&self, record: &HostRecord) -> Result<()> {
        let json = serde_json::to_string_pretty(record)? + "\n";
        self.replace(
            &record.host,
            &self.record_path(&record.host),
            json.as_bytes(),
        )
    }

    /// Takes a file out of the tree of `host`, and the directories it leaves empty.
    pub(crate) fn remove(&self, host: &str, path: &str) -> Result<()> {
        let tree = self.root.join(host);
        let path = tree.join(path);
        absent_is_fine(fs::remove_file(&path))
            .with_context(|| format!("cannot remove `{}`", path.display()))?;
        let inside = path
            .ancestors()
            .skip(1)
            .take_while(|directory| *directory != tree);
        // The first that is not empty ends it.
        let _ = inside.map(fs::remove_dir).find(Result::is_err);
        Ok(())
    }

    /// Opens the log of this shard, which also keeps a second run of it away.
    pub(crate) fn log(&self, shard: Option<Shard>, sealer: &Sealer) -> Result<Log> {
        let name = shard.map_or("log.jsonl".to_owned(), |shard| {
            format!("log-{}-of-{}.jsonl", shard.index(), shard.count())
        });
        let path = self.state(&name);
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path);
        let file = file.with_context(|| format!("cannot write `{}`", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("another run is at work in `{}`", self.root.display());
        }
        Ok(Log {
            file: Mutex::new(file),
            path,
            sealer: sealer.clone(),
        })
    }

    /// Flushes everything that was written, once for all files.
    pub(crate) fn sync(&self) -> Result<()> {
        let sync = || -> io::Result<()> { Ok(syncfs(File::open(&self.root)?)?) };
        sync().with_context(|| format!("cannot flush `{}`", self.root.display()))
    }

    /// Writes aside and renames. Not in the tree, where an interruption would leave half a file.
    fn replace(&self, host: &str, path: &Path, content: &[u8]) -> Result<()> {
        let aside = self.state("tmp").join(host);
        let write = || -> io::Result<()> {
            create(&aside)?.write_all(content)?;
            match fs::rename(&aside, path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    make_directories(&self.root, path)?;
                    fs::rename(&aside, path)
                }
                done => done,
            }
        };
        write().with_context(|| format!("cannot write `{}`", path.display()))
    }

    fn record_path(&self, host: &str) -> PathBuf {
        self.state("hosts").join(format!("{host}.json"))
    }

    fn state(&self, name: &str) -> PathBuf {
        self.root.join(STATE).join(name)
    }
}

/// A new file for its owner alone, or an old one emptied.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true);
    options.mode(0o600).open(path)
}

/// Makes the directories between `root` and `path`, from the top: a new host has none of them, and asking first costs as much.
fn make_directories(root: &Path, path: &Path) -> io::Result<()> {
    let mut directory = root.to_owned();
    let inside = path
        .parent()
        .and_then(|parent| parent.strip_prefix(root).ok());
    for name in inside.unwrap_or(Path::new("")) {
        directory.push(name);
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Who seals, and when: what the log says of it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Sealer {
    /// The moment, as RFC 3339 has it.
    pub time: String,
    /// User id.
    pub uid: u32,
    /// The user's name, if the number has one.
    pub user: Option<String>,
}

impl Sealer {
    /// The user who runs the program, and the time.
    pub fn new(time: String, uid: u32, user: Option<String>) -> Self {
        Self { time, uid, user }
    }
}

/// The append-only log of a run: JSON, one line for each credential sealed. It has no values.
pub(crate) struct Log {
    file: Mutex<File>,
    path: PathBuf,
    sealer: Sealer,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(flatten)]
    sealer: &'a Sealer,
    host: &'a str,
    name: &'a str,
    storage_key: &'a str,
    sha256: &'a str,
}

impl Log {
    /// Adds the credentials sealed for one host. One write: what an interruption leaves are whole lines.
    pub(crate) fn append(&self, host: &str, sealed: &[&SealedCredential]) -> Result<()> {
        let mut lines = Vec::new();
        for SealedCredential {
            name,
            storage_key,
            sha256,
            ..
        } in sealed
        {
            serde_json::to_writer(
                &mut lines,
                &Line {
                    sealer: &self.sealer,
                    host,
                    name,
                    storage_key,
                    sha256,
                },
            )?;
            lines.push(b'\n');
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&lines)
            .with_context(|| format!("cannot write `{}`", self.path.display()))
    }
}
