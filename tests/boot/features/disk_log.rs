//! The disk's log of a mounted ESP: whatever the kernel's driver had written when the power went, each companion is whole, and the
//! next run makes the old or the new set of them.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use ukikit_esp::volume::{Fat, Volume};
use ukikit_esp::{Esp, File, Placing};

use super::storage::System;
use super::{Stage, drive};
use crate::support::fat::{HARMLESS, Logged, Tree, fsck, tree_of, visible};
use crate::support::uki::pe_file;
use crate::support::{run, succeed, ukikit};

const UKI: &str = "EFI/Linux/vendor.efi";

/// What is placed: the first three are on the ESP with another content.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

const UNIT: &[u8] = b"[Unit]
DefaultDependencies=no
RequiresMountsFor=/efi
After=local-fs.target
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/usr/bin/ukikit esp place --esp=/efi --uki=EFI/Linux/vendor.efi --force \
    /files/a.cred /files/b.cred /files/c.cred /files/d.cred /files/e.cred /files/f.cred
ExecStop=umount /efi
";

#[test]
fn lab_disk_log_of_a_mounted_esp() {
    let Some(stage) = Stage::new() else { return };
    stage.scene.start_with("root=LABEL=labroot rw");
    let system = System::new(&stage.storage);
    system.unit("lab-change.service", UNIT);
    for name in NAMES {
        system.put(&format!("files/{name}.cred"), &credential(&stage, name));
    }
    let disk = system.disk("LABEL=LOGGED /efi vfat umask=0077 0 0\n");
    let (image, log) = (stage.scene.path("logged.img"), stage.scene.path("log"));
    make(&stage, &image);
    let start = fs::read(&image).unwrap();
    fs::write(&log, b"").unwrap();
    let devices = format!(
        "{} -blockdev driver=blklogwrites,node-name=logged,file.driver=file,file.filename={},log.driver=file,log.filename={} \
         -device virtio-blk-pci,drive=logged",
        drive(&disk),
        image.display(),
        log.display()
    );
    let report = stage.start(&devices);
    stage.assert_root(&report, "ext4 /dev/vd");

    let journal = report.fact("journal");
    let (old, new) = (tree_of(start.clone()), tree_of(fs::read(&image).unwrap()));
    for name in NAMES {
        let placed = format!("{UKI}.extra.d/{name}.cred");
        let content = Some(credential(&stage, name));
        assert_eq!(new.get(&placed), Some(&content), "{placed}: {journal}");
    }
    assert_eq!(fsck(&image), Vec::<String>::new());

    let writes = writes(&fs::read(&log).unwrap());
    assert!(writes.len() > 50, "{}", writes.len());
    let mut state = start;
    let (mut as_old, mut as_new) = (0, 0);
    for (number, (place, bytes)) in writes.iter().enumerate() {
        state[*place..place + bytes.len()].copy_from_slice(bytes);
        let when = format!("write {number}");
        assert_whole(&state, &old, &new, &when);
        fs::write(&image, &state).unwrap();
        assert_ours(&fsck(&image), &when);
        // What systemd-fsck does before it is mounted again; the status tells that something was done.
        let repair = Command::new("fsck.fat").arg("-a").arg(&image).output();
        assert!(repair.unwrap().status.code() < Some(2), "{when}");
        let cut = Logged::new(fs::read(&image).unwrap());
        let esp = Esp::on(Fat::open(cut.clone()).unwrap(), Path::new("esp")).keep_free(0);
        esp.recover()
            .unwrap_or_else(|error| panic!("{when}: {error}"));
        let mut now = visible(tree_of(cut.bytes.lock().unwrap().clone()));
        // Clusters that the repair found without an owner.
        now.retain(|path, _| !path.starts_with("FSCK"));
        if now == visible(old.clone()) {
            as_old += 1;
        } else {
            assert!(now == visible(new.clone()), "{when}: {:?}", now.keys());
            as_new += 1;
        }
    }
    assert!(as_old > 5 && as_new > 2, "{as_old} old, {as_new} new");
}

/// As the stub finds it, before anybody repairs anything: each companion is whole, the old or the new one, and none is missing
/// that both sets have.
fn assert_whole(state: &[u8], old: &Tree, new: &Tree, when: &str) {
    let fat = Fat::open(Logged::new(state.to_vec())).unwrap();
    for name in NAMES {
        let path = format!("{UKI}.extra.d/{name}.cred");
        let mut content = Vec::new();
        let read = fat
            .open(&path)
            .map(|mut file| file.read_to_end(&mut content));
        let content = read.ok().map(|read| {
            read.unwrap_or_else(|error| panic!("{when}: {path}: {error}"));
            Some(content)
        });
        let known = [old.get(&path), new.get(&path)];
        assert!(known.contains(&content.as_ref()), "{when}: {path}");
    }
}

/// Nothing is wrong but that files on their way are not whole, or have their old name too.
fn assert_ours(found: &[String], when: &str) {
    let ours = |line: &String| line.starts_with("/loader/ukikit/");
    let mut fits = true;
    for (number, line) in found.iter().enumerate() {
        if line.starts_with('/') {
            let shares = line.ends_with(" and") && found.get(number + 1).is_some_and(ours);
            fits = shares || ours(line);
        }
        let harmless = HARMLESS
            .iter()
            .any(|start| line.trim_start().starts_with(start));
        assert!(fits || harmless, "{when}: {found:?}");
    }
}

/// A credential that anybody opens; the same at each call.
fn credential(stage: &Stage, name: &str) -> Vec<u8> {
    let path = stage.scene.path(&format!("{name}.cred"));
    if !path.exists() {
        fs::write(stage.scene.path(name), vec![b'x'; 700]).unwrap();
        let mut encrypt = ukikit();
        encrypt.args(["cred", "encrypt", "--with-key=null"]);
        encrypt.arg(stage.scene.path(name)).arg(&path);
        succeed("cred encrypt", encrypt.output().unwrap());
    }
    fs::read(path).unwrap()
}

/// A FAT with a UKI and the set of before.
fn make(stage: &Stage, image: &Path) {
    fs::File::create(image).unwrap().set_len(4 << 20).unwrap();
    let path = image.to_str().unwrap();
    let make = ["-F", "16", "-s", "1", "-n", "LOGGED", "--invariant", path];
    run("mkfs.fat", make);
    let uki = stage.scene.path("small.efi");
    fs::write(&uki, pe_file(&[(".linux", b"kernel"), (".initrd", b"")])).unwrap();
    run("mmd", ["-i", path, "::EFI", "::EFI/Linux"]);
    run(
        "mcopy",
        ["-i", path, uki.to_str().unwrap(), &format!("::{UKI}")],
    );
    let medium = Logged::new(fs::read(image).unwrap());
    let esp = Esp::on(Fat::open(medium.clone()).unwrap(), Path::new("esp")).keep_free(0);
    let before = ["a", "b", "c"].map(|name| {
        File::new(
            format!("{UKI}.extra.d/{name}.cred"),
            format!("{name} of before").into_bytes(),
        )
    });
    let placed = esp.put(before.into(), &Placing::new()).unwrap();
    placed.apply(&esp).unwrap();
    fs::write(image, &*medium.bytes.lock().unwrap()).unwrap();
}

/// What was written where, in the format of the kernel's dm-log-writes: all numbers are of 8 bytes, little-endian; a sector
/// of 512 bytes with the magic number, the version, and how many entries follow; each is a sector with place, length, flags and
/// one more, and the data, which what only discards does not have.
fn writes(log: &[u8]) -> Vec<(usize, Vec<u8>)> {
    const SECTOR: usize = 512;
    const DISCARD: usize = 4;
    let number = |at: usize| {
        let bytes: [u8; 8] = log[at..at + 8].try_into().unwrap();
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    assert_eq!((number(0), number(8)), (0x006a_7366_7773_6872, 1));
    let mut at = SECTOR;
    let mut found = Vec::new();
    for _ in 0..number(16) {
        let [place, length, flags] = [0, 8, 16].map(|field| number(at + field));
        at += SECTOR;
        if flags & DISCARD == 0 && length > 0 {
            let end = at + length * SECTOR;
            found.push((place * SECTOR, log[at..end].to_vec()));
            at = end;
        }
    }
    found
}
