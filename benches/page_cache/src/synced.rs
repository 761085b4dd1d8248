//! One writer that syncs every record, or every group of records, before the next.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cell::{Layout, RECORD_BYTES};
use crate::outcome::{Outcome, latencies};
use crate::segment::Segment;

/// Writes for so long, or until the segment is full.
pub(crate) fn measure(
    dir: &Path,
    layout: &Layout,
    records: usize,
    time: Duration,
) -> Result<Outcome> {
    let mut segment = Segment::create(dir, 0, layout)?;
    let group = vec![0x5A_u8; records * RECORD_BYTES];
    let mut latency = latencies();
    let start = Instant::now();
    let mut before = start;
    let mut end = 0;
    while end + group.len() as u64 <= layout.segment_bytes && before - start < time {
        segment.write(end, &group)?;
        segment.sync()?;
        end += group.len() as u64;
        let after = Instant::now();
        latency.saturating_record((after - before).as_nanos() as u64);
        before = after;
    }
    Ok(Outcome::new(
        end / RECORD_BYTES as u64,
        before - start,
        &latency,
    ))
}
