//! Whether a tree can be unpacked over the initrd of a UKI without breaking it.

use anyhow::{Result, anyhow, bail};
use ukikit_sysext::{Kind, Tree};

/// Refuses what the kernel would do in silence: a directory takes the place of a symbolic link (`/lib` in the
/// tree over the link `/lib` of the initrd, and everything behind the link is gone), and a file does not take
/// the place of a directory (`clean_path` in the kernel's `initramfs.c`).
///
/// # Errors
///
/// The first path where that happens.
pub(super) fn check(tree: &Tree, initrd: &Tree) -> Result<()> {
    for (path, entry) in tree.iter() {
        let Some(there) = initrd.get(path) else {
            continue;
        };
        let shown = String::from_utf8_lossy(path);
        match (&there.kind, entry.is_directory()) {
            (Kind::Directory, true) => {}
            (Kind::Directory, false) => {
                bail!("`/{shown}` is a directory in the initrd, which no file can replace")
            }
            (Kind::Symlink(target), true) => {
                let target = String::from_utf8_lossy(target);
                return Err(crate::output::with_hint(
                    anyhow!("the directory `/{shown}` would replace a symbolic link of the initrd"),
                    format!("put the files where it leads to: {target}"),
                ));
            }
            (_, true) => bail!("the directory `/{shown}` would replace a file of the initrd"),
            (_, false) => {}
        }
    }
    Ok(())
}
