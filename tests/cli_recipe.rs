//! Recipes as a user meets them: what is taken of a system, what is refused, what is said.

#![cfg(test)]

#[path = "support/uki.rs"]
mod uki;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use tempfile::TempDir;
use uki::{initrd, pe_file};

/// A system, a UKI made from it, and a recipe of one's own.
struct Room(TempDir);

const RECIPE: &str = "summary = \"A tool\"\nprograms = [\"tool\"]\nfiles = [\"etc/tool.conf\"]\nstart = [\"tool.service\"]\n";
const UNIT: &str =
    "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/usr/bin/tool\n";

impl Room {
    fn new() -> Self {
        let room = Self(TempDir::new().unwrap());
        room.write("root/usr/bin/tool", "#!/bin/sh\n");
        room.write("root/usr/bin/sh", "shell");
        room.write("root/etc/tool.conf", "x=1\n");
        room.write("recipes/tool/recipe.toml", RECIPE);
        room.write(
            "recipes/tool/tree/usr/lib/systemd/system/tool.service",
            UNIT,
        );
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/ddi/keys");
        let certificate = fs::read(keys.join("rsa2048.crt")).unwrap();
        room.write_uki(&[
            ("bin/sh", b"shell"),
            ("etc/os-release", b"ID=vendor\nVERSION_ID=1\n"),
            ("usr/bin/env", b"env"),
            ("usr/bin/sh", b"shell"),
            ("usr/bin/systemd-sysext", b""),
            ("usr/lib/libcryptsetup.so.12", b""),
            ("usr/lib/verity.d/signer.crt", &certificate),
        ]);
        room
    }

    fn write_uki(&self, files: &[(&str, &[u8])]) {
        let uki = pe_file(&[
            (".linux", b"kernel"),
            (".initrd", &initrd(files)),
            (".uname", b"6.1"),
        ]);
        fs::write(self.0.path().join("vendor.efi"), uki).unwrap();
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Standard output and error, and the status.
    fn run(&self, arguments: &str) -> (String, String, i32) {
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/ddi/keys");
        let arguments = arguments.replace("KEYS", keys.to_str().unwrap());
        let output = Command::cargo_bin("ukikit")
            .unwrap()
            .current_dir(self.0.path())
            .args(arguments.split(' '))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            text(output.stdout),
            text(output.stderr),
            output.status.code().unwrap(),
        )
    }

    fn build(&self, more: &str) -> (String, String, i32) {
        self.run(&format!(
            "ext build --name=tool --root=root --recipes=recipes --uki=vendor.efi --private-key=KEYS/rsa2048.key \
             --certificate=KEYS/rsa2048.crt --output=tool.sysext.raw {more}"
        ))
    }
}

#[test]
fn a_recipe_of_ones_own_becomes_an_extension() {
    let room = Room::new();
    let (shown, notes, status) = room.build("--recipe=tool --explain");
    assert_eq!(
        notes,
        "copy  etc/tool.conf -> usr/share/factory/etc/tool.conf, from there by systemd-tmpfiles\n\
         keep  usr/bin/tool\n\
         keep  usr/lib/systemd/system/tool.service\n"
    );
    assert_eq!(status, 0);
    for line in [
        "release    ID=vendor\n",
        "           VERSION_ID=1\n",
        "           EXTENSION_RELOAD_MANAGER=1\n",
    ] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
    let verified =
        room.run("ext verify --certificate=KEYS/rsa2048.crt --base=vendor.efi tool.sysext.raw");
    assert_eq!(verified.2, 0, "{}", verified.0);
}

#[test]
fn what_would_not_work_is_refused() {
    let refused = |change: &dyn Fn(&Room), sentence: &str| {
        let room = Room::new();
        change(&room);
        let (shown, notes, status) = room.build("--recipe=tool");
        assert_eq!((shown.as_str(), notes.as_str(), status), ("", sentence, 1));
        assert!(!room.0.path().join("tool.sysext.raw").exists());
    };
    refused(
        &|room| {
            room.write(
                "recipes/tool/recipe.toml",
                "summary = \"x\"\nprogram = []\n",
            )
        },
        "error: `recipes/tool/recipe.toml`: unknown field `program`, expected one of `summary`, `documentation`, `needs`, `dracut`, \
         `early`, `programs`, `libraries`, `files`, `optional-files`, `either`, `drivers`, `optional-drivers`, `start`, `optional-start`, `credential`\n\nhint: see ukikit recipe list\n",
    );
    refused(
        &|room| fs::remove_file(room.0.path().join("root/usr/bin/tool")).unwrap(),
        "error: recipe `tool`: the system at `root` has no program tool\n",
    );
    refused(
        &|room| {
            room.write(
                "recipes/tool/recipe.toml",
                "summary = \"x\"\nprograms = [\"env\"]\n",
            );
            room.write("root/usr/bin/env", "newer");
        },
        "error: not an extension of this base:\n  usr/bin/env: differs from the base's: a changed copy would replace it for all; \
         it was built from another version, or needs a drop-in\n",
    );
    refused(
        &|room| {
            let unit = "[Service]\nExecStart=/usr/bin/nothing\n";
            room.write(
                "recipes/tool/tree/usr/lib/systemd/system/tool.service",
                unit,
            );
        },
        "error: would not work in this base:\n  usr/lib/systemd/system/tool.service: starts /usr/bin/nothing, which is neither in the base nor among these files\n",
    );
}

#[test]
fn what_dracut_says_is_shown() {
    let room = Room::new();
    let broken = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/support/broken-dracut");
    let refused = |more: &str, sentence: &str| {
        let (shown, notes, status) = room.run(&format!(
            "ext build --name=tool --uki=vendor.efi --private-key=KEYS/rsa2048.key --certificate=KEYS/rsa2048.crt \
             --output=tool.sysext.raw --dracut-program={} {more}",
            broken.display()
        ));
        assert_eq!((shown.as_str(), notes.as_str(), status), ("", sentence, 1));
        assert!(!room.0.path().join("tool.sysext.raw").exists());
    };
    refused(
        "--dracut=iscsi",
        "error: the base does not tell of which dracut modules it was made\n\n\
         hint: take the feature with --recipe=, or with --initrd= from an initrd that has it\n",
    );
    room.write_uki(&[
        ("etc/os-release", b"ID=vendor\nVERSION_ID=1\n"),
        ("usr/lib/dracut/modules.txt", b"base\nsystemd\n"),
        ("usr/lib/modules/6.1/modules.dep", b""),
    ]);
    // It is told the modules of the base, then the others.
    refused(
        "--dracut=iscsi,nbd --dracut=lvm",
        "error: dracut: failed; its last lines:\n  1\n  2\n  --kver 6.1 --modules base systemd iscsi nbd lvm\n  No space left on device\n",
    );
    refused(
        "--dracut=--uefi",
        "error: `--uefi` is no name of a dracut module\n",
    );
    let (_, notes, _) = room.run(
        "ext build --name=tool --uki=vendor.efi --private-key=KEYS/rsa2048.key --certificate=KEYS/rsa2048.crt \
         --output=tool.sysext.raw --dracut=iscsi --dracut-program=/nowhere/dracut",
    );
    assert_eq!(notes, "error: the program dracut is not installed\n");
}

/// As Fedora's image for virtual machines: all that merging takes, but nobody's certificate.
#[test]
fn what_the_base_lacks_is_told() {
    let room = Room::new();
    room.write_uki(&[
        ("bin/sh", b"shell"),
        (
            "etc/os-release",
            b"ID=fedora\nVERSION_ID=43\nVARIANT_ID=cloud\n",
        ),
        ("usr/bin/sh", b"shell"),
        ("usr/bin/systemd-sysext", b""),
        ("usr/lib64/libcryptsetup.so.12", b""),
        ("usr/lib64/systemd/libsystemd-shared-258-1.fc43.so", b""),
        (
            "usr/lib/modules/6.1/modules.builtin",
            b"kernel/drivers/block/loop.ko\n",
        ),
        ("usr/lib/modules/6.1/kernel/drivers/md/dm-verity.ko.xz", b""),
        ("usr/lib/modules/6.1/kernel/fs/overlayfs/overlay.ko.xz", b""),
    ]);
    let (shown, notes, status) = room.build("--recipe=tool");
    assert_eq!(
        notes,
        "warning: the base lacks the driver erofs, the file system of extensions; add it with dracut's --add-drivers=erofs, \
         or bring it by ukikit addon build --recipe=extensions\n\
         warning: the base lacks a certificate in usr/lib/verity.d/*.crt: only images that the kernel's keyrings know are merged; \
         put the signer's certificate there, or into a signed addon beside the UKI\n"
    );
    assert_eq!(status, 0);
    for line in ["release    ID=fedora\n", "           VERSION_ID=43\n"] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
}

/// What has to be there before extensions are merged.
const EARLY: &str = "summary = \"A library\"\nearly = true\nlibraries = [\"libearly.so.*\", \"libsystemd-shared-*\"]\nfiles = [\"usr/bin/sh\"]\n\
                     optional-files = [\"usr/lib/systemd/system/early.service\"]\noptional-start = [\"early.service\", \"late.service\"]\n";

#[test]
fn an_addon_brings_what_the_uki_lacks() {
    let room = Room::new();
    room.write("recipes/early/recipe.toml", EARLY);
    room.write("root/usr/lib/libearly.so.7", "");
    room.write("root/usr/lib/libsystemd-shared-262.so", "");
    room.write("root/usr/lib/systemd/system/early.service", "[Unit]\n");
    // That the base has another version of it does not matter: it keeps its own.
    room.write("root/usr/bin/sh", "newer");
    let (shown, notes, status) = room.build("--recipe=early");
    assert_eq!(
        (shown.as_str(), notes.as_str(), status),
        (
            "",
            "error: the recipe early has to be there before extensions are merged\n\n\
             hint: bring it with ukikit addon build --recipe=early\n",
            1
        )
    );
    let addon = |more: &str| {
        room.run(&format!(
            "addon build --root=root --recipes=recipes --uki=vendor.efi --architecture=x86-64 --output=early.addon.efi {more}"
        ))
    };
    let unsigned = "note: the addon is not signed: with Secure Boot on, the firmware refuses it\n";
    let (shown, notes, status) = addon("--recipe=early --recipe=tool");
    assert_eq!((notes.as_str(), status), (unsigned, 0));
    assert!(
        shown.contains("\nPCR 12        initrd\n              initrd SHA-256 "),
        "{shown}"
    );
    let (inspected, _, _) = room.run("addon inspect early.addon.efi");
    let files = inspected
        .lines()
        .filter_map(|line| line.strip_prefix("initrd        "));
    let files: Vec<&str> = files.map(|line| line.split(',').next().unwrap()).collect();
    let units = "/usr/lib/systemd/system";
    assert_eq!(
        files,
        [
            "/etc/tool.conf",
            "/usr/bin/tool",
            "/usr/lib/libearly.so.7",
            "/usr/lib/libsystemd-shared-262.so",
            &format!("{units}/early.service"),
            &format!("{units}/initrd.target.wants/early.service -> ../early.service"),
            &format!("{units}/initrd.target.wants/tool.service -> ../tool.service"),
            &format!("{units}/tool.service"),
        ]
    );

    let refused = |more: &str, sentence: &str| {
        let (shown, notes, status) = addon(more);
        assert_eq!((shown.as_str(), notes.as_str(), status), ("", sentence, 1));
    };
    fs::remove_file(room.0.path().join("early.addon.efi")).unwrap();
    let unit = "[Service]\nExecStart=/usr/bin/nothing\n";
    room.write("root/usr/lib/systemd/system/early.service", unit);
    refused(
        "--recipe=early",
        "error: would not work in this UKI:\n  usr/lib/systemd/system/early.service: starts /usr/bin/nothing, which is neither in the base nor among these files\n",
    );
    fs::remove_file(room.0.path().join("root/usr/lib/libearly.so.7")).unwrap();
    refused(
        "--recipe=early",
        "error: recipe `early`: the system at `root` has no library libearly.so.*\n",
    );
    refused(
        "--kernel-module=fire",
        "error: the system at `root` has no modules for the kernel 6.1\n",
    );
    room.write(
        "recipes/shell/recipe.toml",
        "summary = \"x\"\nprograms = [\"sh\"]\n",
    );
    refused(
        "--recipe=shell",
        "error: the UKI has all of this already: shell\n",
    );
    let unit = "summary = \"x\"\nprograms = [\"sh\"]\nstart = [\"typo.service\"]\n";
    room.write("recipes/unit/recipe.toml", unit);
    refused(
        "--recipe=unit",
        "error: the unit typo.service is to be started, but is neither in the base nor among these files\n",
    );
    assert!(!room.0.path().join("early.addon.efi").exists());

    let (shown, notes, status) = addon("--recipe=shell --cmdline=quiet --dry-run");
    // Not an empty archive, which would be measured too.
    assert!(shown.ends_with("PCR 12        command line\n"), "{shown}");
    let note = "the UKI has all of this already: shell\n";
    assert_eq!((notes, status), (format!("{note}{unsigned}"), 0));
    // The base is of another systemd.
    room.write("root/usr/lib/libearly.so.7", "");
    room.write("root/usr/lib/systemd/system/early.service", "[Unit]\n");
    room.write_uki(&[
        ("etc/os-release", b"ID=vendor\nVERSION_ID=1\n"),
        ("usr/bin/sh", b"shell"),
        ("usr/lib/libsystemd-shared-258.so", b""),
    ]);
    let (_, notes, status) = addon("--recipe=early --dry-run");
    let warning = "warning: the programs of systemd 262 go into an initrd with systemd 258: better take them from a system with \
                   the packages of the UKI, see --root=\n";
    assert_eq!((notes, status), (format!("{warning}{unsigned}"), 0));
}

/// A program of the system goes with the base's library; one of a tree came from elsewhere.
#[test]
fn another_build_of_a_library_is_told() {
    let room = Room::new();
    let [one, other] = ["/bin/true", "/bin/false"].map(|path| fs::read(path).unwrap());
    room.write_uki(&[
        ("etc/os-release", b"ID=vendor\nVERSION_ID=1\n"),
        ("lib/ld-linux-aarch64.so.1", b"loader"),
        ("lib64/ld-linux-x86-64.so.2", b"loader"),
        ("usr/bin/systemd-sysext", b""),
        ("usr/lib/libc.so.6", &other),
        ("usr/lib/libcryptsetup.so.12", b""),
    ]);
    room.write(
        "recipes/real/recipe.toml",
        "summary = \"x\"\nprograms = [\"true\"]\n",
    );
    for path in [
        "root/usr/bin/true",
        "root/usr/lib/libc.so.6",
        "tree/usr/bin/true",
    ] {
        room.write(path, "");
        fs::write(room.0.path().join(path), &one).unwrap();
    }
    let warning = "warning: the base has another build of usr/lib/libc.so.6 than the system: better take the files from a system with \
                   the packages of the base, see --root=\n";
    let (_, notes, status) = room.build("--recipe=real");
    assert!(notes.contains(warning), "{notes}");
    assert_eq!(status, 0);
    let (_, notes, status) = room.build("--tree=tree");
    assert!(!notes.contains("another build"), "{notes}");
    assert_eq!(status, 0);
}

/// A link in `.wants` comes too late to start anything.
#[test]
fn units_start_when_they_are_named() {
    let room = Room::new();
    let units = "tree/usr/lib/systemd/system";
    room.write(&format!("{units}/a@.service"), "[Service]\nExecStart=sh\n");
    for target in ["sysinit.target", "initrd-switch-root.target"] {
        let wants = room.0.path().join(units).join(format!("{target}.wants"));
        fs::create_dir(&wants).unwrap();
        std::os::unix::fs::symlink("../a@.service", wants.join("a@b.service")).unwrap();
    }
    let (_, notes, status) = room.build("--tree=tree");
    let sentence = "warning: sysinit.target wants a@b.service, which starts nothing in an extension; --start=a@b.service does\n";
    assert_eq!((notes.as_str(), status), (sentence, 0));
    let (shown, notes, status) = room.build("--tree=tree --start=a@b.service");
    assert_eq!((notes.as_str(), status), ("", 0));
    assert!(shown.contains(" EXTENSION_RELOAD_MANAGER=1\n"), "{shown}");
    let (listed, _, _) = room.run("ext list tool.sysext.raw");
    assert!(
        listed.contains("usr/lib/systemd/system/sysinit.target.upholds/ukikit-tool.target"),
        "{listed}"
    );
    let (_, notes, status) = room.build("--tree=tree --start=c.service --dry-run");
    let sentence = "error: the unit c.service is to be started, but is neither in the base nor among these files\n";
    assert_eq!((notes.as_str(), status), (sentence, 1));
}

#[test]
fn images_beside_have_no_file_that_differs() {
    let room = Room::new();
    let (_, notes, status) = room.build("--recipe=tool");
    assert_eq!((notes.as_str(), status), ("", 0));
    fs::create_dir(room.0.path().join("beside")).unwrap();
    let image = room.0.path().join("tool.sysext.raw");
    fs::rename(&image, room.0.path().join("beside/other.sysext.raw")).unwrap();
    room.write("beside/secret.cred", "not an image");
    let same = room.build("--recipe=tool --beside=beside");
    let expected = "error: does not go with the images beside it:\n  \
         usr/lib/extension-release.d";
    assert!(!same.1.contains(expected), "{}", same.1);
    assert_eq!(same.2, 0, "{}", same.1);

    room.write("root/usr/bin/tool", "#!/bin/sh\n# newer\n");
    for beside in ["beside", "beside/other.sysext.raw"] {
        let (shown, notes, status) =
            room.build(&format!("--recipe=tool --beside={beside} --dry-run"));
        assert_eq!(
            (shown.as_str(), notes.as_str(), status),
            (
                "",
                "error: does not go with the images beside it:\n  \
                 usr/bin/tool: differs from that of `other.sysext.raw`: only one of them would be seen\n",
                1
            )
        );
    }
    // The one it replaces may differ.
    fs::rename(
        room.0.path().join("beside/other.sysext.raw"),
        room.0.path().join("beside/tool.sysext.raw"),
    )
    .unwrap();
    assert_eq!(room.build("--recipe=tool --beside=beside").2, 0);
    let (_, notes, _) = room.build("--recipe=tool --beside=beside/secret.cred");
    assert!(
        notes.starts_with("error: cannot read `beside/secret.cred`: "),
        "{notes}"
    );
}

#[test]
fn a_recipe_needs_a_base() {
    let room = Room::new();
    let (_, notes, status) = room.run(
        "ext build --name=tool --recipe=lvm --private-key=KEYS/rsa2048.key --certificate=KEYS/rsa2048.crt --output=tool.raw",
    );
    assert_eq!(
        notes,
        "error: what an extension has to bring depends on the initrd it is for\n\nhint: give --uki= or, with an initrd, --base=\n"
    );
    assert_eq!(status, 1);
}

#[test]
fn the_shipped_ones_are_listed() {
    let (shown, _, status) = Room::new().run("recipe list");
    assert_eq!(
        shown,
        "btrfs         Btrfs, on one disk or several\n\
         cryptsetup    One encrypted volume, as the credential cryptsetup.volume says\n\
         extensions    What merges extensions, for an initrd that cannot (in an addon)\n\
         iscsi         Disks over iSCSI, with CHAP in both directions\n\
         lvm           Logical volumes, activated as their disks appear\n\
         mdraid        Linux software RAID, assembled as its disks appear\n\
         multipath     Disks with several paths, as the credential multipath.conf says\n\
         nbd           A disk over the network block device protocol\n\
         network       Ethernet, configured by systemd-networkd\n\
         network-cards Drivers of Ethernet cards in real machines, for the recipe network\n\
         nfs           A root over NFS 3 or 4, without Kerberos\n\
         nvme-tcp      Disks over NVMe/TCP, with DH-HMAC-CHAP in both directions\n\
         pcrextend     Measures the phases of the boot into PCR 11, and a separator into most others (in an addon)\n\
         recovery      Tools for the emergency shell: editor, disks, file systems, network\n\
         ssh           A shell over SSH while the initrd runs, for those in ssh.authorized_keys.root\n\
         tpm2          What opens credentials that are sealed to the TPM, generators' among them (in an addon)\n"
    );
    assert_eq!(status, 0);
    let (shown, _, _) = Room::new().run("recipe show nbd");
    assert!(shown.contains("\ncredential nbd.target\n"), "{shown}");
    let (_, notes, status) = Room::new().run("recipe show fire");
    let expected = "error: there is no recipe `fire`\n\nhint: see ukikit recipe list\n";
    assert_eq!((notes.as_str(), status), (expected, 1));
}
