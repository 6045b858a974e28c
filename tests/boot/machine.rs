//! A virtual machine that boots one ESP tree: OVMF, a software TPM and QEMU without KVM.
//!
//! ```text
//! directory ─ FAT in a GPT image ─┐
//! swtpm state ─ swtpm ─ socket ───┼─ qemu ─ second serial port ─ Report
//! OVMF ───────────────────────────┘
//! ```
//!
//! All processes end with the values that started them, also when a test fails.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::report::Report;
use crate::support::{attended, run, text};

/// What the machine is given.
pub(crate) struct Machine {
    /// What `make-lab` made.
    pub(crate) lab: PathBuf,
    /// The tree that becomes the ESP.
    pub(crate) esp: PathBuf,
    /// The directory of swtpm's state; the boot changes it.
    pub(crate) tpm: PathBuf,
    /// When to give up. An emulated boot takes about a minute of an idle core.
    pub(crate) timeout: Duration,
    /// A directory with `kernel`, `initrd` and `cmdline`, to be started without the boot loader.
    pub(crate) direct: Option<PathBuf>,
}

/// What somebody at the console waits for, and what they do then.
pub(crate) type Exchange<'a> = (&'a str, Deed<'a>);

/// What somebody at the console does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed<'a> {
    /// They type this and press Enter.
    Type(&'a str),
    /// They switch the machine off.
    SwitchOff,
}

/// How the last words of a kernel begin.
const PANIC: &str = "---[ end Kernel panic";
/// A kernel that changes its own code while its other processor is emulated may meet half of the change, within its first
/// seconds.
const CRASH: &str = "Kernel panic - not syncing: Fatal exception in interrupt";

/// What it says before it runs anything.
const FIRST: &str = " as init process";

/// A process that does not outlive its value.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    /// A tree with the boot loader and the vendor's UKI at `EFI/Linux/vendor.efi`.
    pub(crate) fn esp_tree(lab: &Path, esp: &Path) {
        for directory in ["EFI/BOOT", "EFI/Linux", "loader"] {
            fs::create_dir_all(esp.join(directory)).unwrap();
        }
        fs::copy(
            lab.join("systemd-boot.efi"),
            esp.join("EFI/BOOT/BOOTX64.EFI"),
        )
        .unwrap();
        fs::copy(lab.join("vendor.efi"), esp.join("EFI/Linux/vendor.efi")).unwrap();
        fs::write(esp.join("loader/loader.conf"), "timeout 0\n").unwrap();
    }

    /// Boots until the guest powers off. `UKIKIT_BOOT_OUTPUT`, if set, receives `console.log` and `report.json`.
    pub(crate) fn boot(&self) -> Report {
        self.boot_with(&[])
    }

    /// The same with more devices: further arguments of QEMU.
    pub(crate) fn boot_with(&self, devices: &[String]) -> Report {
        self.boot_attended(devices, &[])
    }

    /// The same with somebody at the console, who waits for each of these in turn.
    pub(crate) fn boot_attended(&self, devices: &[String], exchanges: &[Exchange<'_>]) -> Report {
        let mut place = TempDir::new().unwrap();
        let mut finished = self.run(place.path(), devices, exchanges);
        if !finished && crashed_early(place.path()) {
            eprintln!("the kernel crashed in the emulator: the machine is started again");
            place = TempDir::new().unwrap();
            finished = self.run(place.path(), devices, exchanges);
        }
        let work = place.path();
        self.take_over(&work.join("esp.img"));

        let console = text(&fs::read(work.join("console.log")).unwrap());
        let report = Report::parse(&fs::read(work.join("report.log")).unwrap(), console);
        if let Some(output) = crate::support::setting("UKIKIT_BOOT_OUTPUT") {
            report.keep(Path::new(&output));
        }
        assert!(
            finished,
            "no end by itself within {:?}; the console:\n{}",
            self.timeout, report.console
        );
        report
    }

    /// Starts the boot loader on firmware without keys: it enrols those of the ESP and restarts, which is the end. Returns the
    /// variables of the firmware.
    pub(crate) fn enrol(&self) -> Vec<u8> {
        let place = TempDir::new().unwrap();
        let work = place.path();
        let finished = self.run(work, &[], &[]);
        let console = fs::read(work.join("console.log")).unwrap();
        assert!(finished, "no end; the console:\n{}", text(&console));
        fs::read(work.join("vars.fd")).unwrap()
    }

    /// Runs the machine in an empty directory; false when it had to be stopped.
    fn run(&self, work: &Path, devices: &[String], exchanges: &[Exchange<'_>]) -> bool {
        write_esp_image(&self.esp, &work.join("esp.img"));
        fs::copy(self.lab.join("OVMF_VARS_4M.fd"), work.join("vars.fd")).unwrap();
        let _tpm = self.start_tpm(work);
        self.run_guest(work, devices, exchanges)
    }

    /// What was written to the ESP: the boot loader counts in the names of entries, and a system may have changed what it likes.
    fn take_over(&self, image: &Path) {
        fs::remove_dir_all(&self.esp).unwrap();
        fs::create_dir(&self.esp).unwrap();
        let inside = format!("{}@@1M", image.display());
        let into = self.esp.display().to_string();
        run("mcopy", ["-i", &inside, "-s", "-Q", "-m", "::*", &into]);
    }

    fn start_tpm(&self, work: &Path) -> Process {
        let socket = work.join("tpm");
        let process = attended("swtpm")
            .args([
                "socket",
                "--tpm2",
                "--terminate",
                "--tpmstate",
                &format!("dir={}", self.tpm.display()),
            ])
            .args(["--ctrl", &format!("type=unixio,path={}", socket.display())])
            .spawn()
            .unwrap();
        let process = Process(process);
        let patience = Instant::now() + Duration::from_secs(10);
        while !socket.exists() {
            assert!(Instant::now() < patience, "swtpm does not listen");
            sleep(Duration::from_millis(20));
        }
        process
    }

    /// Runs QEMU; false when it had to be stopped.
    fn run_guest(&self, work: &Path, devices: &[String], exchanges: &[Exchange<'_>]) -> bool {
        let path = |name: &str| work.join(name).display().to_string();
        let firmware = self.lab.join("OVMF_CODE_4M.fd").display().to_string();
        let mut guest = attended("qemu-system-x86_64");
        let smm = self.lab.join("smm").exists();
        if smm {
            guest.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
        }
        guest.args([
            "-machine",
            if smm { "q35,smm=on" } else { "q35" },
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            "2048",
        ]);
        guest.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ]);
        guest.args([
            "-drive",
            &format!("if=pflash,format=raw,unit=0,readonly=on,file={firmware}"),
        ]);
        guest.args([
            "-drive",
            &format!("if=pflash,format=raw,unit=1,file={}", path("vars.fd")),
        ]);
        guest.args([
            "-drive",
            &format!("if=virtio,format=raw,file={}", path("esp.img")),
        ]);
        guest.args(["-chardev", &format!("socket,id=tpm,path={}", path("tpm"))]);
        guest.args([
            "-tpmdev",
            "emulator,id=tpm,chardev=tpm",
            "-device",
            "tpm-crb,tpmdev=tpm",
        ]);
        guest.args(["-device", "virtio-rng-pci"]);
        guest.args(devices);
        if let Some(direct) = &self.direct {
            let command_line = fs::read_to_string(direct.join("cmdline")).unwrap();
            guest.arg("-kernel").arg(direct.join("kernel"));
            guest.arg("-initrd").arg(direct.join("initrd"));
            guest.args(["-append", &command_line]);
        }
        let log = fs::File::create(work.join("console.log")).unwrap();
        guest.args(["-chardev", "stdio,id=console,signal=off"]);
        guest.args(["-serial", "chardev:console"]);
        guest.args(["-serial", &format!("file:{}", path("report.log"))]);
        guest.stdin(Stdio::piped()).stdout(log);
        let mut guest = Process(guest.spawn().unwrap());
        let mut keyboard = guest.0.stdin.take().unwrap();

        let patience = Instant::now() + self.timeout;
        let (mut seen, mut exchanges) = (0, exchanges.iter());
        let mut next = exchanges.next();
        while Instant::now() < patience {
            if let Some((expected, deed)) = next
                && let Some(at) = shown(&work.join("console.log"), seen, expected)
            {
                (seen, next) = (at, exchanges.next());
                match deed {
                    Deed::Type(line) => keyboard.write_all(format!("{line}\n").as_bytes()).unwrap(),
                    Deed::SwitchOff => return true,
                }
            }
            if let Some(status) = guest.0.try_wait().unwrap() {
                assert!(status.success(), "qemu: {status}");
                return true;
            }
            if shown(&work.join("console.log"), 0, PANIC).is_some() {
                return false;
            }
            sleep(Duration::from_millis(100));
        }
        false
    }
}

/// Whether the kernel crashed before anything of the initrd ran.
fn crashed_early(work: &Path) -> bool {
    let console = text(&fs::read(work.join("console.log")).unwrap());
    console.contains(CRASH) && !console.contains(FIRST)
}

/// Where `expected` ends on the console, looked for from `start` on.
fn shown(console: &Path, start: usize, expected: &str) -> Option<usize> {
    let console = fs::read(console).unwrap();
    let mut places = console.get(start..)?.windows(expected.len());
    let at = places.position(|window| window == expected.as_bytes())?;
    Some(start + at + expected.len())
}

/// A GPT image with one FAT32 partition that holds `tree`.
fn write_esp_image(tree: &Path, image: &Path) {
    const MIB: u64 = 1024 * 1024;
    let partition = size_of_tree(tree).div_ceil(MIB) + 40; // FAT32 needs 33 MiB even when empty
    let file = fs::File::create(image).unwrap();
    file.set_len((partition + 2) * MIB).unwrap();
    let table = format!("label: gpt\nstart=1MiB, size={partition}MiB, type=uefi, name=esp\n");
    let script = image.with_extension("sfdisk");
    fs::write(&script, table).unwrap();
    let command = format!("sfdisk --quiet {} <{}", image.display(), script.display());
    run("sh", ["-ec", &command]);

    let inside = format!("{}@@1M", image.display());
    let sectors = (partition * MIB / 512).to_string();
    run(
        "mformat",
        ["-i", &inside, "-F", "-T", &sectors, "-v", "ESP", "::"],
    );
    for entry in fs::read_dir(tree).unwrap() {
        let path = entry.unwrap().path();
        run(
            "mcopy",
            [
                "-i",
                &inside,
                "-s",
                "-Q",
                "-m",
                path.to_str().unwrap(),
                "::/",
            ],
        );
    }
}

fn size_of_tree(tree: &Path) -> u64 {
    fs::read_dir(tree)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let kind = entry.metadata().unwrap();
            if kind.is_dir() {
                size_of_tree(&entry.path())
            } else {
                kind.len()
            }
        })
        .sum()
}
