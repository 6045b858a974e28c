//! What the firmware measures into PCR 4 of the programs that are started (TCG PC Client Platform Firmware Profile, "PCR Usage",
//! PCR 4): each by its Authenticode hash, which does not look at signatures.
//!
//! ```text
//! action ─ separator ─ boot loader, if there is one ─ UKI ─ each addon, which the stub has the firmware load
//! ```

use anyhow::{Context, Result};
use ukikit_esp::{AddonVerdict, Bank, Boot, Hash, SignablePe};

use super::{Digests, Predicted};
use crate::PlannedBoot;

/// EV_EFI_ACTION, in front of all that the boot manager starts.
const ACTION: &[u8] = b"Calling EFI Application from Boot Option";
/// EV_SEPARATOR
const SEPARATOR: [u8; 4] = [0; 4];

/// The events of PCR 4 when `loader`, by its path and bytes, or else the firmware itself starts the UKI. `None` without the UKI.
///
/// # Errors
///
/// For a loader, UKI or addon that is no PE file.
pub fn programs(
    planned: &PlannedBoot,
    boot: &Boot<'_>,
    loader: Option<(&str, &[u8])>,
    banks: &[Bank],
) -> Result<Option<Vec<Predicted>>> {
    let Some(uki) = planned.uki() else {
        return Ok(None);
    };
    let bytes = |what: &[u8]| {
        let digests = banks.iter().map(|&bank| (bank, bank.hash(&[what])));
        digests.collect()
    };
    let mut events = vec![
        event(
            "EV_EFI_ACTION",
            "Calling EFI Application from Boot Option",
            bytes(ACTION),
            ACTION.len(),
        ),
        event(
            "EV_SEPARATOR",
            "separator",
            bytes(&SEPARATOR),
            SEPARATOR.len(),
        ),
    ];
    let uki = (planned.uki_path.as_str(), uki);
    for (path, file) in loader.into_iter().chain([uki]) {
        events.push(program(path, file, banks)?);
    }
    // What Secure Boot refuses is refused before it is measured, and what is no PE file is not loaded.
    let refused = [
        AddonVerdict::NotPe,
        AddonVerdict::Unsigned,
        AddonVerdict::Changed,
        AddonVerdict::Untrusted,
    ];
    let loaded = boot
        .addons
        .iter()
        .filter(|addon| !refused.contains(&addon.verdict));
    for addon in loaded {
        let file = planned.files.iter().find(|file| file.path == addon.path);
        if let Some(file) = file {
            events.push(program(&file.path, &file.content, banks)?);
        }
    }
    Ok(Some(events))
}

fn program(path: &str, file: &[u8], banks: &[Bank]) -> Result<Predicted> {
    let image = SignablePe::parse(file).with_context(|| format!("cannot use `{path}`"))?;
    let digests = banks.iter().map(|&bank| (bank, image.hash(bank)));
    let mut event = event(
        "EV_EFI_BOOT_SERVICES_APPLICATION",
        path,
        digests.collect(),
        file.len(),
    );
    event.files = vec![path.to_owned()];
    Ok(event)
}

fn event(
    event_type: &'static str,
    description: &str,
    digests: Vec<(Bank, Hash)>,
    size: usize,
) -> Predicted {
    Predicted {
        pcr: 4,
        event_type,
        tag: None,
        description: description.to_owned(),
        files: Vec::new(),
        size,
        digests: Digests(digests),
    }
}
