//! An agent's program: metadata in a directory becomes credentials sealed to this machine's TPM, once.
//!
//!     cargo run --example first-boot DIRECTORY ESP UKI TPM STATE SECONDS

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rand_core::UnwrapErr;
use ukikit::first_boot::{
    Configuration, Decision, Facts, Machine, Record, Source, Unsigned, decide,
};
use ukikit::host::{Apply, Destination, Plan, Sources, State};
use ukikit_creds::tpm::{self, Tpm};
use ukikit_creds::{HostIdentity, Timestamp};
use ukikit_esp::Esp;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("too few arguments");
    let source = Source::Path(next()?.into());
    let (esp, uki, device) = (Esp::at(next()?.as_ref())?, next()?.parse()?, next()?);
    let directory = PathBuf::from(next()?);
    let now = Timestamp::from_micros(next()?.parse::<u64>()? * 1_000_000);
    let rng = &mut UnwrapErr(getrandom::SysRng);

    // Whether it counts.
    let metadata = source.read(Path::new("/"))?.context("no metadata")?;
    let (instance, applied) = (metadata.instance()?, Record::read(&directory)?);
    let facts = Facts {
        origin: metadata.origin,
        machine: Machine::BareMetal,
        signed: false,
        instance: &instance,
        applied: applied.as_ref().map(|record| &*record.instance),
    };
    match decide(&facts, Unsigned::Once) {
        Decision::Apply => {}
        Decision::Nothing(reason) => return Ok(writeln!(io::stdout(), "{reason}")?),
        Decision::Refuse(reason) => bail!(reason),
    }
    // What it says, sealed and placed as one change.
    let configuration = Configuration::of(&metadata)?;
    let mut transport = tpm::open(&device)?;
    let identity = HostIdentity::of_tpm(&mut Tpm::new(&mut *transport, &mut rng.clone()))?;
    let label = Path::new("agent");
    let destination = Destination::new(&esp, uki, &identity, Path::new("the TPM"), now);
    let plan = Plan::new(&configuration.host, label, destination)?;
    let (state, values) = (State::of(label, Some(&directory)), configuration.values()?);
    let (known, key) = (state.record()?, state.key(rng)?);
    let sources = Sources::unattended(&values);
    let apply = Apply::new(&plan, &esp, &sources, &key, state.name(), &known);
    let applied = apply.run(rng)?;
    state.keep(&key)?;
    applied.changes.apply(&esp)?;
    state.put(applied.record)?;
    Record::new(instance, metadata.origin, None).put(&directory)?;
    Ok(write!(io::stdout(), "{}", applied.changes)?)
}
