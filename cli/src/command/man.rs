//! `ukikit man`: a page for the program, each noun and each verb, from the definitions that parse the command line.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::{definition, examples};
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Where they go; it is made if missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// The section of manuals for commands.
const SECTION: &str = "1";

impl Man {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let write = || -> io::Result<usize> {
            fs::create_dir_all(&self.directory)?;
            let pages = pages()?;
            for (name, page) in &pages {
                fs::write(self.directory.join(format!("{name}.{SECTION}")), page)?;
            }
            Ok(pages.len())
        };
        let shown = self.directory.display();
        let count = write().with_context(|| format!("cannot write man pages to `{shown}`"))?;
        out.note(format_args!("wrote {count} man pages to {shown}"));
        Ok(())
    }
}

/// All pages by name, `ukikit-ext-build` for `ukikit ext build`.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut program = definition().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    add(&program, &[], &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, above: &[&str], pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let words: Vec<&str> = above.iter().copied().chain([command.get_name()]).collect();
    pages.push((words.join("-"), page(command, &words)?));
    for below in command.get_subcommands() {
        add(below, &words, pages)?;
    }
    Ok(())
}

fn page(command: &Command, words: &[&str]) -> io::Result<Vec<u8>> {
    let name = words.join("-");
    // No date: the same definitions give the same page.
    let man = clap_mangen::Man::new(command.clone().display_name(&name))
        .title(name.to_uppercase())
        .section(SECTION)
        .manual("ukikit")
        .source(concat!("ukikit ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let verb = words.get(1..).unwrap_or_default().join(" ");
    end(&verb, words).to_writer(&mut page)?;
    Ok(page)
}

/// What every page has below its options.
fn end(verb: &str, words: &[&str]) -> Roff {
    let mut roff = Roff::new();
    let examples = examples::of(verb);
    if !examples.is_empty() {
        roff.control("SH", ["EXAMPLES"]);
    }
    for (what, line) in examples {
        roff.control("PP", []);
        roff.text([roman(format!("{what}:"))]);
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.text([bold(*line)]);
        roff.control("RE", []);
    }
    roff.control("SH", ["EXIT STATUS"]);
    roff.text([roman(
        "0 done; 1 failed, or found what makes it fail; 2 wrong usage.",
    )]);
    roff.control("SH", ["SEE ALSO"]);
    roff.text(see_also(words));
    roff
}

fn see_also(words: &[&str]) -> Vec<clap_mangen::roff::Inline> {
    let above = words
        .get(..words.len().saturating_sub(1))
        .unwrap_or_default();
    let mut pages: Vec<String> = (1..=above.len())
        .filter_map(|count| above.get(..count))
        .map(|words| words.join("-"))
        .collect();
    pages.extend(["systemd-creds", "systemd-sysext"].map(str::to_owned));
    let mut line = Vec::new();
    for (at, page) in pages.into_iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let section = if page == "systemd-sysext" {
            "8"
        } else {
            SECTION
        };
        line.extend([roman(comma), bold(page), roman(format!("({section})"))]);
    }
    line.extend([roman("; the manual in "), italic("/usr/share/doc/ukikit")]);
    line
}
