//! A plan made true: secrets read, what changed sealed, everything placed as one change of the ESP.

use anyhow::{Context, Result, ensure};
use rand_core::CryptoRng;
use ukikit_creds::Secret;
use ukikit_esp::{Changes, Esp, File, Placing, Trial};

use super::plan::{Plan, Planned};
use super::source::Sources;
use super::wanted::GIVE_UP;
use crate::check::Findings;
use crate::fleet::{FingerprintKey, SealedCredential, sealed};

/// Everything it takes to make a plan true.
#[derive(Debug)]
pub struct Apply<'a> {
    /// What is wanted.
    pub plan: &'a Plan,
    /// Where it goes.
    pub esp: &'a Esp,
    /// What gives the values.
    pub sources: &'a Sources<'a>,
    /// Tells changed values.
    pub key: &'a FingerprintKey,
    /// What the fingerprints are of.
    pub host: &'a str,
    /// What an earlier run sealed.
    pub known: &'a [SealedCredential],
    /// Also over files that ukikit has not placed.
    pub force: bool,
    /// How many boots what is new has to come up in before the set of before is started again; `None`: it takes its place.
    pub tries: Option<u32>,
}

/// What is to be done, nothing of it done.
#[derive(Debug)]
#[non_exhaustive]
pub struct Applied {
    /// The change of the ESP.
    pub changes: Changes,
    /// What stands there afterwards, for the next run.
    pub record: Vec<SealedCredential>,
    /// What `ukikit check` will say.
    pub findings: Findings,
}

impl<'a> Apply<'a> {
    /// Never over files that ukikit has not placed, and not on trial.
    pub fn new(
        plan: &'a Plan,
        esp: &'a Esp,
        sources: &'a Sources<'a>,
        key: &'a FingerprintKey,
        host: &'a str,
        known: &'a [SealedCredential],
    ) -> Self {
        Self {
            plan,
            esp,
            sources,
            key,
            host,
            known,
            force: false,
            tries: None,
        }
    }
}

impl Apply<'_> {
    /// Reads the secrets, seals what is new or differs, and makes one change of it. Nothing is written.
    ///
    /// # Errors
    ///
    /// A recipe that nothing brings, a value that cannot be read or that its reader would not take, and what keeps the
    /// files from being placed.
    pub fn run(&self, rng: &mut impl CryptoRng) -> Result<Applied> {
        let missing = self.plan.missing();
        ensure!(
            missing.is_empty(),
            "nothing brings what the host file needs: no extension of recipe {}",
            missing.join(", ")
        );
        let mut files = Vec::new();
        let mut record = self.of_other_ukis();
        for planned in &self.plan.credentials {
            let (file, sealed) = self
                .credential(planned, rng)
                .with_context(|| planned.job.place.clone())?;
            record.push(sealed);
            files.push(file);
        }
        for image in &self.plan.images {
            files.push(File::new(
                image.path(&self.plan.target),
                image.content().to_vec(),
            ));
        }
        let gone = self.plan.gone(self.known);
        let findings = self.findings(&files, &gone)?;
        let mut how = Placing::new();
        how.force = self.force;
        let (files, gone) = match self.tries {
            Some(tries) => {
                how.needed_by = vec![self.plan.uki().clone()];
                self.on_trial(tries, files, &gone)?
            }
            None => (files, self.settled(gone)?),
        };
        let changes = self.esp.exchange(files, &gone, &how)?;
        Ok(Applied {
            changes,
            record,
            findings,
        })
    }

    /// What is new, and what it replaces, each in a set of its own with a boot entry.
    fn on_trial(
        &self,
        tries: u32,
        files: Vec<File>,
        gone: &[String],
    ) -> Result<(Vec<File>, Vec<String>)> {
        let trial = self.esp.new_trial(self.plan.uki())?;
        let beside = self.esp.files(&self.plan.uki().companions())?;
        let standing = |path: &str| {
            let mut beside = beside.iter();
            beside.find(|file| file.path.eq_ignore_ascii_case(path))
        };
        let is_there =
            |file: &File| standing(&file.path).is_some_and(|there| there.content == file.content);
        let (shared, new): (Vec<File>, Vec<File>) = files.into_iter().partition(is_there);
        let replaced = new.iter().map(|file| file.path.as_str());
        let replaced: Vec<&File> = replaced
            .chain(gone.iter().map(String::as_str))
            .filter_map(standing)
            .collect();
        let gives_up = format!("{GIVE_UP}.cred");
        if new.iter().all(|file| file.name() == gives_up) && replaced.is_empty() {
            return Ok((shared, Vec::new()));
        }
        let kept = replaced
            .iter()
            .map(|file| File::new(trial.kept(file.name()), file.content.clone()));
        let kept: Vec<File> = kept.collect();
        let tried = new
            .iter()
            .map(|file| File::new(trial.tried(file.name()), file.content.clone()));
        let tried: Vec<File> = tried.collect();
        let entries = trial.entries(tries, &tried, &kept);
        let taken = replaced.iter().map(|file| file.path.clone()).collect();
        let files = shared.into_iter().chain(tried).chain(kept).chain(entries);
        Ok((files.collect(), taken))
    }

    /// With a trial there is, which is over, and without what lies elsewhere on its account.
    fn settled(&self, mut gone: Vec<String>) -> Result<Vec<String>> {
        let beside = self.esp.files(&self.plan.uki().companions())?;
        gone.retain(|path| {
            let mut beside = beside.iter();
            beside.any(|file| file.path.eq_ignore_ascii_case(path))
        });
        gone.extend(self.esp.trial(self.plan.uki())?);
        Ok(gone)
    }

    /// What the record has of other UKIs stays there.
    fn of_other_ukis(&self) -> Vec<SealedCredential> {
        let gone = self.plan.gone(self.known);
        let wanted = |path: &String| {
            self.plan
                .credentials
                .iter()
                .any(|planned| planned.job.path == *path)
        };
        let other = self
            .known
            .iter()
            .filter(|sealed| !wanted(&sealed.path) && !gone.contains(&sealed.path));
        other.cloned().collect()
    }

    /// The file that stands there, if nothing changed, or a new one.
    fn credential(
        &self,
        planned: &Planned,
        rng: &mut impl CryptoRng,
    ) -> Result<(File, SealedCredential)> {
        let Planned { wanted, job } = planned;
        let value: Secret = self.sources.read(&wanted.content)?;
        job.check(&value)?;
        let fingerprint = self.key.fingerprint(self.host, &job.name, &value);
        let now = self.plan.now();
        let known = self.known.iter().find(|known| known.path == job.path);
        let known = known.filter(|known| job.is_as(known, now) && known.fingerprint == fingerprint);
        let on_trial = format!("{}/{}.cred", Trial::directory(self.plan.uki()), job.name);
        for path in [&job.path, &on_trial] {
            if let Some(known) = known
                && let Ok(standing) = self.esp.read(path)
                && known.is(&standing)
            {
                return Ok((File::new(job.path.clone(), standing), known.clone()));
            }
        }
        let file = job.seal(&value, now, rng)?;
        let sealed = sealed(job, &file, fingerprint, now);
        Ok((File::new(job.path.clone(), file), sealed))
    }

    fn findings(&self, files: &[File], gone: &[String]) -> Result<Findings> {
        let mut after = self.plan.files();
        for file in files {
            after.put(&self.plan.target, file.name(), file.content.clone())?;
        }
        for path in gone {
            let name = path.rsplit('/').next().unwrap_or_default();
            after.remove(&self.plan.target, name);
        }
        self.plan.findings_of(after)
    }
}
