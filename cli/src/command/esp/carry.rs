//! `ukikit esp carry`

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use ukikit::check::{Circumstances, Level};
use ukikit::model::version_order;
use ukikit::{Carried, NewUki};
use ukikit_esp::{Esp, File, Kind, UkiPath};

use super::{Root, locked};
use crate::file;
use crate::output::{Output, with_hint};
use crate::system;

#[derive(Debug, Args)]
pub(crate) struct Carry {
    /// The UKI that is about to come, a file
    #[arg(value_name = "UKI")]
    new: PathBuf,
    /// Where it will lie on the ESP
    #[arg(long, value_name = "PATH")]
    to: UkiPath,
    /// The UKI whose companions it is to have [default: that at --to=, or else the newest in EFI/Linux that has some and
    /// begins with --prefix=]
    #[arg(long, value_name = "PATH")]
    from: Option<UkiPath>,
    /// What the names of this system's UKIs begin with
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Directories of extras.d, as for bootctl link-auto: what is in them takes the place of companions of the same name,
    /// in the first that has it
    #[arg(long, value_name = "DIR")]
    extras: Vec<PathBuf>,
    /// Where the companions go: a directory, which is made
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Carry also what the new UKI would not use
    #[arg(long)]
    force: bool,
    /// Show what would be carried, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Bytes that have to stay free on the ESP when the UKI and its companions are there
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024)]
    keep_free: u64,
    #[command(flatten)]
    root: Root,
}

/// What `extras.d` may hold.
const EXTRAS: [&str; 3] = [".sysext.raw", ".confext.raw", ".cred"];

impl Carry {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let mut esps = self.root.open(None)?;
        let (Some(mut esp), true) = (esps.pop(), esps.is_empty()) else {
            bail!("companions are carried on one partition");
        };
        if !self.dry_run {
            esp = locked(esp, out)?;
        }
        let esp = &esp;
        let shown = self.new.display();
        let uki = fs::read(&self.new).with_context(|| format!("cannot read `{shown}`"))?;
        let from = self.source(esp)?;
        let old = match &from {
            Some(from) => own(esp, from)?,
            None => Vec::new(),
        };
        let newer = extras(&self.extras)?;
        if old.is_empty() && newer.is_empty() {
            return Ok(());
        }
        let new = NewUki {
            path: &self.to,
            file: &uki,
            global: &esp.boot_files(&nobody()?, &[])?,
        };
        let mut circumstances = Circumstances::default();
        circumstances.now = system::now_micros();
        let carried = new
            .carry(old, newer, &circumstances)
            .with_context(|| format!("cannot use `{shown}`"))?;
        self.say(from.as_ref(), &carried, out);
        self.refuse_errors(&carried, out)?;
        self.check_room(esp, &uki, &carried)?;
        if self.dry_run {
            return Ok(());
        }
        fs::create_dir_all(&self.output)
            .with_context(|| format!("cannot make `{}`", self.output.display()))?;
        for file in &carried.files {
            file::write(&self.output.join(&file.path), &file.content, out)?;
        }
        Ok(())
    }

    /// Whose companions they are.
    fn source(&self, esp: &Esp) -> Result<Option<UkiPath>> {
        if let Some(from) = &self.from {
            return Ok(Some(from.clone()));
        }
        if !own(esp, &self.to)?.is_empty() {
            return Ok(Some(self.to.clone()));
        }
        let mut found: Vec<UkiPath> = Vec::new();
        for uki in esp.ukis()? {
            let name = uki.as_str().rsplit('/').next().unwrap_or_default();
            if name.starts_with(&self.prefix) && !own(esp, &uki)?.is_empty() {
                found.push(uki);
            }
        }
        let newest =
            |a: &UkiPath, b: &UkiPath| version_order(&a.without_counter(), &b.without_counter());
        Ok(found.into_iter().max_by(newest))
    }

    fn say(&self, from: Option<&UkiPath>, carried: &Carried, out: &mut Output) {
        let from = from.map_or("extras.d", UkiPath::as_str);
        for file in &carried.files {
            let anew = carried.encoded.iter().find(|(name, _)| *name == file.path);
            let anew = anew.map_or("", |(_, encoding)| match encoding {
                ukikit_creds::Encoding::Base64 => ", now in Base64",
                ukikit_creds::Encoding::Binary => ", now binary",
            });
            out.note(format_args!(
                "carrying {} from {from} to {}{anew}",
                file.path, self.to
            ));
        }
    }

    /// What the new UKI could not read or would skip.
    fn refuse_errors(&self, carried: &Carried, out: &mut Output) -> Result<()> {
        let findings = carried.findings.0.iter();
        let errors: Vec<_> = findings
            .filter(|found| found.level == Level::Error)
            .collect();
        for found in &errors {
            let said = format!("{}: {} [{}]", found.file, found.reason, found.rule);
            if self.force {
                out.warning(said);
            } else {
                out.error(&anyhow!(said));
            }
        }
        if errors.is_empty() || self.force {
            return Ok(());
        }
        let error = anyhow!(
            "the companions of this host would not work with `{}`",
            self.to
        );
        let hint = "put a newer file of that name into extras.d, or remove the old one with `ukikit esp remove`";
        Err(with_hint(error, hint))
    }

    /// kernel-install copies without looking.
    fn check_room(&self, esp: &Esp, uki: &[u8], carried: &Carried) -> Result<()> {
        let sizes = carried.files.iter().map(|file| file.content.len());
        let taken = esp.taken(sizes.chain([uki.len()]))?;
        let (free, keep) = (esp.free()?, self.keep_free);
        ensure!(
            taken.checked_add(keep).is_some_and(|needed| needed <= free),
            "no room for `{}`: with its companions it takes {taken} bytes, `{}` has {free} free, of which {keep} have to stay",
            self.to,
            esp.root().display()
        );
        Ok(())
    }
}

/// The companions beside a UKI.
fn own(esp: &Esp, uki: &UkiPath) -> Result<Vec<File>> {
    Ok(esp.boot_files(uki, &[])?.own)
}

/// A UKI that has no companions of its own.
fn nobody() -> Result<UkiPath> {
    Ok("EFI/Linux/ukikit.none".parse()?)
}

/// The files of all directories of extras, each name from the first that has it.
fn extras(directories: &[PathBuf]) -> Result<Vec<File>> {
    let mut found: Vec<File> = Vec::new();
    for directory in directories.iter().filter(|directory| directory.is_dir()) {
        for (name, path) in names_in(directory)? {
            if !found.iter().any(|file| file.path == name) {
                let content =
                    fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
                found.push(File::new(name, content));
            }
        }
    }
    Ok(found)
}

fn names_in(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let cannot_read = || format!("cannot read `{}`", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(cannot_read)? {
        let path = entry.with_context(cannot_read)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let taken = Kind::taken_by_stub(name.as_ref()).is_ok()
            && EXTRAS.iter().any(|suffix| name.ends_with(suffix));
        if taken && path.is_file() {
            names.push((name, path));
        }
    }
    names.sort();
    Ok(names)
}
