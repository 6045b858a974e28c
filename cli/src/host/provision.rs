//! Which image, if any, brings what a recipe has: told by files, not by names, since an image may hold several recipes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Cursor;

use anyhow::{Context, Result};
use serde::Serialize;
use ukikit_sysext::recipe::{CredentialUse, Feature};
use ukikit_sysext::{Image, Tree};

/// A recipe that the host needs, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Provision {
    /// The recipe.
    pub recipe: String,
    /// The tables of the host file, or the recipes, that ask for it.
    pub because: Vec<String>,
    /// What brings it.
    pub by: By,
}

/// What brings a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum By {
    /// The initrd of the UKI has it.
    Initrd,
    /// This image, by its path on the ESP.
    Image(String),
    /// Nothing: these are not there.
    Missing(Vec<String>),
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Initrd => f.write_str("the initrd"),
            Self::Image(path) => f.write_str(path),
            Self::Missing(what) => write!(f, "nothing: no {}", what.join(", ")),
        }
    }
}

/// The names of what a tree holds below usr/.
struct Holdings {
    image: Option<String>,
    paths: BTreeSet<Vec<u8>>,
    names: BTreeSet<Vec<u8>>,
}

impl Holdings {
    fn of(image: Option<&str>, tree: &Tree) -> Self {
        let files = tree.iter().filter(|(_, entry)| !entry.is_directory());
        let paths: BTreeSet<Vec<u8>> = files.map(|(path, _)| path.to_vec()).collect();
        let name = |path: &Vec<u8>| {
            path.rsplit(|byte| *byte == b'/')
                .next()
                .unwrap_or_default()
                .to_vec()
        };
        let names = paths.iter().map(name).collect();
        Self {
            image: image.map(ToOwned::to_owned),
            paths,
            names,
        }
    }

    /// A program by its name or path, or a file by its path.
    fn has(&self, what: &str) -> bool {
        let what = what.trim_start_matches('/').as_bytes();
        self.paths.contains(what) || !what.contains(&b'/') && self.names.contains(what)
    }
}

/// Where each recipe comes from. `recipes` has the recipes with what asks for them, `credentials` the names of those the host gets, `images` the bytes of the images by
/// their path.
///
/// # Errors
///
/// A recipe that does not exist, an image that cannot be read.
pub(crate) fn provisions<'i>(
    recipes: &BTreeMap<String, Vec<String>>,
    credentials: &[&str],
    base: &Tree,
    images: impl Iterator<Item = (&'i str, &'i [u8])>,
) -> Result<Vec<Provision>> {
    let mut all = vec![Holdings::of(None, base)];
    for (path, content) in images {
        let tree = Image::open(Cursor::new(content.to_vec())).and_then(|image| image.tree());
        let tree = tree.with_context(|| format!("cannot read `{path}`"))?;
        all.push(Holdings::of(Some(path), &tree));
    }
    let wanted = with_needs(recipes)?.into_iter();
    let found = wanted.map(|(feature, because)| provision(&feature, because, &all, credentials));
    Ok(found.collect())
}

/// The recipes, and those they need, in the order of their names.
fn with_needs(recipes: &BTreeMap<String, Vec<String>>) -> Result<Vec<(Feature, Vec<String>)>> {
    let mut wanted = recipes.clone();
    let mut found = BTreeMap::new();
    while let Some((name, because)) = wanted.pop_first() {
        let feature = Feature::find(&name).with_context(|| because.join(", "))?;
        for other in &feature.recipe.needs {
            if !found.contains_key(other) && !wanted.contains_key(other) {
                wanted.insert(other.clone(), vec![format!("recipe {name}")]);
            }
        }
        found.insert(name, (feature, because));
    }
    Ok(found.into_values().collect())
}

fn provision(
    feature: &Feature,
    because: Vec<String>,
    all: &[Holdings],
    credentials: &[&str],
) -> Provision {
    let recipe = &feature.recipe;
    // Its own units are there for the credentials that only they read.
    let reads = |used: &CredentialUse| {
        used.required && credentials.iter().any(|name| is_named(&used.name, name))
    };
    let own = feature
        .tree
        .iter()
        .filter(|(_, entry)| !entry.is_directory());
    let own = own.map(|(path, _)| String::from_utf8_lossy(path).into_owned());
    let own = own.filter(|_| recipe.credentials.iter().any(reads));
    let telling: Vec<String> = own
        .chain(recipe.files.iter().cloned())
        .chain(recipe.programs.iter().cloned())
        .collect();
    let missing = telling
        .iter()
        .filter(|what| !all.iter().any(|holdings| holdings.has(what)));
    let missing: Vec<String> = missing.cloned().collect();
    // What the initrd has of it, an image does not repeat.
    let by_image = || telling.iter().find_map(|what| holder(what, all));
    let by = match (missing.is_empty(), by_image()) {
        (false, _) => By::Missing(missing),
        (true, Some(image)) => By::Image(image),
        (true, None) => By::Initrd,
    };
    Provision {
        recipe: feature.name.clone(),
        because,
        by,
    }
}

/// The image that brings what the initrd lacks.
fn holder(what: &str, all: &[Holdings]) -> Option<String> {
    let holder = all.iter().find(|holdings| holdings.has(what))?;
    holder.image.clone()
}

/// Whether a name is one that a recipe reads; `*` stands for any ending.
pub(crate) fn is_named(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}
