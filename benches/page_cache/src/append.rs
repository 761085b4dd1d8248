//! Appending at full speed, with segments prepared one ahead by another thread.

use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::cell::{Flush, Layout, RECORD_BYTES};
use crate::flusher::Flusher;
use crate::outcome::{Outcome, latencies};
use crate::segment::Segment;

/// Fills as many segments as hold `bytes`, and at least two.
pub(crate) fn measure(
    dir: &Path,
    layout: &Layout,
    flush: Option<Flush>,
    bytes: u64,
) -> Result<Outcome> {
    let segments = bytes.div_ceil(layout.segment_bytes).max(2);
    let first = Segment::create(dir, 0, layout)?;
    let (sender, prepared) = mpsc::sync_channel::<io::Result<Segment>>(0);
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 1..segments {
                if sender.send(Segment::create(dir, number, layout)).is_err() {
                    return;
                }
            }
        });
        let flusher = flush.map(|flush| Flusher::start(scope, flush, layout.segment_bytes));
        let outcome = fill(first, layout, &prepared, flusher.as_ref());
        let sync_max = flusher.map(Flusher::stop).transpose()?;
        let mut outcome = outcome?;
        outcome.sync_max_ms = sync_max.map(|time| time.as_secs_f64() * 1e3);
        Ok(outcome)
    })
}

fn fill(
    first: Segment,
    layout: &Layout,
    prepared: &mpsc::Receiver<io::Result<Segment>>,
    flusher: Option<&Flusher<'_>>,
) -> Result<Outcome> {
    let record = [0x5A_u8; RECORD_BYTES];
    let records_per_segment = layout.segment_bytes / RECORD_BYTES as u64;
    let mut latency = latencies();
    // Full segments stay mapped, as a store would keep them.
    let mut full = Vec::new();
    let mut next = Some(first);
    let start = Instant::now();
    let mut before = start;
    while let Some(mut segment) = next.take() {
        if let Some(flusher) = flusher {
            flusher.next_segment(&segment);
        }
        for index in 0..records_per_segment {
            let offset = index * RECORD_BYTES as u64;
            segment.write(offset, &record)?;
            if let Some(flusher) = flusher {
                flusher.written(RECORD_BYTES as u64);
            }
            // One look at the clock a record: the wait for a new segment counts too.
            let after = Instant::now();
            latency.saturating_record((after - before).as_nanos() as u64);
            before = after;
        }
        full.push(segment);
        // The other thread hangs up after the last segment.
        next = prepared
            .recv()
            .ok()
            .transpose()
            .context("preparing a segment")?;
    }
    let records = full.len() as u64 * records_per_segment;
    Ok(Outcome::new(records, before - start, &latency))
}
