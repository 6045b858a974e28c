//! `ukikit uki inspect`

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use ukikit::Inspection;
use ukikit_sysext::initrd::{Facts, Kernel, Lack, Support};

use crate::file;
use crate::output::{Json, Output};

/// The version of the JSON; it changes when a member changes its meaning or goes.
const SCHEMA: u32 = 1;
/// UKIs with large initrds stay well below.
const LARGEST: usize = 1 << 30;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A UKI or an initrd; `-` is standard input
    file: PathBuf,
    /// How to print it
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl Inspect {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let bytes = file::read(&self.file, LARGEST)?;
        let inspection = Inspection::of_file(&bytes)
            .with_context(|| format!("cannot inspect {}", file::shown_input(&self.file)))?;
        let lacks = inspection.facts.lacks();
        let inspected = Inspected {
            schema: SCHEMA,
            file: &self.file,
            inspection,
            lacks,
        };
        out.show(&inspected, self.json)
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Inspected<'a> {
    schema: u32,
    file: &'a Path,
    #[serde(flatten)]
    inspection: Inspection,
    /// What keeps extensions from being merged.
    lacks: Vec<Lack>,
}

impl fmt::Display for Inspected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inspection {
            architecture,
            uname,
            cmdline,
            facts,
            ..
        } = &self.inspection;
        let mut line = |title: &str, value: &dyn fmt::Display| writeln!(f, "{title:<14} {value}");
        if let Some(architecture) = architecture {
            line("architecture", architecture)?;
        }
        if let Some(uname) = uname {
            line("kernel", uname)?;
        }
        if let Some(cmdline) = cmdline {
            line("command line", cmdline)?;
        }
        write_facts(f, facts)?;
        self.lacks.iter().try_for_each(|lack| {
            writeln!(f, "{:<14} {}", "lacks", lack.what)?;
            writeln!(f, "{:<14}   {}", "", lack.remedy)
        })
    }
}

fn write_facts(f: &mut fmt::Formatter<'_>, facts: &Facts) -> fmt::Result {
    for (at, (key, value)) in facts.release.iter().flat_map(|all| all.iter()).enumerate() {
        let title = if at == 0 { "release" } else { "" };
        writeln!(f, "{title:<14} {key}={value}")?;
    }
    if let Some(version) = facts.systemd {
        writeln!(f, "{:<14} {version}", "systemd")?;
    }
    if let Some(dracut) = &facts.dracut {
        let version = dracut.version.as_deref().unwrap_or("unknown");
        writeln!(
            f,
            "{:<14} {version}: {}",
            "dracut",
            dracut.modules.join(" ")
        )?;
    }
    for kernel in &facts.kernels {
        write_kernel(f, kernel)?;
    }
    let libraries = if facts.tpm_libraries { "yes" } else { "no" };
    writeln!(f, "{:<14} {libraries}", "TPM libraries")?;
    for certificate in facts.certificates.iter() {
        let (subject, fingerprint) = (certificate.subject(), certificate.fingerprint());
        writeln!(f, "{:<14} {subject} {fingerprint}", "trusts")?;
    }
    Ok(())
}

fn write_kernel(f: &mut fmt::Formatter<'_>, kernel: &Kernel) -> fmt::Result {
    writeln!(f, "{:<14} {}", "modules for", kernel.version)?;
    for (driver, support) in kernel.drivers() {
        let word = match support {
            Support::Module => "module",
            Support::BuiltIn => "built in",
            Support::Missing => "missing",
            _ => "unknown",
        };
        write!(f, "{:<14} {driver}: {word}", "")?;
        if let (Some(codecs), "erofs") = (&kernel.erofs_codecs, driver) {
            let codecs: Vec<_> = codecs.iter().map(|codec| codec.as_str()).collect();
            write!(f, ", unpacks {}", codecs.join(" "))?;
        }
        writeln!(f)?;
    }
    Ok(())
}
