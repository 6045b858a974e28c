//! Modules of the real dracut become extensions of the vendor's UKI. No machine is booted here.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::lab;
use crate::support::systemd::Systemd;
use crate::support::{succeed, text, ukikit, vector};

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

    std::fs::remove_file(place.join("feature.sysext.raw")).unwrap();
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
