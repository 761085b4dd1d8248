//! The lines of the table: what is varied, and around what.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

pub(crate) const RECORD_BYTES: usize = 1024;
pub(crate) const MIB: u64 = 1 << 20;

/// How a segment gets its blocks before records arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub(crate) enum Allocation {
    /// Not at all: a length without blocks.
    Sparse,
    /// `fallocate`: blocks that are marked as not yet written.
    Fallocate,
    /// Zeros through the page cache, then a sync.
    ZeroCalls,
    /// Zeros past the page cache.
    ZeroDirect,
}

/// How a record gets into the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub(crate) enum Method {
    /// A copy into a shared mapping.
    Map,
    /// One `pwrite`.
    Pwrite,
    /// One `pwritev2` that returns once the data is synced; only where every record is synced.
    PwriteDsync,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub(crate) enum Advised {
    Nothing,
    Sequential,
    HugePages,
}

/// One way of laying out and filling a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Layout {
    pub(crate) segment_bytes: u64,
    pub(crate) allocation: Allocation,
    pub(crate) method: Method,
    /// Whether the mapping is populated before records arrive.
    pub(crate) populate: bool,
    pub(crate) advised: Advised,
}

/// The layout that the others differ from in one thing.
pub(crate) const USUAL: Layout = Layout {
    segment_bytes: 64 * MIB,
    allocation: Allocation::Fallocate,
    method: Method::Map,
    populate: false,
    advised: Advised::Nothing,
};

/// When a second thread syncs what was appended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Flush {
    pub(crate) interval: Duration,
    pub(crate) bytes: u64,
    /// Whether synced ranges leave the mapping and the page cache.
    pub(crate) drop_behind: bool,
}

/// What happens to appended records.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub(crate) enum Kind {
    /// Nothing.
    Buffered,
    /// A second thread syncs them.
    Flushed(Flush),
    /// So many records are written and synced before the next.
    Synced { records: usize },
}

/// One line of the table.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) layout: Layout,
    pub(crate) kind: Kind,
}

const ALLOCATIONS: [Allocation; 4] = [
    Allocation::Sparse,
    Allocation::Fallocate,
    Allocation::ZeroCalls,
    Allocation::ZeroDirect,
];

/// All lines, in the order of the table.
pub(crate) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    buffered(&mut cells);
    flushed(&mut cells);
    synced(&mut cells);
    cells
}

fn buffered(cells: &mut Vec<Cell>) {
    let mut add = |layout| {
        cells.push(Cell {
            layout,
            kind: Kind::Buffered,
        });
    };
    for method in [Method::Map, Method::Pwrite] {
        for allocation in ALLOCATIONS {
            add(Layout {
                allocation,
                method,
                ..USUAL
            });
        }
        for segment_bytes in [16 * MIB, 256 * MIB] {
            add(Layout {
                segment_bytes,
                method,
                ..USUAL
            });
        }
    }
    for allocation in [Allocation::Sparse, Allocation::Fallocate] {
        add(Layout {
            allocation,
            populate: true,
            ..USUAL
        });
    }
    for advised in [Advised::Sequential, Advised::HugePages] {
        add(Layout { advised, ..USUAL });
    }
}

fn flushed(cells: &mut Vec<Cell>) {
    let mut add = |layout, interval_ms, bytes, drop_behind| {
        let flush = Flush {
            interval: Duration::from_millis(interval_ms),
            bytes,
            drop_behind,
        };
        cells.push(Cell {
            layout,
            kind: Kind::Flushed(flush),
        });
    };
    for interval_ms in [2, 10, 50, 200] {
        add(USUAL, interval_ms, 1024 * MIB, false);
    }
    for mib in [1, 4, 16, 64] {
        add(USUAL, 1_000, mib * MIB, false);
    }
    add(USUAL, 10, 1024 * MIB, true);
    add(
        Layout {
            method: Method::Pwrite,
            ..USUAL
        },
        10,
        1024 * MIB,
        false,
    );
}

fn synced(cells: &mut Vec<Cell>) {
    for records in [1, 64] {
        let mut add = |method, allocation| {
            let layout = Layout {
                method,
                allocation,
                ..USUAL
            };
            cells.push(Cell {
                layout,
                kind: Kind::Synced { records },
            });
        };
        for allocation in ALLOCATIONS {
            add(Method::Pwrite, allocation);
            add(Method::Map, allocation);
        }
        add(Method::PwriteDsync, Allocation::Fallocate);
        add(Method::PwriteDsync, Allocation::ZeroCalls);
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.method {
            Method::Map => "map",
            Method::Pwrite => "pwrite",
            Method::PwriteDsync => "pwrite dsync",
        })?;
        f.write_str(match self.allocation {
            Allocation::Sparse => ", sparse",
            Allocation::Fallocate => ", fallocate",
            Allocation::ZeroCalls => ", zeros by calls",
            Allocation::ZeroDirect => ", zeros direct",
        })?;
        write!(f, ", {} MiB", self.segment_bytes / MIB)?;
        if self.populate {
            f.write_str(", populate")?;
        }
        f.write_str(match self.advised {
            Advised::Nothing => "",
            Advised::Sequential => ", sequential",
            Advised::HugePages => ", huge pages",
        })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.layout)?;
        match self.kind {
            Kind::Buffered => Ok(()),
            Kind::Flushed(flush) => {
                if flush.bytes < 1024 * MIB {
                    write!(f, ", every {} MiB", flush.bytes / MIB)?;
                } else {
                    write!(f, ", every {} ms", flush.interval.as_millis())?;
                }
                f.write_str(if flush.drop_behind {
                    ", drop behind"
                } else {
                    ""
                })
            }
            Kind::Synced { records: 1 } => f.write_str(", each synced"),
            Kind::Synced { records } => write!(f, ", {records} a sync"),
        }
    }
}
