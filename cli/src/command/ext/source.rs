//! Where the files of an extension come from: a tree, recipes, drivers, another initrd - less what the base has.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use ukikit::{Base, Initrd};
use ukikit_sysext::adapt::{self, Step};
use ukikit_sysext::recipe::Feature;
use ukikit_sysext::{Error, Name, Release, System, Tree, Wishes, needs, startup};

use crate::file;
use crate::output::{Output, with_hint};

/// UKIs with large initrds stay well below.
const LARGEST: usize = 1 << 30;

#[derive(Debug, Args)]
#[group(id = "source", required = true, multiple = true)]
pub(crate) struct Source {
    /// Directory with the files, as they are to appear below /
    #[arg(long, value_name = "DIR")]
    tree: Option<PathBuf>,
    /// A feature by its recipe, taken from the system at --root=; may be given several times
    #[arg(long, value_name = "NAME")]
    recipe: Vec<String>,
    /// A kernel module with its dependencies and firmware, taken from the system at --root=
    #[arg(long, value_name = "NAME")]
    kernel_module: Vec<String>,
    /// What this initrd has beyond the base
    #[arg(long, value_name = "FILE", conflicts_with = "tree")]
    initrd: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Taking {
    /// The system whose packages the base was made from
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Directory with recipes of your own: NAME/recipe.toml and NAME/tree
    #[arg(long, value_name = "DIR")]
    recipes: Option<PathBuf>,
    /// Print what becomes of each file
    #[arg(long)]
    explain: bool,
}

/// The files, and what the release file has to say because of them.
pub(crate) struct Taken {
    pub(crate) tree: Tree,
    pub(crate) release: Vec<startup::Field>,
}

impl Source {
    /// A tree alone is its author's business, unless there is an initrd to compare it with.
    pub(crate) fn take(
        &self,
        taking: &Taking,
        name: &Name,
        base: Option<&Base>,
        out: &mut Output,
    ) -> Result<Taken> {
        let tree = self.tree.as_deref().map(Tree::read).transpose()?;
        let initrd = base.and_then(|base| base.initrd.as_ref());
        let only_tree =
            self.recipe.is_empty() && self.kernel_module.is_empty() && self.initrd.is_none();
        let Some(initrd) = initrd else {
            return match tree {
                Some(tree) if only_tree => Ok(Taken {
                    tree,
                    release: Vec::new(),
                }),
                _ => Err(with_hint(
                    anyhow!("what an extension has to bring depends on the initrd it is for"),
                    "give --uki= or, with an initrd, --base=",
                )),
            };
        };
        let kernel = base
            .and_then(Base::kernel)
            .map(|kernel| kernel.version.as_str());
        let features = self.features(taking)?;
        let mut content = tree.unwrap_or_default();
        if let Some(path) = &self.initrd {
            add(&mut content, &read_initrd(path)?)?;
        }
        self.collect(taking, &features, kernel, initrd, &mut content)?;
        let adapted = adapt::adapt(&content, &initrd.tree, &initrd.facts, name);
        let adapted = adapted.map_err(|error| explained(error, "not an extension of this base"))?;
        if taking.explain {
            explain(&adapted.steps, out)?;
        }
        let mut taken = Taken {
            tree: adapted.tree,
            release: Vec::new(),
        };
        if !only_tree {
            let start: Vec<String> = features
                .iter()
                .flat_map(|feature| feature.recipe.start.clone())
                .collect();
            taken
                .release
                .extend(startup::add(&mut taken.tree, name, &start)?);
        }
        self.tell_needs(&features, out);
        check(&taken, initrd)?;
        Ok(taken)
    }

    fn features(&self, taking: &Taking) -> Result<Vec<Feature>> {
        let find = |name: &String| match &taking.recipes {
            Some(place) if place.join(name).exists() => Feature::read(&place.join(name)),
            _ => Feature::find(name),
        };
        let features: Result<Vec<_>, Error> = self.recipe.iter().map(find).collect();
        features.map_err(|error| with_hint(error, "see ukikit recipe list"))
    }

    fn collect(
        &self,
        taking: &Taking,
        features: &[Feature],
        kernel: Option<&str>,
        initrd: &Initrd,
        content: &mut Tree,
    ) -> Result<()> {
        let system = System::at(&taking.root);
        for feature in features {
            let taken = system.collect(&feature.wishes(kernel), &initrd.tree);
            let taken = taken.with_context(|| format!("recipe `{}`", feature.name))?;
            add(content, &taken)?;
            add(content, &feature.tree)?;
        }
        if !self.kernel_module.is_empty() {
            let mut wishes = Wishes::default();
            wishes.drivers.clone_from(&self.kernel_module);
            wishes.kernel = kernel.map(ToOwned::to_owned);
            add(content, &system.collect(&wishes, &initrd.tree)?)?;
        }
        Ok(())
    }

    fn tell_needs(&self, features: &[Feature], out: &mut Output) {
        for feature in features {
            let needs = feature.recipe.needs.iter();
            for other in needs.filter(|other| !self.recipe.contains(other)) {
                let name = &feature.name;
                out.note(format_args!(
                    "{name} needs an extension with the recipe {other} beside it"
                ));
            }
        }
    }
}

/// Puts the files of `more` over those of `content`.
fn add(content: &mut Tree, more: &Tree) -> Result<()> {
    for (path, entry) in more.iter().filter(|(path, _)| !path.is_empty()) {
        if !(entry.is_directory() && content.get(path).is_some()) {
            content.insert(path, entry.clone())?;
        }
    }
    Ok(())
}

fn read_initrd(path: &Path) -> Result<Tree> {
    let bytes = file::read(path, LARGEST)?;
    let initrd =
        Initrd::read(&bytes).with_context(|| format!("cannot use `{}`", path.display()))?;
    Ok(initrd.tree)
}

fn check(taken: &Taken, initrd: &Initrd) -> Result<()> {
    let mut release = Release::default();
    for (key, value) in &taken.release {
        release.set(key, value)?;
    }
    let findings = needs::check(&taken.tree, &initrd.tree, &release)?;
    if findings.is_empty() {
        return Ok(());
    }
    Err(explained(
        Error::Refused { findings },
        "would not work in this base",
    ))
}

/// All reasons, one in a line.
fn explained(error: Error, summary: &str) -> anyhow::Error {
    let Error::Refused { findings } = &error else {
        return error.into();
    };
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    anyhow!("{summary}:\n  {}", lines.join("\n  "))
}

/// Lines for people, on standard error: the image's report is the data.
fn explain(steps: &[Step], out: &mut Output) -> Result<()> {
    if steps.is_empty() {
        bail!("there is nothing in it");
    }
    steps.iter().for_each(|step| out.note(step));
    Ok(())
}
