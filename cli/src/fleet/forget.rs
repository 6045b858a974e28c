//! Taking hosts out of the output directory.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::Result;
use serde::Serialize;

use super::store::Store;

/// The hosts that went, or that a dry run would take out.
#[derive(Debug, Serialize)]
pub struct Forgotten {
    schema: u32,
    applied: bool,
    hosts: Vec<Host>,
}

#[derive(Debug, Serialize)]
struct Host {
    host: String,
    /// How many credentials stood in its tree.
    credentials: usize,
}

/// Removes the tree and the record of each host, or only looks. Nothing is removed before all hosts were found.
///
/// # Errors
///
/// When one of them has no record, or something cannot be removed.
pub fn forget(store: &Store, hosts: &[String], dry_run: bool) -> Result<Forgotten> {
    let hosts: BTreeSet<&String> = hosts.iter().collect();
    let found: Vec<Host> = hosts
        .iter()
        .map(|&host| {
            let credentials = store.count(host)?;
            let host = host.clone();
            Ok(Host { host, credentials })
        })
        .collect::<Result<_>>()?;
    if !dry_run {
        for host in hosts {
            store.remove_host(host)?;
        }
    }
    Ok(Forgotten {
        schema: 1,
        applied: !dry_run,
        hosts: found,
    })
}

impl fmt::Display for Forgotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.applied { "removed" } else { "to remove" };
        for Host { host, credentials } in &self.hosts {
            let plural = if *credentials == 1 { "" } else { "s" };
            writeln!(f, "{host}: {credentials} credential{plural} {done}")?;
        }
        Ok(())
    }
}
