//! The run over the fleet: hosts in parallel, each all or nothing, only what changed.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Error, Result, anyhow, ensure};
use rand_core::CryptoRng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use ukikit_creds::{Secret, Timestamp};

use super::file::{Fleet, Host};
use super::host::{Job, word};
use super::record::{FingerprintKey, HostRecord, SCHEMA, SealedCredential, sha256};
use super::store::{Log, Sealer, Store};
use super::summary::{Change, Described, Summary, Why};
use super::value::Values;

/// What the credentials of one ESP may have together, as stored: PID 1 drops what goes beyond (systemd:
/// `CREDENTIALS_TOTAL_SIZE_MAX`).
const BUDGET: u64 = 1024 * 1024;

/// Everything a run needs.
#[derive(Debug)]
pub struct Run<'a> {
    /// What is wanted.
    pub fleet: &'a Fleet,
    /// The secrets.
    pub values: &'a Values,
    /// Where the results go.
    pub store: &'a Store,
    /// Tells changed values.
    pub key: &'a FingerprintKey,
    /// For the log.
    pub sealer: &'a Sealer,
    /// The time embedded in the credentials.
    pub now: Timestamp,
    /// The part of the hosts to do.
    pub shard: Option<Shard>,
    /// Only these hosts; all when empty.
    pub only: &'a [String],
    /// Go on with the other hosts when one fails.
    pub keep_going: bool,
    /// Do everything but write.
    pub dry_run: bool,
}

/// `--shard=I/N`: the I-th, from 1, of N parts of the hosts. The part of a host depends on its name alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u64,
    count: u64,
}

impl Shard {
    pub(crate) fn index(self) -> u64 {
        self.index
    }

    pub(crate) fn count(self) -> u64 {
        self.count
    }

    fn has(self, host: &str) -> bool {
        let hash = Sha256::digest(host);
        let number = hash
            .first_chunk()
            .map_or(0, |first| u64::from_be_bytes(*first));
        number % self.count == self.index - 1
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text
            .split_once('/')
            .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        let shard = numbers.map(|(index, count)| Self { index, count });
        let sound = shard.filter(|shard| (1..=shard.count).contains(&shard.index));
        sound.ok_or_else(|| anyhow!("{text:?} is not a part of a whole, such as 1/8 to 8/8"))
    }
}

impl Run<'_> {
    /// Seals for every host of the run what changed, removes what is no longer wanted, and flushes once.
    ///
    /// Without `keep_going` nothing is written before every host was found sound, as far as that shows without running
    /// programs; and no further host is begun after one has failed.
    ///
    /// `done` is called after each host, on the thread that did it.
    ///
    /// # Errors
    ///
    /// What concerns all hosts. Those of single hosts are in [`Summary::errors`].
    pub fn encrypt(
        &self,
        rng: &(impl CryptoRng + Clone + Sync),
        done: &(impl Fn() + Sync),
    ) -> Result<Summary> {
        let hosts = self.hosts()?;
        let mut summary = if let Some(error) = self.first_unsound(&hosts) {
            Summary {
                errors: vec![error],
                ..Summary::default()
            }
        } else {
            self.encrypt_hosts(&hosts, rng, done)?
        };
        summary.applied = !self.dry_run;
        summary.not_begun = hosts.len() - summary.hosts - summary.errors.len();
        Ok(summary)
    }

    fn encrypt_hosts(
        &self,
        hosts: &[&Host],
        rng: &(impl CryptoRng + Clone + Sync),
        done: &(impl Fn() + Sync),
    ) -> Result<Summary> {
        let log = if self.dry_run {
            None
        } else {
            Some(self.store.log(self.shard, self.sealer)?)
        };
        let stop = AtomicBool::new(false);
        let one = |host: &&Host| {
            if stop.load(Ordering::Relaxed) {
                return Summary::default();
            }
            let summary = self.encrypt_host(host, log.as_ref(), &mut rng.clone());
            done();
            summary.unwrap_or_else(|error| {
                stop.store(!self.keep_going, Ordering::Relaxed);
                Summary {
                    errors: vec![error],
                    ..Summary::default()
                }
            })
        };
        let summary = hosts
            .par_iter()
            .map(one)
            .reduce(Summary::default, Summary::merge);
        if !self.dry_run {
            self.store.sync()?;
        }
        Ok(summary)
    }

    /// How many hosts the run has: those of its shard that `only` names.
    ///
    /// # Errors
    ///
    /// When the fleet has no host that `only` names.
    pub fn host_count(&self) -> Result<usize> {
        Ok(self.hosts()?.len())
    }

    fn hosts(&self) -> Result<Vec<&Host>> {
        let only: Vec<&Host> = self
            .only
            .iter()
            .map(|name| self.fleet.host(name))
            .collect::<Result<_>>()?;
        let all = self.fleet.hosts().iter();
        let wanted =
            all.filter(|host| only.is_empty() || only.iter().any(|only| only.name == host.name));
        Ok(wanted
            .filter(|host| self.shard.is_none_or(|shard| shard.has(&host.name)))
            .collect())
    }

    fn first_unsound(&self, hosts: &[&Host]) -> Option<Error> {
        if self.keep_going {
            return None;
        }
        hosts
            .par_iter()
            .find_map_first(|host| self.check(host).err())
    }

    /// Everything that can be refused without sealing: the identity, the forms, missing values and those that their reader
    /// would not take, and most of the budget.
    fn check(&self, host: &Host) -> Result<()> {
        let mut stored = 0;
        for (source, job) in self.fleet.jobs(host, self.now)? {
            let value = self.values.foresee(&source, &job.name, &host.name);
            if let Some(value) = value.with_context(|| job.place.clone())? {
                job.check(&value).with_context(|| job.place.clone())?;
                // Base64 has four characters for three bytes.
                stored += value.expose().len() as u64 / 3 * 4;
            }
        }
        self.check_budget(host, stored)
    }

    fn check_budget(&self, host: &Host, stored: u64) -> Result<()> {
        ensure!(
            stored <= BUDGET,
            "{}: host {}: its credentials have {stored} bytes together, and PID 1 takes {BUDGET} from an EFI system partition",
            self.fleet.at(host.line),
            host.name
        );
        Ok(())
    }

    fn encrypt_host(
        &self,
        host: &Host,
        log: Option<&Log>,
        rng: &mut impl CryptoRng,
    ) -> Result<Summary> {
        let before = self.store.record(&host.name)?;
        let before = before.map(|record| record.credentials).unwrap_or_default();
        let mut work = Work::default();
        for (source, job) in self.fleet.jobs(host, self.now)? {
            let place = || job.place.clone();
            let value = self
                .values
                .read(&source, &job.name, &host.name)
                .with_context(place)?;
            job.check(&value).with_context(place)?;
            let known = before
                .iter()
                .find(|sealed| sealed.name == job.name.as_str());
            self.decide(host, &job, &value, known, rng, &mut work)
                .with_context(place)?;
        }
        let wanted =
            |sealed: &SealedCredential| work.record.iter().any(|wanted| wanted.path == sealed.path);
        work.gone = before
            .into_iter()
            .filter(|sealed| !wanted(sealed))
            .map(|sealed| sealed.path)
            .collect();
        self.check_budget(host, work.record.iter().map(|sealed| sealed.size).sum())?;
        if let Some(log) = log {
            self.write(host, &work, log)?;
        }
        Ok(work.summary(&host.name, self.dry_run))
    }

    /// Keeps what stands, or seals anew.
    fn decide(
        &self,
        host: &Host,
        job: &Job,
        value: &Secret,
        known: Option<&SealedCredential>,
        rng: &mut impl CryptoRng,
        work: &mut Work,
    ) -> Result<()> {
        let fingerprint = self.key.fingerprint(&host.name, &job.name, value);
        let kind = Described::of(job);
        *work.described.entry(kind).or_default() += 1;
        let why = match known {
            None => Why::New,
            Some(known) => match self.changed(host, job, &fingerprint, known) {
                Some(why) => why,
                None => {
                    work.record.push(known.clone());
                    return Ok(());
                }
            },
        };
        let file = job.seal(value, self.now, rng)?;
        work.record.push(sealed(job, &file, fingerprint, self.now));
        work.fresh.push(Fresh {
            path: job.path.clone(),
            file,
            why,
        });
        Ok(())
    }

    fn changed(
        &self,
        host: &Host,
        job: &Job,
        fingerprint: &str,
        known: &SealedCredential,
    ) -> Option<Why> {
        let expired = known
            .not_after
            .is_some_and(|moment| moment <= self.now.as_micros());
        [
            (known.storage_key != job.storage_key(), Why::StorageKey),
            (known.options != job.options, Why::Options),
            (known.fingerprint != fingerprint, Why::Value),
            (expired, Why::Expired),
        ]
        .into_iter()
        .find_map(|(changed, why)| changed.then_some(why))
        .or_else(|| (!self.store.holds(&host.name, known)).then_some(Why::File))
    }

    /// The log first, so that nothing lies in a tree that it does not name; the record last.
    fn write(&self, host: &Host, work: &Work, log: &Log) -> Result<()> {
        if work.fresh.is_empty() && work.gone.is_empty() {
            return Ok(());
        }
        let is_fresh =
            |sealed: &&SealedCredential| work.fresh.iter().any(|fresh| fresh.path == sealed.path);
        log.append(
            &host.name,
            &work.record.iter().filter(is_fresh).collect::<Vec<_>>(),
        )?;
        let fresh = work.fresh.iter();
        let files = fresh.map(|fresh| (fresh.path.as_str(), fresh.file.as_slice()));
        self.store.put(&host.name, files)?;
        for path in &work.gone {
            self.store.remove(&host.name, path)?;
        }
        let (schema, host, credentials) = (SCHEMA, host.name.clone(), work.record.clone());
        self.store.put_record(&HostRecord {
            schema,
            host,
            credentials,
        })
    }
}

/// What the record says of a new file.
pub(crate) fn sealed(
    job: &Job,
    file: &[u8],
    fingerprint: String,
    now: Timestamp,
) -> SealedCredential {
    SealedCredential {
        name: job.name.to_string(),
        path: job.path.clone(),
        with_key: job.with_key().to_owned(),
        pinned: job.form.pinned,
        encoding: word(job.form.encoding).to_owned(),
        bound_to: job.explanation().bound_to,
        storage_key: job.storage_key(),
        timestamp: now.as_micros(),
        not_after: job.not_after.map(Timestamp::as_micros),
        size: file.len() as u64,
        sha256: sha256(file),
        fingerprint,
        options: job.options.clone(),
    }
}

/// What is to be done for one host.
#[derive(Default)]
struct Work {
    record: Vec<SealedCredential>,
    fresh: Vec<Fresh>,
    gone: Vec<String>,
    described: BTreeMap<Described, usize>,
}

struct Fresh {
    path: String,
    file: Vec<u8>,
    why: Why,
}

impl Work {
    fn summary(self, host: &str, dry_run: bool) -> Summary {
        let (made, removed) = (self.fresh.len(), self.gone.len());
        let change = |path, why| Change {
            path: format!("{host}/{path}"),
            why,
        };
        let changes = self
            .fresh
            .into_iter()
            .map(|fresh| change(fresh.path, fresh.why));
        let changes = changes.chain(self.gone.into_iter().map(|path| change(path, Why::Gone)));
        Summary {
            hosts: 1,
            made,
            unchanged: self.record.len() - made,
            removed,
            described: self.described,
            // Kept for a dry run alone: memory must not grow with the fleet.
            changes: changes.filter(|_| dry_run).collect(),
            ..Summary::default()
        }
    }
}
