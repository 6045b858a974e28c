//! Placing and removing in a temporary directory.

use super::*;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use crate::{Companion, Owner, Placing, Target};

/// Every path with its content, `None` for a directory; without what the engine keeps for itself.
fn tree(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = whole_tree(root);
    let kept = root.join(history::STATE);
    found.retain(|path, _| !path.starts_with(&kept));
    if !found
        .keys()
        .any(|path| path.starts_with(root.join("loader")) && *path != root.join("loader"))
    {
        found.remove(&root.join("loader"));
    }
    found
}

/// Every path with its content, `None` for a directory.
fn whole_tree(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let content = path.is_file().then(|| fs::read(&path).unwrap());
            if content.is_none() {
                left.push(path.clone());
            }
            found.insert(path, content);
        }
    }
    found
}

fn esp() -> (TempDir, Esp) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("EFI/Linux")).unwrap();
    fs::write(directory.path().join("EFI/Linux/a+3-0.efi"), "uki").unwrap();
    let esp = Esp::at(directory.path()).unwrap();
    (directory, esp)
}

fn uki(path: &str) -> Target {
    Target::Uki(path.parse().unwrap())
}

fn files(list: &[(&str, &str)]) -> Vec<Companion> {
    list.iter()
        .map(|(name, content)| Companion::new(name.parse().unwrap(), (*content).into()).unwrap())
        .collect()
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn what_comes_and_what_goes_is_one_change() {
    let (directory, esp) = esp();
    let old = esp.place(&uki("EFI/Linux/a.efi"), files(&[("old.cred", "one")]));
    old.unwrap().apply(&esp).unwrap();
    let before = tree(directory.path());

    let path = |name: &str| format!("EFI/Linux/a.efi.extra.d/{name}");
    let coming = vec![crate::File::new(path("new.cred"), b"two".to_vec())];
    let going = [path("old.cred"), path("never.cred")];
    let changes = esp.exchange(coming, &going, &Placing::new()).unwrap();
    assert_eq!(
        changes.to_string(),
        "add      EFI/Linux/a.efi.extra.d/new.cred (3 bytes)\n\
         remove   EFI/Linux/a.efi.extra.d/old.cred (3 bytes)\n\
         absent   EFI/Linux/a.efi.extra.d/never.cred\n"
    );
    changes.apply(&esp).unwrap();
    esp.undo().unwrap().apply(&esp).unwrap();
    assert_eq!(tree(directory.path()), before);
}

#[test]
fn places_and_removes_to_the_same_bytes() {
    let (directory, esp) = esp();
    let before = tree(directory.path());
    let target = uki("/EFI/Linux/a.efi");
    let wanted = || files(&[("k.cred", "one"), ("e.sysext.raw", "image")]);

    let changes = esp.place(&target, wanted()).unwrap();
    assert_eq!(
        changes.to_string(),
        "add      EFI/Linux/a.efi.extra.d/e.sysext.raw (5 bytes)\n\
         add      EFI/Linux/a.efi.extra.d/k.cred (3 bytes)\n"
    );
    assert_eq!(tree(directory.path()), before, "planning changes nothing");
    changes.apply(&esp).unwrap();

    let placed = directory.path().join("EFI/Linux/a.efi.extra.d");
    let mut expected = before.clone();
    expected.insert(placed.clone(), None);
    expected.insert(placed.join("k.cred"), Some(b"one".to_vec()));
    expected.insert(placed.join("e.sysext.raw"), Some(b"image".to_vec()));
    assert_eq!(tree(directory.path()), expected);

    let again = esp.place(&target, wanted()).unwrap();
    assert!(again.is_empty());
    again.apply(&esp).unwrap();
    assert_eq!(tree(directory.path()), expected);

    let all = names(&["k.cred", "e.sysext.raw"]);
    let removal = esp.remove(&uki("EFI/Linux/a+2-1.efi"), &all).unwrap();
    removal.apply(&esp).unwrap();
    assert_eq!(tree(directory.path()), before);

    let gone = esp.remove(&target, &all).unwrap();
    assert!(gone.is_empty());
    assert_eq!(
        gone.to_string(),
        "absent   EFI/Linux/a.efi.extra.d/e.sysext.raw\n\
         absent   EFI/Linux/a.efi.extra.d/k.cred\n"
    );
}

#[test]
fn replaces_and_keeps() {
    let (directory, esp) = esp();
    let first = files(&[("a.cred", "old"), ("b.cred", "same"), ("c.raw", "12345")]);
    esp.place(&Target::Global, first)
        .unwrap()
        .apply(&esp)
        .unwrap();
    let second = files(&[
        ("a.cred", "newer"),
        ("b.cred", "same"),
        ("c.raw", "12346"),
        ("d.addon.efi", "pe"),
    ]);
    let changes = esp.place(&Target::Global, second).unwrap();
    assert_eq!(
        changes.to_string(),
        "add      loader/addons/d.addon.efi (2 bytes)\n\
         replace  loader/credentials/a.cred (3 bytes, now 5)\n\
         replace  loader/extensions/c.raw (5 bytes, now 5)\n\
         keep     loader/credentials/b.cred (4 bytes)\n"
    );
    changes.apply(&esp).unwrap();
    let content = |path: &str| fs::read(directory.path().join(path)).unwrap();
    assert_eq!(content("loader/credentials/a.cred"), b"newer");
    assert_eq!(content("loader/extensions/c.raw"), b"12346");
    assert_eq!(content("loader/addons/d.addon.efi"), b"pe");
}

#[test]
fn credentials_are_for_root_alone() {
    let (directory, esp) = esp();
    let wanted = files(&[("a.cred", ""), ("b.raw", "")]);
    esp.place(&Target::Global, wanted)
        .unwrap()
        .apply(&esp)
        .unwrap();
    let mode = |path: &str| {
        let metadata = fs::metadata(directory.path().join(path)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("loader/credentials/a.cred"), 0o600);
    assert_eq!(mode("loader/extensions/b.raw") & 0o600, 0o600);
}

#[test]
fn refuses_what_fat_or_the_stub_would_confuse() {
    let (directory, esp) = esp();
    let root = directory.path();
    let here = "EFI/Linux/a.efi.extra.d";
    fs::create_dir_all(root.join(here).join("dir.cred")).unwrap();
    fs::write(root.join(here).join("Key.cred"), "").unwrap();
    fs::write(root.join("EFI/Linux/x+y+3.efi"), "").unwrap();
    fs::create_dir(root.join("loader")).unwrap();
    std::os::unix::fs::symlink("/etc", root.join("loader/credentials")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", root.join(here).join("l.cred")).unwrap();
    let before = tree(&root.join("EFI"));

    let a = uki("EFI/Linux/a.efi");
    let shown = root.display();
    for (target, list, expected) in [
        (&a, &["key.cred"][..], "`key.cred` and `Key.cred` differ only in case, which FAT does not tell apart".to_owned()),
        (&a, &["x.raw", "X.raw"], "`x.raw` and `X.raw` differ only in case, which FAT does not tell apart".to_owned()),
        (&a, &["x.raw", "x.raw"], "`x.raw` is given twice".to_owned()),
        (&a, &["dir.cred"], format!("`{shown}/{here}/dir.cred` is not a regular file")),
        (&a, &["l.cred"], format!("`{shown}/{here}/l.cred` is a symbolic link, which is not followed")),
        (&Target::Global, &["x.cred"], format!("`{shown}/loader/credentials` is a symbolic link, which is not followed")),
        (&uki("EFI/Linux/b.efi"), &["x.cred"], format!("there is no UKI `EFI/Linux/b.efi` on the ESP `{shown}`")),
        (&uki("EFI/Linux/x+y.efi"), &["x.cred"], format!("there is no UKI `EFI/Linux/x+y.efi` on the ESP `{shown}`")),
        (
            &uki("EFI/Linux/x+y+3.efi"),
            &["x.cred"],
            "`EFI/Linux/x+y+3.efi` cannot be the path of a UKI: the stub does not see its boot counter behind an earlier `+`, so its companions would be lost at the next try".to_owned(),
        ),
    ] {
        let list: Vec<_> = list.iter().map(|name| (*name, "")).collect();
        let refused = esp.place(target, files(&list)).unwrap_err();
        assert_eq!(refused.to_string(), expected);
    }
    for (name, expected) in [
        (
            "../a.cred",
            "`../a.cred` cannot be a companion: it is a path, not a file name",
        ),
        (
            "a.txt",
            "`a.txt` cannot be a companion: it ends in none of .cred, .sysext.raw, .raw, .confext.raw and .addon.efi",
        ),
    ] {
        let refused = esp.remove(&a, &names(&[name])).unwrap_err();
        assert_eq!(refused.to_string(), expected);
    }
    assert_eq!(tree(&root.join("EFI")), before);
}

#[test]
fn finds_names_in_any_case_as_fat_does() {
    let (directory, esp) = esp();
    let here = directory.path().join("EFI/Linux/A.efi.extra.d");
    fs::create_dir(&here).unwrap();
    fs::write(here.join("KEY.CRED"), "").unwrap();
    let changes = esp
        .remove_with(&uki("efi/LINUX/A.EFI"), &names(&["key.cred"]), true)
        .unwrap();
    assert_eq!(
        changes.to_string(),
        "remove   EFI/Linux/A.efi.extra.d/KEY.CRED (0 bytes)\n"
    );
    let addition = esp
        .place(&uki("efi/linux/a.efi"), files(&[("k.cred", "")]))
        .unwrap();
    assert_eq!(
        addition.to_string(),
        "add      EFI/Linux/A.efi.extra.d/k.cred (0 bytes)\n"
    );
}

#[test]
fn a_failure_while_writing_leaves_nothing() {
    let (directory, esp) = esp();
    let wanted = files(&[("a.addon.efi", "1"), ("k.cred", "2")]);
    let changes = esp.place(&Target::Global, wanted).unwrap();
    // Somebody puts a file where the second directory has to go.
    fs::create_dir(directory.path().join("loader")).unwrap();
    fs::write(directory.path().join("loader/credentials"), "").unwrap();
    let before = tree(directory.path());
    let failed = changes.apply(&esp).unwrap_err().to_string();
    let path = directory.path().join("loader/credentials/k.cred");
    assert_eq!(failed, format!("cannot write `{}`", path.display()));
    assert_eq!(tree(directory.path()), before);
}

#[test]
fn a_failure_while_renaming_leaves_nothing() {
    let (directory, esp) = esp();
    let wanted = files(&[("a.cred", "1"), ("b.cred", "2"), ("c.cred", "3")]);
    let changes = esp.place(&Target::Global, wanted).unwrap();
    let here = directory.path().join("loader/credentials");
    fs::create_dir_all(here.join("b.cred")).unwrap();
    let expected = tree(directory.path());
    let failed = changes.apply(&esp).unwrap_err().to_string();
    assert_eq!(
        failed,
        format!("cannot write `{}`", here.join("b.cred").display())
    );
    assert_eq!(tree(directory.path()), expected);
}

#[test]
fn keeps_a_directory_that_holds_something_else() {
    let (directory, esp) = esp();
    let target = uki("EFI/Linux/a.efi");
    esp.place(&target, files(&[("a.cred", "")]))
        .unwrap()
        .apply(&esp)
        .unwrap();
    let other = directory.path().join("EFI/Linux/a.efi.extra.d/README.txt");
    fs::write(&other, "").unwrap();
    esp.remove(&target, &names(&["a.cred"]))
        .unwrap()
        .apply(&esp)
        .unwrap();
    assert_eq!(
        tree(other.parent().unwrap()),
        BTreeMap::from([(other, Some(Vec::new()))])
    );
}

#[test]
fn undo_takes_back_one_change_after_the_other() {
    let (directory, esp) = esp();
    let before = whole_tree(directory.path());
    let target = uki("EFI/Linux/a.efi");
    let place = |list| {
        esp.place(&target, files(list))
            .unwrap()
            .apply(&esp)
            .unwrap()
    };
    place(&[("a.cred", "one"), ("b.raw", "image")]);
    place(&[("a.cred", "two")]);
    let removal = esp.remove(&target, &names(&["a.cred", "b.raw"])).unwrap();
    removal.apply(&esp).unwrap();
    assert_eq!(tree(directory.path()), before);

    for expected in [
        "add      EFI/Linux/a.efi.extra.d/b.raw (5 bytes)\nadd      EFI/Linux/a.efi.extra.d/a.cred (3 bytes)\n",
        "replace  EFI/Linux/a.efi.extra.d/a.cred (3 bytes, now 3)\n",
        "remove   EFI/Linux/a.efi.extra.d/b.raw (5 bytes)\nremove   EFI/Linux/a.efi.extra.d/a.cred (3 bytes)\n",
    ] {
        let undo = esp.undo().unwrap();
        assert_eq!(undo.to_string(), expected);
        undo.apply(&esp).unwrap();
    }
    assert_eq!(whole_tree(directory.path()), before);
    let shown = directory.path().display();
    assert_eq!(
        esp.undo().unwrap_err().to_string(),
        format!("there is no change to undo on the ESP `{shown}`")
    );
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let (directory, esp) = esp();
    let here = directory.path().join("EFI/Linux/a.efi.extra.d");
    fs::create_dir(&here).unwrap();
    fs::write(here.join("theirs.cred"), "theirs").unwrap();
    let target = uki("EFI/Linux/a.efi");
    esp.place(&target, files(&[("ours.cred", "ours")]))
        .unwrap()
        .apply(&esp)
        .unwrap();
    let owners = |esp: &Esp| -> Vec<(String, Owner)> {
        let entries = esp.list(None).unwrap();
        entries
            .iter()
            .map(|entry| (entry.name().to_owned(), entry.owner))
            .collect()
    };
    assert_eq!(
        owners(&esp),
        [
            ("ours.cred".to_owned(), Owner::Ukikit),
            ("theirs.cred".to_owned(), Owner::Other)
        ]
    );
    let foreign = format!(
        "`{}` was not placed by ukikit, and what is not its own it leaves alone",
        here.join("theirs.cred").display()
    );
    let theirs = names(&["theirs.cred"]);
    assert_eq!(
        esp.remove(&target, &theirs).unwrap_err().to_string(),
        foreign
    );
    let over = || files(&[("theirs.cred", "ours now")]);
    assert_eq!(esp.place(&target, over()).unwrap_err().to_string(), foreign);

    let mut forced = Placing::new();
    forced.force = true;
    esp.place_with(&target, over(), &forced)
        .unwrap()
        .apply(&esp)
        .unwrap();
    esp.undo().unwrap().apply(&esp).unwrap();
    assert_eq!(fs::read(here.join("theirs.cred")).unwrap(), b"theirs");

    fs::write(here.join("ours.cred"), "edited").unwrap();
    assert_eq!(owners(&esp)[0].1, Owner::Changed);
    let edited = format!(
        "`{}` was changed by something else since ukikit placed it",
        here.join("ours.cred").display()
    );
    assert_eq!(
        esp.remove(&target, &names(&["ours.cred"]))
            .unwrap_err()
            .to_string(),
        edited
    );
    assert_eq!(esp.undo().unwrap_err().to_string(), edited);
}

#[test]
fn garbage_is_what_nobody_needs() {
    let (directory, esp) = esp();
    let linux = directory.path().join("EFI/Linux");
    for name in ["b.efi", "c+2-1.efi"] {
        fs::write(linux.join(name), "uki").unwrap();
    }
    let place = |target: &Target, name: &str, needed_by: &[&str]| {
        let mut how = Placing::new();
        how.needed_by = needed_by.iter().map(|path| path.parse().unwrap()).collect();
        esp.place_with(target, files(&[(name, "x")]), &how)
            .unwrap()
            .apply(&esp)
            .unwrap();
    };
    place(&uki("EFI/Linux/b.efi"), "own.cred", &[]);
    place(
        &Target::Global,
        "three.raw",
        &["EFI/Linux/a.efi", "EFI/Linux/b.efi"],
    );
    place(&Target::Global, "three.raw", &["EFI/Linux/c+2-1.efi"]);
    place(&Target::Global, "stays.raw", &[]);
    fs::write(linux.join("b.efi.extra.d/theirs.cred"), "").unwrap();

    let garbage = |esp: &Esp| esp.garbage().unwrap().to_string();
    assert_eq!(garbage(&esp), "");
    fs::remove_file(linux.join("b.efi")).unwrap();
    fs::remove_file(linux.join("a+3-0.efi")).unwrap();
    assert_eq!(
        garbage(&esp),
        "remove   EFI/Linux/b.efi.extra.d/own.cred (1 bytes)\n"
    );
    fs::rename(linux.join("c+2-1.efi"), linux.join("c.efi")).unwrap();
    assert_eq!(
        garbage(&esp),
        "remove   EFI/Linux/b.efi.extra.d/own.cred (1 bytes)\n"
    );
    fs::remove_file(linux.join("c.efi")).unwrap();
    assert_eq!(
        garbage(&esp),
        "remove   EFI/Linux/b.efi.extra.d/own.cred (1 bytes)\nremove   loader/extensions/three.raw (1 bytes)\n"
    );
    esp.garbage().unwrap().apply(&esp).unwrap();
    assert_eq!(garbage(&esp), "");
    assert!(linux.join("b.efi.extra.d/theirs.cred").exists());
    assert!(esp.kept_for_undo().unwrap() > 0);
    assert!(esp.forget_undo().unwrap() > 0);
    assert_eq!(esp.kept_for_undo().unwrap(), 0);
    assert_eq!(esp.list(None).unwrap().len(), 2);
    assert!(matches!(esp.undo(), Err(Error::UndoGone { .. })));
}

#[test]
fn counts_the_room_at_the_worst_moment() {
    let volume = crate::volume::memory::Memory::with(&[
        ("EFI/Linux/a.efi", "uki"),
        ("loader/credentials/a.cred", &"o".repeat(1000)),
    ]);
    let esp = Esp::on(volume, Path::new("esp"));
    let mut forced = Placing::new();
    forced.force = true;
    let wanted = files(&[("a.cred", &"n".repeat(513)), ("b.cred", "1")]);
    let changes = esp.place_with(&Target::Global, wanted, &forced).unwrap();
    let free = 1 << 30;
    // The journal, two directories for it, 1024 and 512 bytes of new files; 1024 more for the old one.
    let stays = 16 * 1024 + 2 * 512 + 1536;
    assert_eq!(
        changes.room().to_string(),
        format!(
            "free     {free} bytes, {} at the worst moment, {} afterwards",
            free - stays - 1024,
            free - stays
        )
    );
    let tight = esp.clone().keep_free(free);
    let wanted = files(&[("b.cred", "1")]);
    let refused = tight.place(&Target::Global, wanted).unwrap().apply(&tight);
    assert_eq!(
        refused.unwrap_err().to_string(),
        format!(
            "no room for the change: the ESP `esp` has {free} bytes free, of which {free} have to stay so"
        )
    );
    // What takes nothing is always possible.
    let removal = tight
        .remove_with(&Target::Global, &names(&["a.cred"]), true)
        .unwrap();
    removal.apply(&tight).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever is placed reads back equal, and removing it leaves the ESP as it was.
    #[test]
    fn there_and_back(set in prop::collection::btree_map("[a-z]{1,3}", prop::collection::vec(any::<u8>(), 0..200_000), 1..5)) {
        let (directory, esp) = esp();
        let before = tree(directory.path());
        let target = uki("EFI/Linux/a.efi");
        let list = set.iter().map(|(stem, content)| {
            Companion::new(format!("{stem}.cred").parse().unwrap(), content.clone()).unwrap()
        });
        esp.place(&target, list.clone().collect()).unwrap().apply(&esp).unwrap();
        prop_assert!(esp.place(&target, list.clone().collect()).unwrap().is_empty());
        for file in list {
            let placed = directory.path().join(file.path(&target));
            prop_assert_eq!(fs::read(placed).unwrap(), file.content());
        }
        let names: Vec<String> = set.keys().map(|stem| format!("{stem}.cred")).collect();
        esp.remove(&target, &names).unwrap().apply(&esp).unwrap();
        prop_assert_eq!(tree(directory.path()), before);
    }
}

/// What another tool has changed is undone by force, as a change that can be undone in turn.
#[test]
fn undoes_over_what_others_have_changed() {
    let (directory, esp) = esp();
    let target = uki("EFI/Linux/a.efi");
    let place = |list| {
        let changes = esp.place(&target, files(list)).unwrap();
        changes.apply(&esp).unwrap();
    };
    place(&[("k.cred", "one")]);
    let before = tree(directory.path());
    place(&[("k.cred", "two"), ("x.cred", "new")]);
    let beside = directory.path().join("EFI/Linux/a.efi.extra.d");
    fs::write(beside.join("k.cred"), "theirs").unwrap();
    assert!(matches!(esp.undo(), Err(Error::ChangedSince { .. })));

    let changes = esp.undo_over().unwrap();
    assert_eq!(
        changes.to_string(),
        "replace  EFI/Linux/a.efi.extra.d/k.cred (6 bytes, now 3)\n\
         remove   EFI/Linux/a.efi.extra.d/x.cred (3 bytes)\n"
    );
    changes.apply(&esp).unwrap();
    assert_eq!(tree(directory.path()), before);
    let owners = esp.list(None).unwrap();
    assert!(owners.iter().all(|entry| entry.owner == Owner::Ukikit));
    esp.undo().unwrap().apply(&esp).unwrap();
    assert_eq!(fs::read(beside.join("k.cred")).unwrap(), b"theirs");
}

/// systemd-boot renames the entry at each try, systemd-bless-boot when it went well.
#[test]
fn a_boot_entry_is_the_same_however_it_was_counted() {
    let entry =
        |name: &str| crate::File::new(format!("loader/entries/{name}"), b"uki /a.efi".to_vec());
    for counted in ["x+2-1.conf", "x+0-3.conf", "x.conf"] {
        let (directory, esp) = esp();
        let before = tree(directory.path());
        let placed = esp.put(vec![entry("x+3.conf")], &Placing::new());
        placed.unwrap().apply(&esp).unwrap();
        let entries = directory.path().join("loader/entries");
        fs::rename(entries.join("x+3.conf"), entries.join(counted)).unwrap();

        let gone = [format!("loader/entries/{counted}")];
        let changes = esp.exchange(Vec::new(), &gone, &Placing::new()).unwrap();
        assert_eq!(
            changes.to_string(),
            format!("remove   loader/entries/{counted} (10 bytes)\n")
        );
        changes.apply(&esp).unwrap();
        esp.undo().unwrap().apply(&esp).unwrap();
        assert!(entries.join(counted).exists());
        esp.undo().unwrap().apply(&esp).unwrap();
        assert_eq!(tree(directory.path()), before, "{counted}");
    }
}

#[test]
fn only_these_and_nothing_else() {
    let (directory, esp) = esp();
    let target = uki("EFI/Linux/a.efi");
    let first = esp.place(&target, files(&[("k.cred", "one"), ("x.cred", "two")]));
    first.unwrap().apply(&esp).unwrap();
    let beside = directory.path().join("EFI/Linux/a.efi.extra.d");
    fs::write(beside.join("README.txt"), "no companion").unwrap();
    let mut how = Placing::new();
    how.only = true;
    let changes = esp.place_with(&target, files(&[("k.cred", "one"), ("y.cred", "3")]), &how);
    let changes = changes.unwrap();
    assert_eq!(
        changes.to_string(),
        "add      EFI/Linux/a.efi.extra.d/y.cred (1 bytes)\n\
         remove   EFI/Linux/a.efi.extra.d/x.cred (3 bytes)\n\
         keep     EFI/Linux/a.efi.extra.d/k.cred (3 bytes)\n"
    );
    changes.apply(&esp).unwrap();
    assert!(beside.join("README.txt").exists());

    fs::write(beside.join("z.cred"), "theirs").unwrap();
    let refused = esp.place_with(&target, files(&[("k.cred", "one")]), &how);
    assert!(matches!(refused, Err(Error::Foreign { .. })));
}
