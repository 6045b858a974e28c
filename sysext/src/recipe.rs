//! Features as data: what to take of a system, which units start it, which credentials it reads.
//!
//! ```text
//! NAME/recipe.toml      the keys of Recipe
//! NAME/tree/…           files of its own, as they appear in the initrd
//! ```
//!
//! Shipped ones are part of the library; those of a packager lie in a directory.

mod shipped;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::collect::Wishes;
use crate::{Entry, Error, Tree, startup};

/// Bytes of a recipe's text.
const LONGEST: u64 = 1 << 20;

/// A feature of an initrd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all(serialize = "camelCase", deserialize = "kebab-case")
)]
#[non_exhaustive]
pub struct Recipe {
    /// What it is for, in one line.
    pub summary: String,
    /// What a reader has to know, some paragraphs.
    #[serde(default)]
    pub documentation: String,
    /// Recipes whose extension must be there too.
    #[serde(default)]
    pub needs: Vec<String>,
    /// dracut's modules with the same feature, to compare.
    #[serde(default)]
    pub dracut: Vec<String>,
    /// Whether it has to be there before extensions are merged, so that only an addon can bring it.
    #[serde(default)]
    pub early: bool,
    /// Programs, by their name or absolute path.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Libraries that programs open while they run, by their file name; `*` stands for any ending.
    #[serde(default)]
    pub libraries: Vec<String>,
    /// Files and directories, by their path without a leading slash.
    #[serde(default)]
    pub files: Vec<String>,
    /// The same, taken when the system has them: distributions differ in names.
    #[serde(default)]
    pub optional_files: Vec<String>,
    /// Of each of these lists the first file that the system has: versions of systemd differ in names.
    #[serde(default)]
    pub either: Vec<Vec<String>>,
    /// Kernel modules it cannot do without.
    #[serde(default)]
    pub drivers: Vec<String>,
    /// Kernel modules that are taken when the kernel has them.
    #[serde(default)]
    pub optional_drivers: Vec<String>,
    /// Units that are started: after the merge, or by an addon as the initrd starts.
    #[serde(default)]
    pub start: Vec<String>,
    /// The same, started when the system has them: versions of systemd differ in names.
    #[serde(default)]
    pub optional_start: Vec<String>,
    /// What it reads.
    #[serde(default, rename(deserialize = "credential"))]
    pub credentials: Vec<CredentialUse>,
}

/// A credential that a recipe's units read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all(serialize = "camelCase", deserialize = "kebab-case")
)]
#[non_exhaustive]
pub struct CredentialUse {
    /// Its name; `*` stands for any ending.
    pub name: String,
    /// Whether the feature does nothing without it.
    #[serde(default)]
    pub required: bool,
    /// Whether it holds a secret, so that it should be sealed.
    #[serde(default)]
    pub secret: bool,
    /// How its text is read.
    pub format: String,
    /// A text that works.
    pub example: String,
}

/// A recipe by its name, with the files it brings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// What it takes and starts.
    pub recipe: Recipe,
    /// Its own files.
    pub tree: Tree,
}

impl Recipe {
    /// Reads a `recipe.toml`.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] with the place of an unknown key or wrong value.
    pub fn parse(text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| Error::value(error.message().to_owned()))
    }
}

impl Feature {
    /// The names of the shipped ones, sorted.
    pub fn shipped() -> impl Iterator<Item = &'static str> {
        shipped::SHIPPED.iter().map(|(name, _)| *name)
    }

    /// A shipped one.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] when there is none of this name.
    pub fn find(name: &str) -> Result<Self, Error> {
        let found = shipped::SHIPPED
            .iter()
            .find(|(shipped, _)| *shipped == name);
        let (_, files) =
            found.ok_or_else(|| Error::value(format!("there is no recipe `{name}`")))?;
        let mut feature = Self {
            name: name.to_owned(),
            recipe: Recipe::default(),
            tree: Tree::new(),
        };
        for (path, text) in *files {
            match path.strip_prefix("tree/") {
                None => feature.recipe = Recipe::parse(text)?,
                Some(path) => feature.tree.insert(path, own_file(text))?,
            }
        }
        Ok(feature)
    }

    /// The one in the directory `place`, which is named after it.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] for what cannot be read, [`Error::Value`] for a text that is no recipe.
    pub fn read(place: &Path) -> Result<Self, Error> {
        let path = place.join("recipe.toml");
        let cannot = |source| Error::Read {
            path: path.clone(),
            source,
        };
        let size = std::fs::metadata(&path).map_err(cannot)?.len();
        if size > LONGEST {
            return Err(cannot(std::io::Error::other("is longer than 1 MiB")));
        }
        let text = std::fs::read_to_string(&path).map_err(cannot)?;
        let recipe = Recipe::parse(&text)
            .map_err(|error| Error::value(format!("`{}`: {error}", path.display())))?;
        let files = place.join("tree");
        let tree = if files.exists() {
            Tree::read(&files)?
        } else {
            Tree::new()
        };
        let name = place.file_name().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            recipe,
            tree,
        })
    }

    /// The units that it starts in `tree`, its files over those of `base`.
    pub fn starts<'a>(
        &'a self,
        tree: &'a Tree,
        base: &'a Tree,
    ) -> impl Iterator<Item = &'a String> {
        let recipe = &self.recipe;
        let optional = recipe.optional_start.iter();
        let there = optional.filter(|unit| startup::has_unit(tree, base, unit));
        recipe.start.iter().chain(there)
    }

    /// What it takes of a system, for a kernel.
    pub fn wishes(&self, kernel: Option<&str>) -> Wishes {
        let Recipe {
            programs,
            libraries,
            files,
            optional_files,
            either,
            drivers,
            optional_drivers,
            ..
        } = self.recipe.clone();
        Wishes {
            programs,
            libraries,
            files,
            optional_files,
            either,
            drivers,
            optional_drivers,
            kernel: kernel.map(ToOwned::to_owned),
        }
    }
}

/// Scripts can be run.
fn own_file(text: &str) -> Entry {
    let mut entry = Entry::file(text);
    if text.starts_with("#!") {
        entry.mode = 0o755;
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shipped_ones_are_sound() {
        for name in Feature::shipped() {
            let feature = Feature::find(name).unwrap();
            assert!(!feature.recipe.summary.is_empty(), "{name}");
            assert!(!feature.recipe.documentation.is_empty(), "{name}");
            for other in &feature.recipe.needs {
                assert!(
                    Feature::shipped().any(|name| name == other),
                    "{name} needs {other}"
                );
            }
        }
        assert_eq!(
            Feature::find("nonsense").unwrap_err().to_string(),
            "there is no recipe `nonsense`"
        );
    }

    #[test]
    fn the_directory_holds_what_is_shipped() {
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let mut names: Vec<String> = std::fs::read_dir(&place)
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, Feature::shipped().collect::<Vec<_>>());
        for name in names {
            let (kept, shipped) = (
                Feature::read(&place.join(&name)).unwrap(),
                Feature::find(&name).unwrap(),
            );
            assert_eq!(kept.recipe, shipped.recipe);
            let files = |tree: &Tree| {
                let files = tree.iter().filter(|(_, entry)| !entry.is_directory());
                files.map(|(path, _)| path.to_vec()).collect::<Vec<_>>()
            };
            assert_eq!(files(&kept.tree), files(&shipped.tree), "{name}");
        }
    }

    #[test]
    fn units_that_may_be_missing_start_when_they_are_there() {
        let mut feature = Feature::find("lvm").unwrap();
        feature.recipe.start = vec!["always.service".to_owned()];
        feature.recipe.optional_start = ["a@b.service", "own.service", "none.service"]
            .map(ToOwned::to_owned)
            .to_vec();
        let (mut tree, mut base) = (Tree::new(), Tree::new());
        let units = "usr/lib/systemd/system";
        tree.insert(format!("{units}/own.service"), Entry::file(""))
            .unwrap();
        base.insert(format!("{units}/a@.service"), Entry::file(""))
            .unwrap();
        let starts: Vec<&String> = feature.starts(&tree, &base).collect();
        assert_eq!(starts, ["always.service", "a@b.service", "own.service"]);
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = Recipe::parse("summary = \"a\"\ndriver = []\n").unwrap_err();
        assert!(
            error.to_string().starts_with("unknown field `driver`"),
            "{error}"
        );
    }
}
