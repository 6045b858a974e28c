//! The file an addon goes to, and what is told of it: shared by all verbs that make one.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use sha2::{Digest, Sha256};
use ukikit_esp::{AddonImage, Kind, Name, Sbat};

use super::SCHEMA;

const SUFFIX: &str = ".addon.efi";

/// The name of the addon, from the file it is to become: what stands before `.addon.efi`.
pub(crate) fn name_of(path: &Path) -> Result<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(stem) = name.strip_suffix(SUFFIX).filter(|stem| !stem.is_empty()) else {
        bail!("`{name}` is not called NAME{SUFFIX}, and the stub would pass over it");
    };
    let checked: Name = name.parse()?;
    debug_assert_eq!(checked.kind(), Kind::Addon);
    Ok(stem.to_owned())
}

/// Writes beside the place, flushes, renames.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(bytes)?;
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(directory)?.sync_all()
    };
    write().with_context(|| format!("cannot write `{}`", path.display()))
}

/// What was made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Made {
    schema: u32,
    output: PathBuf,
    written: bool,
    architecture: &'static str,
    /// Of the file, in bytes.
    size: usize,
    uname: Option<String>,
    sbat: Sbat,
    /// What the stub measures of it, each part by itself, all into PCR 12.
    measured: Vec<&'static str>,
    /// What PCR 12 is extended by for the initrd, in the bank sha256; the other parts are measured with those of other addons.
    #[serde(rename = "initrdSha256")]
    initrd_sha256: Option<String>,
}

impl Made {
    pub(crate) fn new(output: &Path, addon: &AddonImage, size: usize, written: bool) -> Self {
        let parts = [
            ("command line", addon.cmdline.is_some()),
            ("devicetree", addon.dtb.is_some()),
            ("microcode", addon.ucode.is_some()),
            ("initrd", addon.initrd.is_some()),
        ];
        let present = parts.into_iter().filter(|(_, present)| *present);
        Self {
            schema: SCHEMA,
            output: output.to_owned(),
            written,
            architecture: addon.architecture.name(),
            size,
            uname: addon.uname.clone(),
            sbat: addon.sbat.clone(),
            measured: present.map(|(part, _)| part).collect(),
            initrd_sha256: addon
                .initrd
                .as_ref()
                .map(|initrd| hex::encode(Sha256::digest(initrd))),
        }
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let note = if self.written { "" } else { " (not written)" };
        writeln!(f, "addon         {}{note}", self.output.display())?;
        writeln!(f, "size          {}", self.size)?;
        writeln!(f, "architecture  {}", self.architecture)?;
        if let Some(uname) = &self.uname {
            writeln!(f, "kernel        {uname}")?;
        }
        for entry in self
            .sbat
            .entries()
            .iter()
            .filter(|entry| entry.component != "sbat")
        {
            writeln!(
                f,
                "sbat          {}, generation {}",
                entry.component, entry.generation
            )?;
        }
        writeln!(f, "PCR 12        {}", self.measured.join(", "))?;
        match &self.initrd_sha256 {
            Some(digest) => writeln!(f, "              initrd SHA-256 {digest}"),
            None => Ok(()),
        }
    }
}
