//! `ukikit recipe`: the features that extensions can be built of.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use ukikit_sysext::recipe::{Feature, Recipe};

use crate::output::{Json, Output, with_hint};

/// The version of the JSON; it changes when a member changes its meaning or goes.
const SCHEMA: u32 = 1;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// The shipped recipes
    List(List),
    /// What one takes, starts and reads
    Show(Show),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// How to print them
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its name
    name: String,
    /// Directory with recipes of your own
    #[arg(long, value_name = "DIR")]
    recipes: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_name = "FORM", default_value = "off")]
    json: Json,
}

impl Verb {
    pub(crate) fn run(self, out: &mut Output) -> Result<()> {
        match self {
            Self::List(verb) => verb.run(out),
            Self::Show(verb) => verb.run(out),
        }
    }
}

impl List {
    fn run(&self, out: &mut Output) -> Result<()> {
        let recipes = Feature::shipped().map(|name| Listed::of(Feature::find(name)));
        let listed = Listing {
            schema: SCHEMA,
            recipes: recipes.collect::<Result<_, _>>()?,
        };
        out.show(&listed, self.json)
    }
}

impl Show {
    fn run(&self, out: &mut Output) -> Result<()> {
        let own = self.recipes.as_ref().map(|place| place.join(&self.name));
        let feature = match own.filter(|place| place.exists()) {
            Some(place) => Feature::read(&place),
            None => Feature::find(&self.name),
        };
        let feature = feature.map_err(|error| with_hint(error, "see ukikit recipe list"))?;
        let shown = Shown {
            schema: SCHEMA,
            name: feature.name,
            recipe: feature.recipe,
        };
        out.show(&shown, self.json)
    }
}

#[derive(Debug, Serialize)]
struct Listing {
    schema: u32,
    recipes: Vec<Listed>,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    summary: String,
    /// Only an addon can bring it.
    early: bool,
}

impl Listed {
    fn of(feature: Result<Feature, ukikit_sysext::Error>) -> Result<Self> {
        let Feature { name, recipe, .. } = feature?;
        Ok(Self {
            name,
            summary: recipe.summary,
            early: recipe.early,
        })
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut recipes = self.recipes.iter();
        recipes.try_for_each(
            |Listed {
                 name,
                 summary,
                 early,
             }| {
                let carrier = if *early { " (in an addon)" } else { "" };
                writeln!(f, "{name:<13} {summary}{carrier}")
            },
        )
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    schema: u32,
    name: String,
    #[serde(flatten)]
    recipe: Recipe,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recipe = &self.recipe;
        writeln!(
            f,
            "{}: {}\n\n{}",
            self.name,
            recipe.summary,
            recipe.documentation.trim()
        )?;
        if recipe.early {
            writeln!(
                f,
                "\nHas to be there before extensions are merged: ukikit addon build --recipe={}",
                self.name
            )?;
        }
        for (title, words) in [
            ("needs", &recipe.needs),
            ("programs", &recipe.programs),
            ("libraries", &recipe.libraries),
            ("files", &recipe.files),
            ("if there", &recipe.optional_files),
            ("drivers", &recipe.drivers),
            ("if there", &recipe.optional_drivers),
            ("starts", &recipe.start),
            ("if there", &recipe.optional_start),
            ("dracut", &recipe.dracut),
        ] {
            if !words.is_empty() {
                writeln!(f, "\n{title:<10} {}", words.join(" "))?;
            }
        }
        for credential in &recipe.credentials {
            let secret = if credential.secret { ", secret" } else { "" };
            let required = if credential.required {
                ""
            } else {
                ", optional"
            };
            writeln!(f, "\ncredential {}{secret}{required}", credential.name)?;
            writeln!(f, "{}", credential.format)?;
            let lines = credential.example.trim().lines();
            for line in lines {
                writeln!(f, "{}", format!("    {line}").trim_end())?;
            }
        }
        Ok(())
    }
}
