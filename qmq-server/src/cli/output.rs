//! Standard output: lines for programs, tables and numbers for people.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use jiff::Timestamp;
use serde::Serialize;

use super::failure::Failure;

/// Buffered standard output whose loss is a [`Failure`], never a panic.
pub(crate) struct Output {
    writer: BufWriter<StdoutLock<'static>>,
}

impl Output {
    /// Takes standard output for this command.
    pub(crate) fn new() -> Self {
        Self {
            writer: BufWriter::with_capacity(64 << 10, io::stdout().lock()),
        }
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, text: impl AsRef<[u8]>) -> Result<(), Failure> {
        self.text(text)?;
        self.text(b"\n")
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: impl AsRef<[u8]>) -> Result<(), Failure> {
        self.writer
            .write_all(text.as_ref())
            .map_err(Failure::Output)
    }

    /// Writes one JSON object as a line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_vec(value).map_err(|e| Failure::Output(e.into()))?;
        self.line(text)
    }

    /// Hands everything written so far to the reader.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(Failure::Output)
    }
}

/// Prints a line to standard error; if that is gone there is nobody to tell.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// One line below the header, and no others.
const RULED_HEADER: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table with a header; the columns named in `numbers` are aligned to the right.
pub(crate) fn table(header: &[&str], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(RULED_HEADER);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().enumerate().map(|(i, name)| {
        let cell = Cell::new(name);
        if numbers.contains(&i) {
            cell.set_alignment(CellAlignment::Right)
        } else {
            cell
        }
    }));
    for number in numbers {
        if let Some(column) = table.column_mut(*number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate per second: whole numbers with separators, small ones with two decimals.
pub(crate) fn rate(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    if value < 100.0 {
        format!("{value:.2}")
    } else {
        count(value.round() as u64)
    }
}

/// Bytes with a binary unit.
pub(crate) fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = value as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{value} B")
    } else {
        format!("{scaled:.1} {}", UNITS[unit])
    }
}

/// Microseconds in the unit that a person would choose.
pub(crate) fn micros(value: f64) -> String {
    if value < 1_000.0 {
        format!("{value:.1} us")
    } else if value < 1_000_000.0 {
        format!("{:.1} ms", value / 1_000.0)
    } else {
        format!("{:.2} s", value / 1_000_000.0)
    }
}

/// A duration in the unit that a person would choose.
pub(crate) fn duration(value: Duration) -> String {
    micros(value.as_secs_f64() * 1e6)
}

/// Milliseconds since 1970 as a date and a time of day in UTC; `-` for 0 and for what no calendar has.
pub(crate) fn time(ms: u64) -> String {
    match timestamp(ms) {
        Some(time) if ms > 0 => time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        _ => "-".to_owned(),
    }
}

/// Milliseconds since 1970 as RFC 3339, which commands take back.
pub(crate) fn rfc3339(ms: u64) -> String {
    timestamp(ms).map_or_else(|| "-".to_owned(), |time| format!("{time:.3}"))
}

fn timestamp(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// A body in JSON: `body` if it is text, else `body_hex`.
#[derive(Serialize)]
pub(crate) enum Body<'a> {
    /// UTF-8.
    #[serde(rename = "body")]
    Text(&'a str),
    /// Anything else.
    #[serde(rename = "body_hex")]
    Bytes(String),
}

impl<'a> From<&'a [u8]> for Body<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(|_| Self::Bytes(hex(bytes)), Self::Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(336_776), "336,776");
        assert_eq!(count(1_000_000), "1,000,000");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(64 << 20), "64.0 MiB");
        assert_eq!(micros(12.34), "12.3 us");
        assert_eq!(micros(1_500_000.0), "1.50 s");
        assert_eq!(rate(3.456), "3.46");
        assert_eq!(rate(f64::NAN), "-");
        assert_eq!(hex(&[0, 255]), "00ff");
    }

    #[test]
    fn times_are_calendar_dates() {
        assert_eq!(time(0), "-");
        assert_eq!(time(1), "1970-01-01 00:00:00.001");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00.000");
        assert_eq!(time(1_373_241_599_999), "2013-07-07 23:59:59.999");
        assert_eq!(time(4_107_542_400_000), "2100-03-01 00:00:00.000");
        assert_eq!(time(u64::MAX), "-");
        assert_eq!(rfc3339(1_373_241_599_999), "2013-07-07T23:59:59.999Z");
    }
}
