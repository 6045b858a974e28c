//! What a host has beside one UKI, for the next: each credential in the encoding its new reader wants, each extension as
//! it is or as a newer file of its name, and nothing that the new UKI would not use.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use ukikit_creds::catalog;
use ukikit_creds::{Encoding, EncryptedCredential, LINE, Name};
use ukikit_esp::{BootFiles, File, Kind, Start, UkiPath};

use crate::check::{Circumstances, Findings, check_boot};
use crate::{Base, PlannedBoot};

/// The companions of a UKI that is about to come.
#[derive(Debug)]
#[non_exhaustive]
pub struct Carried {
    /// Under their names, sorted.
    pub files: Vec<File>,
    /// What is wrong with a boot of the new UKI and them.
    pub findings: Findings,
    /// What was written anew, by name.
    pub encoded: Vec<(String, Encoding)>,
}

/// A UKI that is about to come.
#[derive(Debug, Clone, Copy)]
pub struct NewUki<'a> {
    /// Where it will lie on the ESP.
    pub path: &'a UkiPath,
    /// Its bytes.
    pub file: &'a [u8],
    /// What lies on the ESP for all UKIs.
    pub global: &'a BootFiles,
}

impl NewUki<'_> {
    /// Brings `old`, the companions of another UKI, to this one. Those of `newer` take the place of old ones of their name.
    ///
    /// # Errors
    ///
    /// For a UKI of which the initrd cannot be read, and what keeps a rehearsal from being held, if one is asked for.
    pub fn carry(
        self,
        old: Vec<File>,
        newer: Vec<File>,
        circumstances: &Circumstances,
    ) -> Result<Carried> {
        let base = Base::of_uki(self.file).context("cannot read the new UKI")?;
        let facts = base.initrd.as_ref().map(|initrd| &initrd.facts);
        let told = facts.and_then(|facts| u16::try_from(facts.systemd?).ok());
        let systemd = told.or(circumstances.systemd);

        let all = old.into_iter().chain(newer);
        let by_name: BTreeMap<String, Vec<u8>> = all
            .map(|file| (file.name().to_owned(), file.content))
            .collect();
        let mut encoded = Vec::new();
        let files = by_name.into_iter().map(|(name, mut content)| {
            if let Some((anew, encoding)) =
                systemd.and_then(|systemd| reencoded(&name, &content, systemd))
            {
                encoded.push((name.clone(), encoding));
                content = anew;
            }
            File::new(name, content)
        });
        let files: Vec<File> = files.collect();
        let findings = self.check(&files, circumstances)?;
        Ok(Carried {
            files,
            findings,
            encoded,
        })
    }

    fn check(self, files: &[File], circumstances: &Circumstances) -> Result<Findings> {
        let mut all = self.global.clone();
        let directory = self.path.companions();
        let placed = files
            .iter()
            .map(|file| File::new(format!("{directory}/{}", file.path), file.content.clone()));
        all.own = placed.collect();
        let boot = PlannedBoot {
            uki_path: self.path.clone(),
            uki: Some(Arc::new(self.file.to_vec())),
            files: all,
            start: Start::default(),
        };
        check_boot(self.path.as_str(), boot, circumstances)
    }
}

/// A credential in the encoding that this systemd reads under its name, if it is in the other one. That takes no key.
fn reencoded(name: &str, content: &[u8], systemd: u16) -> Option<(Vec<u8>, Encoding)> {
    if Kind::taken_by_stub(name.as_ref()) != Ok(Kind::Credential) {
        return None;
    }
    let credential_name: Option<Name> = name
        .strip_suffix(".cred")
        .and_then(|name| name.parse().ok());
    let wanted = catalog::encoding(credential_name.as_ref(), systemd);
    if EncryptedCredential::parse(content, wanted).is_ok() {
        return None;
    }
    let other = match wanted {
        Encoding::Base64 => Encoding::Binary,
        Encoding::Binary => Encoding::Base64,
    };
    let credential = EncryptedCredential::parse(content, other).ok()?;
    let anew = match wanted {
        Encoding::Base64 => credential.to_text(LINE).into_bytes(),
        Encoding::Binary => credential.as_bytes().to_vec(),
    };
    Some((anew, wanted))
}
