//! First boots: a machine with an empty TPM seals what a volume says of it, and from then on unmodified systemd applies it
//! without the volume.

use std::collections::BTreeMap;
use std::fs;
use std::mem::swap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::storage::System;
use super::{Stage, drive};
use crate::report::Report;
use crate::support::{run, succeed};

const COMPANIONS: &str = "EFI/Linux/vendor.efi.extra.d";

/// A machine to be: a stage whose TPM is as it left the factory, and a disk whose system runs the unit.
struct NewMachine {
    stage: Stage,
    disk: PathBuf,
}

impl NewMachine {
    /// `files` are more of the image, by their paths.
    fn new(files: &[(&str, &str)]) -> Option<Self> {
        const UNIT: &str = "ukikit-first-boot.service";
        let mut stage = Stage::new()?;
        stage.scene.tpm = TempDir::new().unwrap();
        stage.scene.start_with("root=LABEL=labroot rw");
        let system = System::new(&stage.storage);
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
        let unit = fs::read(unit.join(UNIT)).unwrap();
        system.unit(UNIT, &unit);
        for (path, content) in files {
            system.put(path, content.as_bytes());
        }
        let disk = system.disk("PARTLABEL=esp /efi vfat umask=0077 0 0\n");
        Some(Self { stage, disk })
    }

    /// Boots, with a volume of metadata or without. The ESP is what the machine left.
    fn boot(&self, volume: Option<&Path>) -> Report {
        let mut devices = drive(&self.disk);
        if let Some(volume) = volume {
            devices += &format!(" {},readonly=on", drive(volume));
        }
        let report = self.stage.start(&devices);
        self.stage.assert_root(&report, "ext4 /dev/vd");
        report
    }

    /// What stands beside the UKI, by name.
    fn companions(&self) -> BTreeMap<String, Vec<u8>> {
        let Ok(entries) = fs::read_dir(self.stage.scene.esp().join(COMPANIONS)) else {
            return BTreeMap::new();
        };
        let files = entries.map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        });
        files.collect()
    }

    /// An ISO 9660 volume called cidata with these files.
    fn volume(&self, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let scene = &self.stage.scene;
        let (directory, volume) = (scene.path(name), scene.path(&format!("{name}.iso")));
        fs::create_dir(&directory).unwrap();
        for (name, content) in files {
            fs::write(directory.join(name), content).unwrap();
        }
        let mut make = std::process::Command::new("genisoimage");
        make.args(["-quiet", "-J", "-R", "-V", "cidata", "-o"]);
        make.arg(&volume).arg(&directory);
        succeed("genisoimage", make.output().unwrap());
        volume
    }
}

fn metadata(instance: &str, hostname: &str) -> [(&'static str, Vec<u8>); 2] {
    [
        (
            "meta-data",
            format!("instance-id: {instance}\n").into_bytes(),
        ),
        (
            "user-data",
            format!(
                "#cloud-config\nhostname: {hostname}\nwrite_files:\n\
                 - {{path: /etc/app/token, permissions: '0600', content: s3cret of {hostname}}}\n"
            )
            .into_bytes(),
        ),
    ]
}

fn borrowed<'a>(files: &'a [(&'static str, Vec<u8>)]) -> Vec<(&'a str, &'a [u8])> {
    files.iter().map(|(name, file)| (*name, &**file)).collect()
}

#[test]
fn lab_first_boot_seals_once_and_for_this_machine() {
    let Some(machine) = NewMachine::new(&[]) else {
        return;
    };
    let seed = machine.volume("one", &borrowed(&metadata("i-1", "web1")));
    let first = machine.boot(Some(&seed));
    let sealed = machine.companions();
    assert_eq!(
        sealed.keys().collect::<Vec<_>>(),
        [
            "system.hostname.cred",
            "tmpfiles.extra.cred",
            "tmpfiles.file.etc.app.token.cred"
        ],
        "{}\n{}",
        first.console,
        first.fact("journal")
    );
    assert_eq!(first.fact("result/token"), "");

    // The volume is gone. What was sealed is there.
    let second = machine.boot(None);
    let journal = second.fact("journal");
    assert_eq!(second.fact("result/hostname"), "web1\n", "{journal}");
    assert_eq!(second.fact("result/token"), "s3cret of web1", "{journal}");

    // Another volume, unsigned, says that it is another instance.
    let other = machine.volume("two", &borrowed(&metadata("i-2", "evil")));
    let third = machine.boot(Some(&other));
    assert_eq!(third.fact("result/hostname"), "web1\n");
    assert_eq!(machine.companions(), sealed, "{}", third.fact("journal"));

    // The ESP in another machine.
    let mut elsewhere = NewMachine::new(&[]).unwrap();
    swap(
        &mut elsewhere.stage.scene.place,
        &mut { machine }.stage.scene.place,
    );
    let report = elsewhere.boot(None);
    assert_ne!(report.fact("result/hostname"), "web1\n");
    assert_eq!(report.fact("result/token"), "");
    assert_eq!(elsewhere.companions(), sealed);
}

#[test]
fn lab_first_boot_takes_signed_metadata_and_no_other() {
    let keys = TempDir::new().unwrap();
    let key = keys.path().join("signer");
    let path = key.to_str().unwrap();
    run(
        "ssh-keygen",
        ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path],
    );
    let public = fs::read_to_string(keys.path().join("signer.pub")).unwrap();
    let signers = format!("installer@example.org namespaces=\"ukikit-first-boot\" {public}");
    let signers = ("usr/lib/ukikit/allowed_signers", &*signers);
    let Some(machine) = NewMachine::new(&[signers]) else {
        return;
    };
    let files = metadata("i-1", "web1");
    let sums: String = files
        .iter()
        .map(|(name, file)| format!("{}  {name}\n", hex::encode(Sha256::digest(file))))
        .collect();
    let list = keys.path().join("SHA256SUMS");
    fs::write(&list, &sums).unwrap();
    let list = list.to_str().unwrap();
    run(
        "ssh-keygen",
        [
            "-q",
            "-Y",
            "sign",
            "-f",
            path,
            "-n",
            "ukikit-first-boot",
            list,
        ],
    );
    let signature = fs::read(format!("{list}.sig")).unwrap();
    let signed = [
        ("SHA256SUMS", sums.as_bytes()),
        ("SHA256SUMS.sig", &signature),
    ];

    // Somebody has changed it on its way.
    let forged = metadata("i-1", "evil");
    let volume = machine.volume("forged", &[borrowed(&forged), signed.to_vec()].concat());
    let report = machine.boot(Some(&volume));
    assert_eq!(machine.companions(), BTreeMap::new());
    let said = "SHA256SUMS";
    assert!(
        report.console.contains(said),
        "{}\n{}",
        report.console,
        report.fact("journal")
    );

    let volume = machine.volume("signed", &[borrowed(&files), signed.to_vec()].concat());
    let report = machine.boot(Some(&volume));
    assert_eq!(machine.companions().len(), 3, "{}", report.fact("journal"));
}
