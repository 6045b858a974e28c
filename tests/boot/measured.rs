//! What the TPM shows of a real boot is what `ukikit predict` says: every PCR, bank and event.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use ukikit_esp::EventLog;

use crate::machine::Machine;
use crate::report::Report;
use crate::support::{run, succeed, ukikit};

/// What a machine is about to boot.
pub(crate) struct Started {
    esp: PathBuf,
    uki: String,
    entry: Option<String>,
    secure_boot: bool,
}

impl Started {
    /// The UKI at this path, started by the entry that `loader/loader.conf` names, if it names one.
    pub(crate) fn new(esp: &Path, uki: &str) -> Self {
        let loader = fs::read_to_string(esp.join("loader/loader.conf")).unwrap_or_default();
        let entry = loader
            .lines()
            .find_map(|line| line.strip_prefix("default "));
        Self {
            esp: esp.to_owned(),
            uki: uki.to_owned(),
            entry: entry.map(|name| format!("loader/entries/{name}")),
            secure_boot: false,
        }
    }

    /// By firmware that enforces Secure Boot.
    pub(crate) fn securely(mut self, enforced: bool) -> Self {
        self.secure_boot = enforced;
        self
    }

    fn predict(&self) -> Vec<String> {
        let mut arguments = vec!["predict".to_owned(), format!("--uki={}", self.uki)];
        arguments.push(format!("--esp={}", self.esp.display()));
        arguments.push("--loader=EFI/BOOT/BOOTX64.EFI".to_owned());
        if let Some(entry) = &self.entry {
            arguments.push(format!("--entry={entry}"));
        }
        if self.secure_boot {
            arguments.push("--secure-boot".to_owned());
        }
        arguments
    }

    /// The registers at the moment of the report, the log of the firmware in every bank, and the log event for event.
    pub(crate) fn assert_measured(&self, report: &Report, moment: &str) {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("eventlog");
        fs::write(&file, &report.facts["eventlog"]).unwrap();
        let log = EventLog::parse(&report.facts["eventlog"]).unwrap();
        let banks: Vec<&str> = log.banks().iter().map(|bank| bank.as_str()).collect();
        let mut predict = ukikit();
        predict.args(self.predict()).arg("--json=short");
        predict.arg("--secure-boot-log").arg(&file);
        predict.arg(format!("--bank={}", banks.join(",")));
        let said = succeed("predict", predict.output().unwrap());
        let said: Value = serde_json::from_slice(&said).unwrap();
        let line = report.fact("proc/cmdline");
        assert_eq!(said["commandLine"], line.trim_end_matches('\n'));
        for pcr in [4, 7, 11, 12, 13] {
            let name = pcr.to_string();
            let register = report.fact(&format!("pcr-sha256/{pcr}"));
            let expected = &said["points"][moment]["sha256"][&name];
            assert_eq!(register.trim().to_lowercase(), *expected, "PCR {pcr}");
            for bank in log.banks() {
                let value = log.value(pcr, bank).to_string();
                let expected = &said["points"]["after-stub"][bank.as_str()][&name];
                assert_eq!(value, *expected, "PCR {pcr} in {bank}");
            }
        }
        let mut compare = ukikit();
        compare.args(self.predict()).arg("--diff").arg(&file);
        let same = succeed("predict --diff", compare.output().unwrap());
        assert_eq!(
            String::from_utf8_lossy(&same),
            "every event of PCR 4, 11, 12 and 13 is as predicted\n"
        );
    }
}

/// An ESP whose UKI only reports what was measured, and a TPM with all banks.
struct Measured {
    lab: PathBuf,
    place: TempDir,
    uki: &'static str,
}

impl Measured {
    fn new(lab: PathBuf, uki: &'static str) -> Self {
        let measured = Self {
            place: TempDir::new().unwrap(),
            lab,
            uki,
        };
        for (from, to) in [
            ("systemd-boot.efi", "EFI/BOOT/BOOTX64.EFI"),
            ("measured.efi", uki),
        ] {
            let to = measured.esp().join(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(measured.lab.join(from), to).unwrap();
        }
        measured.write("loader/loader.conf", b"timeout 0\n");
        measured
    }

    fn esp(&self) -> PathBuf {
        self.place.path().join("esp")
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.esp().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Starts the UKI by an entry with these lines.
    fn entry(&self, lines: &str) {
        let entry = format!("title measured\n{lines}");
        self.write("loader/entries/measured.conf", entry.as_bytes());
        self.write("loader/loader.conf", b"timeout 0\ndefault measured.conf\n");
    }

    fn assert_as_predicted(&self) {
        let tpm = self.place.path().join("tpm");
        fs::create_dir(&tpm).unwrap();
        let state = tpm.display().to_string();
        let banks = "sha1,sha256,sha384,sha512";
        run(
            "swtpm_setup",
            ["--tpm2", "--tpmstate", &state, "--pcr-banks", banks],
        );
        let machine = Machine {
            lab: self.lab.clone(),
            esp: self.esp(),
            tpm,
            timeout: Duration::from_secs(300),
            direct: None,
        };
        let started = Started::new(&self.esp(), self.uki);
        let report = machine.boot();
        assert_eq!(report.stage.as_deref(), Some("stub"), "{}", report.console);
        started.assert_measured(&report, "after-stub");
    }
}

/// A PE file with these sections and nothing else, which the firmware takes for an addon.
fn addon(sections: &[(&str, &[u8])]) -> Vec<u8> {
    crate::support::pe::addon(sections)
}

/// An archive for the kernel to unpack, with one file.
fn initrd() -> Vec<u8> {
    let file = ukikit_esp::File::new("from-addon.cred", b"an addon brought it".to_vec());
    let kind = ukikit_esp::ArchiveKind::Credentials;
    ukikit_esp::Archive::pack(kind, &[&file])
        .unwrap()
        .as_bytes()
        .to_vec()
}

/// Every kind of companion for the UKI and for all, and addons taken and refused; the UKI is boot counted.
#[test]
fn everything_at_once_is_measured_as_predicted() {
    let Some(lab) = crate::lab() else { return };
    let boot = Measured::new(lab, "EFI/Linux/count+3-0.efi");
    let own = "EFI/Linux/count.efi.extra.d";
    for (path, content) in [
        (format!("{own}/b.cred"), &b"one"[..]),
        (format!("{own}/B2.Cred"), b"two"),
        (format!("{own}/empty.cred"), b""),
        (format!("{own}/s.sysext.raw"), &[7; 4097]),
        (format!("{own}/plain.raw"), &[8; 33]),
        (format!("{own}/c.confext.raw"), &[9; 100]),
        (format!("{own}/note.txt"), b"left alone"),
        ("loader/credentials/g.cred".into(), b"of all"),
        ("loader/extensions/ge.sysext.raw".into(), &[10; 5]),
        ("loader/extensions/gc.confext.raw".into(), &[11; 6]),
    ] {
        boot.write(&path, content);
    }
    for (path, sections) in [
        (
            format!("{own}/20-own.addon.efi"),
            &[(".cmdline", &b" lab.own  two\n"[..])][..],
        ),
        (
            format!("{own}/30-other.addon.efi"),
            &[(".uname", b"1.2.3"), (".cmdline", b"lab.refused")],
        ),
        (
            format!("{own}/40-initrd.addon.efi"),
            &[(".initrd", &initrd()[..])],
        ),
        (format!("{own}/ucode.addon.efi"), &[(".ucode", &initrd())]),
        (
            "loader/addons/10-all.addon.efi".into(),
            &[(".cmdline", b"lab.all")],
        ),
        (
            "loader/addons/ucode.addon.efi".into(),
            &[(".ucode", &initrd())],
        ),
    ] {
        boot.write(&path, &addon(sections));
    }
    boot.assert_as_predicted();
}

/// A second profile and `extra` lines, in an order of their own, beside companions.
#[test]
fn lab_an_entry_with_extras_and_a_profile_is_measured_as_predicted() {
    let Some(lab) = crate::lab() else { return };
    let boot = Measured::new(lab, "tok/measured.efi");
    boot.entry(
        "uki /tok/measured.efi\nprofile 1\nextra /tok/z.cred\nextra /tok/f.sysext.raw\nextra /tok/a.cred\n\
         extra /tok/missing.cred\nextra /tok/empty.cred\nextra /tok/plain.raw\nextra /tok/c.confext.raw\n\
         extra /tok/UPPER.CRED\nextra /tok/x.addon.efi\n",
    );
    for (path, content) in [
        ("z.cred", &b"zz"[..]),
        ("f.sysext.raw", &[1; 77]),
        ("a.cred", b"a"),
        ("empty.cred", b""),
        ("plain.raw", b"plain"),
        ("c.confext.raw", b"c"),
        ("UPPER.CRED", b"upper"),
        ("measured.efi.extra.d/a.cred", b"the companion wins"),
    ] {
        boot.write(&format!("tok/{path}"), content);
    }
    boot.write("tok/x.addon.efi", &addon(&[(".cmdline", b"lab.extra")]));
    boot.assert_as_predicted();
}

/// A passed command line is measured as written and as cleaned up; a profile goes in front.
#[test]
fn lab_options_with_a_profile_are_measured_as_predicted() {
    let Some(lab) = crate::lab() else { return };
    let boot = Measured::new(lab, "EFI/Linux/measured.efi");
    boot.entry(
        "uki /EFI/Linux/measured.efi\nprofile 1\noptions   console=ttyS0   quiet  rdinit=/usr/lib/lab/measure\n\
         options 'lab.quoted'\n",
    );
    boot.assert_as_predicted();
}

/// With a control character in them the stub ignores the options, and the profile too.
#[test]
fn lab_options_with_a_tab_are_measured_as_predicted() {
    let Some(lab) = crate::lab() else { return };
    let boot = Measured::new(lab, "EFI/Linux/measured.efi");
    boot.entry(
        "uki /EFI/Linux/measured.efi\nprofile 1\noptions   console=ttyS0   quiet \t rdinit=/usr/lib/lab/measure\n\
         options 'lab.quoted'\n",
    );
    boot.write("EFI/Linux/measured.efi.extra.d/o.cred", b"o");
    boot.write(
        "loader/addons/p.addon.efi",
        &addon(&[(".cmdline", b"lab.addon")]),
    );
    boot.assert_as_predicted();
}

/// Nothing but the UKI: PCR 12 and 13 stay zero.
#[test]
fn lab_a_bare_uki_is_measured_as_predicted() {
    let Some(lab) = crate::lab() else { return };
    let boot = Measured::new(lab, "EFI/Linux/measured.efi");
    boot.assert_as_predicted();
}

/// Only what is for all UKIs, with names in every case.
#[test]
fn lab_global_companions_are_measured_as_predicted() {
    let Some(lab) = crate::lab() else { return };
    let boot = Measured::new(lab, "EFI/Linux/measured.efi");
    for (path, content) in [
        ("credentials/+x.cred", &b"1"[..]),
        ("credentials/~tilde.cred", b"2"),
        ("credentials/_under.CRED", b"3"),
        ("credentials/no.raw", b"4"),
        ("extensions/10.raw", b"5"),
        ("extensions/9.raw", b"6"),
        ("extensions/X.ConfExt.Raw", b"7"),
        ("extensions/with space.sysext.raw", b"8"),
    ] {
        boot.write(&format!("loader/{path}"), content);
    }
    boot.assert_as_predicted();
}
