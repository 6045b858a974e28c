//! The main job, on the libraries alone: a secret and root options encrypted for a host, a feature packed as a
//! signed extension, all of it placed beside a UKI, read back and verified.
//!
//! ```text
//! web1.json ── HostIdentity ─ Key ─┐
//! secret ───── Credential ─────────┴─ encrypt ─▶ NAME.cred ────────┐
//! tree/ ────── Tree ─ Plan ────────── build ───▶ hello.sysext.raw ─┴─ Esp::place ─ Changes::apply
//! ```
//!
//! A TPM, a signer and a vendor belong to it; [`keys`] and [`uki`] stand in for them.

mod keys;
mod report;
mod uki;

use std::fs;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rand_core::{CryptoRng, UnwrapErr};
use ukikit::Base;
use ukikit_creds::{Credential, HostIdentity, Key, LINE, PcrPolicy, Secret, Timestamp, TpmBinding};
use ukikit_esp::{Companion, Esp, Target, UkiPath};
use ukikit_sysext::{Certificate, Plan, Signer, Tree};

const HOST: &str = "web1";
const UKI: &str = "EFI/Linux/vendor.efi";
const SECRETS: [(&str, &str); 2] = [
    ("iscsi.password", "hunter2"),
    ("fstab.extra", "LABEL=root / ext4 ro 0 1\n"),
];
const FEATURE: &str = "hello";

fn main() -> Result<()> {
    let (rng, now) = (&mut UnwrapErr(getrandom::SysRng), now()?);
    let room = empty_room()?;

    // What others bring: the host its identity, the signer a key, the vendor a UKI that trusts the signer.
    let identity = carried_identity(&room, rng)?;
    let signer = keys::key_pair("CN=Main job", now, rng)?;
    let esp = esp_of_vendor(&room, signer.certificate())?;

    // The job.
    let uki: UkiPath = UKI.parse()?;
    let base = Base::of_uki(&fs::read(esp.uki(&uki)?)?)?;
    let mut companions = vec![extension(&base, &signer)?];
    for (name, secret) in SECRETS {
        companions.push(credential(name, secret, &identity, now, rng)?);
    }
    let changes = esp.place(&Target::Uki(uki.clone()), companions)?;
    changes.apply(&esp)?;

    let report = report::read_back(&esp, &uki, &changes, &identity)?;
    io::stdout().write_all(report.as_bytes())?;
    Ok(())
}

/// Since 1970. The libraries take the time as an argument.
#[expect(
    clippy::disallowed_methods,
    reason = "a program of its own reads the clock in one place"
)]
fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?)
}

/// `target/main-job`, without what an earlier run has left there.
fn empty_room() -> Result<PathBuf> {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target/main-job");
    match fs::remove_dir_all(&room) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(&room),
    }
    .with_context(|| format!("cannot empty `{}`", room.display()))?;
    Ok(room)
}

/// The identity as it arrives at a workstation: a file with nothing secret in it.
fn carried_identity(room: &Path, rng: &mut impl CryptoRng) -> Result<HostIdentity> {
    let file = room.join(HOST).with_extension("json");
    fs::write(&file, keys::identity(HOST, rng)?.to_json())?;
    Ok(HostIdentity::from_json(&fs::read(&file)?)?)
}

/// An EFI system partition with a UKI and nothing beside it.
fn esp_of_vendor(room: &Path, trusted: &Certificate) -> Result<Esp> {
    let root = room.join("esp");
    let file = root.join(UKI);
    fs::create_dir_all(file.parent().unwrap_or(&root))?;
    fs::write(&file, uki::build(trusted)?)?;
    Ok(Esp::at(&root)?)
}

/// Sealed to the storage root key of the host, named in the credential, whatever the PCRs are.
fn credential(
    name: &str,
    secret: &str,
    identity: &HostIdentity,
    now: Duration,
    rng: &mut impl CryptoRng,
) -> Result<Companion> {
    let binding = TpmBinding {
        parent: identity.parent(true)?,
        policy: PcrPolicy::default(),
    };
    let made = Timestamp::from_micros(u64::try_from(now.as_micros())?);
    let data = Secret::copied_from(secret.as_bytes());
    let credential = Credential::new(Some(name.parse()?), made, data);
    let text = credential.encrypt(&Key::Tpm(&binding), rng)?.to_text(LINE);
    Ok(Companion::new(
        format!("{name}.cred").parse()?,
        text.into(),
    )?)
}

/// The feature as an image that fits the initrd of the UKI. Its units are seen only after a reload of the manager;
/// a drop-in in the tree spares the unmerge another one, which would lose the mount of the root.
fn extension(base: &Base, signer: &dyn Signer) -> Result<Companion> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("examples/main-job/tree");
    let architecture = base
        .architecture
        .context("the UKI is for no machine we know")?;
    let mut plan = Plan::new(FEATURE.parse()?, architecture, Tree::read(&tree)?);
    plan.base = Some(base.release.clone());
    plan.release.set("EXTENSION_RELOAD_MANAGER", "1")?;

    let mut image = Cursor::new(Vec::new());
    plan.build(signer, &mut image)?;
    let name = format!("{FEATURE}.sysext.raw").parse()?;
    Ok(Companion::new(name, image.into_inner())?)
}
