//! `ukikit ext` as a user meets it: exact output, exact errors, nothing half-written.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use support::extension::{BUILD, Bench, keys};
use support::text;

#[test]
fn built_verified_and_shown() {
    let bench = Bench::new();
    let built = bench.run(&format!("{BUILD} --output=demo.sysext.raw"));
    let root_hash = bench.root_hash("demo.sysext.raw");
    assert!(text(&built.stdout).starts_with(&format!(
        "image      demo.sysext.raw\nsize       49664\ncontent    8 in erofs, compression lz4\nroot hash  {root_hash}\n"
    )));
    let verified = bench.run("ext verify --certificate=KEYS/rsa2048.crt demo.sysext.raw");
    assert_eq!(
        text(&verified.stdout),
        format!("demo.sysext.raw: good, root hash {root_hash}\n")
    );
    let shown = text(&bench.run("ext inspect demo.sysext.raw").stdout);
    for line in [
        "size         49664, sectors of 512\n",
        &format!("root hash    {root_hash}\n"),
        "certificate  CN=ddi test vector a rsa2048, RSA-2048\n",
        "file system  erofs, not compressed\n",
        "             SYSEXT_SCOPE=initrd\n",
    ] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
    let json: Value =
        serde_json::from_slice(&bench.run("ext inspect --json=short demo.sysext.raw").stdout)
            .unwrap();
    assert_eq!(
        (&json["schema"], &json["size"], &json["rootHash"]),
        (&1.into(), &49664.into(), &root_hash.as_str().into())
    );
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let bench = Bench::new();
    bench.run(&format!("{BUILD} --output=demo.sysext.raw"));
    let first = fs::read(bench.path("demo.sysext.raw")).unwrap();
    fs::rename(bench.path("tree"), bench.path("moved")).unwrap();
    bench.make_tree();
    bench.run(&format!("{BUILD} --output=demo.raw"));
    assert_eq!(fs::read(bench.path("demo.raw")).unwrap(), first);
}

#[test]
fn a_dry_run_writes_nothing() {
    let bench = Bench::new();
    bench.run(&format!("{BUILD} --output=demo.raw --dry-run"));
    assert!(!bench.path("demo.raw").exists());
}

#[test]
fn fitted_to_an_os_release() {
    let bench = Bench::new();
    fs::write(bench.path("os-release"), "ID=vendor\nVERSION_ID=7\n").unwrap();
    fs::write(bench.path("next"), "ID=vendor\nVERSION_ID=8\n").unwrap();
    bench.run(&format!("{BUILD} --output=demo.raw --base=os-release"));
    bench.run("ext verify --certificate=KEYS/rsa2048.crt --base=os-release demo.raw");
    let refused = bench.start("ext verify --certificate=KEYS/rsa2048.crt --base=next demo.raw");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stdout).contains("VERSION_ID"),
        "{}",
        text(&refused.stdout)
    );
}

#[test]
fn what_a_boot_would_refuse_is_told_on_one_line_each() {
    let bench = Bench::new();
    bench.run(&format!("{BUILD} --output=demo.raw"));
    fs::copy(bench.path("demo.raw"), bench.path("other.raw")).unwrap();
    let mut flipped = fs::read(bench.path("demo.raw")).unwrap();
    flipped[20480 + 1500] ^= 1;
    fs::create_dir(bench.path("flipped")).unwrap();
    fs::write(bench.path("flipped/demo.raw"), flipped).unwrap();
    for (arguments, first) in [
        (
            "--certificate=KEYS/p256.crt demo.raw",
            "demo.raw: signature: is by issuer `CN=ddi test vector a rsa2048` serial ",
        ),
        (
            "--certificate=KEYS/rsa2048.crt --scope=portable demo.raw",
            "demo.raw: usr/lib/extension-release.d/extension-release.demo: ",
        ),
        (
            "--certificate=KEYS/rsa2048.crt other.raw",
            "other.raw: usr/lib/extension-release.d/extension-release.other: does not exist, only ",
        ),
        (
            "--certificate=KEYS/rsa2048.crt flipped/demo.raw",
            "flipped/demo.raw: data block 0: does not match its hash\n",
        ),
    ] {
        let output = bench.start(&format!("ext verify {arguments}"));
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        assert!(
            text(&output.stdout).starts_with(first),
            "{arguments}: {}",
            text(&output.stdout)
        );
    }
}

#[test]
fn bad_input_gets_one_sentence() {
    let bench = Bench::new();
    for (arguments, error) in [
        (
            format!("{BUILD} --output=other.raw"),
            "error: file name `other.raw` is neither `demo.sysext.raw` nor `demo.raw`, as extension `demo` needs\n",
        ),
        (
            BUILD.replace("--tree=tree", "--tree=none") + " --output=demo.raw",
            "error: cannot read `none`: No such file or directory\n",
        ),
        (
            BUILD.replace("rsa2048.crt", "none.crt") + " --output=demo.raw",
            "error: cannot read `KEYS/none.crt`: No such file or directory\n",
        ),
        (
            format!("{BUILD} --output=none/demo.raw"),
            "error: cannot write `none/demo.raw`: No such file or directory\n",
        ),
    ] {
        let output = bench.start(&arguments);
        let error = error.replace("KEYS", &keys());
        assert_eq!(
            (output.status.code(), text(&output.stderr)),
            (Some(1), error),
            "{arguments}"
        );
        assert_eq!(bench.images(), Vec::<PathBuf>::new(), "{arguments}");
    }
    let mismatch = bench.start(&(BUILD.replace("rsa2048.crt", "other.crt") + " --output=demo.raw"));
    assert!(
        text(&mismatch.stderr).contains(" do not belong together: "),
        "{}",
        text(&mismatch.stderr)
    );
    fs::create_dir(bench.path("tree/etc")).unwrap();
    let outside = bench.start(&format!("{BUILD} --output=demo.raw"));
    assert_eq!((outside.status.code(), bench.images()), (Some(1), vec![]));
    assert!(
        text(&outside.stderr).contains("etc"),
        "{}",
        text(&outside.stderr)
    );
}

#[test]
fn squashfs_needs_its_program() {
    let bench = Bench::new();
    let build = format!("{BUILD} --output=demo.raw --format=squashfs");
    let mut without = bench.command(&build);
    let output = without.env("PATH", bench.path("tree")).output().unwrap();
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (
            Some(1),
            "error: the program mksquashfs is not installed\n\n\
             hint: squashfs images need the package squashfs-tools; without --format=, nothing is needed\n"
        )
    );
    assert_eq!(bench.images(), Vec::<PathBuf>::new());
}

#[test]
fn clusters_have_the_sizes_that_kernels_decode() {
    let bench = Bench::new();
    for size in ["0", "2048", "4097", "2097152", "x"] {
        let build = format!("{BUILD} --output=demo.raw --cluster-size={size}");
        let output = bench.start(&build);
        assert_eq!(output.status.code(), Some(2), "{size}");
        let error = text(&output.stderr);
        assert!(
            error.contains("is not a power of two from 4096 to 1048576"),
            "{error}"
        );
    }
}

/// The tree takes so long to read that the build is still at it when it is interrupted.
#[test]
fn an_interrupted_build_leaves_nothing() {
    let bench = Bench::new();
    let large = fs::File::create(bench.path("tree/usr/large")).unwrap();
    large.set_len(1 << 40).unwrap();
    fs::create_dir(bench.path("out")).unwrap();
    let build = format!("{BUILD} --output=out/demo.raw --compress=none");
    let mut running = bench.command(&build).spawn().unwrap();
    let open_files = format!("/proc/{}/fd", running.id());
    let out = fs::canonicalize(bench.path("out")).unwrap();
    let is_writing = || {
        let links = fs::read_dir(&open_files).unwrap().filter_map(Result::ok);
        links
            .filter_map(|link| fs::read_link(link.path()).ok())
            .any(|file| file.starts_with(&out))
    };
    while !is_writing() {
        assert_eq!(running.try_wait().unwrap(), None);
    }
    // Not SIGINT: a shell has its background jobs ignore it, and this may be run by one.
    let killed = Command::new("kill")
        .args(["-TERM", &running.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    assert_eq!(running.wait().unwrap().signal(), Some(15));
    assert_eq!(fs::read_dir(out).unwrap().count(), 0);
}
