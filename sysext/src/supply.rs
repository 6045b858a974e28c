//! What an addon brings to an initrd that lacks it. The kernel unpacks an addon's files over those of the UKI before anything
//! runs, so they need no merge, and what they replace is gone.
//!
//! ```text
//! content ─ minus all that the base has, but for the index of modules ─ links that start units ─ Tree
//! ```

use crate::adapt::{in_place, same};
use crate::tree::parent;
use crate::{Entry, Error, Tree};

/// Reached by every boot of an initrd; what it wants is part of the first transaction.
const STARTED: &str = "usr/lib/systemd/system/initrd.target.wants";

/// What of `content` the initrd `base` has not, and links that start these units, unless something there does. A file that the base
/// has, in whatever version, is the base's; only the index of a kernel's modules is replaced, since an initrd's lists its own.
///
/// # Errors
///
/// [`Error::Read`] for a file that cannot be read.
pub fn supply(content: &Tree, base: &Tree, start: &[String]) -> Result<Tree, Error> {
    let content = in_place(content, base)?;
    let mut supplied = Tree::new();
    for (path, entry) in content.iter().filter(|(_, entry)| !entry.is_directory()) {
        let wanted = match base.get(path) {
            None => true,
            Some(there) => is_index(path) && !same(entry, there)?,
        };
        if wanted {
            supplied.insert(path, entry.clone())?;
        }
    }
    for (path, entry) in content.iter().filter(|(_, entry)| entry.is_directory()) {
        let empty = || !content.iter().any(|(other, _)| parent(other) == path);
        if base.get(path).is_none() && (supplied.get(path).is_some() || empty()) {
            supplied.insert(path, entry.clone())?;
        }
    }
    for unit in start {
        if !is_started(base, unit) && !is_started(&supplied, unit) {
            supplied.insert(
                format!("{STARTED}/{unit}"),
                Entry::symlink(format!("../{unit}")),
            )?;
        }
    }
    Ok(supplied)
}

/// Whether a target wants or requires the unit by a link.
fn is_started(tree: &Tree, unit: &str) -> bool {
    let mut paths = tree.iter().map(|(path, _)| String::from_utf8_lossy(path));
    paths.any(|path| {
        let link = path.split_once("/systemd/system/").map(|(_, link)| link);
        link.and_then(|link| link.split_once(".wants/").or(link.split_once(".requires/")))
            .is_some_and(|(_, wanted)| wanted == unit)
    })
}

fn is_index(path: &[u8]) -> bool {
    let rest = path.strip_prefix(b"usr/lib/modules/");
    let mut names = rest.unwrap_or_default().splitn(2, |&byte| byte == b'/');
    matches!((names.next(), names.next()), (Some(_), Some(name)) if name.starts_with(b"modules."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_base_has_is_its_own() {
        let (mut content, mut base) = (Tree::new(), Tree::new());
        let index = "usr/lib/modules/6.1/modules.dep.bin";
        for (tree, text) in [(&mut content, "new"), (&mut base, "old")] {
            tree.insert("usr/bin/dmsetup", Entry::file(text)).unwrap();
            tree.insert(index, Entry::file(text)).unwrap();
            tree.insert("usr/lib/modules/6.1/modules.softdep", Entry::file("same"))
                .unwrap();
        }
        content
            .insert("usr/sbin/systemd-sysext", Entry::file(""))
            .unwrap();
        base.insert("usr/sbin", Entry::symlink("bin")).unwrap();
        for (path, mode) in [("var/lib/state", 0o700), ("usr/bin", 0o700)] {
            let mut directory = Entry::directory();
            directory.mode = mode;
            content.insert(path, directory).unwrap();
        }
        let units = "usr/lib/systemd/system";
        let wants = format!("{units}/initrd.target.wants");
        base.insert(
            format!("{wants}/there.service"),
            Entry::symlink("../there.service"),
        )
        .unwrap();
        let start = ["a.service".to_owned(), "there.service".to_owned()];
        let supplied = supply(&content, &base, &start).unwrap();
        let paths = supplied.iter().filter(|(_, entry)| !entry.is_directory());
        let paths: Vec<_> = paths
            .map(|(path, _)| String::from_utf8_lossy(path).into_owned())
            .collect();
        assert_eq!(
            paths,
            [
                "usr/bin/systemd-sysext",
                index,
                &format!("{wants}/a.service"),
            ]
        );
        let mode = |path: &str| supplied.get(path).map(|entry| entry.mode);
        assert_eq!(mode("var/lib/state"), Some(0o700));
        // That of the base.
        assert_eq!(mode("usr/bin"), Some(0o755));
    }
}
