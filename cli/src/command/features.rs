//! Recipes and drivers, by their names, from the packages of a system: for extensions and for addons.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use ukikit_sysext::recipe::Feature;
use ukikit_sysext::{Error, System, Tree, Wishes};

use crate::output::{Output, with_hint};

/// Finds them in the directory `own`, or among those that are shipped.
pub(crate) fn find(names: &[String], own: Option<&Path>) -> Result<Vec<Feature>> {
    let find = |name: &String| match own {
        Some(place) if place.join(name).exists() => Feature::read(&place.join(name)),
        _ => Feature::find(name),
    };
    let features: Result<Vec<_>, Error> = names.iter().map(find).collect();
    features.map_err(|error| with_hint(error, "see ukikit recipe list"))
}

/// Puts the files of all these over those of `content`; of libraries, what `base` lacks.
pub(crate) fn collect(
    system: &System,
    features: &[Feature],
    drivers: &[String],
    kernel: Option<&str>,
    base: &Tree,
    content: &mut Tree,
) -> Result<()> {
    for feature in features {
        let taken = system.collect(&feature.wishes(kernel), base);
        let taken = taken.with_context(|| format!("recipe `{}`", feature.name))?;
        add(content, &taken)?;
        add(content, &feature.tree)?;
    }
    if !drivers.is_empty() {
        let mut wishes = Wishes::default();
        wishes.drivers = drivers.to_vec();
        wishes.kernel = kernel.map(ToOwned::to_owned);
        add(content, &system.collect(&wishes, base)?)?;
    }
    Ok(())
}

/// Puts the files of `more` over those of `content`.
pub(crate) fn add(content: &mut Tree, more: &Tree) -> Result<()> {
    for (path, entry) in more.iter().filter(|(path, _)| !path.is_empty()) {
        if !(entry.is_directory() && content.get(path).is_some()) {
            content.insert(path, entry.clone())?;
        }
    }
    Ok(())
}

/// Says which recipes have to be in another file of this kind, unless they are among those `given`.
pub(crate) fn tell_needs(features: &[Feature], given: &[String], kind: &str, out: &mut Output) {
    for feature in features {
        let needs = feature.recipe.needs.iter();
        for other in needs.filter(|other| !given.contains(other)) {
            let name = &feature.name;
            out.note(format_args!(
                "{name} needs an {kind} with the recipe {other} beside it"
            ));
        }
    }
}

/// All reasons, one in a line.
pub(crate) fn refused(error: Error, summary: &str) -> anyhow::Error {
    let Error::Refused { findings } = &error else {
        return error.into();
    };
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    anyhow!("{summary}:\n  {}", lines.join("\n  "))
}
