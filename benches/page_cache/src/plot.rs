//! The table as a picture: one bar a line, its length the throughput, its end the p99.9.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::prelude::*;

use crate::report::{Line, Report};

const WIDTH: i32 = 1100;
const ROW: i32 = 18;
/// Where bars begin, and their length at most.
const LEFT: i32 = 380;
const LENGTH: f64 = 480.0;

/// Draws the report into an SVG file.
pub(crate) fn draw(file: &Path, report: &Report) -> Result<()> {
    let groups: Vec<&[Line]> = report
        .lines
        .chunk_by(|a, b| a.heading() == b.heading())
        .collect();
    let rows = report.lines.len() + 2 * groups.len() + 2;
    let size = (WIDTH as u32, rows as u32 * ROW as u32);
    paint(
        &SVGBackend::new(file, size).into_drawing_area(),
        report,
        &groups,
    )
    .map_err(|error| anyhow::anyhow!("{error}"))
    .with_context(|| format!("drawing {}", file.display()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Painted<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn paint<'a>(area: &Area<'a>, report: &Report, groups: &[&[Line]]) -> Painted<'a> {
    area.fill(&WHITE)?;
    let title = format!("Raw append paths, 1 KiB records, {}", report.folder);
    text(area, title, (8, 4), 19)?;
    let mut y = ROW;
    for group in groups {
        y += ROW;
        text(
            area,
            format!("{}: records/s, p99.9", group[0].heading()),
            (8, y),
            16,
        )?;
        y += ROW;
        for line in *group {
            bar(area, line, most(group), y)?;
            y += ROW;
        }
    }
    area.present()
}

/// The greatest throughput of a group: the length of its longest bar.
fn most(group: &[Line]) -> f64 {
    let rates = group.iter().filter_map(|line| line.outcome.as_ref());
    rates
        .map(|outcome| outcome.records_per_second)
        .fold(1.0, f64::max)
}

fn bar<'a>(area: &Area<'a>, line: &Line, most: f64, y: i32) -> Painted<'a> {
    text(area, line.name().to_owned(), (20, y), 13)?;
    let Some(outcome) = &line.outcome else {
        return text(area, "not measured".to_owned(), (LEFT, y), 13);
    };
    let end = LEFT + (LENGTH * outcome.records_per_second / most) as i32;
    let bar = [(LEFT, y + 1), (end.max(LEFT + 1), y + ROW - 5)];
    area.draw(&Rectangle::new(bar, RGBColor(70, 120, 180).filled()))?;
    let numbers = format!(
        "{:.0}/s, {:.1} us",
        outcome.records_per_second, outcome.p999_us
    );
    text(area, numbers, (end + 6, y), 13)
}

fn text<'a>(area: &Area<'a>, text: String, at: (i32, i32), size: i32) -> Painted<'a> {
    area.draw(&Text::new(text, at, ("sans-serif", size).into_font()))
}
