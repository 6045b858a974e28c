//! Trees as lines of text that tests can compare.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Entry, Kind, Tree};

/// One line for each path, in their order, with all there is to know about it.
pub(crate) fn listing(tree: &Tree) -> Vec<String> {
    let line = |(path, inode, entry)| line(path, entry, &format!("{:?}", links(tree, inode)));
    tree.inodes().map(line).collect()
}

/// The same with the number of hard links instead of their paths.
pub(crate) fn listing_with_counts(tree: &Tree) -> Vec<String> {
    let line = |(path, inode, entry)| line(path, entry, &links(tree, inode).len().to_string());
    tree.inodes().map(line).collect()
}

/// What the file `name` of `tests/vectors/ddi` says a tree holds, as [`listing_with_counts`].
pub(crate) fn expected(name: &str) -> Vec<String> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/ddi");
    let json = std::fs::read(vectors.join(name)).unwrap();
    let entries: Vec<Value> = serde_json::from_slice(&json).unwrap();
    let mut entries: Vec<_> = entries
        .iter()
        .map(|entry| (text(&entry["path"]), expected_line(entry)))
        .collect();
    entries.sort();
    entries.into_iter().map(|(_, line)| line).collect()
}

/// The paths that lead to one inode.
fn links(tree: &Tree, wanted: usize) -> Vec<String> {
    let same = tree.inodes().filter(|(_, inode, _)| *inode == wanted);
    same.map(|(path, ..)| path.escape_ascii().to_string())
        .collect()
}

fn line(path: &[u8], entry: &Entry, links: &str) -> String {
    let Entry {
        mode,
        uid,
        gid,
        mtime,
        xattrs,
        kind,
    } = entry;
    let xattr = |(name, value): (&Vec<u8>, &Vec<u8>)| {
        format!(" {}={}", name.escape_ascii(), hex::encode(value))
    };
    let xattrs: String = xattrs.iter().map(xattr).collect();
    format!(
        "/{} {} {mode:04o} {uid} {gid} {mtime} {links}{xattrs}",
        path.escape_ascii(),
        what(kind)
    )
}

fn what(kind: &Kind) -> String {
    match kind {
        Kind::Directory => "dir".into(),
        Kind::File(content) => {
            let bytes = content.read(1 << 30).unwrap();
            format!(
                "file {} {}",
                bytes.len(),
                hex::encode(Sha256::digest(bytes))
            )
        }
        Kind::Symlink(target) => format!("symlink {}", target.escape_ascii()),
        Kind::CharDevice { major, minor } => format!("chardev {major}:{minor}"),
        Kind::BlockDevice { major, minor } => format!("blockdev {major}:{minor}"),
        Kind::Fifo => "fifo".into(),
    }
}

fn expected_line(entry: &Value) -> String {
    let what = match &entry["type"] {
        kind if kind == "file" => format!("file {} {}", entry["size"], text(&entry["sha256"])),
        kind if kind == "symlink" => format!("symlink {}", text(&entry["target"])),
        kind if entry["rdev"].is_array() => {
            format!("{} {}:{}", text(kind), entry["rdev"][0], entry["rdev"][1])
        }
        kind => text(kind),
    };
    let path = text(&entry["path"]);
    let nlink = entry["nlink"].as_u64().unwrap_or(1);
    let mtime = text(&entry["mtime"]);
    // A tree knows whole seconds.
    let mtime = mtime.split('.').next().unwrap();
    let xattrs = entry["xattrs"].as_object().into_iter().flatten();
    let xattrs: String = xattrs
        .map(|(name, value)| format!(" {name}={}", text(value)))
        .collect();
    let (path, mode, uid, gid) = (
        path.as_bytes().escape_ascii(),
        text(&entry["mode"]),
        &entry["uid"],
        &entry["gid"],
    );
    format!("{path} {what} {mode} {uid} {gid} {mtime} {nlink}{xattrs}")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
