//! A plan made true: secrets read, what changed sealed, everything placed as one change of the ESP.

use anyhow::{Context, Result, ensure};
use rand_core::CryptoRng;
use ukikit_creds::Secret;
use ukikit_esp::{Changes, Esp, File, Placing};

use super::plan::{Plan, Planned};
use super::source::Sources;
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
        let changes = self.esp.exchange(files, &gone, &how)?;
        Ok(Applied {
            changes,
            record,
            findings,
        })
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
        if let Some(known) = known
            && let Ok(standing) = self.esp.read(&job.path)
            && known.is(&standing)
        {
            return Ok((File::new(job.path.clone(), standing), known.clone()));
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
