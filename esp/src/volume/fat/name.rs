//! Names: a short one of eight and three characters for each file, a long one in entries in front of it.
//!
//! ```text
//! … | part 2, last | part 1 | short name, attributes, times, first cluster, size
//! ```

/// In bytes; what a slot of a directory takes.
pub(super) const SLOT: usize = 32;

/// Of a slot that holds a part of a long name.
pub(super) const LONG: u8 = 0x0f;
/// Of a slot that names the file system itself.
pub(super) const LABEL: u8 = 0x08;
pub(super) const DIRECTORY: u8 = 0x10;
pub(super) const ARCHIVE: u8 = 0x20;

/// UTF-16 units in a slot, and where they are.
const UNITS: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// The sum over a short name that ties a long one to it.
fn checksum(short: &[u8; 11]) -> u8 {
    let add = |sum: u8, byte: &u8| sum.rotate_right(1).wrapping_add(*byte);
    short.iter().fold(0, add)
}

/// The slots of a long name, in the order in which they lie.
pub(super) fn long_slots(name: &str, short: &[u8; 11]) -> Vec<[u8; SLOT]> {
    let mut units: Vec<u16> = name.encode_utf16().collect();
    if !units.len().is_multiple_of(UNITS.len()) {
        units.push(0);
    }
    units.resize(units.len().next_multiple_of(UNITS.len()), 0xffff);
    let parts = units.chunks(UNITS.len()).enumerate();
    let mut slots: Vec<[u8; SLOT]> = parts
        .map(|(number, part)| long_slot(number, part, short))
        .collect();
    slots.reverse();
    if let Some([first, ..]) = slots.first_mut() {
        *first |= 0x40;
    }
    slots
}

fn long_slot(number: usize, part: &[u16], short: &[u8; 11]) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = slot.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, &[u8::try_from(number + 1).unwrap_or(u8::MAX)]);
    put(11, &[LONG]);
    put(13, &[checksum(short)]);
    for (at, unit) in UNITS.into_iter().zip(part) {
        put(at, &unit.to_le_bytes());
    }
    slot
}

/// Collects the slots of a long name as they come by.
#[derive(Debug, Default)]
pub(super) struct LongName {
    units: Vec<u16>,
    /// The number of the next slot and the sum it has to have; `None` when the name is broken.
    expects: Option<(u8, u8)>,
}

impl LongName {
    pub(super) fn add(&mut self, slot: &[u8; SLOT]) {
        let [number, ..] = *slot;
        let sum = slot.get(13).copied().unwrap_or_default();
        let order = number & 0x1f;
        if number & 0x40 != 0 {
            self.units.clear();
            self.expects = Some((order, sum));
        }
        if self.expects != Some((order, sum)) || order == 0 {
            self.expects = None;
            return;
        }
        let part = UNITS.map(|at| {
            let low = slot.get(at).copied().unwrap_or_default();
            let high = slot.get(at + 1).copied().unwrap_or_default();
            u16::from_le_bytes([low, high])
        });
        drop(self.units.splice(..0, part));
        self.expects = Some((order - 1, sum));
    }

    /// The whole name, if it is one and belongs to this short one.
    pub(super) fn finish(&mut self, short: &[u8; 11]) -> Option<String> {
        let units = std::mem::take(&mut self.units);
        let whole = self.expects.take() == Some((0, checksum(short)));
        let text = units.split(|unit| *unit == 0).next().unwrap_or_default();
        (whole && !text.is_empty()).then(|| String::from_utf16_lossy(text))
    }
}

/// A short name as text; `case` has a bit for each half that is to be in lower case.
pub(super) fn short_text(short: &[u8; 11], case: u8) -> String {
    let (base, extension) = short.split_at(8);
    let half = |bytes: &[u8], lower: bool| {
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let text = text.trim_end_matches(' ').to_owned();
        if lower {
            text.to_ascii_lowercase()
        } else {
            text
        }
    };
    // A name that begins with the mark of a deleted one is written with another byte.
    let mut text = half(base, case & 0x08 != 0).replacen('\u{5}', "\u{e5}", 1);
    let extension = half(extension, case & 0x10 != 0);
    if !extension.is_empty() {
        text = format!("{text}.{extension}");
    }
    text
}

/// The name as a short one, if it is one as it stands.
pub(super) fn as_short(name: &str) -> Option<[u8; 11]> {
    let short = padded(name);
    let one_dot = !name.starts_with('.') && name.matches('.').count() < 2;
    let same = short_text(&short, 0) == name && name.bytes().all(is_short);
    (one_dot && same).then_some(short)
}

/// The short name that stands for a long one: the first of its kind that is not taken.
pub(super) fn alias(name: &str, taken: impl Fn(&[u8; 11]) -> bool) -> Option<[u8; 11]> {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let kept = |text: &str| -> String {
        let upper = text.to_ascii_uppercase();
        upper
            .chars()
            .filter(|&char| char != '.' && u8::try_from(char).is_ok_and(is_short))
            .collect()
    };
    let (base, mut extension) = (kept(base), kept(extension));
    extension.truncate(3);
    (1..1_000_000).find_map(|number| {
        let tail = format!("~{number}");
        let head: String = base.chars().take(8 - tail.len()).collect();
        let short = padded(&format!("{head}{tail}.{extension}"));
        (!taken(&short)).then_some(short)
    })
}

fn padded(name: &str) -> [u8; 11] {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let mut short = [b' '; 11];
    let (left, right) = short.split_at_mut(8);
    for (half, text) in [(left, base), (right, extension)] {
        half.iter_mut()
            .zip(text.bytes())
            .for_each(|(to, from)| *to = from);
    }
    short
}

fn is_short(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"$%'-_@~`!(){}^#&.".contains(&byte)
}
