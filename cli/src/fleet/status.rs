//! What became of a fleet: what stands on a host against its record, and who still carries an older value.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use ukikit_creds::{Name, Timestamp};

use super::file::Fleet;
use super::record::{FingerprintKey, HostRecord, SealedCredential};
use super::store::Store;
use super::value::Values;
use crate::moment;

/// The part of `ukikit esp list --json` that counts here.
#[derive(Deserialize)]
struct Listing {
    companions: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    path: String,
    kind: Option<String>,
    size: u64,
    sha256: Option<String>,
    note: Option<String>,
}

impl Listed {
    /// The hash decides; a listing without hashes has the size alone.
    fn is(&self, sealed: &SealedCredential) -> bool {
        match &self.sha256 {
            Some(sha256) => *sha256 == sealed.sha256,
            None => self.size == sealed.size,
        }
    }
}

/// How the credentials of a host stand.
#[derive(Debug, Serialize)]
pub struct Status {
    schema: u32,
    host: String,
    credentials: Vec<Standing>,
}

/// One credential of the record or of the host.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    path: String,
    state: State,
    /// What `esp list` has to say of it.
    note: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// The file that was sealed last.
    Current,
    /// Another file of the name.
    Other,
    /// Sealed, and not on the host.
    Missing,
    /// On the host, and not sealed here.
    Unknown,
}

/// Compares what `listing`, the output of `ukikit esp list --json`, shows of a host with its record.
///
/// # Errors
///
/// When the listing is not one.
pub fn status(record: &HostRecord, listing: &[u8]) -> Result<Status> {
    let listing: Listing =
        serde_json::from_slice(listing).context("not the JSON of `ukikit esp list`")?;
    let key = |path: &str| path.to_ascii_lowercase();
    let mut listed: BTreeMap<String, Listed> = listing
        .companions
        .into_iter()
        .map(|listed| (key(&listed.path), listed))
        .collect();
    let mut credentials = Vec::new();
    for sealed in &record.credentials {
        let found = listed.remove(&key(&sealed.path));
        let state = match &found {
            None => State::Missing,
            Some(listed) if listed.is(sealed) => State::Current,
            Some(_) => State::Other,
        };
        credentials.push(Standing {
            path: sealed.path.clone(),
            state,
            note: found.and_then(|listed| listed.note),
        });
    }
    let strangers = listed
        .into_values()
        .filter(|listed| listed.kind.as_deref() == Some("credential"));
    credentials.extend(strangers.map(|listed| Standing {
        path: listed.path,
        state: State::Unknown,
        note: listed.note,
    }));
    Ok(Status {
        schema: 1,
        host: record.host.clone(),
        credentials,
    })
}

impl Status {
    /// Whether the host has exactly what was sealed for it, and all of it takes effect.
    pub fn is_current(&self) -> bool {
        self.credentials
            .iter()
            .all(|standing| standing.state == State::Current && standing.note.is_none())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Standing { path, state, note } in &self.credentials {
            let state = match state {
                State::Current => "current",
                State::Other => "not the file that was sealed last",
                State::Missing => "missing",
                State::Unknown => "not sealed here",
            };
            let note = note
                .as_ref()
                .map_or(String::new(), |note| format!(" ({note})"));
            writeln!(f, "{path}: {state}{note}")?;
        }
        Ok(())
    }
}

/// The hosts that carry a credential whose value is not the one of now.
#[derive(Debug, Serialize)]
pub struct Carriers {
    schema: u32,
    name: String,
    hosts: Vec<Carrier>,
}

/// One host, and what its tree has of the credential.
#[derive(Debug, Serialize)]
pub struct Carrier {
    host: String,
    carries: Carries,
    /// When that was sealed, in microseconds since 1970.
    timestamp: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Carries {
    /// An older value.
    Older,
    /// A value, and the fleet file no longer gives it one.
    Unwanted,
    /// None yet.
    Nothing,
}

/// Finds the hosts whose tree carries another value of `name` than the one it has now, or none.
///
/// # Errors
///
/// When the value of now, a record or an identity cannot be read.
pub fn carriers(
    fleet: &Fleet,
    values: &Values,
    store: &Store,
    key: &FingerprintKey,
    name: &Name,
    now: Timestamp,
) -> Result<Carriers> {
    let mut hosts: BTreeMap<String, Option<String>> = store
        .recorded_hosts()?
        .into_iter()
        .map(|host| (host, None))
        .collect();
    for host in fleet.hosts() {
        let jobs = fleet.jobs(host, now)?;
        let job = jobs.iter().find(|(_, job)| job.name == *name);
        let current = job.map(|(source, job)| {
            let value = values.read(source, name, &host.name);
            let value = value.with_context(|| job.place.clone())?;
            Ok::<_, anyhow::Error>(key.fingerprint(&host.name, name, &value))
        });
        hosts.insert(host.name.clone(), current.transpose()?);
    }
    let mut found = Vec::new();
    for (host, current) in hosts {
        let record = store.record(&host)?;
        let sealed = record
            .iter()
            .flat_map(|record| &record.credentials)
            .find(|sealed| sealed.name == name.as_str());
        let carries = match (sealed, current) {
            (Some(sealed), Some(current)) if sealed.fingerprint != current => Carries::Older,
            (Some(_), None) => Carries::Unwanted,
            (None, Some(_)) => Carries::Nothing,
            _ => continue,
        };
        found.push(Carrier {
            host,
            carries,
            timestamp: sealed.map(|sealed| sealed.timestamp),
        });
    }
    Ok(Carriers {
        schema: 1,
        name: name.to_string(),
        hosts: found,
    })
}

impl fmt::Display for Carriers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Carrier {
            host,
            carries,
            timestamp,
        } in &self.hosts
        {
            let what = match carries {
                Carries::Older => "an older value",
                Carries::Unwanted => "a value it should no longer have",
                Carries::Nothing => "nothing yet",
            };
            let made = timestamp
                .map(|micros| format!(", sealed {}", moment::show(Timestamp::from_micros(micros))));
            writeln!(f, "{host}: {what}{}", made.unwrap_or_default())?;
        }
        Ok(())
    }
}
