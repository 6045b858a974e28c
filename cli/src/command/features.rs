//! Recipes and drivers, by their names, from the packages of a system: for extensions and for addons.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use ukikit_sysext::recipe::Feature;
use ukikit_sysext::{Error, System, Tree, Wishes, needs, startup};

use crate::output::{Output, with_hint};

/// Of the firmware that a module lacks; some know dozens of devices.
const FIRMWARE_SHOWN: usize = 3;

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
                "{name} needs an {kind} with the recipe {other} beside it, unless the UKI or an addon has it"
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

/// Fails for a unit that is not there.
pub(crate) fn check_units(tree: &Tree, base: &Tree, start: &[String]) -> Result<()> {
    match startup::absent(tree, base, start) {
        None => Ok(()),
        Some(unit) => bail!(
            "the unit {unit} is to be started, but is neither in the base nor among these files"
        ),
    }
}

/// A driver without its firmware is no error: it may be for another device.
pub(crate) fn tell_firmware(tree: &Tree, base: &Tree, out: &mut Output) -> Result<()> {
    for (module, files) in needs::absent_firmware(tree, base)? {
        let more = match files.len().saturating_sub(FIRMWARE_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let shown: Vec<&str> = files
            .iter()
            .take(FIRMWARE_SHOWN)
            .map(String::as_str)
            .collect();
        out.warning(format_args!(
            "the module {module} names firmware that is not there: {}{more}",
            shown.join(", ")
        ));
    }
    Ok(())
}

/// A library of the base stays, and programs of other packages may not run with it.
pub(crate) fn tell_libraries(
    system: &System,
    tree: &Tree,
    base: &Tree,
    out: &mut Output,
) -> Result<()> {
    let others = system.other_libraries(tree, base)?;
    if let Some(first) = others.first() {
        let more = match others.len() {
            1 => String::new(),
            all => format!(" and {} more", all - 1),
        };
        out.warning(format_args!(
            "the base has another build of {first}{more} than the system: better take the files from a system with the packages of \
             the base, see --root="
        ));
    }
    Ok(())
}
