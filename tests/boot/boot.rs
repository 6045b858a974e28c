//! Real boots: UEFI firmware, a software TPM, an unmodified systemd 262 UKI, and companions beside it.
//!
//! `tests/run` makes the lab (`UKIKIT_BOOT_LAB`) and runs these one at a time.

#![cfg(test)]

#[path = "../support/mod.rs"]
mod support;

mod direct;
mod dracut;
mod features;
mod foreign;
mod machine;
mod measured;
mod report;
mod rules;
mod secure;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use machine::Machine;
use report::Report;
use sha2::{Digest, Sha256};
use support::swtpm::{Swtpm, unpacked};
use support::systemd::Systemd;
use support::{setting, skip, succeed, text, ukikit, vector};
use tempfile::TempDir;

const SECRET: &[u8] = b"correct horse battery staple";
const FSTAB: &[u8] = b"tmpfs /from-fstab-extra tmpfs x-initrd.mount,size=1m,mode=0750 0 0\n";
/// Extensions that differ in how their one file is stored, and what makes them so. The order is that of merging.
const FORMS: [(&str, &[&str]); 4] = [
    ("lz4", &["--compress=lz4"]),
    ("plain", &["--compress=none"]),
    ("squashed", &["--format=squashfs", "--compress=zstd"]),
    // What the UKI's kernel says it can do.
    ("zstd", &[]),
];
const CREDENTIALS: [(&str, &[u8]); 2] = [("lab.secret", SECRET), ("fstab.extra", FSTAB)];

/// The main job: an extension, a secret and a mount, made from outside and placed beside an untouched UKI.
#[test]
fn boots_with_companions_we_made() {
    let Some(lab) = lab() else { return };
    let scene = Scene::new(&lab);
    scene.build("feature", "tree", &[]);
    for (name, arguments) in FORMS {
        let directory = scene.path(name).join("usr/lib/content");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(name), content()).unwrap();
        let built = scene.build(name, name, arguments);
        let zstd = ["squashed", "zstd"].contains(&name);
        assert_eq!(built.contains(" compression zstd\n"), zstd, "{built}");
    }

    let identity = scene.path("identity.json");
    fs::write(&identity, tpm_identity(scene.tpm.path())).unwrap();
    let mut place = ukikit();
    place.args(["esp", "place", "--uki=EFI/Linux/vendor.efi", "--esp"]);
    place.arg(scene.esp()).arg(scene.path("feature.sysext.raw"));
    place.args(FORMS.map(|(name, _)| scene.path(&format!("{name}.sysext.raw"))));
    for (name, content) in CREDENTIALS {
        fs::write(scene.path(name), content).unwrap();
        let credential = scene.path(&format!("{name}.cred"));
        let mut encrypt = ukikit();
        encrypt.args([
            "cred",
            "encrypt",
            "--with-key=tpm2",
            "--pinned=yes",
            "--tpm2-pcrs=",
            "--for",
        ]);
        encrypt
            .arg(&identity)
            .arg(scene.path(name))
            .arg(&credential);
        succeed("cred encrypt", encrypt.output().unwrap());
        place.arg(credential);
    }
    succeed("esp place", place.output().unwrap());

    let report = scene.boot();
    let names = FORMS.map(|(name, _)| name);
    assert_companions_took_effect(&report, &[&["feature"], &names[..]].concat());
    scene.assert_explained(&report, 7);
    for name in names {
        assert_eq!(
            report.fact(&format!("result/{name}")),
            format!("{}  -\n", hex::encode(Sha256::digest(content()))),
        );
    }
}

/// The closed form: PID 1 imports nothing from the ESP, so what somebody else sealed to this TPM has no effect, and the
/// carrier's credential is found in the merged extension.
#[test]
fn a_closed_boot_takes_credentials_from_the_carrier_alone() {
    let Some(lab) = lab() else { return };
    let scene = Scene::new(&lab);
    scene.intrude();
    let identity = scene.path("identity.json");
    fs::write(scene.path("lab.secret"), SECRET).unwrap();
    scene.encrypt("lab.secret");
    let mut carry = ukikit();
    carry.args([
        "cred",
        "carry",
        "--generation=1",
        "--not-after=+1d",
        "--for",
    ]);
    carry.arg(&identity).arg(scene.path("lab.secret.cred"));
    for (option, path) in [
        ("private-key", vector("ddi/keys/rsa2048.key")),
        ("certificate", vector("ddi/keys/rsa2048.crt")),
        ("output", scene.path("carrier.sysext.raw")),
    ] {
        carry.arg(format!("--{option}={}", path.display()));
    }
    succeed("cred carry", carry.output().unwrap());
    scene.place(&["carrier.sysext.raw"]);
    scene.close();

    let report = scene.boot();
    report.assert_initrd();
    let journal = report.fact("journal");
    assert!(
        report
            .fact("proc/cmdline")
            .contains("systemd.import_credentials=no")
    );
    assert_eq!(report.merged("/usr"), ["carrier"], "journal:\n{journal}");
    assert_eq!(
        report.fact("credential/lab.secret").as_bytes(),
        SECRET,
        "journal:\n{journal}"
    );
    assert_eq!(report.fact("result/intruder"), "");
    let delivered = report.fact("extra");
    assert!(
        delivered.contains("systemd.extra-unit.intruder.service.cred"),
        "{delivered}"
    );
}

/// What neither a credential nor an extension can bring: kernel options, and trust in a signer the UKI does not know.
#[test]
fn addons_bring_options_and_trust() {
    let Some(lab) = lab() else { return };
    let scene = Scene::new(&lab);
    let image = scene.path("feature.sysext.raw");
    let options = scene.path("options.addon.efi");
    let uki = scene.esp().join("EFI/Linux/vendor.efi");
    let signer = vector("ddi/keys/other.crt").display().to_string();
    let run = |arguments: &[&str]| {
        let output = ukikit().args(arguments).output().unwrap();
        text(&succeed(arguments[1], output))
    };
    let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
    run(&[
        "ext",
        "build",
        "--name=feature",
        &option("tree", &scene.path("tree")),
        &option("private-key", &vector("ddi/keys/other.key")),
        &format!("--certificate={signer}"),
        &option("output", &image),
    ]);
    run(&[
        "addon",
        "build",
        "--same-kernel",
        "--cmdline=lab.addon=arrived",
        &option("uki", &uki),
        &option("output", &options),
    ]);
    let esp = option("esp", &scene.esp());
    let target = "--uki=EFI/Linux/vendor.efi";
    run(&["trust", "add", target, &esp, &signer]);
    let certificate = format!("--certificate={signer}");
    let files = [image.to_str().unwrap(), options.to_str().unwrap()];
    run(&[
        "esp",
        "place",
        target,
        &esp,
        &certificate,
        files[0],
        files[1],
    ]);
    let status = run(&["trust", "status", target, &esp, &certificate]);
    assert!(
        status.contains(": merged, by /usr/lib/verity.d/ukikit-"),
        "{status}"
    );

    let report = scene.boot();
    report.assert_initrd();
    let command_line = report.fact("proc/cmdline");
    assert!(
        command_line.contains(" lab.addon=arrived"),
        "{command_line}"
    );
    let journal = report.fact("journal");
    assert_eq!(report.merged("/usr"), ["feature"], "journal:\n{journal}");
    assert_eq!(report.fact("result/feature"), "the service ran\n");
}

/// Why the boot above is closed: the same companions take effect in an open one.
#[test]
fn lab_an_open_boot_runs_what_anybody_sealed() {
    let Some(lab) = lab() else { return };
    let scene = Scene::new(&lab);
    scene.intrude();
    let report = scene.boot();
    report.assert_initrd();
    assert_eq!(report.fact("result/intruder"), "it ran\n");
}

/// The lab itself: what real systemd tools made is merged and decrypted too, so a failure above is ours.
/// It says nothing about this project, so only `tests/run --full` spends a boot on it.
#[test]
fn lab_boots_with_companions_systemd_made() {
    let (Some(lab), Some(systemd)) = (lab(), Systemd::find(262)) else {
        return;
    };
    let scene = Scene::new(&lab);
    let companions = scene.esp().join("EFI/Linux/vendor.efi.extra.d");
    fs::create_dir(&companions).unwrap();
    let room = systemd.room();
    write_feature(&room.path("tree"));
    fs::copy(vector("ddi/keys/rsa2048.key"), room.path("key")).unwrap();
    fs::copy(vector("ddi/keys/rsa2048.crt"), room.path("certificate")).unwrap();
    let repart = "--make-ddi=sysext --private-key=key --certificate=certificate --copy-source=/io/tree --offline=yes";
    let mut arguments: Vec<&str> = repart.split(' ').collect();
    arguments.push("feature.sysext.raw");
    succeed("systemd-repart", room.run("systemd-repart", &arguments));
    fs::copy(
        room.path("feature.sysext.raw"),
        companions.join("feature.sysext.raw"),
    )
    .unwrap();

    let swtpm = Swtpm::start_on(scene.tpm.path());
    for (name, content) in CREDENTIALS {
        room.write(name, content);
        let device = format!("--tpm2-device={}", swtpm.device());
        let option = format!("--name={name}");
        let file = format!("{name}.cred");
        let arguments = [
            "encrypt",
            "--with-key=tpm2",
            "--tpm2-pcrs=",
            &device,
            &option,
            name,
            &file,
        ];
        succeed("systemd-creds", room.run("systemd-creds", &arguments));
        fs::copy(room.path(&file), companions.join(file)).unwrap();
    }
    drop(swtpm);

    assert_companions_took_effect(&scene.boot(), &["feature"]);
}

/// An ESP with the vendor's UKI, the state of the TPM it will meet, and the tree of a feature.
struct Scene<'a> {
    lab: &'a Path,
    place: TempDir,
    tpm: TempDir,
    /// What reads the credentials.
    systemd: u32,
}

impl<'a> Scene<'a> {
    fn new(lab: &'a Path) -> Self {
        let scene = Self {
            lab,
            place: TempDir::new().unwrap(),
            tpm: unpacked("a"),
            systemd: 262,
        };
        Machine::esp_tree(lab, &scene.esp());
        write_feature(&scene.path("tree"));
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Makes `NAME.sysext.raw` for this UKI from a tree; returns what was said of it.
    fn build(&self, name: &str, tree: &str, arguments: &[&str]) -> String {
        let signer = [
            vector("ddi/keys/rsa2048.key"),
            vector("ddi/keys/rsa2048.crt"),
        ];
        self.build_signed(name, tree, signer, arguments)
    }

    /// The same, signed with this key of this certificate.
    fn build_signed(
        &self,
        name: &str,
        tree: &str,
        [key, certificate]: [PathBuf; 2],
        arguments: &[&str],
    ) -> String {
        let mut build = ukikit();
        build.args(["ext", "build", "--name", name]).args(arguments);
        for (option, path) in [
            ("uki", self.esp().join("EFI/Linux/vendor.efi")),
            ("tree", self.path(tree)),
            ("private-key", key),
            ("certificate", certificate),
            ("output", self.path(&format!("{name}.sysext.raw"))),
        ] {
            build.arg(format!("--{option}={}", path.display()));
        }
        text(&succeed("ext build", build.output().unwrap()))
    }

    fn esp(&self) -> PathBuf {
        self.path("esp")
    }

    /// Seals `NAME` to the machine, as anybody can who has its identity.
    fn encrypt(&self, name: &str) {
        let identity = self.path("identity.json");
        if !identity.exists() {
            fs::write(&identity, tpm_identity(self.tpm.path())).unwrap();
        }
        let mut encrypt = ukikit();
        encrypt.args([
            "cred",
            "encrypt",
            "--with-key=tpm2",
            &format!("--target-systemd={}", self.systemd),
            "--for",
        ]);
        encrypt.arg(&identity).arg(self.path(name));
        encrypt.arg(self.path(&format!("{name}.cred")));
        succeed("cred encrypt", encrypt.output().unwrap());
    }

    fn place(&self, files: &[&str]) {
        let mut place = ukikit();
        place.args(["esp", "place", "--uki=EFI/Linux/vendor.efi", "--esp"]);
        place.arg(self.esp());
        place.arg("--for").arg(self.path("identity.json"));
        let files = files.iter().map(|file| self.path(file));
        for file in files {
            // Credentials of generators, for systemd up to 261.
            if self.systemd < 262 && !fs::read(&file).unwrap().is_ascii() {
                place.arg("--encoding=binary");
            }
            place.arg(file);
        }
        succeed("esp place", place.output().unwrap());
    }

    /// Credentials of somebody who can write the ESP: a unit of their own, and what starts it.
    fn intrude(&self) {
        let unit = "[Unit]\nDefaultDependencies=no\nBefore=lab-report.service\n[Service]\nType=oneshot\n\
                    ExecStart=sh -c 'mkdir -p /run/lab/results; echo it ran >/run/lab/results/intruder'\n";
        let start = "[Unit]\nWants=intruder.service\n";
        for (name, content) in [
            ("systemd.extra-unit.intruder.service", unit),
            ("systemd.unit-dropin.lab-report.service", start),
        ] {
            fs::write(self.path(name), content).unwrap();
            self.encrypt(name);
            self.place(&[&format!("{name}.cred")]);
        }
    }

    /// A boot entry whose command line, which a signed UKI or addon would carry, imports no credentials.
    fn close(&self) {
        self.start_with("root=tmpfs systemd.import_credentials=no");
    }

    /// A boot entry with these options beside those of the lab.
    fn start_with(&self, options: &str) {
        self.enter(&format!(
            "console=ttyS0 rd.shell=0 systemd.show_status=error systemd.log_target=journal {options}"
        ));
    }

    /// A boot entry with these options alone.
    fn enter(&self, options: &str) {
        let entries = self.esp().join("loader/entries");
        fs::create_dir_all(&entries).unwrap();
        // systemd-boot of 257 knows no UKIs in entries.
        let key = if self.systemd < 262 { "efi" } else { "uki" };
        let entry = format!("title other\n{key} /EFI/Linux/vendor.efi\noptions {options}\n");
        fs::write(entries.join("other.conf"), entry).unwrap();
        fs::write(
            self.esp().join("loader/loader.conf"),
            "timeout 0\ndefault other.conf\n",
        )
        .unwrap();
    }

    /// What the boot loader finds by itself.
    fn start_by_default(&self) {
        fs::remove_dir_all(self.esp().join("loader/entries")).unwrap();
        fs::write(self.esp().join("loader/loader.conf"), "timeout 0\n").unwrap();
    }

    /// What the boot left behind tells of as many companions, and of each what was to be expected.
    fn assert_explained(&self, report: &Report, companions: usize) {
        let room = TempDir::new().unwrap();
        let imported = room.path().join("imported");
        fs::create_dir(&imported).unwrap();
        let names = report
            .facts
            .keys()
            .filter_map(|name| name.strip_prefix("encrypted/"));
        names.for_each(|name| fs::write(imported.join(name), "").unwrap());
        let mut explain = ukikit();
        explain
            .args(["explain", "--uki=EFI/Linux/vendor.efi", "--esp"])
            .arg(self.esp());
        explain.arg("--imported").arg(&imported);
        for fact in ["eventlog", "journal"] {
            let file = room.path().join(fact);
            fs::write(&file, &report.facts[fact]).unwrap();
            explain.arg(format!("--{fact}={}", file.display()));
        }
        let told = text(&succeed("explain", explain.output().unwrap()));
        let sum = format!("{companions} companions, 0 otherwise than expected\n");
        assert!(told.ends_with(&sum), "{told}");
        assert_eq!(
            told.matches(", as at that boot\n").count(),
            companions,
            "{told}"
        );
    }

    fn machine(&self) -> Machine {
        Machine {
            lab: self.lab.to_owned(),
            esp: self.esp(),
            tpm: self.tpm.path().to_owned(),
            timeout: Duration::from_secs(600),
            direct: None,
        }
    }

    fn boot(&self) -> Report {
        self.boot_to("os-separator")
    }

    /// Boots; the PCRs are those of this moment.
    fn boot_to(&self, moment: &str) -> Report {
        let machine = self.machine();
        let started = measured::Started::new(&self.esp(), "EFI/Linux/vendor.efi")
            .securely(self.lab.join("smm").exists());
        let report = machine.boot();
        started.assert_measured(&report, moment);
        report
    }
}

/// What the machine would say of itself; its TPM is not running when credentials are made.
fn tpm_identity(state: &Path) -> Vec<u8> {
    let swtpm = Swtpm::start_on(state);
    let mut identity = ukikit();
    identity.args([
        "tpm",
        "identity",
        "--machine-id=0123456789abcdef0123456789abcdef",
    ]);
    identity.arg(format!("--tpm2-device={}", swtpm.device()));
    succeed("tpm identity", identity.output().unwrap())
}

fn lab() -> Option<PathBuf> {
    let lab = setting("UKIKIT_BOOT_LAB");
    if lab.is_none() {
        skip("boot: no lab, tests/run makes one");
    }
    lab.map(PathBuf::from)
}

/// Several clusters of every codec: text and what cannot be compressed.
fn content() -> Vec<u8> {
    let blocks = (0..20_000_u32).flat_map(|number| {
        let hash = Sha256::digest(number.to_le_bytes());
        [hash.to_vec(), format!("and block {number}\n").into_bytes()].concat()
    });
    blocks.collect()
}

/// The tree of an extension whose one service leaves a trace for the report, and tells what the other extensions hold.
fn write_feature(tree: &Path) {
    let file = |path: &str, content: &str| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    file(
        "usr/lib/extension-release.d/extension-release.feature",
        "ID=debian\nSYSEXT_SCOPE=initrd\nEXTENSION_RELOAD_MANAGER=1\n",
    );
    file(
        "usr/lib/systemd/system/feature.service",
        "[Unit]\nDefaultDependencies=no\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStart=sh -c 'mkdir -p /run/lab/results; echo \"the service ran\" >/run/lab/results/feature; \
         for file in /usr/lib/content/*; do if [ -f $$file ]; then sha256sum <$$file >/run/lab/results/$${file##*/}; fi; done'\n",
    );
    file(
        "usr/lib/systemd/system/feature.target",
        "[Unit]\nDefaultDependencies=no\nWants=feature.service\n",
    );
    // The unmerge at the end of the initrd must not reload the manager: it would lose the root's mount.
    file(
        "usr/lib/systemd/system/systemd-sysext-initrd.service.d/50-feature.conf",
        "[Service]\nExecStop=\nExecStop=systemd-sysext unmerge --no-reload\n",
    );
    // Upheld is a target, never the service: a failing upheld service is restarted for ever.
    let upholds = tree.join("usr/lib/systemd/system/sysinit.target.upholds");
    fs::create_dir_all(&upholds).unwrap();
    std::os::unix::fs::symlink("../feature.target", upholds.join("feature.target")).unwrap();
}

fn assert_companions_took_effect(report: &Report, extensions: &[&str]) {
    report.assert_initrd();
    assert_eq!(
        report.merged("/usr"),
        extensions,
        "journal:\n{}",
        report.fact("journal")
    );
    assert_eq!(report.fact("result/feature"), "the service ran\n");
    assert_eq!(report.fact("credential/lab.secret").as_bytes(), SECRET);
    let mounts = report.fact("proc/mountinfo");
    let mount = mounts
        .lines()
        .find(|line| line.contains(" /sysroot/from-fstab-extra "));
    let mount = mount.unwrap_or_else(|| {
        panic!(
            "fstab.extra had no effect:\n{mounts}\n{}",
            report.fact("journal")
        )
    });
    assert!(
        mount.contains("size=1024k") && mount.contains("mode=750"),
        "{mount}"
    );
    // Of the base initrd: dracut leaves out the files its last step reads. The storage root key is set up all the same.
    let failed = report.fact("failed-units");
    let failed: Vec<&str> = failed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(failed, ["systemd-tpm2-setup-early.service"]);
}
