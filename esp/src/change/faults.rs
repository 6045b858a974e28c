//! Every call of a change meets every fault, one after the other: what is left boots, and the next run
//! finishes it or takes it back.

use std::collections::BTreeMap;
use std::path::Path;

use crate::change::rank;
use crate::history::STATE;
use crate::volume::faulty::{FAULTS, Fault, Faulty};
use crate::volume::memory::Memory;
use crate::{Changes, Error, Esp, File, Placing, Recovered, Target};

type Tree = BTreeMap<String, Option<Vec<u8>>>;

/// Everything but what the engine keeps for itself.
fn visible(volume: &Memory) -> Tree {
    let mut tree = volume.tree();
    tree.retain(|path, _| !path.starts_with(STATE));
    if !tree.keys().any(|path| path.starts_with("loader/")) {
        tree.remove("loader");
    }
    tree
}

fn esp(volume: &Memory) -> Esp {
    Esp::on(volume.clone(), Path::new("esp")).keep_free(0)
}

fn files(list: &[(&str, &str)]) -> Vec<File> {
    list.iter()
        .map(|(path, content)| File::new(*path, (*content).into()))
        .collect()
}

/// An ESP with files of ours and of others.
fn before() -> Memory {
    let volume = Memory::with(&[
        ("EFI/Linux/a+3-0.efi", "kernel"),
        ("EFI/Linux/other.efi", "another kernel"),
        ("EFI/Linux/a.efi.extra.d/README.txt", "by hand"),
        ("loader/loader.conf", "timeout 3"),
    ]);
    let ours = files(&[
        ("EFI/Linux/a.efi.extra.d/both.cred", "old secret"),
        ("EFI/Linux/a.efi.extra.d/both.sysext.raw", "old image"),
        ("EFI/Linux/a.efi.extra.d/gone.cred", "to go"),
        ("EFI/Linux/old.efi", "old kernel"),
        ("EFI/Linux/old.efi.extra.d/k.cred", "of the old kernel"),
        ("loader/credentials/all.cred", "for all"),
    ]);
    let esp = esp(&volume);
    let placed = esp.put(ours, &Placing::new()).unwrap();
    placed.apply(&esp).unwrap();
    volume.flush_all();
    volume
}

/// What is done in between: planned on one ESP, applied to a copy of it.
type Plan = fn(&Esp) -> Result<Changes, Error>;

/// Nine files: some come, some change; a new UKI and its entry come behind their companions.
fn update(esp: &Esp) -> Result<Changes, Error> {
    let new = files(&[
        ("EFI/Linux/a.efi.extra.d/both.cred", "new secret"),
        ("EFI/Linux/a.efi.extra.d/both.sysext.raw", "new image"),
        ("EFI/Linux/new.efi", "new kernel"),
        ("EFI/Linux/new.efi.extra.d/k.cred", "of the new kernel"),
        ("EFI/Linux/new.efi.extra.d/x.sysext.raw", "its extension"),
        ("loader/addons/quiet.addon.efi", "quiet"),
        ("loader/credentials/all.cred", "for all, anew"),
        ("loader/entries/new.conf", "uki /EFI/Linux/new.efi"),
        ("loader/extensions/all.sysext.raw", "image for all"),
    ]);
    esp.put(new, &Placing::new())
}

/// Companions go, and with them the directory of one UKI.
fn removal(esp: &Esp) -> Result<Changes, Error> {
    let target = Target::Uki("EFI/Linux/a.efi".parse().unwrap());
    let names = ["both.cred", "both.sysext.raw", "gone.cred"].map(String::from);
    esp.remove(&target, &names)
}

const PLANS: [Plan; 2] = [update, removal];

/// The first change there is: even the directory the engine keeps its own in has to be made.
#[test]
fn the_first_change_leaves_no_directory_behind() {
    let old = Memory::with(&[("EFI/Linux/new.efi", "kernel"), ("EFI/Linux/old.txt", "")]);
    let mut how = Placing::new();
    how.force = true;
    let wanted = files(&[("loader/credentials/all.cred", "for all")]);
    let changes = esp(&old).put(wanted, &how).unwrap();
    let (new, calls) = undisturbed(&old, &changes);
    let mut tally = Tally::default();
    for fault in FAULTS {
        for at in 0..calls {
            let volume = old.copy();
            let faulty = Faulty::new(volume.clone(), at, fault);
            let _ = changes.apply(&Esp::on(faulty, Path::new("esp")).keep_free(0));
            settle(&volume, &old, &new, &mut tally);
        }
    }
    assert!(tally.old > 0 && tally.new > 0, "{tally:?}");
}

/// What every boot needs, at any moment.
#[track_caller]
fn assert_boots(now: &Tree, old: &Tree, new: &Tree) {
    for path in now.keys() {
        assert!(
            old.contains_key(path) || new.contains_key(path),
            "{path} came from nowhere"
        );
    }
    for (path, content) in now {
        let whole = [old.get(path), new.get(path)].contains(&Some(content));
        assert!(whole, "{path} is neither old nor new");
    }
    for path in old.keys().filter(|path| new.contains_key(*path)) {
        assert!(now.contains_key(path), "{path} is missing");
    }
    // What is new and can be started has everything new beside it.
    let is_new = |path: &&String| !old.contains_key(*path);
    for started in now.keys().filter(is_new).filter(|path| rank(path) > 0) {
        for (needed, content) in new.iter().filter(|(path, _)| rank(path) < rank(started)) {
            assert_eq!(
                now.get(needed),
                Some(content),
                "{started} is there without {needed}"
            );
        }
    }
}

/// How often what came of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    cases: usize,
    old: usize,
    new: usize,
}

/// The next run: afterwards it is the old or the new state, whole. The new one can be undone.
fn settle(volume: &Memory, old: &Memory, new: &Tree, tally: &mut Tally) {
    let esp = esp(volume);
    esp.recover().unwrap();
    tally.cases += 1;
    let now = visible(volume);
    if now == visible(old) {
        tally.old += 1;
        assert_eq!(volume.tree(), old.tree(), "something is left of it");
        return;
    }
    assert_eq!(now, *new);
    tally.new += 1;
    match esp.undo() {
        Ok(undo) => {
            undo.apply(&esp).unwrap();
            assert_eq!(volume.tree(), old.tree());
        }
        // A power cut has taken the name of what was kept.
        Err(error) => assert!(matches!(error, Error::UndoGone { .. }), "{error}"),
    }
}

/// The state afterwards if nothing goes wrong, and the number of calls.
fn undisturbed(old: &Memory, changes: &Changes) -> (Tree, usize) {
    let volume = old.copy();
    let counted = Faulty::new(volume.clone(), usize::MAX, Fault::Kill);
    let esp = Esp::on(counted.clone(), Path::new("esp")).keep_free(0);
    changes.apply(&esp).unwrap();
    (visible(&volume), counted.calls())
}

#[test]
fn every_call_meets_every_fault() {
    let mut tally = Tally::default();
    for plan in PLANS {
        let old = before();
        let changes = plan(&esp(&old)).unwrap();
        let (new, calls) = undisturbed(&old, &changes);
        for fault in FAULTS {
            for at in 0..calls {
                let volume = old.copy();
                let faulty = Faulty::new(volume.clone(), at, fault);
                let on_faulty = Esp::on(faulty, Path::new("esp")).keep_free(0);
                let applied = changes.apply(&on_faulty);
                assert_boots(&visible(&volume), &visible(&old), &new);
                match applied {
                    Ok(()) => assert_eq!(visible(&volume), new),
                    // What is called a failure and not an interruption has left nothing.
                    Err(Error::Unfinished { .. }) => {}
                    Err(_) if fault == Fault::Full || fault == Fault::Broken => {
                        let untouched = volume.tree() == old.tree();
                        assert!(untouched || visible(&volume) == new, "{fault:?} at {at}");
                    }
                    Err(_) => {}
                }
                settle(&volume, &old, &new, &mut tally);
            }
        }
    }
    assert!(
        tally.cases > 1000 && tally.old > 0 && tally.new > 0,
        "{tally:?}"
    );
}

#[test]
fn the_power_goes_at_every_call() {
    let mut tally = Tally::default();
    for plan in PLANS {
        let old = before();
        let changes = plan(&esp(&old)).unwrap();
        let (new, calls) = undisturbed(&old, &changes);
        for at in 0..calls {
            for chance in 0..8 {
                let volume = old.copy();
                let faulty = Faulty::new(volume.clone(), at, Fault::KillInside);
                let on_faulty = Esp::on(faulty, Path::new("esp")).keep_free(0);
                let _ = changes.apply(&on_faulty);
                volume.power_cut(chance * 0x9e37_79b9 + at as u64);
                settle(&volume, &old, &new, &mut tally);
            }
        }
    }
    assert!(
        tally.cases > 2000 && tally.old > 0 && tally.new > 0,
        "{tally:?}"
    );
}

#[test]
fn the_recovery_is_interrupted_at_every_call_as_well() {
    let mut tally = Tally::default();
    let old = before();
    let changes = update(&esp(&old)).unwrap();
    let (new, calls) = undisturbed(&old, &changes);
    for at in (0..calls).step_by(5) {
        let broken = old.copy();
        let faulty = Faulty::new(broken.clone(), at, Fault::Kill);
        let _ = changes.apply(&Esp::on(faulty, Path::new("esp")).keep_free(0));
        for again in 0.. {
            let volume = broken.copy();
            let faulty = Faulty::new(volume.clone(), again, Fault::KillInside);
            let recovered = Esp::on(faulty, Path::new("esp")).recover();
            assert_boots(&visible(&volume), &visible(&old), &new);
            settle(&volume, &old, &new, &mut tally);
            if recovered.is_ok() {
                break;
            }
        }
    }
    assert!(tally.cases > 1000, "{tally:?}");
}

#[test]
fn undo_is_interrupted_at_every_call() {
    for plan in PLANS {
        let old = before();
        let changes = plan(&esp(&old)).unwrap();
        let done = old.copy();
        changes.apply(&esp(&done)).unwrap();
        done.flush_all();
        let new = visible(&done);
        let undo = esp(&done).undo().unwrap();
        for power in [false, true] {
            for at in 0.. {
                let volume = done.copy();
                let faulty = Faulty::new(volume.clone(), at, Fault::KillInside);
                let undone = undo.apply(&Esp::on(faulty, Path::new("esp")));
                if power {
                    volume.power_cut(at as u64);
                } else {
                    assert_boots_back(&visible(&volume), &visible(&old), &new);
                }
                esp(&volume).recover().unwrap();
                if volume.tree() != old.tree() {
                    assert_eq!(visible(&volume), new);
                }
                if undone.is_ok() {
                    assert_eq!(volume.tree(), old.tree());
                    break;
                }
            }
        }
    }
}

#[track_caller]
fn assert_boots_back(now: &Tree, old: &Tree, new: &Tree) {
    assert_boots(now, new, old);
}

#[test]
fn an_interrupted_change_is_said_to_be_one() {
    let volume = before();
    let esp = esp(&volume);
    let changes = update(&esp).unwrap();
    let (new, calls) = undisturbed(&volume, &changes);
    // The last call but a few is behind the journal.
    let faulty = Faulty::new(volume.clone(), calls * 2 / 3, Fault::Kill);
    let failed = changes.apply(&Esp::on(faulty, Path::new("esp")).keep_free(0));
    assert!(
        matches!(failed, Err(Error::Unfinished { .. })),
        "{failed:?}"
    );
    assert_eq!(
        update(&esp).unwrap_err().to_string(),
        "a change of the ESP `esp` was interrupted and waits to be finished"
    );
    assert_eq!(esp.recover().unwrap(), [Recovered::Finished]);
    assert_eq!(visible(&volume), new);
    assert_eq!(esp.recover().unwrap(), []);
}

#[test]
fn one_at_a_time_and_nothing_on_top_of_something_else() {
    let volume = before();
    let esp = esp(&volume);
    let (first, second) = (update(&esp).unwrap(), removal(&esp).unwrap());
    let lock = crate::volume::Volume::lock(&volume).unwrap();
    let old = volume.tree();
    assert_eq!(
        first.apply(&esp).unwrap_err().to_string(),
        "another process is changing the ESP `esp`"
    );
    assert_eq!(volume.tree(), old);
    drop(lock);
    first.apply(&esp).unwrap();
    let now = volume.tree();
    assert_eq!(
        second.apply(&esp).unwrap_err().to_string(),
        "the ESP `esp` has changed since the change was planned"
    );
    assert_eq!(volume.tree(), now);
}
