//! What the modules of a kernel in an initrd tell about it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use super::facts::{files_in, text};
use super::module;
use crate::{Kind, Tree};

/// The drivers that are asked for in [`Kernel::support`] when facts are printed.
const DRIVERS: [&str; 6] = ["dm_verity", "erofs", "loop", "overlay", "squashfs", "tpm"];

/// A kernel, by its directory below `usr/lib/modules`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Kernel {
    /// As `uname -r` says it.
    pub version: String,
    /// Whether its list of modules speaks of all the kernel has.
    pub index: ModuleIndex,
    /// What it unpacks in EROFS images; `None` where EROFS is not a module or missing, so that nothing tells.
    pub erofs_codecs: Option<Vec<Codec>>,
    /// Modules in the initrd by their name, with `_` for `-`, and their path.
    #[serde(rename = "support", serialize_with = "support_of_all")]
    drivers: Drivers,
}

#[derive(Debug, Clone, Default)]
struct Drivers {
    modules: BTreeMap<String, String>,
    built_in: Option<BTreeSet<String>>,
}

/// `modules.dep` and its companions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ModuleIndex {
    /// It lists modules that are not in the initrd: those of an extension will be found.
    Complete,
    /// It lists what is there: an extension with modules has to bring the whole index.
    Trimmed,
    /// There is none.
    None,
}

/// Whether a kernel drives something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Support {
    /// Its module is in the initrd.
    Module,
    /// It is part of the kernel.
    BuiltIn,
    /// Neither.
    Missing,
    /// The initrd has no list of what is built in.
    Unknown,
}

/// A compression of EROFS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Codec {
    /// LZ4, since Linux 5.3.
    Lz4,
    /// MicroLZMA, since 5.16.
    Lzma,
    /// DEFLATE, since 6.6.
    Deflate,
    /// Zstandard, since 6.10.
    Zstd,
}

impl Codec {
    /// As the JSON has it, and as `mkfs.erofs` calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Lzma => "lzma",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }
}

/// What `erofs.ko` calls for each.
const CODEC_SYMBOLS: [(&str, Codec); 4] = [
    ("LZ4_decompress_safe", Codec::Lz4),
    ("xz_dec_microlzma_run", Codec::Lzma),
    ("zlib_inflate", Codec::Deflate),
    ("zstd_init_dstream", Codec::Zstd),
];

impl Kernel {
    /// Those with a directory in the initrd, in the order of their names.
    pub(super) fn all(tree: &Tree) -> Vec<Self> {
        files_in(tree, "usr/lib/modules")
            .filter_map(|name| str::from_utf8(name).ok())
            .map(|version| Self::of(tree, version))
            .collect()
    }

    fn of(tree: &Tree, version: &str) -> Self {
        let directory = format!("usr/lib/modules/{version}");
        let modules = modules(tree, &directory);
        let list = |name: &str| text(tree, format!("{directory}/{name}"));
        let built_in = list("modules.builtin").map(|list| {
            let paths = String::from_utf8_lossy(&list).into_owned();
            paths.lines().filter_map(module::name).collect()
        });
        let index = match list("modules.dep") {
            None => ModuleIndex::None,
            Some(index) => {
                let lines = index.split(|&byte| byte == b'\n');
                let listed = lines.filter(|line| line.contains(&b':')).count();
                if listed > modules.len() {
                    ModuleIndex::Complete
                } else {
                    ModuleIndex::Trimmed
                }
            }
        };
        Self {
            version: version.to_owned(),
            index,
            erofs_codecs: modules
                .get("erofs")
                .and_then(|path| erofs_codecs(tree, path)),
            drivers: Drivers { modules, built_in },
        }
    }

    /// The drivers that matter for extensions and sealed credentials.
    pub fn drivers(&self) -> impl Iterator<Item = (&'static str, Support)> {
        DRIVERS
            .map(|driver| (driver, self.support(driver)))
            .into_iter()
    }

    /// Whether it drives `driver`, named as its module with `-` or `_`.
    pub fn support(&self, driver: &str) -> Support {
        self.drivers.support(driver)
    }
}

impl Drivers {
    fn support(&self, driver: &str) -> Support {
        let driver = driver.replace('-', "_");
        if self.modules.contains_key(&driver) {
            return Support::Module;
        }
        match &self.built_in {
            None => Support::Unknown,
            Some(built_in) if built_in.contains(&driver) => Support::BuiltIn,
            Some(_) => Support::Missing,
        }
    }
}

/// All modules below a kernel's directory by their names.
fn modules(tree: &Tree, directory: &str) -> BTreeMap<String, String> {
    let Some(prefix) = tree.resolve(directory) else {
        return BTreeMap::new();
    };
    let inside = tree
        .iter()
        .filter(|(path, entry)| path.starts_with(&prefix) && matches!(entry.kind, Kind::File(_)));
    inside
        .filter_map(|(path, _)| {
            let path = str::from_utf8(path).ok()?;
            Some((module::name(path)?, path.to_owned()))
        })
        .collect()
}

fn erofs_codecs(tree: &Tree, path: &str) -> Option<Vec<Codec>> {
    let Kind::File(content) = &tree.get(path)?.kind else {
        return None;
    };
    let module = module::Module::read(content).ok()?;
    let codecs = CODEC_SYMBOLS
        .iter()
        .filter(|(symbol, _)| module.mentions(symbol));
    Some(codecs.map(|(_, codec)| *codec).collect())
}

fn support_of_all<S: Serializer>(drivers: &Drivers, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(DRIVERS.map(|driver| (driver, drivers.support(driver))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entry;

    #[test]
    fn tells_modules_from_what_is_built_in() {
        let mut tree = Tree::new();
        let mut put = |path: &str, text: &str| {
            let path = format!("usr/lib/modules/6.1/{path}");
            tree.insert(path, Entry::file(text)).unwrap();
        };
        put("kernel/fs/overlayfs/overlay.ko.xz", "");
        put("kernel/drivers/md/dm-verity.ko.zst", "");
        put(
            "modules.dep",
            "kernel/fs/a.ko:\nkernel/fs/overlayfs/overlay.ko.xz:\nkernel/b.ko: kernel/fs/a.ko\n",
        );
        let without_list = Kernel::all(&tree).remove(0);
        assert_eq!(without_list.version, "6.1");
        assert_eq!(without_list.index, ModuleIndex::Complete);
        assert_eq!(without_list.support("overlay"), Support::Module);
        assert_eq!(without_list.support("dm-verity"), Support::Module);
        assert_eq!(without_list.support("loop"), Support::Unknown);
        assert_eq!(without_list.erofs_codecs, None);

        let list = Entry::file("kernel/drivers/block/loop.ko\n");
        tree.insert("usr/lib/modules/6.1/modules.builtin", list)
            .unwrap();
        let kernel = Kernel::all(&tree).remove(0);
        assert_eq!(kernel.support("loop"), Support::BuiltIn);
        assert_eq!(kernel.support("erofs"), Support::Missing);
    }

    #[test]
    fn the_module_tells_what_it_unpacks() {
        let with = b"\x7fELF\0LZ4_decompress_safe\0zstd_init_dstream\0".as_slice();
        let without = b"\x7fELF\0LZ4_decompress_safe\0".as_slice();
        let packed = |module: &[u8]| {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
            std::io::Write::write_all(&mut encoder, module).unwrap();
            encoder.finish().unwrap()
        };
        let both = Some(vec![Codec::Lz4, Codec::Zstd]);
        for (name, file, expected) in [
            ("erofs.ko", with.to_vec(), both.clone()),
            ("erofs.ko", without.to_vec(), Some(vec![Codec::Lz4])),
            ("erofs.ko.xz", packed(with), both),
            ("erofs.ko.xz", packed(without), Some(vec![Codec::Lz4])),
            ("erofs.ko.xz", b"\xfd7zXZ\0damaged".to_vec(), None),
            ("other.ko", with.to_vec(), None),
        ] {
            let mut tree = Tree::new();
            let path = format!("usr/lib/modules/6.12/kernel/fs/erofs/{name}");
            tree.insert(path, Entry::file(file)).unwrap();
            assert_eq!(
                Kernel::all(&tree).remove(0).erofs_codecs,
                expected,
                "{name}"
            );
        }
    }
}
