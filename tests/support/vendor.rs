//! The initrd of a vendor's UKI, as far as `ukikit check` looks at it.

use std::fs;

use super::{uki, vector};

/// The kernel of [`able_initrd`].
pub(crate) const KERNEL: &str = "6.18.0";

/// An initrd of this systemd that can merge extensions and trusts these certificates of the vectors.
pub(crate) fn able_initrd(systemd: u16, os_release: &str, certificates: &[&str]) -> Vec<u8> {
    let built_in = "kernel/drivers/block/loop.ko\nkernel/drivers/md/dm-verity.ko\nkernel/fs/overlayfs/overlay.ko\n\
                    kernel/fs/erofs/erofs.ko\n";
    let modules = format!("usr/lib/modules/{KERNEL}");
    let mut files: Vec<(String, Vec<u8>)> = vec![
        ("etc/os-release".into(), os_release.into()),
        ("usr/bin/systemd-sysext".into(), Vec::new()),
        ("usr/lib/libc.so.6".into(), Vec::new()),
        ("usr/lib/libcryptsetup.so.12".into(), Vec::new()),
        (
            format!("usr/lib/systemd/libsystemd-shared-{systemd}.so"),
            Vec::new(),
        ),
        (format!("{modules}/modules.builtin"), built_in.into()),
        (format!("{modules}/modules.dep"), Vec::new()),
    ];
    for name in certificates {
        let certificate = fs::read(vector(&format!("ddi/keys/{name}"))).unwrap();
        files.push((format!("usr/lib/verity.d/{name}"), certificate));
    }
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(path, content)| (&**path, &**content))
        .collect();
    uki::initrd(&files)
}
