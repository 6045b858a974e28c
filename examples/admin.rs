//! An administrator's program: seals for a host that is elsewhere, places it, checks the boot, predicts a PCR.
//!
//!     cargo run --example admin ESP UKI HOST.toml IDENTITY.json SECONDS

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rand_core::UnwrapErr;
use ukikit::PlannedBoot;
use ukikit::fleet::Values;
use ukikit::host::{Apply, Destination, HostFile, Plan, Sources, State, directory};
use ukikit::predict::{Moment, Prediction};
use ukikit_creds::{HostIdentity, Timestamp};
use ukikit_esp::{Bank, Esp, Start, UkiPath};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("too few arguments");
    let esp = Esp::at(next()?.as_ref())?;
    let uki: UkiPath = next()?.parse()?;
    let (file, identity_file) = (PathBuf::from(next()?), PathBuf::from(next()?));
    let now = Timestamp::from_micros(next()?.parse::<u64>()? * 1_000_000);
    let rng = &mut UnwrapErr(getrandom::SysRng);

    // What the host file makes; no secret is read yet.
    let identity = HostIdentity::from_json(&fs::read(&identity_file)?)?;
    let destination = Destination::new(&esp, uki.clone(), &identity, &identity_file, now);
    let plan = Plan::new(&HostFile::read(&file)?, &file, destination)?;

    // Sealed, and judged as the next boot will.
    let (state, values) = (State::of(&file, None), Values::new(directory(&file), None)?);
    let (known, key) = (state.record()?, state.key(rng)?);
    let sources = Sources::unattended(&values);
    let apply = Apply::new(&plan, &esp, &sources, &key, state.name(), &known);
    let applied = apply.run(rng)?;
    ensure!(
        !applied.findings.has_errors(),
        "the boot would fail: {:?}",
        applied.findings.0
    );
    state.keep(&key)?;
    applied.changes.apply(&esp)?;
    state.put(applied.record)?;

    let planned = PlannedBoot::read(&esp, uki, &[], Start::default())?;
    let prediction = Prediction::new(&planned.boot()?, &[Bank::Sha256], false);
    let pcr12 = prediction
        .value(Moment::AfterStub, Bank::Sha256, 12)
        .context("no PCR 12")?;
    writeln!(io::stdout(), "{}PCR 12 {pcr12}", applied.changes)?;
    Ok(())
}
