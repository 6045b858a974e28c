//! Which units of an extension start: those that are named, not those that links in `.wants` ask for.

use std::collections::BTreeSet;

use ukikit_sysext::Tree;

use crate::output::Output;

const UNITS: &str = "usr/lib/systemd/system";
/// The one target that is started by a transaction of its own after the merge.
const LATE: &str = "initrd-switch-root.target";

/// Says of which units of the extension a link asks in vain that they be started.
pub(super) fn tell_others(tree: &Tree, start: &[String], out: &mut Output) {
    let mut others = BTreeSet::new();
    for (path, _) in tree.iter() {
        let path = String::from_utf8_lossy(path);
        let link = path
            .strip_prefix(UNITS)
            .map(|rest| rest.trim_start_matches('/'));
        let wanted = link.and_then(|link| {
            link.split_once(".wants/")
                .or_else(|| link.split_once(".requires/"))
        });
        if let Some((target, unit)) = wanted.filter(|(target, _)| *target != LATE) {
            others.insert((unit.to_owned(), target.to_owned()));
        }
    }
    for (unit, target) in others.iter().filter(|(unit, _)| !start.contains(unit)) {
        out.warning(format_args!(
            "{target} wants {unit}, which starts nothing in an extension; --start={unit} does"
        ));
    }
}
