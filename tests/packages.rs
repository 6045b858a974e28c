//! The example packages: they install beside their exact kernel, and beside no other. And what packages of ukikit hold.

#![cfg(test)]

#[path = "support/mod.rs"]
mod support;

use std::os::unix::fs::PermissionsExt;
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

/// The files that `packaging/install` puts below a directory.
fn installed() -> (TempDir, Vec<String>) {
    let place = TempDir::new().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/install");
    let mut install = Command::new(script);
    install.arg(env!("CARGO_BIN_EXE_ukikit")).arg(place.path());
    succeed("packaging/install", install.output().unwrap());
    let found = support::run(
        "sh",
        [
            "-c",
            "cd \"$0\" && find . -type f | sort",
            place.path().to_str().unwrap(),
        ],
    );
    let found = text(&found)
        .lines()
        .map(|path| path[1..].to_owned())
        .collect();
    (place, found)
}

/// The verbs, from what the program says of itself.
fn verbs() -> Vec<String> {
    let listed = |words: &[&str]| {
        let help = text(&succeed(
            "help",
            support::ukikit().args(words).arg("-h").output().unwrap(),
        ));
        let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let lines = lines.take_while(|line| line.starts_with(' '));
        let names = lines.filter_map(|line| {
            line.strip_prefix("  ")?
                .split(' ')
                .next()
                .map(str::to_owned)
        });
        names
            .filter(|name| !name.is_empty() && name != "help")
            .collect::<Vec<_>>()
    };
    let nouns = listed(&[]);
    let below = nouns.iter().flat_map(|noun| {
        listed(&[noun])
            .into_iter()
            .map(move |verb| format!("{noun}-{verb}"))
    });
    let below: Vec<String> = below.collect();
    nouns.iter().cloned().chain(below).collect()
}

#[test]
fn a_package_has_a_page_for_each_verb() {
    let (place, files) = installed();
    let mut expected: Vec<String> = verbs();
    assert!(expected.len() > 50, "{expected:?}");
    expected.sort();
    let pages = files
        .iter()
        .filter_map(|path| path.strip_prefix("/usr/share/man/man1/ukikit-"));
    let mut pages: Vec<&str> = pages.map(|page| page.strip_suffix(".1").unwrap()).collect();
    pages.sort_unstable();
    assert_eq!(pages, expected);
    let page = place.path().join("usr/share/man/man1/ukikit-ext-build.1");
    let page = std::fs::read_to_string(page).unwrap();
    let heads: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix(".SH "))
        .collect();
    assert_eq!(
        heads,
        [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXAMPLES",
            "\"EXIT STATUS\"",
            "\"SEE ALSO\""
        ]
    );
}

#[test]
fn a_package_completes_in_three_shells() {
    let (place, files) = installed();
    for file in [
        "/usr/share/bash-completion/completions/ukikit",
        "/usr/share/zsh/site-functions/_ukikit",
        "/usr/share/fish/vendor_completions.d/ukikit.fish",
    ] {
        assert!(files.iter().any(|found| found == file), "{file}");
        let script = std::fs::read_to_string(place.path().join(&file[1..])).unwrap();
        assert!(script.contains("tpm2-pcrs"), "{file}");
    }
    let bash = place
        .path()
        .join("usr/share/bash-completion/completions/ukikit");
    support::run("bash", ["-n", bash.to_str().unwrap()]);
}

/// kernel-install(8) passes over what is not executable.
#[test]
fn a_package_has_the_plugins_of_kernel_install() {
    let (place, files) = installed();
    for file in ["80-ukikit.install", "95-ukikit.install"] {
        let path = format!("/usr/lib/kernel/install.d/{file}");
        assert!(files.contains(&path), "{path}");
        let mode = std::fs::metadata(place.path().join(&path[1..])).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o755);
    }
}

/// The spec, with the program under test in place of a build of its own.
const OWN_RPM: &str = r#"
    rpmbuild -bb --build-in-place --define "_topdir $PLACE/rpm" --define "program $PROGRAM" --define "__os_install_post %{nil}" \
        --define "_binary_payload w1.gzdio" "packaging/ukikit.spec"
    rpm -qlp "$PLACE"/rpm/RPMS/*/ukikit-*.rpm
"#;

#[test]
fn the_spec_makes_an_rpm_of_what_is_installed() {
    if !support::have("rpmbuild") {
        skip("packages: no rpmbuild");
        return;
    }
    let (place, files) = installed();
    let mut shell = Command::new("sh");
    shell
        .args(["-euc", OWN_RPM])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    shell
        .env("PLACE", place.path())
        .env("PROGRAM", env!("CARGO_BIN_EXE_ukikit"));
    shell.env("LC_ALL", "C").env("HOME", place.path());
    let listed = text(&succeed("rpmbuild", shell.output().unwrap()));
    for file in files {
        assert!(
            listed.lines().any(|line| line.starts_with(&file)),
            "{file} is not in\n{listed}"
        );
    }
}
