//! What an extension is merged into: the initrd of a UKI, as far as its files tell.

use std::borrow::Cow;

use anyhow::{Context, Result};
use ukikit_esp::Uki;
use ukikit_sysext::erofs::Compression;
use ukikit_sysext::{Architecture, Certificate, Certificates, Kind, Release, Tree, initrd};

/// What an image has to fit and to be signed by.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Base {
    /// The `os-release` of the initrd.
    pub release: Release,
    /// Those the initrd trusts for signatures of images.
    pub certificates: Certificates,
    /// The machine the UKI is for, if it says so in a word systemd knows.
    pub architecture: Option<Architecture>,
    /// Whether its kernel decodes zstd in EROFS, if that shows.
    pub zstd: Option<bool>,
}

impl Base {
    /// Reads it from the bytes of a UKI, an initrd or, when they are neither, an `os-release` file.
    ///
    /// # Errors
    ///
    /// As for each of them.
    pub fn of_file(bytes: &[u8]) -> Result<Self> {
        if bytes.starts_with(b"MZ") {
            return Self::of_uki(bytes);
        }
        if INITRD_SIGNATURES
            .iter()
            .any(|signature| bytes.starts_with(signature))
        {
            return Self::of_initrd(bytes);
        }
        let release = Release::parse(bytes).ok();
        let release = release
            .filter(|release| release.value("ID").is_some())
            .context("it is neither a UKI nor an initrd, nor an os-release file with an ID")?;
        Ok(Self {
            release,
            certificates: Certificates::default(),
            architecture: None,
            zstd: None,
        })
    }

    /// Reads it from the bytes of a UKI.
    ///
    /// # Errors
    ///
    /// What keeps the UKI or its initrd from being read, or an initrd without an `os-release`.
    pub fn of_uki(file: &[u8]) -> Result<Self> {
        let uki = Uki::parse(file)?;
        let mut base = Self::of_initrd(uki.initrd()?)?;
        base.architecture = uki.architecture().and_then(|word| word.name().parse().ok());
        Ok(base)
    }

    /// Reads it from the bytes of an initrd.
    ///
    /// # Errors
    ///
    /// What keeps the initrd from being read, or one without an `os-release`.
    pub fn of_initrd(bytes: &[u8]) -> Result<Self> {
        let tree = initrd::read(bytes).context("cannot read the initrd")?;
        Ok(Self {
            release: release(&tree)?,
            certificates: Certificates::new(certificates(&tree)),
            architecture: None,
            zstd: erofs_module(&tree).map(|module| contains(&module, b"zstd_")),
        })
    }

    /// What every kernel that merges the extension reads, as small as that allows.
    pub fn compression(&self) -> Compression {
        match self.zstd {
            Some(true) => Compression::ZSTD,
            _ => Compression::LZ4,
        }
    }
}

/// How cpio archives start, and what they are compressed with: gzip, xz, zstd, bzip2, lz4, lzo, lzma.
const INITRD_SIGNATURES: [&[u8]; 9] = [
    b"070701",
    b"070702",
    &[0x1F, 0x8B],
    &[0xFD, b'7', b'z', b'X', b'Z'],
    &[0x28, 0xB5, 0x2F, 0xFD],
    b"BZh",
    &[0x02, 0x21, 0x4C, 0x18],
    &[0x89, b'L', b'Z', b'O'],
    &[0x5D, 0x00, 0x00],
];

/// Where systemd looks for the os-release file.
const RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];

fn release(tree: &Tree) -> Result<Release> {
    let file = RELEASE
        .iter()
        .find_map(|path| small_file(tree, path.as_bytes()))
        .context("the initrd has no os-release file, so no extension fits it")?;
    Release::parse(&file).context("cannot read the os-release file of the initrd")
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
    let mut seen: Vec<Vec<u8>> = Vec::new();
    let mut found = Vec::new();
    for directory in CERTIFICATES {
        for path in files_in(tree, directory) {
            let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
            if !name.ends_with(b".crt") || seen.iter().any(|other| other == name) {
                continue;
            }
            seen.push(name.to_vec());
            let file = small_file(tree, &path).unwrap_or_default();
            found.extend(Certificate::from_pem(&file));
        }
    }
    found
}

/// The paths of what lies in a directory, itself perhaps a symbolic link.
fn files_in(tree: &Tree, directory: &str) -> Vec<Vec<u8>> {
    let Some(mut prefix) = tree.resolve(directory) else {
        return Vec::new();
    };
    prefix.push(b'/');
    tree.iter()
        .filter(|(path, _)| {
            path.strip_prefix(&prefix[..])
                .is_some_and(|name| !name.contains(&b'/'))
        })
        .map(|(path, _)| path.to_vec())
        .collect()
}

/// The kernel module that mounts EROFS, unpacked. `None` when it is built into the kernel, or not there.
fn erofs_module(tree: &Tree) -> Option<Vec<u8>> {
    let is_module = |path: &[u8]| {
        let name = path.rsplit(|&byte| byte == b'/').next();
        name.is_some_and(|name| name == b"erofs.ko" || name.starts_with(b"erofs.ko."))
    };
    let (_, entry) = tree.iter().find(|(path, _)| is_module(path))?;
    let Kind::File(content) = &entry.kind else {
        return None;
    };
    let module = content.read(LARGEST_MODULE).ok()?;
    initrd::unpack(&module, LARGEST_MODULE)
        .ok()
        .map(Cow::into_owned)
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// In bytes; with all that helps to debug it, erofs.ko has a tenth of this.
const LARGEST_MODULE: usize = 16 << 20;

/// In bytes; a file of an initrd that is read here is text for people.
const LONGEST_TEXT: usize = 1024 * 1024;

fn small_file(tree: &Tree, path: &[u8]) -> Option<Vec<u8>> {
    let path = tree.resolve(path)?;
    match &tree.get(&path)?.kind {
        Kind::File(content) => content.read(LONGEST_TEXT).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use ukikit_sysext::Entry;

    fn tree(entries: &[(&str, Entry)]) -> Tree {
        let mut tree = Tree::new();
        for (path, entry) in entries {
            tree.insert(path, entry.clone()).unwrap();
        }
        tree
    }

    #[test]
    fn reads_the_release_behind_links() {
        let text = "ID=vendor\nVERSION_ID=1\n";
        let linked = tree(&[
            ("etc", Entry::directory()),
            ("etc/initrd-release", Entry::file(text)),
            ("etc/os-release", Entry::symlink("initrd-release")),
        ]);
        assert_eq!(release(&linked).unwrap().value("ID"), Some("vendor"));
        assert_eq!(
            release(&Tree::new()).unwrap_err().to_string(),
            "the initrd has no os-release file, so no extension fits it"
        );
    }

    #[test]
    fn the_module_tells_whether_the_kernel_decodes_zstd() {
        let with = b"\x7fELF\0z_erofs_lz4_decompress\0zstd_init_dstream\0".as_slice();
        let without = b"\x7fELF\0z_erofs_lz4_decompress\0".as_slice();
        let packed = |module: &[u8]| {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
            std::io::Write::write_all(&mut encoder, module).unwrap();
            encoder.finish().unwrap()
        };
        let at = |name: &str| format!("usr/lib/modules/6.12/kernel/fs/erofs/{name}");
        for (name, file, expected) in [
            ("erofs.ko", with.to_vec(), Some(true)),
            ("erofs.ko", without.to_vec(), Some(false)),
            ("erofs.ko.xz", packed(with), Some(true)),
            ("erofs.ko.xz", packed(without), Some(false)),
            ("erofs.ko.xz", b"\xfd7zXZ\0damaged".to_vec(), None),
            ("other.ko", with.to_vec(), None),
        ] {
            let mut initrd = Tree::new();
            initrd.insert(at(name), Entry::file(file)).unwrap();
            let found = erofs_module(&initrd).map(|module| contains(&module, b"zstd_"));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn trusts_what_systemd_trusts() {
        let pem = |name: &str| {
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            std::fs::read(root.join("../tests/vectors/ddi/keys").join(name)).unwrap()
        };
        let directory = Entry::directory;
        let trusting = tree(&[
            ("etc", directory()),
            ("etc/verity.d", directory()),
            ("etc/verity.d/hidden.crt", Entry::file("")),
            ("usr", directory()),
            ("usr/lib", directory()),
            ("usr/lib/verity.d", directory()),
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
}
