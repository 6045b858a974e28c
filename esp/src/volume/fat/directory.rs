//! Directories: slots of 32 bytes, some of which make an entry.
//!
//! An entry is put where it lies in one sector, if it is not longer than one, so that it appears, changes and goes by
//! one write.

use std::io;
use std::ops::Range;

use super::name::{
    ARCHIVE, DIRECTORY, LABEL, LONG, LongName, SLOT, alias, as_short, long_slots, short_text,
};
use super::{Inner, State, damaged};

/// The first byte of a slot nobody uses.
const DELETED: u8 = 0xe5;
/// The first byte of a slot behind which there are no more.
const END: u8 = 0;
/// In slots; what a directory can have.
const MOST_SLOTS: usize = 65_536;
/// 1980-01-01, the first day FAT knows: the same change gives the same bytes.
const DATE: [u8; 2] = [0x21, 0];

/// Something with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    short: [u8; 11],
    attributes: u8,
    /// The first of its clusters, 0 if there is none.
    pub(super) cluster: u32,
    /// In bytes; 0 for a directory.
    pub(super) size: u32,
    slots: Range<usize>,
}

impl Entry {
    pub(super) fn is_directory(&self) -> bool {
        self.attributes & DIRECTORY != 0
    }
}

/// A directory, read.
#[derive(Debug)]
pub(super) struct Directory {
    /// The first of its clusters, 0 for the root where that has none.
    pub(super) cluster: u32,
    bytes: Vec<u8>,
    /// Where each piece of it lies, all of one size.
    pieces: Vec<u64>,
    piece: usize,
}

/// The entries in the slots of a directory, without those for itself and the one it lies in.
pub(super) fn entries(bytes: &[u8]) -> Vec<Entry> {
    let (slots, _) = bytes.as_chunks::<SLOT>();
    let mut found = Vec::new();
    let mut long = LongName::default();
    let mut first = 0;
    for (number, slot) in slots.iter().enumerate() {
        match kind(slot) {
            Slot::End => break,
            Slot::Part => {
                if slot.first().is_some_and(|order| order & 0x40 != 0) {
                    first = number;
                }
                long.add(slot);
            }
            Slot::Free | Slot::Label => long = LongName::default(),
            Slot::Short => {
                found.push(entry(slot, &mut long, first, number));
            }
        }
    }
    found.retain(|entry: &Entry| !entry.short.starts_with(b".") && !entry.name.contains('/'));
    found
}

enum Slot {
    End,
    Free,
    Part,
    Label,
    Short,
}

fn kind(slot: &[u8; SLOT]) -> Slot {
    let [first, ..] = *slot;
    match (first, attributes(slot)) {
        (END, _) => Slot::End,
        (DELETED, _) => Slot::Free,
        (_, attributes) if attributes & 0x3f == LONG => Slot::Part,
        (_, attributes) if attributes & LABEL != 0 => Slot::Label,
        _ => Slot::Short,
    }
}

fn attributes(slot: &[u8; SLOT]) -> u8 {
    slot.get(11).copied().unwrap_or_default()
}

fn entry(slot: &[u8; SLOT], long: &mut LongName, first: usize, number: usize) -> Entry {
    let field = |at: usize, size: usize| -> u32 {
        let bytes = slot.get(at..at + size).unwrap_or_default();
        bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u32::from(*byte))
    };
    let mut short = [b' '; 11];
    short
        .iter_mut()
        .zip(slot)
        .for_each(|(to, from)| *to = *from);
    let (name, slots) = match long.finish(&short) {
        Some(name) => (name, first..number + 1),
        None => {
            let case = u8::try_from(field(12, 1)).unwrap_or_default();
            (short_text(&short, case), number..number + 1)
        }
    };
    let attributes = attributes(slot);
    Entry {
        name,
        short,
        attributes,
        cluster: field(20, 2) << 16 | field(26, 2),
        size: if attributes & DIRECTORY == 0 {
            field(28, 4)
        } else {
            0
        },
        slots,
    }
}

impl Inner {
    /// The root directory.
    pub(super) fn root(&self) -> io::Result<Directory> {
        self.directory(self.geometry.root_cluster)
    }

    /// The directory that begins in this cluster.
    pub(super) fn directory(&self, cluster: u32) -> io::Result<Directory> {
        let geometry = &self.geometry;
        let (pieces, piece) = if cluster == 0 && geometry.root_cluster == 0 {
            let sectors = geometry.root_size / geometry.sector;
            let sectors = (0..sectors).map(|number| geometry.root + number * geometry.sector);
            (sectors.collect(), geometry.sector)
        } else {
            let chain = self.chain(if cluster == 0 {
                geometry.root_cluster
            } else {
                cluster
            })?;
            let places = chain.into_iter().map(|cluster| geometry.place(cluster));
            (places.collect::<Vec<u64>>(), geometry.cluster)
        };
        let piece = usize::try_from(piece).map_err(|_| damaged("its clusters are too large"))?;
        if pieces.len().saturating_mul(piece) > MOST_SLOTS * SLOT {
            return Err(damaged("a directory is larger than one can be"));
        }
        let mut bytes = vec![0; pieces.len() * piece];
        for (place, into) in pieces.iter().zip(bytes.chunks_mut(piece)) {
            self.blocks.read_at(*place, into)?;
        }
        Ok(Directory {
            cluster,
            bytes,
            pieces,
            piece,
        })
    }

    /// Writes a new entry into a directory: a free place is found before anything is written.
    pub(super) fn insert(&self, state: &mut State, place: &NewEntry) -> io::Result<()> {
        let slots = place.slots.concat();
        let at = place.at;
        for before in place.skipped.clone() {
            let place = place.directory.place_of(before)?;
            self.patch(state, place, &[DELETED])?;
        }
        if let Some(behind) = place.behind {
            self.patch(state, place.directory.place_of(behind)?, &[END])?;
        }
        // Where the entry does not fit in one sector, the slot that counts comes last.
        self.write_slots(state, &place.directory, at, &slots)
    }

    fn write_slots(
        &self,
        state: &mut State,
        directory: &Directory,
        at: usize,
        slots: &[u8],
    ) -> io::Result<()> {
        let per_sector = usize::try_from(self.geometry.sector).unwrap_or(512) / SLOT;
        let mut at = at;
        let mut rest = slots;
        while !rest.is_empty() {
            let room = (per_sector - at % per_sector) * SLOT;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.patch(state, directory.place_of(at)?, now)?;
            at += now.len() / SLOT;
            rest = later;
        }
        Ok(())
    }

    /// Makes room for an entry, so that writing it can no longer fail for want of it.
    pub(super) fn make_room(
        &self,
        state: &mut State,
        directory: Directory,
        name: &str,
        content: &Content,
    ) -> io::Result<NewEntry> {
        let known = entries(&directory.bytes);
        let taken = |short: &[u8; 11]| known.iter().any(|entry| entry.short == *short);
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let (short, mut slots) = match as_short(name).filter(|short| !taken(short)) {
            Some(short) => (short, Vec::new()),
            None => {
                let short = alias(name, taken).ok_or_else(full)?;
                (short, long_slots(name, &short))
            }
        };
        slots.push(content.slot(&short));
        let sector = usize::try_from(self.geometry.sector).unwrap_or(512);
        let mut directory = directory;
        loop {
            if let Some((skipped, at)) = directory.free_run(slots.len(), sector / SLOT) {
                let behind = directory.garbage(at + slots.len());
                return Ok(NewEntry {
                    directory,
                    slots,
                    skipped,
                    at,
                    behind,
                });
            }
            directory = self.extend(state, &directory)?;
        }
    }

    /// Another cluster for a directory.
    fn extend(&self, state: &mut State, directory: &Directory) -> io::Result<Directory> {
        let first = match directory.cluster {
            0 => self.geometry.root_cluster,
            cluster => cluster,
        };
        if first == 0 || directory.bytes.len() + directory.piece > MOST_SLOTS * SLOT {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let chain = self.chain(first)?;
        let cluster = self.allocate(state)?;
        self.patch(
            state,
            self.geometry.place(cluster),
            &vec![0; directory.piece],
        )?;
        if let Some(last) = chain.last() {
            self.link(state, *last, cluster)?;
        }
        self.directory(directory.cluster)
    }

    /// Takes a name away: the slot that counts first.
    pub(super) fn erase(
        &self,
        state: &mut State,
        directory: &Directory,
        entry: &Entry,
    ) -> io::Result<()> {
        let per_sector = usize::try_from(self.geometry.sector).unwrap_or(512) / SLOT;
        let mut sectors: Vec<Vec<usize>> = Vec::new();
        for slot in entry.slots.clone() {
            match sectors.last_mut() {
                Some(sector) if slot % per_sector != 0 => sector.push(slot),
                _ => sectors.push(vec![slot]),
            }
        }
        for sector in sectors.into_iter().rev() {
            let (Some(first), Some(last)) = (sector.first(), sector.last()) else {
                continue;
            };
            let bytes = directory.bytes.get(first * SLOT..(last + 1) * SLOT);
            let mut bytes = bytes.unwrap_or_default().to_vec();
            bytes
                .chunks_mut(SLOT)
                .filter_map(<[u8]>::first_mut)
                .for_each(|byte| *byte = DELETED);
            self.patch(state, directory.place_of(*first)?, &bytes)?;
        }
        Ok(())
    }

    /// Gives a name other content, by one write.
    pub(super) fn redirect(
        &self,
        state: &mut State,
        directory: &Directory,
        entry: &Entry,
        content: &Content,
    ) -> io::Result<()> {
        let number = entry.slots.end.saturating_sub(1);
        let mut slot = content.slot(&entry.short);
        // What a name is spelt like stays.
        let case = directory.bytes.get(number * SLOT + 12).copied();
        if let (Some(to), Some(case)) = (slot.get_mut(12), case) {
            *to = case;
        }
        self.patch(state, directory.place_of(number)?, &slot)
    }
}

/// A place for an entry, and what it will be.
#[derive(Debug)]
pub(super) struct NewEntry {
    directory: Directory,
    slots: Vec<[u8; SLOT]>,
    /// Slots in front of it that are left out, and have to be marked as free.
    skipped: Range<usize>,
    at: usize,
    /// The slot behind it, if it has to end the directory and does not.
    behind: Option<usize>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    pub(super) directory: bool,
    pub(super) cluster: u32,
    pub(super) size: u32,
}

impl Content {
    fn slot(&self, short: &[u8; 11]) -> [u8; SLOT] {
        let [low, high] = [self.cluster & 0xffff, self.cluster >> 16].map(u32::to_le_bytes);
        let attributes = if self.directory { DIRECTORY } else { ARCHIVE };
        let mut slot = [0; SLOT];
        let fields: [(usize, &[u8]); 9] = [
            (0, short),
            (11, &[attributes]),
            (16, &DATE),
            (18, &DATE),
            (20, high.get(..2).unwrap_or_default()),
            (24, &DATE),
            (26, low.get(..2).unwrap_or_default()),
            (28, &self.size.to_le_bytes()),
            (12, &[0]),
        ];
        for (at, bytes) in fields {
            let place = slot.iter_mut().skip(at);
            place.zip(bytes).for_each(|(to, from)| *to = *from);
        }
        slot
    }

    /// What a new directory holds: itself and the one it lies in.
    pub(super) fn first_slots(cluster: u32, parent: u32) -> Vec<u8> {
        let dots = [(b".          ", cluster), (b"..         ", parent)];
        let slots = dots.map(|(short, cluster)| {
            let directory = Self {
                directory: true,
                cluster,
                size: 0,
            };
            directory.slot(short)
        });
        slots.concat()
    }
}

impl Directory {
    pub(super) fn entries(&self) -> Vec<Entry> {
        entries(&self.bytes)
    }

    /// The entry of this name, spelt so or in another case.
    pub(super) fn find(&self, name: &str) -> Option<Entry> {
        let entries = self.entries();
        let exact = entries.iter().find(|entry| entry.name == name);
        let alike = || {
            entries
                .iter()
                .find(|entry| entry.name.eq_ignore_ascii_case(name))
        };
        exact.or_else(alike).cloned()
    }

    fn place_of(&self, slot: usize) -> io::Result<u64> {
        let at = slot * SLOT;
        let piece = self.pieces.get(at / self.piece);
        let inside = u64::try_from(at % self.piece).unwrap_or_default();
        piece
            .map(|piece| piece + inside)
            .ok_or_else(|| damaged("a directory is shorter than its entries"))
    }

    /// Where the directory ends.
    fn end(&self) -> usize {
        let (slots, _) = self.bytes.as_chunks::<SLOT>();
        let end = slots
            .iter()
            .position(|slot| matches!(kind(slot), Slot::End));
        end.unwrap_or(slots.len())
    }

    /// What lies behind the end means nothing, unless the end moves in front of it.
    fn garbage(&self, slot: usize) -> Option<usize> {
        let byte = self.bytes.get(slot * SLOT)?;
        (slot > self.end() && *byte != END).then_some(slot)
    }

    /// So many free slots, in one sector if they fit there; and those in front that stay free but no longer end the directory.
    fn free_run(&self, count: usize, per_sector: usize) -> Option<(Range<usize>, usize)> {
        let (slots, _) = self.bytes.as_chunks::<SLOT>();
        let end = self.end();
        let is_free = |slot: &[u8; SLOT]| matches!(kind(slot), Slot::Free | Slot::End);
        let fits = |at: &usize| {
            let last = at + count - 1;
            let in_one = at / per_sector == last / per_sector || count > per_sector;
            let free = |number: usize| number >= end || slots.get(number).is_some_and(is_free);
            in_one && (*at..=last).all(free)
        };
        let at = (0..(slots.len() + 1).saturating_sub(count)).find(fits)?;
        Some((end.min(at)..at, at))
    }
}
