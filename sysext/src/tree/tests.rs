//! Rules of paths, hard and symbolic links.

use super::*;

fn tree(entries: &[(&str, Entry)]) -> Tree {
    let mut tree = Tree::new();
    for (path, entry) in entries {
        tree.insert(path, entry.clone()).unwrap();
    }
    tree
}

fn paths(tree: &Tree) -> Vec<String> {
    tree.iter()
        .map(|(path, _)| String::from_utf8(path.to_vec()).unwrap())
        .collect()
}

#[test]
fn makes_parents() {
    let tree = tree(&[
        (
            "usr/lib/a",
            Entry {
                mtime: 7,
                ..Entry::file("a")
            },
        ),
        ("usr-b", Entry::file("")),
    ]);
    assert_eq!(paths(&tree), ["", "usr", "usr-b", "usr/lib", "usr/lib/a"]);
    let lib = tree.get("usr/lib").unwrap();
    assert_eq!((lib.is_directory(), lib.mode, lib.mtime), (true, 0o755, 7));
}

#[test]
fn replaces_but_never_drops_what_a_directory_holds() {
    let mut tree = tree(&[("a/b", Entry::file("")), ("c", Entry::directory())]);
    tree.insert("a", Entry::new(0o700, Kind::Directory))
        .unwrap();
    tree.insert("c", Entry::file("")).unwrap();
    assert_eq!(
        (paths(&tree), tree.get("a").unwrap().mode),
        (["", "a", "a/b", "c"].map(String::from).to_vec(), 0o700)
    );
    for (path, expected) in [
        ("a", "`a`: is a directory that is not empty"),
        ("", "``: is a directory that is not empty"),
        ("c/d/e", "`c`: is not a directory"),
    ] {
        assert_eq!(
            tree.insert(path, Entry::file("")).unwrap_err().to_string(),
            expected
        );
    }
}

#[test]
fn refuses_paths_that_are_none() {
    let long = "n".repeat(256);
    let deep = "d/".repeat(2047) + "dd";
    let cases = [
        (
            "/a",
            "path is absolute or has an empty, `.` or `..` name in it",
        ),
        (
            "a//b",
            "path is absolute or has an empty, `.` or `..` name in it",
        ),
        (
            "a/",
            "path is absolute or has an empty, `.` or `..` name in it",
        ),
        (
            "a/./b",
            "path is absolute or has an empty, `.` or `..` name in it",
        ),
        (
            "..",
            "path is absolute or has an empty, `.` or `..` name in it",
        ),
        ("a\0", "name holds a NUL byte"),
        (&long, "name is longer than 255 bytes"),
        (&deep, "path is longer than 4095 bytes"),
    ];
    for (path, what) in cases {
        let message = Tree::new()
            .insert(path, Entry::file(""))
            .unwrap_err()
            .to_string();
        assert_eq!(message, format!("`{}`: {what}", escape(path.as_bytes())));
    }
    Tree::new().insert(&long[1..], Entry::file("")).unwrap();
    Tree::new()
        .insert(deep[1..].replacen("/d", "e", 1), Entry::file(""))
        .unwrap();
}

#[test]
fn links_share_one_entry() {
    let mut tree = tree(&[("a", Entry::file("a")), ("d", Entry::directory())]);
    tree.link("a", "x/b").unwrap();
    tree.get_mut("x/b").unwrap().mode = 0o600;
    assert_eq!(tree.get("a").unwrap().mode, 0o600);
    assert!(tree.remove("a"));
    assert_eq!(
        (paths(&tree), tree.get("x/b").unwrap().mode),
        (["", "d", "x", "x/b"].map(String::from).to_vec(), 0o600)
    );
    assert_eq!(
        tree.link("a", "y").unwrap_err().to_string(),
        "`y`: is a hard link to nothing"
    );
    assert_eq!(
        tree.link("d", "y").unwrap_err().to_string(),
        "`y`: is a hard link to a directory"
    );
    assert!(tree.link("x/b", "x/b").is_ok());
}

#[test]
fn removes_all_below_and_nothing_beside() {
    let mut tree = tree(&[
        ("a/b/c", Entry::file("")),
        ("a-b", Entry::file("")),
        ("ab", Entry::file("")),
    ]);
    assert!(!tree.remove("b"));
    assert!(tree.remove("a"));
    assert_eq!(paths(&tree), ["", "a-b", "ab"]);
    assert!(tree.remove(""));
    assert_eq!(paths(&tree), [""]);
}

#[test]
fn follows_symbolic_links_inside() {
    let tree = tree(&[
        ("usr/lib/os-release", Entry::file("")),
        ("etc/os-release", Entry::symlink("../usr/lib/os-release")),
        ("lib", Entry::symlink("/usr/lib")),
        ("up", Entry::symlink("../../../..//./usr")),
        ("dir", Entry::symlink("usr/lib/")),
        ("loop", Entry::symlink("loop")),
        ("ping", Entry::symlink("pong/x")),
        ("pong", Entry::symlink("ping")),
        ("dangling", Entry::symlink("nowhere")),
    ]);
    let cases = [
        ("etc/os-release", Some("usr/lib/os-release")),
        ("lib/os-release", Some("usr/lib/os-release")),
        ("up/lib", Some("usr/lib")),
        ("dir", Some("usr/lib")),
        ("/dir/../lib", Some("usr/lib")),
        ("", Some("")),
        ("etc/..", Some("")),
        ("loop", None),
        ("ping", None),
        ("dangling", None),
        ("usr/lib/os-release/x", None),
        ("nothing", None),
    ];
    for (path, expected) in cases {
        assert_eq!(
            tree.resolve(path),
            expected.map(|path| path.as_bytes().to_vec()),
            "{path}"
        );
    }
}

#[test]
fn becomes_nobodys() {
    let xattrs = [
        "security.capability",
        "user.a",
        "trusted.b",
        "security.selinux",
    ];
    let xattrs = xattrs
        .map(|name| (name.as_bytes().to_vec(), Vec::new()))
        .into();
    let mut tree = tree(&[
        (
            "a",
            Entry {
                uid: 1,
                gid: 2,
                mtime: 9,
                xattrs,
                ..Entry::file("")
            },
        ),
        ("b", Entry::file("")),
    ]);
    tree.own_by_root();
    tree.clamp_times(5);
    tree.retain_xattrs(is_portable_xattr);
    let Entry {
        uid,
        gid,
        mtime,
        xattrs,
        ..
    } = tree.get("a").unwrap();
    assert_eq!((*uid, *gid, *mtime), (0, 0, 5));
    assert_eq!(
        xattrs.keys().collect::<Vec<_>>(),
        [b"security.capability".as_slice(), b"user.a"]
    );
    assert_eq!(tree.get("b").unwrap().mtime, 0);
    tree.set_times(6);
    assert_eq!(tree.get("b").unwrap().mtime, 6);
}
