//! dpkg's database, after deb-control(5) and dpkg-query's `info` directory: `var/lib/dpkg/status` names the packages,
//! `var/lib/dpkg/info/NAME[:ARCH].list` the files of each.

use std::path::Path;

use super::database::file;
use super::{Package, PackageDatabase};
use crate::Error;

/// What the status of a package ends in when it is not there.
const ABSENT: [&str; 2] = ["not-installed", "config-files"];

/// Reads it; `None` when `root` has none.
pub(super) fn read(root: &Path, system: &Package) -> Result<Option<PackageDatabase>, Error> {
    let place = root.join("var/lib/dpkg");
    let Some(status) = file(&place.join("status"))? else {
        return Ok(None);
    };
    let mut failed = None;
    let database = parse(&status, system, |name| {
        let read = file(&place.join("info").join(name));
        read.unwrap_or_else(|error| {
            failed.get_or_insert(error);
            None
        })
    });
    failed.map_or(Ok(Some(database)), Err)
}

/// Reads the status file; `list` gives a file of the directory `info`, if it is there.
pub(super) fn parse(
    status: &[u8],
    system: &Package,
    mut list: impl FnMut(&str) -> Option<Vec<u8>>,
) -> PackageDatabase {
    let mut database = PackageDatabase::default();
    for package in packages(&String::from_utf8_lossy(status), system) {
        let architecture = package.architecture.as_deref().unwrap_or_default();
        // A name that leads elsewhere is no package's.
        if package.name.contains('/') || architecture.contains('/') {
            continue;
        }
        let qualified = format!("{}:{architecture}.list", package.name);
        let files = list(&qualified).or_else(|| list(&format!("{}.list", package.name)));
        if let Some(files) = files {
            database.add(package, files.split(|&byte| byte == b'\n'));
        }
    }
    database
}

/// The packages in a status file that are there.
fn packages(status: &str, system: &Package) -> Vec<Package> {
    status
        .split("\n\n")
        .filter_map(|paragraph| package(paragraph, system))
        .collect()
}

fn package(paragraph: &str, system: &Package) -> Option<Package> {
    let field = |name: &str| {
        paragraph
            .lines()
            .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
            .filter(|value| !value.is_empty())
    };
    let state = field("Status").and_then(|status| status.split(' ').next_back());
    if state.is_some_and(|state| ABSENT.contains(&state)) {
        return None;
    }
    let source = field("Source").map(|source| source.split(' ').next().unwrap_or(source));
    Some(Package {
        format: "deb".into(),
        name: field("Package")?.into(),
        version: field("Version")?.into(),
        architecture: field("Architecture").map(Into::into),
        source: source.map(Into::into),
        ..system.clone()
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const STATUS: &str = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\n\
                          Source: glibc\nVersion: 2.41-12\nDescription: GNU C Library\n Package: not this\n\n\
                          Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n\n\
                          Package: nbd-client\nStatus: install ok installed\nArchitecture: amd64\n\
                          Source: nbd (1:3.26.1-1)\nVersion: 1:3.26.1-1+b2\n";

    #[test]
    fn paths_are_found_on_both_sides_of_merged_directories() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("etc/os-release", "ID=debian\nVERSION_ID=\"13\"\n");
        write("var/lib/dpkg/status", STATUS);
        write(
            "var/lib/dpkg/info/libc6:amd64.list",
            "/.\n/lib/x86_64-linux-gnu/libc.so.6\n/usr/share/doc/libc6\n",
        );
        write(
            "var/lib/dpkg/info/nbd-client.list",
            "/usr/sbin/nbd-client\n",
        );
        let database = PackageDatabase::read(root.path()).unwrap();
        let found = |path: &str| database.package(path.as_bytes());
        let libc = found("usr/lib/x86_64-linux-gnu/libc.so.6").unwrap();
        assert_eq!(
            serde_json::to_string(libc).unwrap(),
            "{\"type\":\"deb\",\"name\":\"libc6\",\"version\":\"2.41-12\",\"architecture\":\"amd64\",\
             \"source\":\"glibc\",\"os\":\"debian\",\"osVersion\":\"13\"}"
        );
        let nbd = found("usr/sbin/nbd-client").unwrap();
        assert_eq!(
            (nbd.version.as_str(), nbd.source.as_deref()),
            ("1:3.26.1-1+b2", Some("nbd"))
        );
        assert_eq!(found("usr/sbin/other"), None);
    }

    #[test]
    fn a_root_without_a_database_is_told() {
        let root = tempfile::tempdir().unwrap();
        let error = PackageDatabase::read(root.path()).unwrap_err();
        let root = root.path().display();
        assert_eq!(
            error.to_string(),
            format!("`{root}` has neither dpkg's nor rpm's database")
        );
    }
}
