//! `ukikit ext list`, `diff` and `inspect` as a user meets them, on images of every maker.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use liblzma::read::XzDecoder;
use serde_json::{Value, json};
use support::extension::{BUILD, Bench};
use support::{text, vector, vector_json};

#[test]
fn files_are_listed_short_and_long() {
    let bench = Bench::new();
    fs::hard_link(
        bench.path("tree/usr/lib/demo/file"),
        bench.path("tree/usr/lib/demo/same"),
    )
    .unwrap();
    bench.run(&format!("{BUILD} --output=demo.raw"));
    assert_eq!(
        text(&bench.run("ext list demo.raw").stdout),
        "usr/\nusr/lib/\nusr/lib/demo/\nusr/lib/demo/file\nusr/lib/demo/link\nusr/lib/demo/same\n\
         usr/lib/extension-release.d/\nusr/lib/extension-release.d/extension-release.demo\n"
    );
    let long = text(&bench.run("ext list --long demo.raw").stdout);
    for line in [
        "drwxr-xr-x  0:0   -  1970-01-01 00:00:00  usr/lib/demo/\n",
        "-rw-r--r--  0:0   8  1970-01-01 00:00:00  usr/lib/demo/file\n",
        "lrwxrwxrwx  0:0   -  1970-01-01 00:00:00  usr/lib/demo/link -> file\n",
        "-rw-r--r--  0:0   8  1970-01-01 00:00:00  usr/lib/demo/same link to usr/lib/demo/file\n",
    ] {
        assert!(long.contains(line), "{line:?} in {long}");
    }
    let json: Value =
        serde_json::from_slice(&bench.run("ext list --json=short demo.raw").stdout).unwrap();
    assert_eq!(
        json["entries"][3],
        json!({"path": "usr/lib/demo/file", "type": "file", "mode": "0644", "uid": 0, "gid": 0, "size": 8, "mtime": 0,
               "target": null, "device": null, "hardLink": null, "xattrs": {}})
    );
    assert_eq!(json["entries"][5]["hardLink"], "usr/lib/demo/file");
}

#[test]
fn names_do_the_terminal_no_harm() {
    let bench = Bench::new();
    let name = OsStr::from_bytes(b"tree/usr/lib/demo/\x1b]0;owned\x07\n\xff");
    fs::write(bench.path("").join(name), "").unwrap();
    symlink("\u{202e}evil", bench.path("tree/usr/lib/demo/target")).unwrap();
    bench.run(&format!("{BUILD} --output=demo.raw"));
    for arguments in [
        "ext list --long demo.raw",
        "ext list demo.raw",
        "ext diff demo.raw tree",
    ] {
        let shown = bench.start(arguments).stdout;
        assert!(
            !shown.iter().any(|byte| *byte == 0x1b || *byte > 0x7f),
            "{arguments}: {}",
            text(&shown)
        );
    }
    let long = text(&bench.run("ext list --long demo.raw").stdout);
    assert!(
        long.contains("  usr/lib/demo/\\x1b]0;owned\\x07\\x0a\\xff\n"),
        "{long}"
    );
    assert!(long.contains("target -> \\xe2\\x80\\xaeevil\n"), "{long}");
}

#[test]
fn differences_are_told_path_by_path() {
    let bench = Bench::new();
    bench.run(&format!("{BUILD} --output=demo.raw"));
    bench.run(&format!("{BUILD} --compress=none --seed=11111111-2222-4333-8444-555555555555 --output=demo.sysext.raw"));
    let same = bench.run("ext diff demo.raw demo.sysext.raw");
    assert_eq!(
        (text(&same.stdout), same.status.code()),
        (String::new(), Some(0))
    );

    fs::write(bench.path("tree/usr/lib/demo/file"), "CONTENT\n").unwrap();
    fs::set_permissions(
        bench.path("tree/usr/lib/demo/file"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    fs::remove_file(bench.path("tree/usr/lib/demo/link")).unwrap();
    fs::create_dir(bench.path("tree/usr/lib/demo/link")).unwrap();
    let differ = bench.start("ext diff demo.raw tree");
    assert_eq!(
        (
            differ.status.code(),
            text(&differ.stdout),
            text(&differ.stderr)
        ),
        (
            Some(1),
            "usr/lib/demo/file: content from byte 0 on; mode 0644, 0600\n\
             usr/lib/demo/link: kind symlink, directory\n\
             usr/lib/extension-release.d: directory only in the first\n\
             usr/lib/extension-release.d/extension-release.demo: file only in the first\n"
                .into(),
            String::new()
        )
    );
    let json: Value =
        serde_json::from_slice(&bench.start("ext diff --json=short demo.raw tree").stdout).unwrap();
    assert_eq!((&json["schema"], &json["same"]), (&1.into(), &false.into()));
    assert_eq!(
        json["differing"][0],
        json!({"path": "usr/lib/demo/file", "differences": [
            {"what": "content", "byte": 0}, {"what": "mode", "first": "0644", "second": "0600"}]})
    );
    bench.refuses(
        "ext diff demo.raw none",
        "error: cannot read `none`: No such file or directory\n",
    );
}

#[test]
fn images_of_every_maker_hold_the_same_tree() {
    let bench = Bench::new();
    let cases = vector_json("ddi/positive.json");
    let mut shown = Vec::new();
    for (name, case) in cases.as_object().unwrap() {
        let image = bench.path(&format!("{name}.raw"));
        fs::write(image, unpacked(&case["file"])).unwrap();
        shown.push(name.as_str());
        let listed: Value = serde_json::from_slice(
            &bench
                .run(&format!("ext list --json=short {name}.raw"))
                .stdout,
        )
        .unwrap();
        assert!(listed["entries"].as_array().unwrap().len() > 3, "{name}");
        if name != "confext" {
            // systemd-repart 262 leaves attributes on the root, which is not merged.
            let same = text(
                &bench
                    .start(&format!("ext diff erofs.raw {name}.raw"))
                    .stdout,
            );
            let only_root = same
                .lines()
                .all(|line| line.starts_with("/: xattr user.validatefs."));
            assert!(only_root, "{name}: {same}");
        }
    }
    assert!(
        shown.contains(&"squashfs") && shown.contains(&"erofs-257"),
        "{shown:?}"
    );
}

/// Good images of systemd-repart 257 and 262, and bad ones: of each the program says what is wrong with it.
#[test]
fn every_vector_is_judged_with_its_reason() {
    let bench = Bench::new();
    fs::write(bench.path("os-release"), "ID=debian\nVERSION_ID=12\n").unwrap();
    let verdict = |image: Vec<u8>, key: &str| {
        fs::write(bench.path("tiny-a.raw"), image).unwrap();
        let output = bench.start(&format!(
            "ext verify --certificate=KEYS/{key}.crt --base=os-release tiny-a.raw"
        ));
        assert_eq!(text(&output.stderr), "");
        let first = text(&output.stdout).lines().next().map(str::to_owned);
        (output.status.code(), first.unwrap_or_default())
    };
    for (name, case) in vector_json("ddi/positive.json").as_object().unwrap() {
        let root_hash = case["rootHash"].as_str().unwrap();
        let good = format!("tiny-a.raw: good, root hash {root_hash}");
        let said = verdict(unpacked(&case["file"]), case["key"].as_str().unwrap());
        assert_eq!(said, (Some(0), good), "{name}");
    }
    for (name, case) in vector_json("ddi/negative.json").as_object().unwrap() {
        let mut image = match case["base"].as_str() {
            Some(base) => unpacked(&format!("{base}.xz").into()),
            None => unpacked(&case["file"]),
        };
        image.truncate(case["size"].as_u64().unwrap().try_into().unwrap());
        for edit in case["edits"].as_array().into_iter().flatten() {
            let at: usize = edit[0].as_u64().unwrap().try_into().unwrap();
            let bytes = hex::decode(edit[1].as_str().unwrap()).unwrap();
            image[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        let reason = format!("tiny-a.raw: {}", case["reason"].as_str().unwrap());
        assert_eq!(verdict(image, "rsa2048"), (Some(1), reason), "{name}");
    }
}

fn unpacked(file: &Value) -> Vec<u8> {
    let packed = fs::File::open(vector("ddi").join(file.as_str().unwrap())).unwrap();
    let mut image = Vec::new();
    XzDecoder::new(packed).read_to_end(&mut image).unwrap();
    image
}

#[test]
fn a_file_system_without_partitions_is_an_image_too() {
    let bench = Bench::new();
    bench.run(&format!("{BUILD} --output=demo.raw"));
    let image = fs::read(bench.path("demo.raw")).unwrap();
    fs::create_dir(bench.path("bare")).unwrap();
    fs::write(bench.path("bare/demo.raw"), &image[20480..20480 + 4096]).unwrap();
    assert_eq!(
        text(&bench.run("ext diff demo.raw bare/demo.raw").stdout),
        ""
    );
    let shown = text(&bench.run("ext inspect bare/demo.raw").stdout);
    for line in [
        "size         4096, without partitions\n",
        "file system  erofs, not compressed\n",
        "extends as   sysext\n",
    ] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
    let refused = bench.start("ext verify --certificate=KEYS/rsa2048.crt bare/demo.raw");
    assert!(
        text(&refused.stdout).starts_with(
            "bare/demo.raw: image: is a file system without partition table, hash tree and signature, which no initrd merges\n"
        ),
        "{}",
        text(&refused.stdout)
    );
    fs::write(
        bench.path("ext4.raw"),
        [vec![0; 1080], vec![0x53, 0xEF], vec![0; 4096]].concat(),
    )
    .unwrap();
    bench.refuses(
        "ext list ext4.raw",
        "error: cannot read `ext4.raw`: image: holds ext4; only EROFS and squashfs can be read\n",
    );
    fs::write(bench.path("none.raw"), vec![0; 8192]).unwrap();
    bench.refuses(
        "ext list none.raw",
        "error: cannot read `none.raw`: primary GPT header: sector 1 does not start with `EFI PART` (and 1 more)\n",
    );
}

#[test]
fn an_image_tells_how_its_bytes_are_used() {
    let bench = Bench::new();
    bench.run(&format!("{BUILD} --compress=zstd --output=demo.raw"));
    let shown = text(&bench.run("ext inspect demo.raw").stdout);
    for line in [
        "parts        data 4096, hash tree 4096, signature 4096, table and gaps 37376\n",
        "file system  erofs, not compressed\n",
        "content      56 bytes, 7 paths\n",
    ] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
    let json: Value =
        serde_json::from_slice(&bench.run("ext inspect --json=short demo.raw").stdout).unwrap();
    assert_eq!(
        json["parts"],
        json!({"data": 4096, "hashTree": 4096, "signature": 4096, "rest": 37376})
    );
    assert_eq!(
        json["fileSystem"],
        json!({"kind": "erofs", "compression": [], "cluster": null, "entries": 7, "contentSize": 56})
    );

    fs::write(
        bench.path("tree/usr/lib/demo/long"),
        "a line\n".repeat(10_000),
    )
    .unwrap();
    bench.run(&format!("{BUILD} --compress=zstd --output=demo.raw"));
    let shown = text(&bench.run("ext inspect demo.raw").stdout);
    let line = "file system  erofs, zstd, 524288 bytes at a time\n";
    assert!(shown.contains(line), "{line:?} in {shown}");
}

#[test]
fn the_packages_of_files_are_recorded() {
    let bench = Bench::new();
    for (path, content) in [
        ("root/etc/os-release", "ID=debian\nVERSION_ID=13\n"),
        (
            "root/var/lib/dpkg/status",
            "Package: demo\nStatus: install ok installed\nArchitecture: amd64\nSource: demo-src\nVersion: 1:2-3\n",
        ),
        (
            "root/var/lib/dpkg/info/demo.list",
            "/.\n/lib/demo/file\n/usr/lib/demo/link\n",
        ),
    ] {
        fs::create_dir_all(bench.path(path).parent().unwrap()).unwrap();
        fs::write(bench.path(path), content).unwrap();
    }
    bench.run(&format!("{BUILD} --packages-from=root --output=demo.raw"));
    let shown = text(&bench.run("ext inspect --packages demo.raw").stdout);
    let packages = "packages     demo 1:2-3 (deb, amd64, source demo-src, debian 13)\n\
                    \x20              usr/lib/demo/file\n               usr/lib/demo/link\n";
    assert!(shown.contains(packages), "{shown}");
    let json: Value =
        serde_json::from_slice(&bench.run("ext inspect --json=short demo.raw").stdout).unwrap();
    assert_eq!(
        json["packages"],
        json!({"schema": 1, "packages": [{"type": "deb", "name": "demo", "version": "1:2-3", "architecture": "amd64",
               "source": "demo-src", "os": "debian", "osVersion": "13", "files": ["usr/lib/demo/file", "usr/lib/demo/link"]}]})
    );
    assert!(
        text(&bench.run("ext list demo.raw").stdout)
            .contains("usr/lib/extension-release.d/packages.demo.json\n")
    );
    bench.run("ext verify --certificate=KEYS/rsa2048.crt demo.raw");

    bench.run(&format!("{BUILD} --output=demo.raw"));
    let shown = text(&bench.run("ext inspect --packages demo.raw").stdout);
    assert!(shown.contains("packages     none recorded\n"), "{shown}");
    fs::remove_dir_all(bench.path("root/var")).unwrap();
    bench.refuses(
        &format!("{BUILD} --packages-from=root --output=demo.raw"),
        "error: `root` has neither dpkg's nor rpm's database\n",
    );
}
