//! `ukikit cred encrypt`

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use ukikit_creds::{
    Credential, EncryptedCredential, LINE, Name, PLAINTEXT_MAX, Secret, Timestamp, UNIT_LINE,
};

use super::judgement::check_content;
use super::summary::Summary;
use super::wish::{Recipe, Wish};
use super::{Encoding, name};
use crate::file;
use crate::output::Output;
use crate::system;

#[derive(Debug, Args)]
pub(crate) struct Encrypt {
    /// The plaintext, or - for standard input
    input: PathBuf,
    /// Where the credential goes, or - for standard output
    output: PathBuf,
    /// The name it will be read under; empty for none [default: the output's file name without .cred]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    wish: Wish,
    /// Write a line for a unit file
    #[arg(short, long)]
    pretty: bool,
}

impl Encrypt {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        let recipe = self.recipe(out)?;
        let credential = self.credential(&recipe)?;
        let encrypted = self.wish.encrypt(&recipe, &credential, out)?;
        let text = match recipe.encoding {
            Encoding::Binary => encrypted.as_bytes().to_vec(),
            Encoding::Base64 => self.text(&recipe, &encrypted).into_bytes(),
        };
        self.wish.check_size(&recipe, text.len(), out)?;
        if !self.wish.dry_run {
            file::write(&self.output, &text, out)?;
        }
        let (encrypted, encoding) = (&encrypted, recipe.encoding);
        out.note(format_args!(
            "{}: {}",
            file::shown_output(&self.output),
            Summary {
                encrypted,
                encoding
            }
        ));
        Ok(())
    }

    fn recipe(&self, out: &mut Output) -> Result<Recipe> {
        let name = name(self.name.as_deref(), &self.output)?;
        match &name {
            None if self.name.is_none() => out
                .warning("no name is embedded; --name= gives one, or an empty one to silence this"),
            Some(name) if name.as_str().ends_with(".cred") => out.warning(format_args!(
                "the embedded name {name} ends in .cred, which systemd cuts off the file's name"
            )),
            _ => {}
        }
        let mut kind = self.wish.keys(out)?;
        kind.scoped = self.wish.machine.uid.is_some();
        kind.pinned = kind.tpm && self.wish.is_pinned().unwrap_or(false);
        let signed = self.wish.signed_policy(kind)?;
        let recipe = self.wish.recipe(kind, name, signed, out)?;
        if self.pretty && recipe.encoding == Encoding::Binary {
            bail!("--pretty writes text, and the encoding is binary");
        }
        Ok(recipe)
    }

    fn credential(&self, recipe: &Recipe) -> Result<Credential> {
        let now = Timestamp::from_micros(system::now_micros());
        let made = self.wish.timestamp()?.unwrap_or(now);
        let plaintext = file::read(&self.input, PLAINTEXT_MAX)?;
        if !self.wish.force {
            check_content(recipe.name.as_ref(), &plaintext)?;
        }
        let mut credential =
            Credential::new(recipe.name.clone(), made, Secret::copied_from(&plaintext));
        credential.not_after = self.wish.not_after()?;
        credential.scope = self.wish.machine.scope()?;
        Ok(credential)
    }

    fn text(&self, recipe: &Recipe, encrypted: &EncryptedCredential) -> String {
        if !self.pretty {
            return encrypted.to_text(LINE);
        }
        let text = encrypted.to_text(UNIT_LINE);
        match &recipe.name {
            Some(name) if file::is_pipe(&self.output) => unit_line(name, &text),
            _ => text,
        }
    }
}

/// `SetCredentialEncrypted=` with its value in continued, indented lines.
fn unit_line(name: &Name, text: &str) -> String {
    let name = name.as_str().replace('\\', "\\\\");
    let lines: Vec<&str> = text.lines().collect();
    format!(
        "SetCredentialEncrypted={name}: \\\n        {}\n",
        lines.join(" \\\n        ")
    )
}
