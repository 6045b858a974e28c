//! `ukikit publish`: a directory that any web server can serve to systemd-sysupdate (sysupdate.d(5)).
//!
//! ```text
//! DIR/NAME_VERSION.sysext.raw       the images, of as many versions as there are
//! DIR/SHA256SUMS                    of all of them
//! DIR/sysupdate.d/NAME.transfer     for the hosts: what to pull, and the link in extras.d that says which is the one
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::file::Draft;
use crate::output::{Json, Output};

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The directory to serve; it is made, and older versions in it stay
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Extension images: NAME.sysext.raw or NAME.confext.raw
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Their version; systemd-sysupdate takes the highest
    #[arg(long = "image-version", value_name = "VERSION", value_parser = version)]
    version: String,
    /// Where hosts will find the directory
    #[arg(long, value_name = "URL", value_parser = url)]
    url: String,
    /// How many versions a host keeps
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..))]
    instances: u8,
    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print what was published as JSON
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    json: Json,
}

const SUFFIXES: [&str; 2] = [".sysext.raw", ".confext.raw"];
const SUMS: &str = "SHA256SUMS";
/// Where a host keeps what it pulled.
const PULLED: &str = "/var/lib/ukikit/updates";
/// Where kernel-install's plugin and bootctl look.
const EXTRAS: &str = "/var/lib/systemd/uki/extras.d";

impl Publish {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let mut sums = self.sums()?;
        let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        let mut published = Vec::new();
        for path in &self.images {
            let image = Image::of(path)?;
            let content =
                fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
            let name = image.versioned(&self.version);
            let sum = hex::encode(Sha256::digest(&content));
            if let Some(known) = sums.insert(name.clone(), sum.clone()) {
                ensure!(
                    known == sum,
                    "`{name}` is published already, with other content: give it a higher --image-version="
                );
            }
            files.push((self.directory.join(&name), content));
            let transfer = self
                .directory
                .join("sysupdate.d")
                .join(format!("{}.transfer", image.name));
            files.push((transfer, self.transfer(&image).into_bytes()));
            published.push(Row { name, sha256: sum });
        }
        let sums: String = sums
            .iter()
            .map(|(name, sum)| format!("{sum}  {name}\n"))
            .collect();
        // What refers to the others comes last: no host sees a sum without its image.
        files.push((self.directory.join(SUMS), sums.into_bytes()));
        if !self.dry_run {
            let below = self.directory.join("sysupdate.d");
            fs::create_dir_all(&below)
                .with_context(|| format!("cannot make `{}`", below.display()))?;
            for (path, content) in &files {
                write(path, content)?;
            }
        }
        let report = Report {
            schema: 1,
            applied: !self.dry_run,
            published,
        };
        out.show(&report, self.json)
    }

    /// Those of before.
    fn sums(&self) -> Result<BTreeMap<String, String>> {
        let path = self.directory.join(SUMS);
        if !path.exists() {
            return Ok(BTreeMap::new());
        }
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        let line = |line: &str| {
            let (sum, name) = line.split_once(' ')?;
            let name = name.strip_prefix([' ', '*'])?;
            Some((name.to_owned(), sum.to_owned()))
        };
        let lines: Option<BTreeMap<String, String>> = text.lines().map(line).collect();
        lines.with_context(|| format!("`{}` is not a list of sums", path.display()))
    }

    /// The name of an image is that of its release file, so the version cannot be in it: a link without one is what is used.
    fn transfer(&self, image: &Image) -> String {
        let Image { name, suffix } = image;
        let (url, instances) = (&self.url, self.instances);
        format!(
            "[Transfer]\n\
             # The image is signed itself, and whoever merges it checks that.\n\
             Verify=no\n\n\
             [Source]\nType=url-file\nPath={url}\nMatchPattern={name}_@v{suffix}\n\n\
             [Target]\nType=regular-file\nPath={PULLED}\nMatchPattern={name}_@v{suffix}\n\
             CurrentSymlink={EXTRAS}/{name}{suffix}\nMode=0644\nInstancesMax={instances}\n"
        )
    }
}

/// An image by its file name.
struct Image {
    name: String,
    suffix: &'static str,
}

impl Image {
    fn of(path: &Path) -> Result<Self> {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let parts = SUFFIXES
            .iter()
            .find_map(|suffix| Some((file.strip_suffix(suffix)?, *suffix)));
        let Some((name, suffix)) = parts.filter(|(name, _)| !name.is_empty()) else {
            bail!(
                "`{}` cannot be published: its name has to be NAME.sysext.raw or NAME.confext.raw",
                path.display()
            );
        };
        // A pattern of sysupdate.d(5) has its own meaning for these.
        ensure!(
            !name.contains(['@', '%', '_', '/']),
            "`{file}` cannot be published: `@`, `%` and `_` have a meaning in patterns"
        );
        file.parse::<ukikit_esp::Name>()?;
        Ok(Self {
            name: name.to_owned(),
            suffix,
        })
    }

    fn versioned(&self, version: &str) -> String {
        format!("{}_{version}{}", self.name, self.suffix)
    }
}

/// For everybody to read, whole or not at all.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    let write = || {
        let mut draft = Draft::of(path)?;
        std::io::Write::write_all(draft.content(), content)?;
        draft.finish(0o644)
    };
    write().with_context(|| format!("cannot write `{}`", path.display()))
}

/// As systemd takes versions.
fn version(text: &str) -> Result<String, String> {
    let good = |char: char| char.is_ascii_alphanumeric() || "-.+~^".contains(char);
    if text.is_empty() || !text.chars().all(good) {
        return Err("a version is made of letters, digits and any of - . + ~ ^".to_owned());
    }
    Ok(text.to_owned())
}

fn url(text: &str) -> Result<String, String> {
    let known = ["http://", "https://", "file://"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    if !known || text.contains(char::is_whitespace) {
        return Err("give it as https://HOST/PATH/".to_owned());
    }
    Ok(format!("{}/", text.trim_end_matches('/')))
}

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    applied: bool,
    published: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    sha256: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = self.published.iter();
        rows.try_for_each(|Row { name, sha256 }| writeln!(f, "{sha256}  {name}"))
    }
}
