//! The rules at work: content and base in, one line for each path out.

use super::*;

fn tree(entries: &[(&str, Entry)]) -> Tree {
    let mut tree = Tree::new();
    for (path, entry) in entries {
        tree.insert(path, entry.clone()).unwrap();
    }
    tree
}

fn base() -> Tree {
    tree(&[
        ("etc/os-release", Entry::file("ID=vendor\n")),
        ("etc/passwd", Entry::file("root")),
        ("lib", Entry::symlink("usr/lib")),
        ("usr/lib/libc.so.6", Entry::file("libc")),
        (
            "usr/lib/systemd/system/systemd-tmpfiles-setup.service",
            Entry::file("base"),
        ),
    ])
}

fn steps(content: &Tree, base: &Tree) -> Result<Vec<String>, Error> {
    let facts = Facts::of(base)?;
    let adapted = adapt(content, base, &facts, &"demo".parse()?)?;
    Ok(adapted.steps.iter().map(ToString::to_string).collect())
}

#[test]
fn each_file_follows_its_rule() {
    let cases = [
        ("usr/bin/tool", "keep  usr/bin/tool"),
        ("usr/lib/libc.so.6", "same  usr/lib/libc.so.6"),
        ("lib/firmware/f.bin", "keep  usr/lib/firmware/f.bin"),
        (
            "etc/ld.so.cache",
            "drop  etc/ld.so.cache: libraries in the loader's own directories are found without it",
        ),
        (
            "etc/passwd",
            "drop  etc/passwd: users are made by systemd-sysusers from usr/lib/sysusers.d",
        ),
        (
            "etc/group-",
            "drop  etc/group-: users are made by systemd-sysusers from usr/lib/sysusers.d",
        ),
        (
            "usr/lib/dracut/modules.txt",
            "drop  usr/lib/dracut/modules.txt: is dracut's record of the initrd",
        ),
        (
            "etc/systemd/system/a.target.wants/b.service",
            "move  etc/systemd/system/a.target.wants/b.service -> usr/lib/systemd/system/a.target.wants/b.service",
        ),
        (
            "etc/udev/rules.d/64-lvm.rules",
            "move  etc/udev/rules.d/64-lvm.rules -> usr/lib/udev/rules.d/64-lvm.rules",
        ),
        (
            "etc/modprobe.d/a.conf",
            "move  etc/modprobe.d/a.conf -> usr/lib/modprobe.d/a.conf",
        ),
        (
            "etc/multipath.conf",
            "copy  etc/multipath.conf -> usr/share/factory/etc/multipath.conf, from there by systemd-tmpfiles",
        ),
        (
            "var/lib/dracut/hooks/pre-pivot/10-a.sh",
            "move  var/lib/dracut/hooks/pre-pivot/10-a.sh -> usr/lib/dracut/hooks/pre-pivot/10-a.sh",
        ),
        (
            "var/lib/dracut/hooks/cmdline/90-iscsi.sh",
            "drop  var/lib/dracut/hooks/cmdline/90-iscsi.sh: its stage cmdline is over before extensions are merged; a unit that imports a credential replaces it",
        ),
        (
            "var/lib/dracut/hooks/initqueue/settled/a.sh",
            "drop  var/lib/dracut/hooks/initqueue/settled/a.sh: its stage initqueue is over before extensions are merged; a unit that the extension's target wants, or a udev rule with SYSTEMD_WANTS, replaces it",
        ),
        (
            "usr/lib/modules/6.1/modules.dep",
            "keep  usr/lib/modules/6.1/modules.dep",
        ),
        (
            "usr/lib/systemd/system/systemd-tmpfiles-setup.service",
            "drop  usr/lib/systemd/system/systemd-tmpfiles-setup.service: dracut's dbus modules edit the base's unit; the extension's order of start does not need it",
        ),
        ("dev/console", "drop  dev/console: udev makes device nodes"),
    ];
    for (path, expected) in cases {
        let text = if path == "usr/lib/libc.so.6" {
            "libc"
        } else {
            "other"
        };
        let found = steps(&tree(&[(path, Entry::file(text))]), &base()).unwrap();
        assert_eq!(found, [expected]);
    }
}

#[test]
fn what_changes_the_base_is_refused() {
    let refused = |path: &str, entry: Entry| steps(&tree(&[(path, entry)]), &base()).unwrap_err();
    assert_eq!(
        refused("usr/lib/libc.so.6", Entry::file("another")).to_string(),
        "usr/lib/libc.so.6: differs from the base's: a changed copy would replace it for all; it was built from another version, or needs a drop-in"
    );
    assert_eq!(
        refused("home/user/x", Entry::file("")).to_string(),
        "home/user/x: has no place in an extension: it is outside usr, opt, etc and var"
    );
}

#[test]
fn state_directories_and_configuration_come_by_tmpfiles() {
    let mut state = Entry::directory();
    state.mode = 0o700;
    let content = tree(&[
        ("var/lib/iscsi", state),
        ("run/lock", Entry::directory()),
        ("usr/share/empty", Entry::directory()),
        ("etc/a b%", Entry::file("x")),
    ]);
    let base = base();
    let facts = Facts::of(&base).unwrap();
    let adapted = adapt(&content, &base, &facts, &"demo".parse().unwrap()).unwrap();
    let lines = adapted
        .tree
        .get("usr/lib/tmpfiles.d/ukikit-demo.conf")
        .unwrap();
    let Kind::File(lines) = &lines.kind else {
        panic!("not a file")
    };
    assert_eq!(
        String::from_utf8(lines.read(1000).unwrap()).unwrap(),
        "C /etc/a\\x20b%% - - - - -\nd /var/lib/iscsi 0700 root root - -\n"
    );
    assert!(adapted.tree.get("usr/share/empty").unwrap().is_directory());
    assert!(adapted.tree.get("run").is_none());
}

#[test]
fn links_do_not_depend_on_what_tmpfiles_makes() {
    let content = tree(&[
        ("usr/bin/mawk", Entry::file("awk")),
        ("usr/bin/awk", Entry::symlink("../../etc/alternatives/awk")),
        ("etc/alternatives/awk", Entry::symlink("../../usr/bin/mawk")),
        ("usr/bin/other", Entry::symlink("mawk")),
    ]);
    let base = base();
    let facts = Facts::of(&base).unwrap();
    let adapted = adapt(&content, &base, &facts, &"demo".parse().unwrap()).unwrap();
    let steps: Vec<_> = adapted.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "make  etc/alternatives/awk, by systemd-tmpfiles",
            "keep  usr/bin/awk",
            "keep  usr/bin/mawk",
            "keep  usr/bin/other",
        ]
    );
    let target = |path: &str| match &adapted.tree.get(path).unwrap().kind {
        Kind::Symlink(target) => String::from_utf8(target.clone()).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(target("usr/bin/awk"), "/usr/bin/mawk");
    assert_eq!(target("usr/bin/other"), "mawk");
    let Kind::File(lines) = &adapted
        .tree
        .get("usr/lib/tmpfiles.d/ukikit-demo.conf")
        .unwrap()
        .kind
    else {
        panic!("not a file")
    };
    assert_eq!(
        String::from_utf8(lines.read(1000).unwrap()).unwrap(),
        "L /etc/alternatives/awk - - - - ../../usr/bin/mawk\n"
    );
}

#[test]
fn hooks_do_not_hide_those_of_an_old_base() {
    let mut old = base();
    old.insert(
        "usr/lib/dracut/hooks",
        Entry::symlink("/var/lib/dracut/hooks"),
    )
    .unwrap();
    let content = tree(&[("var/lib/dracut/hooks/pre-pivot/a.sh", Entry::file(""))]);
    assert_eq!(
        steps(&content, &old).unwrap(),
        [
            "drop  var/lib/dracut/hooks/pre-pivot/a.sh: the base's usr/lib/dracut/hooks is a link that this would hide"
        ]
    );
}

#[test]
fn a_complete_index_of_the_base_serves_all() {
    let mut base = base();
    let index = "kernel/a.ko:\nkernel/b.ko: kernel/a.ko\n";
    base.insert("usr/lib/modules/6.1/modules.dep", Entry::file(index))
        .unwrap();
    let content = tree(&[(
        "usr/lib/modules/6.1/modules.dep",
        Entry::file("kernel/a.ko:\n"),
    )]);
    assert_eq!(
        steps(&content, &base).unwrap(),
        ["drop  usr/lib/modules/6.1/modules.dep: the base's index has all modules"]
    );
}

#[test]
fn patterns_stop_at_slashes() {
    for (pattern, path, expected) in [
        (
            "usr/lib/modules/*/modules.*",
            "usr/lib/modules/6.1/modules.dep.bin",
            true,
        ),
        (
            "usr/lib/modules/*/modules.*",
            "usr/lib/modules/6.1/kernel/modules.x",
            false,
        ),
        ("etc/**", "etc/a/b", true),
        ("etc/**", "etcetera", false),
        ("etc/passwd*", "etc/passwd-", true),
    ] {
        assert_eq!(
            rules::matches(pattern.as_bytes(), path.as_bytes()),
            expected,
            "{pattern} {path}"
        );
    }
}

#[test]
fn the_base_keeps_its_shell() {
    let shell = |entry| tree(&[("usr/bin/sh", entry)]);
    let (link, file) = (Entry::symlink("dash"), Entry::file("shell"));
    let kept = steps(&shell(Entry::symlink("bash")), &shell(link.clone())).unwrap();
    assert_eq!(
        kept,
        ["drop  usr/bin/sh: the base has a shell of its own, which its scripts know"]
    );
    for (content, base) in [(file.clone(), link.clone()), (link, file)] {
        let refused = steps(&shell(content), &shell(base)).unwrap_err();
        assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    }
}
