//! `ukikit cred names`

use std::fmt;

use anyhow::{Result, anyhow};
use clap::Args;
use serde::Serialize;
use ukikit_creds::catalog::{Acts, BASE64_EVERYWHERE, Reader, WellKnown};
use ukikit_creds::{Encoding, Name};

use crate::output::{Json, Output, with_hint};

/// Version of the JSON form.
const SCHEMA: u32 = 1;

#[derive(Debug, Args)]
pub(crate) struct Names {
    /// Tell everything about this one
    name: Option<Name>,
    /// Only what this systemd reads, in the encoding it takes
    #[arg(long, value_name = "VERSION")]
    target_systemd: Option<u16>,
    /// Print JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

impl Names {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let entries = match &self.name {
            Some(name) => vec![self.one(name)?],
            None => WellKnown::all()
                .filter(|entry| {
                    self.target_systemd
                        .is_none_or(|target| entry.since <= target)
                })
                .collect(),
        };
        let name = self.name.as_ref();
        let names = entries
            .iter()
            .map(|entry| Row::new(entry, name, self.target_systemd))
            .collect();
        let catalog = Catalog {
            schema: SCHEMA,
            target_systemd: self.target_systemd,
            names,
        };
        match &self.name {
            Some(_) => out.show(&Page(catalog), self.json),
            None => out.show(&catalog, self.json),
        }
    }

    fn one(&self, name: &Name) -> Result<WellKnown> {
        let entry = WellKnown::find(name).ok_or_else(|| {
            with_hint(
                anyhow!("{name} is not a well-known credential"),
                "any unit can ask for it with ImportCredential= or LoadCredentialEncrypted=, and takes it in Base64",
            )
        })?;
        match self.target_systemd {
            Some(target) if target < entry.since => Err(anyhow!(
                "systemd {target} does not read {name}: {} and later do",
                entry.since
            )),
            _ => Ok(entry),
        }
    }
}

/// All that is asked for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Catalog {
    schema: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_systemd: Option<u16>,
    names: Vec<Row>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    pattern: &'static str,
    description: &'static str,
    reader: &'static str,
    program: &'static str,
    initrd: bool,
    host: bool,
    decides_root: bool,
    since: u16,
    content: &'static str,
    encodings: Vec<Form>,
    traps: Vec<String>,
}

/// The encoding that some versions take from the EFI system partition.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Form {
    since: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u16>,
    encoding: &'static str,
}

impl Row {
    fn new(entry: &WellKnown, name: Option<&Name>, target: Option<u16>) -> Self {
        Self {
            pattern: entry.pattern,
            description: entry.about,
            reader: match entry.reader {
                Reader::Generator => "generator",
                Reader::Manager => "manager",
                Reader::Service => "service",
            },
            program: entry.program,
            initrd: entry.acts.initrd,
            host: entry.acts.host,
            decides_root: entry.acts.root,
            since: entry.since,
            content: entry.content.as_str(),
            encodings: encodings(entry, target),
            traps: traps(entry, name, target),
        }
    }

    fn places(&self) -> &'static str {
        match (self.initrd, self.host) {
            (true, true) => "initrd, host",
            (true, false) => "initrd",
            _ => "host",
        }
    }

    /// Such as `binary to 261, base64 from 262`.
    fn encoding(&self) -> String {
        let first = self
            .encodings
            .first()
            .map_or_else(String::new, Form::to_string);
        match self.encodings.get(1) {
            Some(then) => format!("{first}, {then} from {}", then.since),
            None => first,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.until {
            Some(until) if until > self.since => write!(f, "{} to {until}", self.encoding),
            _ => f.write_str(self.encoding),
        }
    }
}

/// Which encoding which systemd takes; for one version just its own.
fn encodings(entry: &WellKnown, target: Option<u16>) -> Vec<Form> {
    let form = |systemd: u16, until| Form {
        since: systemd,
        until,
        encoding: match entry.encoding(systemd) {
            Encoding::Binary => "binary",
            Encoding::Base64 => "base64",
        },
    };
    let changes = entry.reader.is_early() && entry.since < BASE64_EVERYWHERE;
    match target {
        Some(target) => vec![form(target, Some(target))],
        None if changes => vec![
            form(entry.since, Some(BASE64_EVERYWHERE - 1)),
            form(BASE64_EVERYWHERE, None),
        ],
        None => vec![form(entry.since, None)],
    }
}

/// What goes wrong, most of it for whole classes of readers.
fn traps(entry: &WellKnown, name: Option<&Name>, target: Option<u16>) -> Vec<String> {
    let Acts { initrd, host, root } = entry.acts;
    let early = entry.reader.is_early();
    let fat = name.and_then(|name| ukikit::delivery::unfit_for_fat(name.as_str()));
    let known = [
        (entry.trap.is_some(), entry.trap.unwrap_or_default()),
        (
            early && target.is_none(),
            "one file cannot serve systemd up to 261 and from 262 on: the first takes binary, the other Base64",
        ),
        (
            early,
            "only what came with the boot is read, from the EFI system partition: no credential store is looked at",
        ),
        (
            early && initrd,
            "it is read before PCR 11 takes enter-initrd: a signed policy must cover the phase before it",
        ),
        (
            initrd && !host,
            "the initrd has no host secret: seal it to the TPM alone",
        ),
        (
            initrd && host,
            "the initrd has no host secret: under one, it opens on the host alone",
        ),
        (
            root,
            "it can decide the root file system, and whoever writes the EFI system partition can seal one: see SECURITY.md",
        ),
    ];
    let known = known
        .into_iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, trap)| trap.to_owned());
    known
        .chain(fat.map(|rule| format!("the EFI system partition cannot hold it: {rule}")))
        .collect()
}

/// The catalog as a table.
impl fmt::Display for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<34} {:<10} {:<13} {:<6} {:<16} ENCODING",
            "NAME", "READER", "ACTS IN", "SINCE", "CONTENT"
        )?;
        for row in &self.names {
            let (reader, places) = (row.reader, row.places());
            let encoding = row
                .encodings
                .first()
                .map_or_else(String::new, Form::to_string);
            writeln!(
                f,
                "{:<34} {reader:<10} {places:<13} {:<6} {:<16} {encoding}",
                row.pattern, row.since, row.content
            )?;
        }
        Ok(())
    }
}

/// One entry in full.
#[derive(Serialize)]
#[serde(transparent)]
struct Page(Catalog);

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.0.names {
            writeln!(f, "Name:      {}", row.pattern)?;
            writeln!(f, "Is:        {}", row.description)?;
            writeln!(f, "Read by:   {} ({})", row.program, row.reader)?;
            writeln!(f, "Acts in:   {}", row.places())?;
            writeln!(f, "Since:     systemd {}", row.since)?;
            writeln!(f, "Content:   {}", row.content)?;
            writeln!(f, "Encoding:  {}", row.encoding())?;
            row.traps
                .iter()
                .try_for_each(|trap| writeln!(f, "Mind:      {trap}"))?;
        }
        Ok(())
    }
}
