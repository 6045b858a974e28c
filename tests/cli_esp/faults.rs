//! What a change leaves when it is killed, when a system call fails, and when two are made at once.

use std::fs;

use super::room::*;
use super::support;

#[test]
fn two_processes_at_once() {
    let room = Room::new();
    let busy =
        "error: another process is changing the ESP `esp`\n\nhint: try again when it is done\n";
    room.write("demo.cred", &demo());
    let before = room.tree();
    let lock = fs::File::open(room.path("esp")).unwrap();
    lock.lock().unwrap();
    for (verb, arguments) in [
        ("place", vec![UKI, "demo.cred"]),
        ("remove", vec![UKI, "demo.cred"]),
        ("undo", vec![]),
        ("gc", vec![]),
    ] {
        assert_failed(&room.esp(verb, &arguments), busy);
    }
    drop(lock);
    assert_eq!(room.tree(), before);

    let sets = (0..8).map(|number| [format!("a{number}.cred"), format!("b{number}.cred")]);
    let started = sets.map(|set| {
        for file in &set {
            room.write(file, &credential(file.trim_end_matches(".cred"), b"x"));
        }
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_ukikit"))
            .current_dir(room.0.path())
            .args(["esp", "place", "--esp=esp", UKI])
            .args(&set)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        (child, set)
    });
    let started: Vec<_> = started.collect();
    let mut placed = Vec::new();
    for (child, set) in started {
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            placed.extend(set);
        } else {
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(said, busy);
        }
    }
    assert!(!placed.is_empty(), "somebody comes first");
    let beside = fs::read_dir(room.path("esp/EFI/Linux/vendor.efi.extra.d")).unwrap();
    let mut beside: Vec<String> = beside
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    beside.sort();
    placed.sort();
    assert_eq!(beside, placed);
}

/// What a run does that strace can stop: the calls that open, write, flush, rename, link and remove.
const CALLS: [&str; 8] = [
    "openat",
    "write",
    "fsync",
    "rename",
    "renameat2",
    "unlink",
    "mkdir",
    "rmdir",
];

/// The real program, its real system calls: each of them in turn kills it or fails.
#[test]
fn killed_or_failing_at_every_system_call() {
    let strace = std::process::Command::new("strace").arg("-V").output();
    if !strace.is_ok_and(|output| output.status.success()) {
        return support::skip("strace is not there, tests/run installs it");
    }
    let names = ["1.cred", "2.cred", "3.cred", "4.cred", "5.cred", "6.cred"];
    let place = [&[UKI, "--force"][..], &names].concat();
    let room = Room::new();
    let old = room.tree();
    for name in names {
        room.write(name, &demo());
    }
    assert!(room.esp("place", &place).status.success());
    let new = room.tree();
    assert!(room.esp("undo", &[]).status.success());
    let (mut cases, mut as_old, mut as_new) = (0, 0, 0);
    for fault in ["signal=KILL", "error=ENOSPC", "error=EIO"] {
        for call in CALLS {
            for when in 1.. {
                let inject = format!("inject={call}:{fault}:when={when}");
                let run = std::process::Command::new("strace")
                    .current_dir(room.0.path())
                    .args([
                        "-f",
                        "-qq",
                        "-o",
                        "trace",
                        "-e",
                        &inject,
                        "-e",
                        &format!("trace={call}"),
                    ])
                    .arg(env!("CARGO_BIN_EXE_ukikit"))
                    .args(["esp", "place", "--esp=esp"])
                    .args(&place)
                    .output()
                    .unwrap();
                let trace = fs::read_to_string(room.path("trace")).unwrap();
                if !trace.contains("INJECTED") && !trace.contains("killed by SIGKILL") {
                    break;
                }
                cases += 1;
                for (path, content) in room.tree() {
                    assert!(new.contains(&(path, content)), "{inject}: {run:?}");
                }
                let next = room.esp("gc", &[]);
                assert!(next.status.success(), "{inject}: {next:?}");
                if room.tree() == new {
                    as_new += 1;
                    assert!(room.esp("undo", &[]).status.success());
                } else {
                    as_old += 1;
                }
                assert_eq!(room.whole_tree(), old, "{inject}");
            }
        }
    }
    assert!(
        cases > 150 && as_old > 0 && as_new > 0,
        "{cases}: {as_old} old, {as_new} new"
    );
}
