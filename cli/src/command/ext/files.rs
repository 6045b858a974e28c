//! The files of an image or a directory, whichever a path leads to.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result};
use ukikit_sysext::{Image, Tree, is_portable_xattr};

/// The files of an image as they are, those of a directory as `ext build` takes them: root's unless
/// `preserve_owner`, and without what only means something on this machine.
pub(super) fn read(path: &Path, preserve_owner: bool) -> Result<Tree> {
    if path.is_dir() {
        return directory(path, preserve_owner);
    }
    image(path).with_context(|| format!("cannot read `{}`", path.display()))
}

fn image(path: &Path) -> Result<Tree> {
    Ok(Image::open(BufReader::new(File::open(path)?))?.tree()?)
}

fn directory(path: &Path, preserve_owner: bool) -> Result<Tree> {
    let mut tree = Tree::read(path)?;
    if !preserve_owner {
        tree.own_by_root();
    }
    tree.retain_xattrs(is_portable_xattr);
    if let Some(root) = tree.get_mut("") {
        root.mode = 0o755;
        root.xattrs.clear();
    }
    Ok(tree)
}
