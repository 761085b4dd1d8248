//! Medians, ratios and the table.

use std::fmt::Write;

use serde::Serialize;

use crate::measure::Sample;
use crate::mode::Mode;

/// One mode's results.
#[derive(Serialize)]
pub struct Report {
    mode: Mode,
    folder: String,
    record_bytes: usize,
    messages: u64,
    seconds: f64,
    pub series: Vec<Series>,
}

/// One engine's rounds.
#[derive(Serialize)]
pub struct Series {
    pub engine: String,
    is_peer: bool,
    pub samples: Vec<Sample>,
}

impl Series {
    pub fn new(engine: &str, is_peer: bool) -> Self {
        Self {
            engine: engine.to_owned(),
            is_peer,
            samples: Vec::new(),
        }
    }

    fn rate(&self) -> Option<f64> {
        median(self.rates())
    }

    fn rates(&self) -> impl Iterator<Item = f64> {
        self.samples.iter().map(|sample| sample.records_per_second)
    }
}

impl Report {
    pub fn new(mode: Mode, folder: String, messages: u64, seconds: f64) -> Self {
        Self {
            mode,
            folder,
            record_bytes: mode.record_bytes(),
            messages,
            seconds,
            series: Vec::new(),
        }
    }

    /// The table as text, with a line above it that says what was measured.
    pub fn table(&self) -> String {
        let mut text = self.headline();
        text += "engine        records/s        min        max    MiB/s  x best peer    x raw";
        if self.mode.is_synced() {
            text += "    p50 us    p99 us  p99.9 us    max us";
        }
        text.push('\n');
        for series in &self.series {
            self.row(&mut text, series);
        }
        text
    }

    fn headline(&self) -> String {
        let amount = if self.mode.is_synced() {
            format!("{} s a round", self.seconds)
        } else {
            format!(
                "{} records a round, at most {} s",
                self.messages, self.seconds
            )
        };
        let rounds = self
            .series
            .iter()
            .map(|series| series.samples.len())
            .max()
            .unwrap_or(0);
        format!(
            "{}: {} B a record, {amount}, median of {rounds}, {}\n",
            self.mode.name(),
            self.record_bytes,
            self.folder
        )
    }

    fn row(&self, text: &mut String, series: &Series) {
        // Writing to a String cannot fail.
        let Some(rate) = series.rate() else {
            let _ = writeln!(text, "{:<12} failed", series.engine);
            return;
        };
        let min = series.rates().fold(f64::INFINITY, f64::min);
        let max = series.rates().fold(0.0, f64::max);
        let mib = rate * self.record_bytes as f64 / f64::from(1 << 20);
        let raw = self
            .series
            .iter()
            .find(|series| series.engine == "raw")
            .and_then(Series::rate);
        let _ = write!(
            text,
            "{:<12} {rate:>10.0} {min:>10.0} {max:>10.0} {mib:>8.1} {:>12} {:>8}",
            series.engine,
            ratio(rate, self.best_peer(), 2),
            ratio(rate, raw, 3),
        );
        let latency = |pick: fn(&crate::measure::Latency) -> f64| {
            median(
                series
                    .samples
                    .iter()
                    .filter_map(|sample| sample.latency.as_ref().map(pick)),
            )
        };
        if let (Some(p50), Some(p99), Some(p999), Some(max)) = (
            latency(|latency| latency.p50_us),
            latency(|latency| latency.p99_us),
            latency(|latency| latency.p999_us),
            latency(|latency| latency.max_us),
        ) {
            let _ = write!(text, " {p50:>9.0} {p99:>9.0} {p999:>9.0} {max:>9.0}");
        }
        text.push('\n');
    }

    /// The highest median among the peers.
    fn best_peer(&self) -> Option<f64> {
        let peers = self.series.iter().filter(|series| series.is_peer);
        peers.filter_map(Series::rate).max_by(f64::total_cmp)
    }
}

fn ratio(rate: f64, base: Option<f64>, decimals: usize) -> String {
    base.map_or_else(
        || "-".to_owned(),
        |base| format!("{:.decimals$}", rate / base),
    )
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}
