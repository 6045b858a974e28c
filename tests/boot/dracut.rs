//! Modules of the real dracut become extensions of the vendor's UKI. No machine is booted here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tempfile::TempDir;
use ukikit_esp::Uki;
use ukikit_sysext::{Entry, Image, Kind, Tree, initrd};

use crate::lab;
use crate::support::systemd::Systemd;
use crate::support::{setting, skip, succeed, text, ukikit, vector};

/// Builds `feature.sysext.raw` in `place` from modules of dracut in a root.
fn build(place: &Path, lab: &Path, root: &Path, modules: &str) -> Output {
    let mut build = ukikit();
    build.args(["ext", "build", "--name=feature", "--explain"]);
    build.arg(format!("--dracut={modules}"));
    for (option, path) in [
        ("uki", lab.join("vendor.efi")),
        ("root", root.to_owned()),
        ("private-key", vector("ddi/keys/rsa2048.key")),
        ("certificate", vector("ddi/keys/rsa2048.crt")),
        ("output", place.join("feature.sysext.raw")),
    ] {
        build.arg(format!("--{option}={}", path.display()));
    }
    build.output().unwrap()
}

fn paths(place: &Path) -> Vec<String> {
    let mut list = ukikit();
    list.args(["ext", "list", "--json=short"]);
    list.arg(place.join("feature.sysext.raw"));
    let listed = succeed("ext list", list.output().unwrap());
    let listed: Value = serde_json::from_slice(&listed).unwrap();
    let entries = listed["entries"].as_array().unwrap();
    let files = entries.iter().filter(|entry| entry["type"] != "directory");
    let paths = files.map(|entry| entry["path"].as_str().unwrap().to_owned());
    paths.collect()
}

#[test]
fn a_module_of_dracut_becomes_an_extension() {
    let (Some(lab), Some(systemd)) = (lab(), Systemd::find(262)) else {
        return;
    };
    let place = TempDir::new().unwrap();
    let place = place.path();
    let build = |modules| build(place, &lab, systemd.root(), modules);
    let notes = text(&build("systemd-repart").stderr);
    let paths = paths(place);
    for path in [
        "usr/bin/systemd-repart",
        "usr/lib/systemd/system/systemd-repart.service",
    ] {
        assert!(
            paths.iter().any(|found| found == path),
            "{path}: {paths:?}\n{notes}"
        );
        assert!(notes.contains(&format!("keep  {path}\n")), "{notes}");
    }
    // dracut made the base too: of it all there is nothing to bring.
    assert!(notes.contains("same  usr/lib/systemd/systemd\n"), "{notes}");
    assert!(
        !paths
            .iter()
            .any(|path| path.ends_with(".ko.xz") || path.contains("dracut")),
        "{paths:?}"
    );
    let mut verify = ukikit();
    verify.args(["ext", "verify", "--certificate"]);
    verify
        .arg(vector("ddi/keys/rsa2048.crt"))
        .arg("--base")
        .arg(lab.join("vendor.efi"));
    succeed(
        "ext verify",
        verify
            .arg(place.join("feature.sysext.raw"))
            .output()
            .unwrap(),
    );

    fs::remove_file(place.join("feature.sysext.raw")).unwrap();
    let refused = |modules, start: &str| {
        let output = build(modules);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with(start), "{said}");
        assert!(!place.join("feature.sysext.raw").exists());
    };
    refused("fire", "error: dracut has no module `fire`\n");
    // The root has no lvm2.
    refused("lvm", "error: dracut cannot install its module `lvm`: ");
}

/// What becomes of each module of dracut beyond the base, of the same packages: an extension, or the words that say why not.
const MODULES: [(&str, Option<&str>); 36] = [
    ("systemd-networkd", None),
    ("network-manager", None),
    ("iscsi", None),
    ("nbd", None),
    ("nfs", None),
    ("cifs", None),
    ("fcoe", None),
    ("nvmf", None),
    ("ssh-client", None),
    ("livenet", None),
    ("dmsquash-live", None),
    ("lvm", None),
    ("mdraid", None),
    ("multipath", None),
    ("btrfs", None),
    ("crypt", None),
    ("systemd-cryptsetup", None),
    ("tpm2-tss", None),
    ("clevis,clevis-pin-tpm2", None),
    ("clevis,clevis-pin-tang", None),
    ("fido2", None),
    ("pcsc", None),
    ("plymouth", None),
    ("bluetooth", None),
    ("dbus", None),
    ("systemd-resolved", None),
    ("systemd-repart", None),
    ("overlayfs", None),
    ("virtiofs", None),
    ("initqueue", None),
    ("qemu", None),
    ("kernel-modules", None),
    ("nvdimm", None),
    ("resume", None),
    ("debug", None),
    ("hwdb", None),
];

/// What dracut itself makes of the modules of the lab's base and these.
const DRACUT: &str = r#"
    exec dracut --quiet --force --no-hostonly --no-hostonly-cmdline --no-early-microcode --no-compress --reproducible \
        --kver "$(basename /usr/lib/modules/*)" --tmpdir /run --modules "$1" /io/initrd
"#;

#[test]
fn lab_all_modules_of_dracut() {
    let (Some(root), Some(lab)) = (
        setting("UKIKIT_ROOT_MODULES"),
        setting("UKIKIT_MODULES_LAB"),
    ) else {
        return skip("modules: no root, tests/run --full makes one");
    };
    compare(&Systemd::at(root), Path::new(&lab), &MODULES);
}

/// What takes the network needs a module for it beside.
const MODULES_106: [(&str, Option<&str>); 10] = [
    ("systemd-networkd", None),
    ("systemd-networkd,iscsi", None),
    ("systemd-networkd,nbd", None),
    (
        "iscsi",
        Some("error: dracut cannot install its module `iscsi`: "),
    ),
    ("lvm", None),
    ("mdraid", None),
    ("multipath", None),
    ("btrfs", None),
    ("crypt", None),
    ("systemd-repart", None),
];

#[test]
fn lab_modules_of_dracut_106() {
    let Some(root) = Systemd::with_features(257) else {
        return;
    };
    let lab = setting("UKIKIT_FEATURE_LAB_257").unwrap();
    compare(&root, Path::new(&lab), &MODULES_106);
}

/// Two at a time, as there are two processors: a run of dracut keeps one busy.
fn compare(root: &Systemd, lab: &Path, modules: &[(&str, Option<&str>)]) {
    let base = initrd_of(&lab.join("vendor.efi"));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        while let Some((modules, refusal)) = modules.get(next.fetch_add(1, Ordering::Relaxed)) {
            wrong.extend(a_module(root, lab, &base, modules, *refusal));
        }
        wrong
    };
    let wrong = std::thread::scope(|scope| {
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.map(|worker| worker.join().unwrap()).concat()
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is otherwise than it should be.
fn a_module(
    root: &Systemd,
    lab: &Path,
    base: &Tree,
    modules: &str,
    refusal: Option<&str>,
) -> Vec<String> {
    let place = TempDir::new().unwrap();
    let output = build(place.path(), lab, root.root(), modules);
    let said = text(&output.stderr);
    let errors = said.lines().skip_while(|line| !line.starts_with("error: "));
    let errors: Vec<&str> = errors.collect();
    match (output.status.code(), refusal) {
        (Some(0), None) => {}
        (Some(1), Some(refusal)) if errors.join("\n").contains(refusal) => return Vec::new(),
        _ => return vec![format!("{modules}: {errors:?}")],
    }
    let image = place.path().join("feature.sysext.raw");
    let image = Image::open(fs::File::open(image).unwrap()).unwrap();
    let extension = image.tree().unwrap();
    let room = root.room();
    let record = base.get("usr/lib/dracut/modules.txt").map(content).unwrap();
    let record = text(&record);
    let all: Vec<&str> = record
        .split_whitespace()
        .chain(modules.split(','))
        .collect();
    succeed(
        "dracut",
        room.run("sh", &["-euc", DRACUT, "-", &all.join(" ")]),
    );
    let whole = initrd::read(&room.read("initrd")).unwrap();
    let mut wrong = missing(&whole, base, &extension);
    wrong.extend(unasked(&whole, base, &extension));
    let wrong = wrong.iter().map(|wrong| format!("{modules}: {wrong}"));
    wrong.collect()
}

fn initrd_of(uki: &Path) -> Tree {
    let file = fs::read(uki).unwrap();
    initrd::read(Uki::parse(&file).unwrap().initrd().unwrap()).unwrap()
}

/// What an extension has elsewhere than an initrd of dracut's: it has no `/etc` and no `/var`.
const MOVED: [(&str, &str); 5] = [
    ("etc/modprobe.d/", "usr/lib/modprobe.d/"),
    ("etc/systemd/network/", "usr/lib/systemd/network/"),
    ("etc/systemd/system/", "usr/lib/systemd/system/"),
    ("etc/udev/rules.d/", "usr/lib/udev/rules.d/"),
    ("var/lib/dracut/hooks/", "usr/lib/dracut/hooks/"),
];

/// What an extension does not have: caches and indexes of the whole, users, dracut's records, hooks that would come too late.
const LEFT_OUT: [&str; 29] = [
    "dev/",
    "etc/.pwd.lock",
    "etc/cmdline.d/",
    "etc/conf.d/systemd.conf",
    "etc/group",
    "etc/group-",
    "etc/gshadow",
    "etc/gshadow-",
    "etc/ld.so.cache",
    "etc/machine-id",
    "etc/nsswitch.conf",
    "etc/passwd",
    "etc/passwd-",
    "etc/services",
    "etc/shadow",
    "etc/shadow-",
    "init",
    "usr/bin/sh",
    "usr/lib/dracut/build-parameter.txt",
    "usr/lib/dracut/hostonly-files",
    "usr/lib/dracut/hostonly-kernel-modules.txt",
    "usr/lib/dracut/loaded-kernel-modules.txt",
    "usr/lib/dracut/modules.txt",
    "usr/lib/dracut/need-initqueue",
    "usr/lib/systemd/system/systemd-tmpfiles-setup.service",
    "var/lib/dracut/hooks/cmdline/",
    "var/lib/dracut/hooks/initqueue/",
    "var/lib/dracut/hooks/pre-trigger/",
    "var/lib/dracut/hooks/pre-udev/",
];

/// What an extension has of itself.
const OWN: [&str; 6] = [
    "usr/lib/extension-release.d/",
    "usr/lib/systemd/system/systemd-sysext-initrd.service.d/50-no-reload.conf",
    "usr/lib/systemd/system/systemd-sysext.service.d/50-no-reload.conf",
    "usr/lib/systemd/system/sysinit.target.upholds/ukikit-feature.target",
    "usr/lib/systemd/system/ukikit-",
    "usr/lib/tmpfiles.d/ukikit-feature.conf",
];

/// What dracut's initrd has beyond the base and the extension has not, and does not leave out.
fn missing(whole: &Tree, base: &Tree, extension: &Tree) -> Vec<String> {
    let lines = extension.get("usr/lib/tmpfiles.d/ukikit-feature.conf");
    let lines = lines.map(content).unwrap_or_default();
    let lines = text(&lines);
    // dracut 106 has there a link, which a directory would hide.
    let no_hooks = base.get("usr/lib/dracut/hooks").is_some_and(is_link);
    let mut missing = Vec::new();
    for (path, entry) in files(whole) {
        let is_left_out = LEFT_OUT.iter().any(|left| names(left, &path))
            || is_index(&path)
            || no_hooks && path.starts_with("var/lib/dracut/hooks/");
        if is_left_out || base.get(&path).is_some_and(|other| alike(entry, other)) {
            continue;
        }
        let has = |path: &str| extension.get(path).is_some_and(|other| alike(entry, other));
        let factory = format!("usr/share/factory/{path}");
        let found = has(&moved(&path))
            || has(&factory) && lines.contains(&format!("C /{path} "))
            || is_link(entry) && lines.contains(&format!("L /{path} "))
            // One that led through etc leads straight to its file.
            || is_link(entry) && extension.resolve(&path).is_some();
        if !found {
            missing.push(format!("missing: {path}"));
        }
    }
    missing
}

/// What the extension has, and dracut's initrd has not.
fn unasked(whole: &Tree, base: &Tree, extension: &Tree) -> Vec<String> {
    let moved: BTreeSet<String> = files(whole).map(|(path, _)| moved(&path)).collect();
    let unasked = files(extension).filter(|(path, _)| {
        let path = path.strip_prefix("usr/share/factory/").unwrap_or(path);
        let is_own = OWN.iter().any(|start| path.starts_with(start)) || is_index(path);
        !is_own && !moved.contains(path) && whole.get(path).is_none()
    });
    let mut unasked: Vec<String> = unasked
        .map(|(path, _)| format!("unasked: {path}"))
        .collect();
    let twice = files(extension).filter(|(path, entry)| {
        base.get(path).is_some_and(|other| alike(entry, other)) && !is_index(path)
    });
    unasked.extend(twice.map(|(path, _)| format!("of the base: {path}")));
    unasked
}

fn files(tree: &Tree) -> impl Iterator<Item = (String, &Entry)> {
    let files = tree.iter().filter(|(_, entry)| !entry.is_directory());
    files.map(|(path, entry)| (text(path), entry))
}

/// All that is below, or the path itself.
fn names(left: &str, path: &str) -> bool {
    path == left || left.ends_with('/') && path.starts_with(left)
}

fn moved(path: &str) -> String {
    let found = MOVED.iter().find(|(from, _)| path.starts_with(from));
    found.map_or_else(|| path.to_owned(), |(from, to)| path.replacen(from, to, 1))
}

fn is_index(path: &str) -> bool {
    path.starts_with("usr/lib/modules/")
        && path.matches('/').count() == 4
        && path.contains("/modules.")
}

fn is_link(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::Symlink(_))
}

/// The same type with the same bytes.
fn alike(one: &Entry, other: &Entry) -> bool {
    match (&one.kind, &other.kind) {
        (Kind::File(_), Kind::File(_)) => content(one) == content(other),
        (Kind::Symlink(one), Kind::Symlink(other)) => one == other,
        _ => false,
    }
}

fn content(entry: &Entry) -> Vec<u8> {
    match &entry.kind {
        Kind::File(content) => content.read(1 << 30).unwrap(),
        _ => Vec::new(),
    }
}
