//! Where the program touches the machine: clock, randomness, environment. Opened here only.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use rand_core::{CryptoRng, UnwrapErr};
use ukikit::first_boot::Machine;
use ukikit_creds::BootFacts;

/// The wall clock, in microseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
pub(crate) fn now_micros() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The kernel's random source. Nothing can be encrypted without it: its failure ends the program.
pub(crate) fn random() -> impl CryptoRng + Clone + Sync {
    UnwrapErr(getrandom::SysRng)
}

/// Who runs the program: the user's number and, if it has one, name.
pub(crate) fn user() -> (u32, Option<String>) {
    let uid = rustix::process::getuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    (uid, name)
}

/// A variable of the environment, `None` when unset or not UTF-8.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The kernel's command line; empty where it cannot be read.
pub(crate) fn kernel_command_line() -> String {
    fs::read_to_string("/proc/cmdline").unwrap_or_default()
}

/// What the firmware says of this boot. A TPM counts when the firmware knows it, driver or not, as for systemd.
pub(crate) fn boot_facts() -> BootFacts {
    let efi = Path::new("/sys/firmware/efi").exists();
    let tables = [
        "/sys/firmware/acpi/tables/TPM2",
        "/sys/kernel/security/tpm0/binary_bios_measurements",
    ];
    let known =
        Path::new(ACTIVE_BANKS).exists() || tables.iter().any(|table| Path::new(table).exists());
    BootFacts {
        secure_boot: fs::read(SECURE_BOOT).is_ok_and(|variable| variable.ends_with(&[1])),
        tpm: efi && known,
        first_boot: Path::new("/run/systemd/first-boot").exists(),
    }
}

/// The UKI that was started, as its stub left it: a path on its partition. `None` when none was.
pub(crate) fn stub_image() -> Option<String> {
    let variable = fs::read(STUB_IMAGE).ok()?;
    let (units, _) = variable.get(4..)?.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|&unit| u16::from_le_bytes(unit)).collect();
    let path = String::from_utf16_lossy(&units).replace('\\', "/");
    Some(path.trim_matches(['/', '\0']).to_owned())
}

/// What this machine is, by the word of systemd-detect-virt; hardware where that cannot be asked.
pub(crate) fn machine() -> Machine {
    let says = |kind: &str| {
        let asked = Command::new("systemd-detect-virt").arg(kind).output();
        asked.is_ok_and(|output| output.status.success())
    };
    // The kernel shows these to guests that are protected, whatever their processor lets a program read.
    let guest = ["/dev/sev-guest", "/dev/tdx_guest"];
    let protected = guest.iter().any(|device| Path::new(device).exists());
    if protected || says("--cvm") {
        Machine::Confidential
    } else if says("--vm") {
        Machine::Virtual
    } else {
        Machine::BareMetal
    }
}

/// Whether the kernel drives a TPM that this process may use.
pub(crate) fn has_tpm_driver() -> bool {
    fs::read_dir("/sys/class/tpmrm").is_ok_and(|mut devices| devices.next().is_some())
}

/// Whether files below `directory` are gone at the next boot.
pub(crate) fn is_temporary(directory: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let kind = rustix::fs::statfs(directory)
        .ok()
        .and_then(|stat| u64::try_from(stat.f_type).ok());
    kind.is_some_and(|kind| kind == TMPFS || kind == RAMFS)
}

const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// What systemd-stub leaves, behind four bytes of attributes in UTF-16.
const STUB_IMAGE: &str =
    "/sys/firmware/efi/efivars/StubImageIdentifier-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// What systemd-boot leaves of the TPM's active banks.
const ACTIVE_BANKS: &str =
    "/sys/firmware/efi/efivars/LoaderTpm2ActivePcrBanks-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
