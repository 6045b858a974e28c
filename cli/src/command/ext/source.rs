//! Where the files of an extension come from: a tree, recipes, drivers, dracut, another initrd - less what the base has.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use ukikit::{Base, Initrd};
use ukikit_sysext::adapt::{self, Step};
use ukikit_sysext::dracut::Dracut;
use ukikit_sysext::recipe::Feature;
use ukikit_sysext::{Error, Name, Release, System, Tree, needs, startup};

use super::started;
use crate::command::features;
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
    /// What dracut puts into an initrd for this module of its own: it is run in the system at --root= for the modules
    /// of the base and these; may be given several times, or with commas
    #[arg(long, value_name = "MODULE", value_delimiter = ',')]
    dracut: Vec<String>,
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
    /// The program dracut, by its name or path in the system at --root=
    #[arg(long, value_name = "PROGRAM", default_value = "dracut")]
    dracut_program: String,
    /// A unit to start after the merge, beside those of recipes; may be given several times
    #[arg(long, value_name = "UNIT")]
    start: Vec<String>,
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
        let only_tree = self.recipe.is_empty()
            && self.kernel_module.is_empty()
            && self.dracut.is_empty()
            && self.initrd.is_none();
        let Some(initrd) = initrd else {
            return match tree {
                Some(tree) if only_tree && taking.start.is_empty() => Ok(Taken {
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
        let features = features::find(&self.recipe, taking.recipes.as_deref())?;
        refuse_early(&features)?;
        let mut content = tree.unwrap_or_default();
        self.add_initrds(taking, kernel, initrd, &mut content, out)?;
        features::collect(
            &System::at(&taking.root),
            &features,
            &self.kernel_module,
            kernel,
            &initrd.tree,
            &mut content,
        )?;
        let adapted = adapt::adapt(&content, &initrd.tree, &initrd.facts, name);
        let adapted =
            adapted.map_err(|error| features::refused(error, "not an extension of this base"))?;
        if taking.explain {
            explain(&adapted.steps, out)?;
        }
        let mut taken = Taken {
            tree: adapted.tree,
            release: Vec::new(),
        };
        let own = features
            .iter()
            .flat_map(|feature| feature.starts(&taken.tree, &initrd.tree));
        let start: Vec<String> = own.chain(&taking.start).cloned().collect();
        features::check_units(&taken.tree, &initrd.tree, &start)?;
        started::tell_others(&taken.tree, &start, out);
        if !only_tree || !start.is_empty() {
            taken
                .release
                .extend(startup::add(&mut taken.tree, name, &start)?);
        }
        features::tell_needs(&features, &self.recipe, "extension", out);
        check(&taken, initrd)?;
        features::tell_firmware(&taken.tree, &initrd.tree, out)?;
        if self.takes_from_system() {
            features::tell_libraries(&System::at(&taking.root), &taken.tree, &initrd.tree, out)?;
        }
        for lack in initrd.facts.lacks() {
            out.warning(format_args!(
                "the base lacks {}; {}",
                lack.what, lack.remedy
            ));
        }
        Ok(taken)
    }

    /// Whether files are those of the system at --root=; those of a tree or an initrd are of who knows where.
    fn takes_from_system(&self) -> bool {
        !(self.recipe.is_empty() && self.kernel_module.is_empty() && self.dracut.is_empty())
    }

    /// What comes with an index of modules that lists its own only.
    fn add_initrds(
        &self,
        taking: &Taking,
        kernel: Option<&str>,
        initrd: &Initrd,
        content: &mut Tree,
        out: &mut Output,
    ) -> Result<()> {
        let mut found = Vec::new();
        if let Some(path) = &self.initrd {
            found.push(read_initrd(path)?);
        }
        if !self.dracut.is_empty() {
            found.push(self.run_dracut(taking, kernel, initrd)?);
        }
        for mut tree in found {
            let system = System::at(&taking.root);
            for version in system.complete_indexes(&mut tree, &initrd.tree)? {
                out.warning(format_args!(
                    "the system at `{}` has no modules for the kernel {version}, so their index is the initrd's: \
                     another extension with drivers could not be merged beside this one",
                    taking.root.display()
                ));
            }
            features::add(content, &tree)?;
        }
        Ok(())
    }

    fn run_dracut(&self, taking: &Taking, kernel: Option<&str>, initrd: &Initrd) -> Result<Tree> {
        let base = initrd.facts.dracut.as_ref();
        let base = base.filter(|dracut| !dracut.modules.is_empty());
        let base = base.ok_or_else(|| {
            with_hint(
                anyhow!("the base does not tell of which dracut modules it was made"),
                "take the feature with --recipe=, or with --initrd= from an initrd that has it",
            )
        })?;
        let kernel = kernel.context("the base does not tell for which kernel dracut is to run")?;
        let mut dracut = Dracut::new(kernel);
        dracut.program = &taking.dracut_program;
        dracut.root = &taking.root;
        dracut.base = &base.modules;
        dracut.modules = &self.dracut;
        Ok(dracut.run()?)
    }
}

fn read_initrd(path: &Path) -> Result<Tree> {
    let bytes = file::read(path, LARGEST)?;
    let initrd =
        Initrd::read(&bytes).with_context(|| format!("cannot use `{}`", path.display()))?;
    Ok(initrd.tree)
}

fn refuse_early(features: &[Feature]) -> Result<()> {
    match features.iter().find(|feature| feature.recipe.early) {
        None => Ok(()),
        Some(Feature { name, .. }) => Err(with_hint(
            anyhow!("the recipe {name} has to be there before extensions are merged"),
            format!("bring it with ukikit addon build --recipe={name}"),
        )),
    }
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
    Err(features::refused(
        Error::Refused { findings },
        "would not work in this base",
    ))
}

/// Lines for people, on standard error: the image's report is the data.
fn explain(steps: &[Step], out: &mut Output) -> Result<()> {
    if steps.is_empty() {
        bail!("there is nothing in it");
    }
    steps.iter().for_each(|step| out.note(step));
    Ok(())
}
