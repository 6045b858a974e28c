//! What the firmware measures into PCR 7: the variables of Secure Boot, and the certificates that what was started is signed with
//! (TCG PC Client Platform Firmware Profile, "PCR Usage", PCR 7). The files of the ESP do not tell, the log of a boot does.

use anyhow::{Context, Result};
use ukikit_esp::{Bank, EventLog, Logged};

use super::{Digests, Predicted};

/// The TCG's types of the events that go there, and their names.
const TYPES: [(u32, &str); 5] = [
    (0x4, "EV_SEPARATOR"),
    (0x8000_0001, "EV_EFI_VARIABLE_DRIVER_CONFIG"),
    (0x8000_0002, "EV_EFI_VARIABLE_BOOT"),
    (0x8000_0007, "EV_EFI_ACTION"),
    (0x8000_00e0, "EV_EFI_VARIABLE_AUTHORITY"),
];

/// The events of PCR 7 in the log of a boot. They come again as long as the variables are the same and everything that is started,
/// addons too, is signed by whom it was signed by then.
///
/// # Errors
///
/// For a bank that the log does not have.
pub fn secure_boot(log: &EventLog, banks: &[Bank]) -> Result<Vec<Predicted>> {
    log.of(7).map(|logged| event(logged, banks)).collect()
}

fn event(logged: &Logged, banks: &[Bank]) -> Result<Predicted> {
    let digest = |&bank: &Bank| {
        let digest = logged.digest(bank);
        let digest = digest.with_context(|| format!("the event log has no bank {bank}"))?;
        Ok((bank, digest.clone()))
    };
    let digests: Result<_> = banks.iter().map(digest).collect();
    let known = TYPES
        .iter()
        .find(|(number, _)| *number == logged.event_type);
    Ok(Predicted {
        pcr: 7,
        event_type: known.map_or("other", |(_, name)| name),
        tag: None,
        description: variable(&logged.data).unwrap_or_default(),
        files: Vec::new(),
        size: logged.data.len(),
        digests: Digests(digests?),
    })
}

/// The name of the variable in `UEFI_VARIABLE_DATA`: a GUID, the sizes of name and content, the name in UTF-16. `None` in other data.
fn variable(data: &[u8]) -> Option<String> {
    let rest = data.get(16..)?;
    let (length, rest) = rest.split_first_chunk()?;
    let (size, rest) = rest.split_first_chunk()?;
    let [length, size] =
        [length, size].map(|bytes: &[u8; 8]| usize::try_from(u64::from_le_bytes(*bytes)).ok());
    let name = rest.get(..length?.checked_mul(2)?)?;
    let whole = name.len().checked_add(size?)?;
    let (units, _) = name.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|&unit| u16::from_le_bytes(unit)).collect();
    (rest.len() == whole).then(|| String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_called_by_its_name() {
        let mut data = vec![0; 16];
        data.extend(2_u64.to_le_bytes());
        data.extend(3_u64.to_le_bytes());
        data.extend([b'P', 0, b'K', 0]);
        data.extend([1, 2, 3]);
        assert_eq!(variable(&data).as_deref(), Some("PK"));
        assert_eq!(variable(&data[..data.len() - 1]), None);
        assert_eq!(variable(&[0; 4]), None);
        data[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(variable(&data), None);
    }
}
