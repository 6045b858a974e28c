//! Where the parts of a FAT file system lie: its first sector (Microsoft's "FAT: General Overview of On-Disk Format",
//! version 1.03; UEFI 2.10, section 13.3).
//!
//! ```text
//! boot sector, reserved | FAT, once or more | root directory (FAT12, FAT16) | clusters, numbered from 2
//! ```

use std::io;

use super::damaged;

/// How wide the entries of the table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Twelve,
    Sixteen,
    ThirtyTwo,
}

/// Sizes and places, in bytes from the beginning of the file system.
#[derive(Debug, Clone)]
pub(super) struct Geometry {
    pub(super) width: Width,
    /// What is written at once.
    pub(super) sector: u64,
    pub(super) cluster: u64,
    /// The first table.
    pub(super) table: u64,
    pub(super) table_size: u64,
    pub(super) tables: u64,
    /// The root directory, where it is not a chain of clusters.
    pub(super) root: u64,
    pub(super) root_size: u64,
    /// The root directory, where it is one.
    pub(super) root_cluster: u32,
    /// Cluster number 2.
    pub(super) data: u64,
    /// How many clusters there are.
    pub(super) clusters: u32,
    /// The sector that counts the free clusters; 0 if there is none.
    pub(super) summary: u64,
    /// The byte of the boot sector whose first bit says that the file system is in use.
    pub(super) in_use: u64,
}

/// The first bytes of a boot sector, as many as are looked at.
pub(super) const BOOT_SECTOR: usize = 512;

impl Geometry {
    /// Reads it from the first sector of a file system of `length` bytes.
    pub(super) fn parse(boot: &[u8; BOOT_SECTOR], length: u64) -> io::Result<Self> {
        let field = |at: usize, size: usize| -> u64 {
            let bytes = boot.get(at..at + size).unwrap_or_default();
            bytes
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        if field(510, 2) != 0xaa55 {
            return Err(damaged("it is not a FAT file system"));
        }
        let sector = field(11, 2);
        let per_cluster = field(13, 1);
        let (reserved, tables) = (field(14, 2), field(16, 1));
        if ![512, 1024, 2048, 4096].contains(&sector) || !per_cluster.is_power_of_two() {
            return Err(damaged("it is not a FAT file system"));
        }
        let wide = field(22, 2) == 0;
        let table_sectors = if wide { field(36, 4) } else { field(22, 2) };
        let sectors = if field(19, 2) == 0 {
            field(32, 4)
        } else {
            field(19, 2)
        };
        let root_size = (field(17, 2) * 32).next_multiple_of(sector);
        let root = (reserved + tables * table_sectors) * sector;
        let data = root + root_size;
        let cluster = sector * per_cluster;
        let end = sectors * sector;
        if reserved == 0 || tables == 0 || table_sectors == 0 || end > length || data >= end {
            return Err(damaged("its parts do not fit in it"));
        }
        let clusters = u32::try_from((end - data) / cluster).unwrap_or(u32::MAX);
        let width = match clusters {
            _ if wide => Width::ThirtyTwo,
            0..4085 => Width::Twelve,
            _ => Width::Sixteen,
        };
        let geometry = Self {
            width,
            sector,
            cluster,
            table: reserved * sector,
            table_size: table_sectors * sector,
            tables,
            root,
            root_size,
            root_cluster: if wide {
                u32::try_from(field(44, 4)).unwrap_or(0)
            } else {
                0
            },
            data,
            clusters,
            summary: if wide {
                field(48, 2) % reserved * sector
            } else {
                0
            },
            in_use: if wide { 65 } else { 37 },
        };
        geometry.checked()
    }

    fn checked(self) -> io::Result<Self> {
        let largest = match self.width {
            Width::Twelve | Width::Sixteen => 65_524,
            Width::ThirtyTwo => 0x0fff_fff4,
        };
        let entries = u64::from(self.clusters) + 2;
        let needed = match self.width {
            Width::Twelve => (entries * 3).div_ceil(2),
            Width::Sixteen => entries * 2,
            Width::ThirtyTwo => entries * 4,
        };
        if self.clusters > largest || needed > self.table_size {
            return Err(damaged("its table is too small for its clusters"));
        }
        if self.width == Width::ThirtyTwo && !self.has(self.root_cluster) {
            return Err(damaged("its root directory lies outside"));
        }
        Ok(self)
    }

    /// Whether there is such a cluster.
    pub(super) fn has(&self, cluster: u32) -> bool {
        cluster >= 2 && cluster - 2 < self.clusters
    }

    /// Where a cluster lies.
    pub(super) fn place(&self, cluster: u32) -> u64 {
        self.data + u64::from(cluster.saturating_sub(2)) * self.cluster
    }
}
