//! The table: which cluster follows which, and which are free.
//!
//! A chain is written from its end: what a power cut leaves of one is clusters without an owner. The copies of the
//! table are written one behind the other.

use std::io;

use super::geometry::Width;
use super::{Inner, State, damaged};

/// What follows a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Free,
    Cluster(u32),
    End,
}

impl Inner {
    pub(super) fn next(&self, cluster: u32) -> io::Result<Next> {
        if !self.geometry.has(cluster) {
            return Err(damaged("a chain of clusters leads outside"));
        }
        let value = self.entry(cluster)?;
        Ok(match value {
            0 => Next::Free,
            value if value >= self.last_of_chain() => Next::End,
            value => Next::Cluster(value),
        })
    }

    /// The clusters of a chain; an error if it does not end.
    pub(super) fn chain(&self, first: u32) -> io::Result<Vec<u32>> {
        let mut chain = vec![first];
        let mut at = first;
        loop {
            match self.next(at)? {
                Next::Cluster(next)
                    if chain.len() < usize::try_from(self.geometry.clusters).unwrap_or(0) =>
                {
                    chain.push(next);
                    at = next;
                }
                Next::End => return Ok(chain),
                Next::Cluster(_) => return Err(damaged("a chain of clusters has no end")),
                Next::Free => return Err(damaged("a chain of clusters leads to a free one")),
            }
        }
    }

    /// Takes the first free cluster, as the end of a chain.
    pub(super) fn allocate(&self, state: &mut State) -> io::Result<u32> {
        let end = self.geometry.clusters.saturating_add(2);
        for cluster in state.first_free..end {
            if self.entry(cluster)? == 0 {
                self.set(state, cluster, self.end_of_chain())?;
                state.first_free = cluster + 1;
                state.free = state.free.map(|free| free.saturating_sub(1));
                return Ok(cluster);
            }
        }
        state.first_free = end;
        Err(io::ErrorKind::StorageFull.into())
    }

    /// Appends one cluster to another.
    pub(super) fn link(&self, state: &mut State, cluster: u32, next: u32) -> io::Result<()> {
        self.set(state, cluster, next)
    }

    /// Gives a whole chain back.
    pub(super) fn release(&self, state: &mut State, first: u32) -> io::Result<()> {
        if first == 0 {
            return Ok(());
        }
        for cluster in self.chain(first)? {
            self.set(state, cluster, 0)?;
            state.first_free = state.first_free.min(cluster);
            state.free = state.free.map(|free| free + 1);
        }
        Ok(())
    }

    pub(super) fn free_clusters(&self, state: &mut State) -> io::Result<u32> {
        if let Some(free) = state.free {
            return Ok(free);
        }
        let mut free = 0;
        for cluster in 2..self.geometry.clusters.saturating_add(2) {
            free += u32::from(self.entry(cluster)? == 0);
        }
        state.free = Some(free);
        Ok(free)
    }

    fn end_of_chain(&self) -> u32 {
        self.last_of_chain() | 7
    }

    /// This and more ends a chain.
    fn last_of_chain(&self) -> u32 {
        match self.geometry.width {
            Width::Twelve => 0xff8,
            Width::Sixteen => 0xfff8,
            Width::ThirtyTwo => 0x0fff_fff8,
        }
    }

    /// Where the entry is, in the first table, and how many bytes it touches.
    fn span(&self, cluster: u32) -> (u64, usize) {
        let cluster = u64::from(cluster);
        match self.geometry.width {
            Width::Twelve => (cluster + cluster / 2, 2),
            Width::Sixteen => (cluster * 2, 2),
            Width::ThirtyTwo => (cluster * 4, 4),
        }
    }

    fn entry(&self, cluster: u32) -> io::Result<u32> {
        let (at, size) = self.span(cluster);
        let bytes = self.cached(self.geometry.table + at, size)?;
        let value = u32::from_le_bytes(bytes);
        Ok(match self.geometry.width {
            Width::Twelve if cluster.is_multiple_of(2) => value & 0xfff,
            Width::Twelve => value >> 4,
            Width::Sixteen => value,
            // The highest four bits belong to nobody.
            Width::ThirtyTwo => value & 0x0fff_ffff,
        })
    }

    fn set(&self, state: &mut State, cluster: u32, value: u32) -> io::Result<()> {
        let (at, size) = self.span(cluster);
        let old = u32::from_le_bytes(self.cached(self.geometry.table + at, size)?);
        let new = match self.geometry.width {
            Width::Twelve if cluster.is_multiple_of(2) => old & 0xf000 | value & 0xfff,
            Width::Twelve => old & 0xf | (value & 0xfff) << 4,
            Width::Sixteen => value,
            Width::ThirtyTwo => old & 0xf000_0000 | value,
        };
        let bytes = new.to_le_bytes();
        let bytes = bytes.get(..size).unwrap_or_default();
        for table in 0..self.geometry.tables {
            let place = self.geometry.table + table * self.geometry.table_size + at;
            self.patch(state, place, bytes)?;
        }
        Ok(())
    }
}
