//! A packager's program: a directory becomes a signed extension for a UKI, verified as its initrd will.
//!
//!     cargo run --example packager NAME DIRECTORY UKI KEY CERTIFICATE OUTPUT

use std::fs;
use std::io::{self, Cursor, Write};

use anyhow::{Context, Result};
use ukikit::Base;
use ukikit_sysext::{
    Certificate, Certificates, Image, KeyPair, Plan, PrivateKey, Requirements, Tree,
};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("too few arguments");
    let (name, tree) = (next()?, Tree::read(next()?.as_ref())?);
    let base = Base::of_file(&fs::read(next()?)?)?;
    let key = PrivateKey::from_pem(&fs::read(next()?)?, None)?;
    let certificate = Certificate::from_pem(&fs::read(next()?)?)?;
    let output = next()?;

    let architecture = base
        .architecture
        .context("the UKI is for no machine we know")?;
    let mut plan = Plan::new(name.parse()?, architecture, tree);
    plan.base = Some(base.release.clone());
    let signer = KeyPair::new(key, certificate.clone())?;
    let mut bytes = Cursor::new(Vec::new());
    plan.build(&signer, &mut bytes)?;

    // What we cannot verify, nobody gets.
    let mut requirements = Requirements::new();
    requirements.base = Some(base.release);
    let image = Image::open(bytes.clone())?;
    let root_hash = image.verify(&Certificates::new([certificate]), &requirements)?;
    fs::write(&output, bytes.into_inner())?;
    writeln!(io::stdout(), "{output} {root_hash}")?;
    Ok(())
}
