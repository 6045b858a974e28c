//! A kernel module: an ELF object, as it is or compressed.

use object::{Object, ObjectSection};

use crate::{Content, Error};

/// Bytes of the largest module that is read, packed or not; those of graphics cards have ten million.
const LARGEST: usize = 64 << 20;

/// A module's bytes, unpacked.
#[derive(Debug)]
pub(crate) struct Module(Vec<u8>);

impl Module {
    /// Reads a module of a tree, unpacking it by its first bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] from its source, [`Error::Format`] for what cannot be unpacked.
    pub(crate) fn read(content: &Content) -> Result<Self, Error> {
        let bytes = content.read(LARGEST)?;
        Ok(Self(super::unpack(&bytes, LARGEST)?.into_owned()))
    }

    /// Whether its tables of strings have this symbol: one of its own, or one it takes from the kernel.
    pub(crate) fn mentions(&self, symbol: &str) -> bool {
        let wanted = [&b"\0"[..], symbol.as_bytes(), b"\0"].concat();
        self.0.windows(wanted.len()).any(|window| window == wanted)
    }

    /// The values of `key` in its `.modinfo` section: `firmware`, `depends`, `softdep`.
    pub(crate) fn information(&self, key: &str) -> Vec<String> {
        let file = object::File::parse(self.0.as_slice()).ok();
        let section = file
            .as_ref()
            .and_then(|file| file.section_by_name(".modinfo"));
        let Some(data) = section.and_then(|section| section.data().ok()) else {
            return Vec::new();
        };
        let fields = data.split(|&byte| byte == 0);
        fields
            .filter_map(|field| {
                let (name, value) = str::from_utf8(field).ok()?.split_once('=')?;
                (name == key && !value.is_empty()).then(|| value.to_owned())
            })
            .collect()
    }
}

/// A module's name from its path, with `_` for `-`; `None` for a path that does not end as a module's does.
pub(crate) fn name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, suffix) = file.split_once(".ko")?;
    matches!(suffix, "" | ".xz" | ".zst" | ".gz").then(|| name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_from_paths() {
        assert_eq!(
            name("kernel/drivers/md/dm-verity.ko.xz").unwrap(),
            "dm_verity"
        );
        assert_eq!(name("loop.ko").unwrap(), "loop");
        assert_eq!(name("modules.dep"), None);
        assert_eq!(name("a.korg"), None);
    }
}
