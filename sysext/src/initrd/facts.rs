//! What an initrd can do with an extension, as far as its files tell.

use serde::Serialize;

use super::kernel::{Kernel, Support};
use crate::{Certificate, CertificateDescription, Certificates, Error, Kind, Release, Tree};

/// The oldest systemd that merges extensions of the ESP and starts their units.
const OLDEST_SYSTEMD: u32 = 255;
/// In bytes; what is read of an initrd here is text for people.
const LONGEST_TEXT: usize = 1 << 20;

/// What the files of an initrd tell about it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Facts {
    /// Its `os-release`; what extensions have to fit. `None`: no extension does.
    pub release: Option<Release>,
    /// The version of systemd, from the name of its library.
    pub systemd: Option<u32>,
    /// What dracut made it of.
    pub dracut: Option<Dracut>,
    /// The kernels it has modules for, most often one.
    pub kernels: Vec<Kernel>,
    /// Whether it has systemd's program that merges extensions.
    pub merges_extensions: bool,
    /// Whether systemd can use dm-verity there: its libcryptsetup.
    pub verity_library: bool,
    /// Whether systemd can use a TPM there: the libraries of the TSS.
    pub tpm_libraries: bool,
    /// Those it trusts for signatures of images.
    #[serde(serialize_with = "describe")]
    pub certificates: Certificates,
}

/// What dracut wrote about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Dracut {
    /// Its version, with the distribution's suffix.
    pub version: Option<String>,
    /// Its modules in the initrd, in their order.
    pub modules: Vec<String>,
}

/// Something without which extensions, or what they are to do, will not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Lack {
    /// What is missing, and what of it.
    pub what: String,
    /// How whoever builds the initrd adds it.
    pub remedy: String,
}

impl Facts {
    /// Looks for them in the files of an initrd.
    ///
    /// # Errors
    ///
    /// An `os-release` that breaks its format. What else cannot be read counts as not there.
    pub fn of(tree: &Tree) -> Result<Self, Error> {
        let has_library = |name: &str| libraries(tree).any(|library| library.starts_with(name));
        Ok(Self {
            release: release(tree)?,
            systemd: libraries(tree).find_map(systemd_version),
            dracut: dracut(tree),
            kernels: Kernel::all(tree),
            merges_extensions: tree.resolve("usr/bin/systemd-sysext").is_some(),
            verity_library: has_library("libcryptsetup.so."),
            tpm_libraries: has_library("libtss2-esys.so.") && has_library("libtss2-mu.so."),
            certificates: Certificates::new(certificates(tree)),
        })
    }

    /// The kernel of this version; without one, the only kernel there is.
    pub fn kernel(&self, version: Option<&str>) -> Option<&Kernel> {
        match (version, self.kernels.as_slice()) {
            (Some(version), kernels) => kernels.iter().find(|kernel| kernel.version == version),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// What keeps extensions from being merged, each with its remedy. Nothing that is unknown is listed.
    pub fn lacks(&self) -> Vec<Lack> {
        let mut lacks = Vec::new();
        let mut lack = |missing: bool, what: &str, remedy: &str| {
            if missing {
                let (what, remedy) = (what.to_owned(), remedy.to_owned());
                lacks.push(Lack { what, remedy });
            }
        };
        lack(
            self.release.is_none(),
            "an os-release file, which extensions are compared with",
            "add dracut's module systemd-initrd",
        );
        lack(
            self.systemd.is_some_and(|version| version < OLDEST_SYSTEMD),
            "systemd 255 or later, which merges extensions of the ESP and starts their units",
            "build the initrd with a newer systemd",
        );
        lack(
            !self.merges_extensions,
            "the program systemd-sysext, which merges extensions",
            &supplied("add dracut's module systemd-sysext"),
        );
        lack(
            !self.verity_library,
            "libcryptsetup, with which systemd checks an image",
            &supplied("add dracut's module systemd-veritysetup"),
        );
        for kernel in &self.kernels {
            for (driver, purpose) in NEEDED_DRIVERS {
                lack(
                    kernel.support(driver) == Support::Missing,
                    &format!("the driver {driver}, {purpose}"),
                    &supplied(&format!("add it with dracut's --add-drivers={driver}")),
                );
            }
        }
        lack(
            self.certificates.iter().next().is_none(),
            "a certificate in usr/lib/verity.d/*.crt: only images that the kernel's keyrings know are merged",
            "put the signer's certificate there, or into a signed addon beside the UKI",
        );
        lacks
    }
}

/// Whoever cannot build the initrd has another way.
fn supplied(remedy: &str) -> String {
    format!("{remedy}, or bring it by ukikit addon build --recipe=extensions")
}

/// What merging takes of the kernel.
const NEEDED_DRIVERS: [(&str, &str); 4] = [
    ("loop", "behind which an image lies"),
    ("dm_verity", "which checks an image as it is read"),
    ("overlay", "which puts an extension over /usr"),
    ("erofs", "the file system of extensions"),
];

/// Where systemd looks for the os-release file.
const RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

fn release(tree: &Tree) -> Result<Option<Release>, Error> {
    let file = RELEASE.iter().find_map(|path| text(tree, path));
    let release = file.map(|file| Release::parse(&file)).transpose()?;
    Ok(release)
}

/// The names of all shared libraries.
fn libraries(tree: &Tree) -> impl Iterator<Item = &str> {
    let paths = tree.iter().map(|(path, _)| path);
    let names = paths
        .filter(|path| path.starts_with(b"usr/lib"))
        .map(crate::tree::name);
    names
        .filter_map(|name| str::from_utf8(name).ok())
        .filter(|name| name.starts_with("lib") && name.contains(".so"))
}

/// From `libsystemd-shared-262.so`, behind whose number a distribution may put its own.
fn systemd_version(library: &str) -> Option<u32> {
    let rest = library.strip_prefix("libsystemd-shared-")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    rest.get(..digits)?.parse().ok()
}

fn dracut(tree: &Tree) -> Option<Dracut> {
    let modules = text(tree, "usr/lib/dracut/modules.txt");
    let version = files_in(tree, "usr/lib/dracut").find_map(|name| {
        let version = name.strip_prefix(b"dracut-")?;
        String::from_utf8(version.to_vec()).ok()
    });
    if modules.is_none() && version.is_none() {
        return None;
    }
    let modules = String::from_utf8_lossy(&modules.unwrap_or_default())
        .split_ascii_whitespace()
        .map(ToOwned::to_owned)
        .collect();
    Some(Dracut { version, modules })
}

/// Where systemd looks for certificates. A file hides those of the same name behind it.
const CERTIFICATES: [&str; 4] = [
    "etc/verity.d",
    "run/verity.d",
    "usr/local/lib/verity.d",
    "usr/lib/verity.d",
];

/// A certificate that cannot be used cannot have signed an image that is taken: it is left out.
fn certificates(tree: &Tree) -> Vec<Certificate> {
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut found = Vec::new();
    for directory in CERTIFICATES {
        for name in files_in(tree, directory) {
            if !name.ends_with(b".crt") || seen.contains(&name) {
                continue;
            }
            seen.push(name);
            let path = [directory.as_bytes(), b"/", name].concat();
            let file = text(tree, path).unwrap_or_default();
            found.extend(Certificate::from_pem(&file));
        }
    }
    found
}

/// The names in a directory, itself perhaps a symbolic link.
pub(super) fn files_in<'a>(tree: &'a Tree, directory: &str) -> impl Iterator<Item = &'a [u8]> {
    let prefix = tree.resolve(directory).map(|mut path| {
        path.push(b'/');
        path
    });
    tree.iter().filter_map(move |(path, _)| {
        let name = path.strip_prefix(prefix.as_deref()?)?;
        (!name.contains(&b'/')).then_some(name)
    })
}

/// The bytes of a small file, symbolic links followed.
pub(super) fn text(tree: &Tree, path: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    let path = tree.resolve(path)?;
    match &tree.get(&path)?.kind {
        Kind::File(content) => content.read(LONGEST_TEXT).ok(),
        _ => None,
    }
}

fn describe<S: serde::Serializer>(
    certificates: &Certificates,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(certificates.iter().map(CertificateDescription::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entry;

    fn tree(entries: &[(&str, Entry)]) -> Tree {
        let mut tree = Tree::new();
        for (path, entry) in entries {
            tree.insert(path, entry.clone()).unwrap();
        }
        tree
    }

    #[test]
    fn reads_the_release_behind_links() {
        let linked = tree(&[
            (
                "etc/initrd-release",
                Entry::file("ID=vendor\nVERSION_ID=1\n"),
            ),
            ("etc/os-release", Entry::symlink("initrd-release")),
        ]);
        let release = Facts::of(&linked).unwrap().release.unwrap();
        assert_eq!(release.value("ID"), Some("vendor"));
        assert_eq!(Facts::of(&Tree::new()).unwrap().release, None);
    }

    #[test]
    fn trusts_what_systemd_trusts() {
        let pem = |name: &str| crate::vector::key(name);
        let trusting = tree(&[
            ("etc/verity.d/hidden.crt", Entry::file("")),
            ("usr/lib/verity.d/a.crt", Entry::file(pem("rsa2048.crt"))),
            ("usr/lib/verity.d/b.pem", Entry::file(pem("p256.crt"))),
            ("usr/lib/verity.d/c.crt", Entry::file("not a certificate")),
            ("usr/lib/verity.d/hidden.crt", Entry::file(pem("other.crt"))),
        ]);
        let expected = Certificate::from_pem(&pem("rsa2048.crt")).unwrap();
        let found: Vec<_> = certificates(&trusting)
            .iter()
            .map(Certificate::fingerprint)
            .collect();
        assert_eq!(found, [expected.fingerprint()]);
    }

    #[test]
    fn tells_what_made_it() {
        let made = tree(&[
            ("usr/lib/dracut/dracut-112-7", Entry::file("")),
            (
                "usr/lib/dracut/modules.txt",
                Entry::file("systemd\nbase \ndm\n"),
            ),
            (
                "usr/lib64/systemd/libsystemd-shared-258.3-1.fc43.so",
                Entry::file(""),
            ),
            ("usr/lib64/libtss2-esys.so.0", Entry::file("")),
            ("usr/lib64/libtss2-mu.so.0", Entry::file("")),
        ]);
        let facts = Facts::of(&made).unwrap();
        assert_eq!(facts.systemd, Some(258));
        assert!(facts.tpm_libraries);
        let dracut = facts.dracut.unwrap();
        assert_eq!(dracut.version.as_deref(), Some("112-7"));
        assert_eq!(dracut.modules, ["systemd", "base", "dm"]);
    }

    #[test]
    fn names_what_is_missing() {
        let modules = "usr/lib/modules/6.1";
        let poor = tree(&[
            ("etc/os-release", Entry::file("ID=fedora\nVERSION_ID=43\n")),
            ("usr/bin/systemd-sysext", Entry::file("")),
            ("usr/lib64/libcryptsetup.so.12", Entry::file("")),
            (
                &format!("{modules}/modules.builtin"),
                Entry::file("kernel/drivers/block/loop.ko\nkernel/fs/erofs/erofs.ko\n"),
            ),
            (
                &format!("{modules}/kernel/drivers/md/dm-verity.ko"),
                Entry::file(""),
            ),
        ]);
        let lacks = Facts::of(&poor).unwrap().lacks();
        let lacks: Vec<_> = lacks.iter().map(|lack| lack.what.as_str()).collect();
        assert_eq!(
            lacks,
            [
                "the driver overlay, which puts an extension over /usr",
                "a certificate in usr/lib/verity.d/*.crt: only images that the kernel's keyrings know are merged",
            ]
        );
    }
}
