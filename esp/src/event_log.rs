//! The firmware's event log in its crypto agile form (TCG PC Client Platform Firmware Profile, section
//! "Event Logging"), as the kernel shows it in `binary_bios_measurements`. Integers are little endian.
//!
//! ```text
//! header   PCR u32 | type u32 | SHA-1 [20] | size u32 | "Spec ID Event03\0" … count u32, count × (hash u16, size u16) …
//! event    PCR u32 | type u32 | count u32 | count × (hash u16, digest) | size u32 | event
//! ```

use crate::measure::{Bank, Hash};
use crate::{Event, FormatError};

/// An event log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EventLog {
    /// Its events behind the header, in their order.
    pub events: Vec<Logged>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Logged {
    /// The PCR that was extended.
    pub pcr: u32,
    /// The TCG's number of the type of event.
    pub event_type: u32,
    /// What was measured, by bank; banks nobody here knows are left out.
    pub digests: Vec<(Bank, Hash)>,
    /// The data of the event, which is not what was measured.
    pub data: Vec<u8>,
}

/// EV_NO_ACTION: says something, extends nothing.
const NO_ACTION: u32 = 3;
/// EV_EVENT_TAG
const TAG: u32 = 6;
/// EV_IPL
const IPL: u32 = 0xd;

impl EventLog {
    /// Reads a log whole. One that goes on with zeros, as firmware buffers do, ends there.
    ///
    /// # Errors
    ///
    /// Where the bytes are no such log, or cut off.
    pub fn parse(file: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader { file, at: 0 };
        let sizes = header(&mut reader)?;
        let mut log = Self::default();
        while reader.rest().iter().any(|&byte| byte != 0) {
            log.events.push(event(&mut reader, &sizes)?);
        }
        Ok(log)
    }

    /// The events that extended this PCR.
    pub fn of(&self, pcr: u32) -> impl Iterator<Item = &Logged> {
        self.events
            .iter()
            .filter(move |event| event.pcr == pcr && event.event_type != NO_ACTION)
    }

    /// The banks every event has, the strongest in use by systemd first.
    pub fn banks(&self) -> Vec<Bank> {
        let order = [Bank::Sha256, Bank::Sha384, Bank::Sha512, Bank::Sha1];
        let everywhere = |bank: &Bank| {
            let mut acting = self.events.iter().filter(|e| e.event_type != NO_ACTION);
            acting.all(|event| event.digest(*bank).is_some())
        };
        order.into_iter().filter(everywhere).collect()
    }

    /// What the PCR held after all events.
    pub fn value(&self, pcr: u32, bank: Bank) -> Hash {
        let digests = self.of(pcr).filter_map(|event| event.digest(bank));
        digests.fold(bank.zero(), |value, digest| value.extended(bank, digest))
    }
}

impl Logged {
    /// What was measured, in this bank.
    pub fn digest(&self, bank: Bank) -> Option<&Hash> {
        let (_, digest) = self.digests.iter().find(|(known, _)| *known == bank)?;
        Some(digest)
    }

    /// The description in an event of the boot loader or the stub, `None` in others.
    pub fn description(&self) -> Option<String> {
        let (_, text) = self.parts()?;
        let (units, _) = text.as_chunks::<2>();
        let units: Vec<u16> = units.iter().map(|&unit| u16::from_le_bytes(unit)).collect();
        let text = String::from_utf16_lossy(&units);
        Some(text.trim_end_matches('\0').to_owned())
    }

    /// How the boot loader or the stub named it.
    pub fn event(&self) -> Option<Event> {
        self.parts().map(|(event, _)| event)
    }

    fn parts(&self) -> Option<(Event, &[u8])> {
        match self.event_type {
            IPL => Some((Event::Ipl, &self.data)),
            TAG => {
                let (tag, rest) = self.data.split_first_chunk()?;
                let (size, rest) = rest.split_first_chunk()?;
                let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
                Some((Event::Tag(u32::from_le_bytes(*tag)), rest.get(..size)?))
            }
            _ => None,
        }
    }
}

/// Bytes and how far they are read.
struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.file.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], FormatError> {
        let taken = self.rest().get(..size);
        let taken = taken.ok_or_else(|| self.fault("the event log is cut off"))?;
        self.at += size;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let bytes = self.take(N)?;
        bytes
            .try_into()
            .map_err(|_| self.fault("the event log is cut off"))
    }

    fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A size in bytes, then as many.
    fn sized(&mut self) -> Result<&'a [u8], FormatError> {
        let size = self.u32()?;
        self.take(usize::try_from(size).unwrap_or(usize::MAX))
    }

    fn fault(&self, what: &str) -> FormatError {
        FormatError::new(u64::try_from(self.at).unwrap_or(u64::MAX), what)
    }
}

/// The size of a digest by the number of its hash.
type Sizes = Vec<(u16, usize)>;

fn header(reader: &mut Reader<'_>) -> Result<Sizes, FormatError> {
    const SIGNATURE: &[u8] = b"Spec ID Event03\0";
    let not_a_log = FormatError::new(
        0_u64,
        "this is not an event log of the TCG's crypto agile form",
    );
    let (pcr, kind) = (reader.u32(), reader.u32());
    if (pcr, kind) != (Ok(0), Ok(NO_ACTION)) {
        return Err(not_a_log);
    }
    reader.take(20)?;
    let start = reader.at + 4;
    let mut specification = Reader {
        file: reader.sized()?,
        at: 0,
    };
    if specification.take(SIGNATURE.len()) != Ok(SIGNATURE) {
        return Err(not_a_log);
    }
    // Platform class, version and the size of a pointer.
    let inside = |error: FormatError| FormatError::new(start as u64 + error.offset, error.what);
    specification.take(8).map_err(inside)?;
    let count = specification.u32().map_err(inside)?;
    let mut sizes = Sizes::new();
    for _ in 0..count {
        let id = specification.u16().map_err(inside)?;
        let size = specification.u16().map_err(inside)?;
        sizes.push((id, size.into()));
    }
    Ok(sizes)
}

fn event(reader: &mut Reader<'_>, sizes: &Sizes) -> Result<Logged, FormatError> {
    let (pcr, event_type, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let mut digests = Vec::new();
    for _ in 0..count {
        let unknown = reader.fault("the event has a hash that the head of the log does not list");
        let id = reader.u16()?;
        let size = sizes.iter().find(|(known, _)| *known == id);
        let digest = reader.take(size.ok_or(unknown)?.1)?;
        if let Some(bank) = Bank::from_id(id) {
            digests.push((bank, Hash::from_bytes(digest)));
        }
    }
    let data = reader.sized()?.to_vec();
    Ok(Logged {
        pcr,
        event_type,
        digests,
        data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    /// A log with a SHA-256 bank and these events: PCR, type, data; what was measured is the data.
    pub(crate) fn log(events: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let mut file = Vec::new();
        let word = |file: &mut Vec<u8>, word: u32| file.extend(word.to_le_bytes());
        word(&mut file, 0);
        word(&mut file, NO_ACTION);
        file.extend([0; 20]);
        word(&mut file, 33);
        file.extend(b"Spec ID Event03\0");
        file.extend([0, 0, 0, 0, 0, 2, 0, 2]);
        word(&mut file, 1);
        file.extend([0x0b, 0, 32, 0, 0]);
        for (pcr, kind, data) in events {
            word(&mut file, *pcr);
            word(&mut file, *kind);
            word(&mut file, 1);
            file.extend([0x0b, 0]);
            file.extend(Bank::Sha256.hash(&[data]).as_bytes());
            word(&mut file, u32::try_from(data.len()).unwrap());
            file.extend(*data);
        }
        file
    }

    #[test]
    fn reads_events_and_replays_them() {
        let tagged = b"\xdb\xd6\xae\x13\x04\0\0\x001\0\0\0";
        let mut file = log(&[
            (0, NO_ACTION, b"StartupLocality\0\0"),
            (12, IPL, b"a\0b\0\0\0"),
            (12, TAG, tagged),
            (4, 0x8000_0003, b"x"),
        ]);
        file.extend([0; 64]);
        let log = EventLog::parse(&file).unwrap();
        assert_eq!(log.events.len(), 4);
        assert_eq!(log.banks(), [Bank::Sha256]);
        let of_12: Vec<_> = log
            .of(12)
            .map(|event| (event.event(), event.description()))
            .collect();
        let tag = Event::Tag(0x13ae_d6db);
        assert_eq!(
            of_12,
            [
                (Some(Event::Ipl), Some("ab".into())),
                (Some(tag), Some("1".into()))
            ]
        );
        assert_eq!(log.of(0).count(), 0);
        assert_eq!(log.events[3].description(), None);
        let bank = Bank::Sha256;
        let expected = bank
            .zero()
            .extended(bank, &bank.hash(&[b"a\0b\0\0\0"]))
            .extended(bank, &bank.hash(&[tagged]));
        assert_eq!(log.value(12, bank), expected);
    }

    #[test]
    fn says_where_a_log_is_damaged() {
        let good = log(&[(12, IPL, b"a\0\0\0")]);
        let mut unlisted = good.clone();
        unlisted[65 + 12] = 4;
        for (file, expected) in [
            (
                &b""[..],
                "at byte 0: this is not an event log of the TCG's crypto agile form",
            ),
            (
                &[0; 100],
                "at byte 0: this is not an event log of the TCG's crypto agile form",
            ),
            (
                &good[..good.len() - 1],
                "at byte 115: the event log is cut off",
            ),
            (&good[..50], "at byte 32: the event log is cut off"),
            (
                &unlisted,
                "at byte 77: the event has a hash that the head of the log does not list",
            ),
        ] {
            assert_eq!(EventLog::parse(file).unwrap_err().to_string(), expected);
        }
    }

    proptest! {
        /// Any bytes, and any damage to a good log, are read or refused.
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..120, byte: u8) {
            let _ = EventLog::parse(&bytes);
            let mut file = log(&[(12, IPL, b"a\0\0\0"), (13, TAG, b"short")]);
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
            if let Ok(log) = EventLog::parse(&file) {
                for event in &log.events {
                    let _ = event.description();
                }
            }
            let _ = EventLog::parse(&file[..at.min(file.len())]);
        }
    }
}
