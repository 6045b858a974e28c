//! rpm's database, asked through the program `rpm`: its format is that program's own affair.

use std::io;
use std::path::Path;
use std::process::Command;

use super::{Package, PackageDatabase};
use crate::Error;

/// Where distributions keep it.
const PLACES: [&str; 2] = ["usr/lib/sysimage/rpm", "var/lib/rpm"];
/// What a database is in: SQLite, ndb, Berkeley DB.
const FILES: [&str; 3] = ["rpmdb.sqlite", "Packages.db", "Packages"];
/// A line for each package, and one for each of its files.
const FORMAT: &str = "P\\t%{NAME}\\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\t%{ARCH}\\t%{SOURCERPM}\\n[F\\t%{FILENAMES}\\n]";

/// Asks it; `None` when `root` has none.
pub(super) fn read(root: &Path, system: &Package) -> Result<Option<PackageDatabase>, Error> {
    let has_one = |place: &&str| {
        FILES
            .iter()
            .any(|file| root.join(place).join(file).exists())
    };
    let Some(place) = PLACES.iter().find(|place| has_one(place)) else {
        return Ok(None);
    };
    let place = root.join(place);
    let failed = |source| Error::Read {
        path: place.clone(),
        source,
    };
    let absolute = place.canonicalize().map_err(failed)?;
    let output = Command::new("rpm")
        .arg("--dbpath")
        .arg(absolute)
        .args(["--query", "--all", "--queryformat", FORMAT])
        .output()
        .map_err(|error| {
            failed(io::Error::new(
                error.kind(),
                format!("cannot run `rpm`: {error}"),
            ))
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let what = format!("`rpm` failed: {}", said.lines().next().unwrap_or_default());
        return Err(failed(io::Error::other(what)));
    }
    Ok(Some(parse(&output.stdout, system)))
}

/// Reads what [`FORMAT`] makes.
pub(super) fn parse(listing: &[u8], system: &Package) -> PackageDatabase {
    let mut database = PackageDatabase::default();
    let mut lines = listing.split(|&byte| byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let mut files = Vec::new();
        while let Some(file) = lines.next_if(|line| line.starts_with(b"F\t")) {
            files.push(file.get(2..).unwrap_or_default());
        }
        if let Some(package) = package(&String::from_utf8_lossy(line), system) {
            database.add(package, files);
        }
    }
    database
}

fn package(line: &str, system: &Package) -> Option<Package> {
    let mut fields = line.strip_prefix("P\t")?.split('\t');
    let mut field = || {
        fields
            .next()
            .filter(|field| *field != "(none)")
            .map(str::to_owned)
    };
    let (name, version, architecture, source) = (field()?, field()?, field(), field());
    // NAME-VERSION-RELEASE.src.rpm
    let source = source.and_then(|file| Some(file.rsplitn(3, '-').nth(2)?.to_owned()));
    Some(Package {
        format: "rpm".into(),
        source: source.filter(|source| *source != name),
        name,
        version,
        architecture,
        ..system.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_rpm_is_asked_for() {
        let listing = b"P\tnbd\t3.26-3.fc42\tx86_64\tnbd-3.26-3.fc42.src.rpm\nF\t/usr/bin/nbd-client\nF\t/usr/sbin/nbd\n\
                        P\tgpg-pubkey\t1-2\t(none)\t(none)\n\
                        P\tbind-libs\t32:9.18.30-1.fc42\tx86_64\tbind-9.18.30-1.fc42.src.rpm\nF\t/lib64/libdns.so\n";
        let database = parse(listing, &Package::default());
        let found =
            |path: &str| serde_json::to_string(database.package(path.as_bytes()).unwrap()).unwrap();
        assert_eq!(
            found("usr/bin/nbd-client"),
            "{\"type\":\"rpm\",\"name\":\"nbd\",\"version\":\"3.26-3.fc42\",\"architecture\":\"x86_64\"}"
        );
        assert_eq!(
            found("usr/lib64/libdns.so"),
            "{\"type\":\"rpm\",\"name\":\"bind-libs\",\"version\":\"32:9.18.30-1.fc42\",\
             \"architecture\":\"x86_64\",\"source\":\"bind\"}"
        );
        assert_eq!(database.package(b"usr/bin/other"), None);
    }
}
