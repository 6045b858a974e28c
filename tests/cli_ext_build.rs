//! What decides what of a tree `ukikit ext build` puts into an image, and the proof that it did.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::Value;
use support::extension::{BUILD, Bench};
use support::{have, skip, text};

const VERIFY: &str = "ext verify --certificate=KEYS/rsa2048.crt";

#[test]
fn a_manifest_gives_what_the_builder_cannot() {
    let bench = Bench::new();
    fs::write(
        bench.path("manifest"),
        "#mtree\n./usr/lib/demo/file uid=7 gid=8 mode=4755 xattr.security.capability=cap_net_raw+ep\n\
         ./usr/lib/demo/null type=char device=native,1,3 mode=0666\n",
    )
    .unwrap();
    bench.run(&format!("{BUILD} --manifest=manifest --output=demo.raw"));
    let long = text(&bench.run("ext list --long demo.raw").stdout);
    for line in [
        "-rwsr-xr-x  7:8    8  1970-01-01 00:00:00  usr/lib/demo/file\n            security.capability=0x0100000200200000000000000000000000000000\n",
        "crw-rw-rw-  0:0  1,3  1970-01-01 00:00:00  usr/lib/demo/null\n",
    ] {
        assert!(long.contains(line), "{line:?} in {long}");
    }
    bench.run(&format!(
        "{VERIFY} --rebuild-from=tree --manifest=manifest demo.raw"
    ));
    for (manifest, error) in [
        (
            "./usr/lib/nothing mode=0644\n",
            "line 1: `usr/lib/nothing` is not in the tree",
        ),
        (
            "\n./usr/lib/demo/file colour=red\n",
            "line 2: keyword `colour` is not known",
        ),
    ] {
        fs::write(bench.path("manifest"), manifest).unwrap();
        let output = bench.start(&format!("{BUILD} --manifest=manifest --output=demo.raw"));
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output.stderr).ends_with(&format!("{error}\n")),
            "{}",
            text(&output.stderr)
        );
    }
}

/// What a machine leaves on every file of a tree, so of SELinux, IMA and EVM, makes no difference.
#[test]
fn a_labelled_tree_gives_the_image_of_one_without_labels() {
    let bench = Bench::new();
    let mut formats = vec!["erofs"];
    if have("mksquashfs") {
        formats.push("squashfs");
    } else {
        skip("squashfs of a labelled tree: mksquashfs is not installed");
    }
    let images = || {
        formats.clone().into_iter().map(|format| {
            bench.run(&format!("{BUILD} --format={format} --output=demo.raw"));
            fs::read(bench.path("demo.raw")).unwrap()
        })
    };
    let without: Vec<Vec<u8>> = images().collect();
    for (attribute, value) in [
        ("security.selinux", "system_u:object_r:builder_t:s0"),
        ("security.ima", "0x0404"),
        ("security.evm", "0x0202"),
        ("trusted.note", "builder"),
    ] {
        let mut label = Command::new("find");
        label.arg(bench.path("tree"));
        label.args("-exec setfattr --no-dereference --name".split(' '));
        let labelled = label
            .args([attribute, "--value", value, "{}", "+"])
            .output();
        let output = labelled.unwrap();
        if !output.status.success() {
            let reason = text(&output.stderr);
            let reason = reason.lines().next().unwrap_or_default();
            skip(&format!("{attribute} on the tree of a builder: {reason}"));
        }
    }
    assert!(images().eq(without), "labels of the builder show");
}

/// Times and link targets too, whatever mksquashfs makes of them.
#[test]
fn both_formats_hold_the_same() {
    if !have("mksquashfs") {
        return skip("squashfs beside EROFS: mksquashfs is not installed");
    }
    let bench = Bench::new();
    let long = "/x".repeat(100);
    for (number, target) in ["/usr/lib/x", "../x", "./x", &long].iter().enumerate() {
        symlink(
            target,
            bench.path(&format!("tree/usr/lib/demo/link{number}")),
        )
        .unwrap();
    }
    bench.run(&format!("{BUILD} --output=demo.raw"));
    bench.run(&format!(
        "{BUILD} --format=squashfs --output=demo.sysext.raw"
    ));
    let same = bench.run("ext diff --times demo.raw demo.sysext.raw");
    assert_eq!(text(&same.stdout), "");
}

#[test]
fn labels_come_from_the_policy() {
    let bench = Bench::new();
    fs::write(
        bench.path("contexts"),
        "/usr(/.*)?  system_u:object_r:usr_t:s0\n/usr/lib(/.*)?  --  system_u:object_r:lib_t:s0\n",
    )
    .unwrap();
    bench.run(&format!(
        "{BUILD} --selinux-contexts=contexts --output=demo.raw"
    ));
    let listed: Value =
        serde_json::from_slice(&bench.run("ext list --json=short demo.raw").stdout).unwrap();
    let label = |path: &str| {
        let entries = listed["entries"].as_array().unwrap();
        let entry = entries.iter().find(|entry| entry["path"] == path).unwrap();
        entry["xattrs"]["security.selinux"]
            .as_str()
            .map(|value| text(&hex::decode(value).unwrap()))
    };
    assert_eq!(
        label("usr/lib/demo").unwrap(),
        "system_u:object_r:usr_t:s0\0"
    );
    assert_eq!(
        label("usr/lib/demo/file").unwrap(),
        "system_u:object_r:lib_t:s0\0"
    );
    bench.run(&format!(
        "{VERIFY} --rebuild-from=tree --selinux-contexts=contexts demo.raw"
    ));
    fs::write(bench.path("contexts"), "/usr bin_t\n").unwrap();
    bench.refuses(
        &format!("{BUILD} --selinux-contexts=contexts --output=demo.raw"),
        "error: cannot use `contexts`: line 1: `bin_t` is no label\n",
    );
}

#[test]
fn a_tree_proves_its_image() {
    let bench = Bench::new();
    let content: String = (0..30_000)
        .map(|line| format!("{} line\n", line * 7919 % 1013))
        .collect();
    fs::write(bench.path("tree/usr/lib/demo/text"), content).unwrap();
    let options = "--compress=zstd,5 --seed=11111111-2222-4333-8444-555555555555 --release=EXTENSION_RELOAD_MANAGER=1";
    bench.run(&format!("{BUILD} {options} --output=demo.raw"));
    let root_hash = bench.root_hash("demo.raw");
    let proven = bench.run(&format!("{VERIFY} --rebuild-from=tree demo.raw"));
    assert_eq!(
        text(&proven.stdout),
        format!(
            "demo.raw: good, root hash {root_hash}\ndemo.raw: its data is what the tree gives, compression zstd,5\n"
        )
    );
    fs::write(bench.path("tree/usr/lib/demo/file"), "another\n").unwrap();
    fs::write(bench.path("tree/usr/lib/demo/new"), "").unwrap();
    let refused = bench.start(&format!("{VERIFY} --rebuild-from=tree demo.raw"));
    assert_eq!(
        (refused.status.code(), text(&refused.stdout)),
        (
            Some(1),
            "demo.raw: usr/lib/demo/file: image and tree differ: content from byte 0 on (and 1 more paths)\n".into()
        )
    );
    let json = bench.start(&format!(
        "{VERIFY} --rebuild-from=tree --json=short demo.raw"
    ));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (
            &json["accepted"],
            &json["rebuilt"],
            &json["findings"][0]["check"]
        ),
        (&false.into(), &Value::Null, &"rebuild".into())
    );
    let alone = bench.start(&format!("{VERIFY} --preserve-owner demo.raw"));
    assert_eq!(alone.status.code(), Some(2), "{}", text(&alone.stderr));
}

#[test]
fn a_confext_in_an_initrd_is_warned_of() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("conf/etc")).unwrap();
    fs::write(bench.path("conf/etc/demo.conf"), "x\n").unwrap();
    let build = BUILD.replace("--tree=tree", "--tree=conf --confext");
    let quiet = bench.run(&format!("{build} --output=demo.confext.raw"));
    assert_eq!(text(&quiet.stderr), "");
    assert!(
        text(&quiet.stdout).contains("CONFEXT_SCOPE=system\n"),
        "{}",
        text(&quiet.stdout)
    );
    bench.run(&format!("{VERIFY} --scope=system demo.confext.raw"));
    let warned = bench.run(&format!("{build} --scope=initrd --output=demo.confext.raw"));
    let warning = "warning: a confext makes /etc of the initrd read-only, noexec and nosuid: what writes there, like \
                   dracut's network set-up or systemd-tmpfiles, fails; credentials or a sysext do not\n";
    assert_eq!(text(&warned.stderr), warning);
    let verified = bench.run(&format!("{VERIFY} demo.confext.raw"));
    assert_eq!(text(&verified.stderr), warning);
    let (unsigned, _) = build.split_once(" --private-key").unwrap();
    let digest = unsigned.replacen("ext build", "ext digest", 1);
    let warned = bench.run(&format!(
        "{digest} --scope=initrd --output=demo.confext.raw"
    ));
    assert_eq!(text(&warned.stderr), warning);
}

/// Each thing that no extension may have, with the whole sentence that says so.
#[test]
fn bad_trees_get_one_sentence_and_no_image() {
    let tree = |bench: &Bench, path: &str, content: &str| {
        let path = bench.path("tree").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    type Spoil<'a> = &'a dyn Fn(&Bench);
    let refused = "error: this would not be merged:\n  ";
    let cases: [(Spoil<'_>, &str, String); 9] = [
        (
            &|bench| tree(bench, "etc/x", ""),
            "",
            format!("{refused}etc: is not merged from a sysext, only usr and opt\n"),
        ),
        (
            &|bench| tree(bench, "usr/lib/os-release", "ID=x\n"),
            "",
            format!(
                "{refused}usr/lib/os-release: makes this an operating system, not an extension\n"
            ),
        ),
        (
            &|bench| {
                tree(
                    bench,
                    "usr/lib/extension-release.d/extension-release.demo",
                    "ID=x\n",
                )
            },
            "",
            format!(
                "{refused}usr/lib/extension-release.d/extension-release.demo: has no SYSEXT_SCOPE=, which means system portable, \
                 without initrd\n"
            ),
        ),
        (
            &|bench| {
                tree(
                    bench,
                    "usr/lib/extension-release.d/extension-release.other",
                    "ID=x\n",
                )
            },
            "",
            format!(
                "{refused}usr/lib/extension-release.d/extension-release.other: is for an extension of another name, not `demo`\n"
            ),
        ),
        (
            &|bench| {
                fs::set_permissions(bench.path("tree/usr"), fs::Permissions::from_mode(0o700))
                    .unwrap()
            },
            "",
            format!(
                "{refused}usr: has mode 0700, which would close it to others once it is merged; 0755 is the least\n"
            ),
        ),
        (
            &|bench| {
                fs::set_permissions(
                    bench.path("tree/usr/lib/demo"),
                    fs::Permissions::from_mode(0o750),
                )
                .unwrap()
            },
            "",
            format!(
                "{refused}usr/lib/demo: has mode 0750, which would close it to others once it is merged; 0755 is the least\n"
            ),
        ),
        (
            &|bench| drop(UnixListener::bind(bench.path("tree/usr/socket")).unwrap()),
            "",
            "error: `tree/usr/socket`: is a socket, which no image can hold\n".into(),
        ),
        (
            &|_| {},
            "--name=a_b",
            "error: extension name `a_b` has a `_`, which begins the version in a file name\n"
                .into(),
        ),
        (
            &|_| {},
            "--name=a+3",
            "error: extension name `a+3` has a `+`, which begins the version in a file name\n"
                .into(),
        ),
    ];
    for (spoil, option, error) in cases {
        let bench = Bench::new();
        spoil(&bench);
        let build = if option.is_empty() {
            BUILD.into()
        } else {
            BUILD.replace("--name=demo", option)
        };
        bench.refuses(&format!("{build} --output=demo.raw"), &error);
        assert_eq!(bench.images(), Vec::<std::path::PathBuf>::new(), "{error}");
    }
}

#[test]
fn a_closed_directory_can_be_meant() {
    let bench = Bench::new();
    fs::set_permissions(
        bench.path("tree/usr/lib/demo"),
        fs::Permissions::from_mode(0o750),
    )
    .unwrap();
    fs::write(bench.path("manifest"), "./usr/lib/demo mode=0750\n").unwrap();
    bench.run(&format!("{BUILD} --manifest=manifest --output=demo.raw"));
    bench.run(&format!("{VERIFY} demo.raw"));
}
