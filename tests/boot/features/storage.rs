//! Disks with a root that reports itself: the vendor's initrd without its marks, in file systems and below volumes that
//! the tools of the root with the features make.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::systemd::{Room, Systemd};
use crate::support::{run, succeed};

/// Where a logical volume's first extent, and an array's data, begin.
const DATA: u64 = 1 << 20;

/// A directory with the files of the root, and the disks made of it.
pub(super) struct Storage {
    room: Room,
}

/// Unpacks the initrd into the tree of a system.
const UNPACK: &str = r#"
    mkdir tree
    cd tree
    lsinitrd --unpack /io/initrd.img >/dev/null
    rm -f init etc/initrd-release usr/lib/initrd-release etc/os-release usr/lib/os-release
    cp /io/os-release usr/lib/os-release
    ln -s ../usr/lib/os-release etc/os-release
    cp -a /io/host/. .
    rm -rf etc/systemd/system/initrd* usr/lib/systemd/system/initrd.target.wants etc/systemd/system/default.target
    ln -sf lab-host.target usr/lib/systemd/system/default.target
    : >etc/machine-id
    rm -rf usr/lib/modules
"#;

const EXT4: &str = "truncate -s SIZE disk; mkfs.ext4 -q -F -L labroot -d tree disk";
const BTRFS: &str = "truncate -s 192M disk; mkfs.btrfs --quiet --label labroot --rootdir tree disk";

/// Only the metadata is made here: this kernel may have no device mapper. The first volume of an empty group is one
/// piece, from the first extent on.
const LVM: &str = r#"
    truncate -s 128M volume
    loop=$(losetup --find --show volume)
    trap 'losetup --detach "$loop"' EXIT
    for command in pvcreate vgcreate lvcreate; do
        case $command in
            pvcreate) set -- "$loop" ;;
            vgcreate) set -- labgroup "$loop" ;;
            lvcreate) set -- -an -Zn -Wn -l 100%FREE -n root labgroup ;;
        esac
        lvm $command --driverloaded n --devices "$loop" "$@"
    done
"#;

/// What ukikit needs on the root, and the vendor's initrd, from which that is made, does not have: the driver of the ESP's file
/// system, and who tells what the machine is.
const INSTALL: &str = r#"
    kernel=$(basename /usr/lib/modules/*)
    for module in fat/fat fat/vfat nls/nls_ascii nls/nls_cp437; do
        file=usr/lib/modules/$kernel/kernel/fs/$module.ko.xz
        install -D -m 644 "/$file" "tree/$file"
    done
    depmod --basedir tree "$kernel" 2>/dev/null
    libraries=usr/lib/x86_64-linux-gnu
    cp -n /usr/bin/systemd-detect-virt tree/usr/bin/
    cp -n /$libraries/libgcc_s.so.1 /$libraries/libm.so.6 tree/$libraries/
    mkdir -p tree/efi tree/var/lib
"#;

/// A root with ukikit, which starts as a system does before it reports itself.
pub(super) struct System<'a>(&'a Storage);

impl<'a> System<'a> {
    pub(super) fn new(storage: &'a Storage) -> Self {
        let system = Self(storage);
        storage.run(INSTALL);
        let program = storage.room.path("tree/usr/bin/ukikit");
        let program = program.display().to_string();
        run("strip", ["-o", &program, env!("CARGO_BIN_EXE_ukikit")]);
        system.put("usr/lib/lab/brief", b"");
        system.put(
            "usr/lib/systemd/system/lab-host.service.d/system.conf",
            b"[Unit]\nWants=sysinit.target\nAfter=sysinit.target\n",
        );
        system
    }

    /// A file, by its path.
    pub(super) fn put(&self, path: &str, content: &[u8]) {
        let path = self.0.room.path("tree").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A unit that starts early.
    pub(super) fn unit(&self, name: &str, content: &[u8]) {
        let units = "usr/lib/systemd/system";
        self.put(&format!("{units}/{name}"), content);
        let wants = self
            .0
            .room
            .path("tree")
            .join(units)
            .join("sysinit.target.wants");
        fs::create_dir_all(&wants).unwrap();
        symlink(format!("../{name}"), wants.join(name)).unwrap();
    }

    /// The disk with it, and this fstab(5).
    pub(super) fn disk(&self, fstab: &str) -> PathBuf {
        self.put("etc/fstab", fstab.as_bytes());
        self.0.ext4("192M")
    }
}

impl Storage {
    pub(super) fn new(features: &Systemd, lab: &Path) -> Self {
        let room = features.room();
        for file in ["initrd.img", "os-release"] {
            fs::copy(lab.join(file), room.path(file)).unwrap();
        }
        let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/boot/host");
        let mut copy = std::process::Command::new("cp");
        copy.arg("-a").arg(host).arg(room.path("host"));
        succeed("cp", copy.output().unwrap());
        let storage = Self { room };
        storage.run(UNPACK);
        storage
    }

    pub(super) fn ext4(&self, size: &str) -> PathBuf {
        self.run(&EXT4.replace("SIZE", size));
        self.room.path("disk")
    }

    pub(super) fn btrfs(&self) -> PathBuf {
        self.run(BTRFS);
        self.room.path("disk")
    }

    /// The root is in a subvolume.
    pub(super) fn btrfs_subvolume(&self, name: &str) -> PathBuf {
        let top = format!("mkdir top; mv tree 'top/{name}'");
        self.run(&top);
        let make = BTRFS.replace(
            "--rootdir tree",
            &format!("--rootdir top --subvol '{name}'"),
        );
        self.run(&make);
        self.room.path("disk")
    }

    /// A physical volume whose group has one volume, with the root.
    pub(super) fn lvm(&self) -> PathBuf {
        self.run(LVM);
        self.put(&self.ext4("96M"), "volume");
        self.room.path("volume")
    }

    /// The members of a mirror with the root.
    pub(super) fn mirror(&self) -> [PathBuf; 2] {
        let root = self.ext4("96M");
        let size = fs::metadata(&root).unwrap().len();
        [0, 1].map(|number| {
            let name = format!("member{number}");
            fs::write(self.room.path(&name), b"").unwrap();
            self.put(&root, &name);
            let member = fs::File::options()
                .write(true)
                .open(self.room.path(&name))
                .unwrap();
            member
                .write_all_at(&superblock(number, size), SUPERBLOCK)
                .unwrap();
            self.room.path(&name)
        })
    }

    /// Copies a file system to where the data of a disk begins.
    fn put(&self, root: &Path, name: &str) {
        let disk = fs::File::options()
            .write(true)
            .open(self.room.path(name))
            .unwrap();
        disk.write_all_at(&fs::read(root).unwrap(), DATA).unwrap();
    }

    fn run(&self, script: &str) {
        succeed(script, self.room.run("sh", &["-euc", script]));
    }
}

/// Version 1.2 has it here.
const SUPERBLOCK: u64 = 4096;

/// The superblock of a clean member of a mirror of two, as Linux's `mdp_superblock_1`: mdadm makes it only where the
/// kernel has the driver.
fn superblock(number: u16, size: u64) -> Vec<u8> {
    let sectors = size / 512;
    let mut block = vec![0; 256];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &0xa92b_4efc_u32.to_le_bytes());
    put(4, &1_u32.to_le_bytes());
    put(16, b"the array of lab");
    put(32, b"lab");
    put(72, &1_u32.to_le_bytes()); // level
    put(80, &sectors.to_le_bytes());
    put(92, &2_u32.to_le_bytes()); // members
    put(128, &(DATA / 512).to_le_bytes());
    put(136, &sectors.to_le_bytes());
    put(144, &(SUPERBLOCK / 512).to_le_bytes());
    put(160, &u32::from(number).to_le_bytes());
    put(168, format!("member {number} of lab").as_bytes());
    put(200, &1_u64.to_le_bytes()); // events
    put(208, &u64::MAX.to_le_bytes()); // nothing to resync
    put(220, &2_u32.to_le_bytes());
    block.extend([0, 0, 1, 0]); // roles
    let words = block
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let sum: u64 = words.map(u64::from).sum();
    let sum = u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).unwrap();
    block[216..220].copy_from_slice(&sum.to_le_bytes());
    block
}
