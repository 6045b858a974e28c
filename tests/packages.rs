//! The example packages: they install beside their exact kernel, and beside no other.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Command, Output};

use support::{skip, succeed, text};
use tempfile::TempDir;

/// The kernel's package, of two versions, and a root where nothing is installed yet.
const DEBIAN: &str = r#"
    for version in 6.12.1-1 6.12.1-2; do
        mkdir -p "kernel/$version/DEBIAN"
        printf 'Package: linux-image-6.12.1-amd64\nVersion: %s\nArchitecture: all\nMaintainer: Example <a@example.org>\nDescription: kernel\n' \
            "$version" >"kernel/$version/DEBIAN/control"
        dpkg-deb --root-owner-group --build "kernel/$version" "kernel-$version.deb"
    done
    mkdir -p root/var/lib/dpkg/info root/var/lib/dpkg/updates
    : >root/var/lib/dpkg/status
    "$EXAMPLES/deb" demo demo.sysext.raw 6.12.1-amd64 6.12.1-1
"#;
const DPKG: &str =
    "dpkg --root=root --log=/dev/null --force-not-root --force-script-chrootless --install";

const RPM: &str = r#"
    printf 'Name: kernel-core\nVersion: %%{v}\nRelease: 1\nSummary: x\nLicense: x\n%%description\nx\n%%files\n' >kernel.spec
    for version in 6.12.1 6.12.2; do
        rpmbuild -bb --define "_topdir $PWD/rpm" --define "v $version" kernel.spec
    done
    rpmbuild -bb --define "_topdir $PWD/rpm" --define "extension demo" --define "image $PWD/demo.sysext.raw" \
        --define "kernel 6.12.1-1.x86_64" --define "kernel_package kernel-core" \
        --define "kernel_version 6.12.1" --define "kernel_release 1" "$EXAMPLES/extension.spec"
    mv rpm/RPMS/*/*.rpm .
    mkdir root
    rpm --root "$PWD/root" --initdb
"#;

struct Room(TempDir);

impl Room {
    /// `None`, said aloud, without the program that makes these packages.
    fn new(program: &str) -> Option<Self> {
        if Command::new(program).arg("--version").output().is_err() {
            skip(&format!("packages: no {program}"));
            return None;
        }
        if text(&support::run("id", ["-u"])) != "0\n" {
            skip("packages: only root installs them");
            return None;
        }
        let room = Self(TempDir::new().unwrap());
        std::fs::write(room.0.path().join("demo.sysext.raw"), "an image").unwrap();
        Some(room)
    }

    fn run(&self, script: &str) -> Output {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/packages");
        let mut shell = Command::new("sh");
        shell.args(["-euc", script]).current_dir(self.0.path());
        shell
            .env("EXAMPLES", examples)
            .env("LC_ALL", "C")
            .env("HOME", self.0.path());
        shell.output().unwrap()
    }

    fn refuses(&self, script: &str, reason: &str) {
        let output = self.run(script);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(reason), "{said}");
    }

    fn has(&self, path: &str) -> bool {
        self.0
            .path()
            .join("root/usr/lib/initrd-extensions")
            .join(path)
            .exists()
    }
}

#[test]
fn a_debian_package_takes_its_exact_kernel() {
    let Some(room) = Room::new("dpkg-deb") else {
        return;
    };
    succeed("deb", room.run(DEBIAN));
    let package = "initrd-extension-demo-6.12.1-amd64_6.12.1-1_*.deb";
    let reason = "dependency problems - leaving unconfigured";
    room.refuses(&format!("{DPKG} {package}"), reason);
    room.refuses(&format!("{DPKG} kernel-6.12.1-2.deb {package}"), reason);
    let together = format!("{DPKG} kernel-6.12.1-1.deb {package}");
    succeed("dpkg", room.run(&together));
    assert!(room.has("6.12.1-amd64/demo.sysext.raw"));
}

#[test]
fn an_rpm_takes_its_exact_kernel() {
    let Some(room) = Room::new("rpmbuild") else {
        return;
    };
    succeed("rpmbuild", room.run(RPM));
    let install = "rpm --root \"$PWD/root\" --install";
    let package = "initrd-extension-demo-6.12.1-1.*.rpm";
    let reason = "kernel-core = 6.12.1-1 is needed by initrd-extension-demo-6.12.1-1";
    room.refuses(&format!("{install} {package}"), reason);
    room.refuses(
        &format!("{install} kernel-core-6.12.2-1.*.rpm {package}"),
        reason,
    );
    assert!(!room.has("6.12.1-1.x86_64/demo.sysext.raw"));
    succeed(
        "rpm",
        room.run(&format!("{install} kernel-core-6.12.1-1.*.rpm {package}")),
    );
    assert!(room.has("6.12.1-1.x86_64/demo.sysext.raw"));
}
