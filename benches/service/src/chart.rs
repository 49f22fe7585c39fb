//! Four panels, each with a line for each backend over the load. Goodput starts at zero; the other
//! axes are logarithmic, since what they show differs by factors of a thousand.

use std::path::Path;

use bench_common::charts::{FAINT, GRID, TEXT, font, tick};
use bench_common::http::Error;
use bench_common::stats::millis;
use bench_common::text::grouped;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use service::backend::Kind;

use crate::report::{Report, Run, megabytes};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: i32 = 960;
const HEADING: i32 = 72;
const PANEL: (i32, i32) = (480, 270);

fn color(kind: Kind) -> RGBColor {
    match kind {
        Kind::Threads => RGBColor(214, 93, 14),
        Kind::Processes => RGBColor(240, 170, 90),
        Kind::SpawnBlocking => RGBColor(74, 111, 165),
        Kind::Rayon => RGBColor(134, 142, 150),
    }
}

struct Panel {
    title: &'static str,
    is_logarithmic: bool,
    value: fn(&Run) -> Option<f64>,
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "goodput: answers within 500 ms, per second",
        is_logarithmic: false,
        value: |run| Some(run.goodput),
    },
    Panel {
        title: "thumbnail, p99 of accepted requests: ms, logarithmic",
        is_logarithmic: true,
        value: |run| run.thumbnail.map(|times| millis(times.p99)),
    },
    Panel {
        title: "health, p99: ms, logarithmic",
        is_logarithmic: true,
        value: |run| Some(millis(run.health.p99)),
    },
    Panel {
        title: "memory at most: MB, logarithmic",
        is_logarithmic: true,
        value: |run| Some(megabytes(run.usage.memory)),
    },
];

/// From its first tick to its last.
struct Axis {
    ticks: Vec<f64>,
    is_logarithmic: bool,
}

impl Axis {
    fn over(values: &[f64], is_logarithmic: bool) -> Self {
        let most = values.iter().copied().fold(0.0, f64::max);
        let ticks = if is_logarithmic {
            let least = values.iter().copied().fold(most, f64::min).max(1e-3);
            let first = least.log10().floor() as i32;
            let last = (most.max(1e-3).log10().ceil() as i32).max(first + 1);
            (first..=last).map(|power| 10_f64.powi(power)).collect()
        } else {
            let step = tick(most / 5.0);
            (0..=(most / step).ceil().max(1.0) as u32).map(|n| f64::from(n) * step).collect()
        };
        Self { ticks, is_logarithmic }
    }

    /// Where a value is: 0 at the first tick, 1 at the last.
    fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.is_logarithmic { value.log10() } else { value };
        let (first, last) = (scale(self.ticks[0]), scale(self.ticks[self.ticks.len() - 1]));
        ((scale(value) - first) / (last - first)).clamp(0.0, 1.0)
    }
}

pub(crate) fn draw(report: &Report, file: &Path) -> Result<(), Error> {
    let size = (WIDTH as u32, (HEADING + 2 * PANEL.1) as u32);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE)?;
    let title = "The service under load, as a multiple of what it can answer";
    root.draw(&Text::new(title, (16, 14), font(18, TEXT)))?;
    let mut x = 16;
    for side in &report.sides {
        let name = side.kind.name();
        root.draw(&Circle::new((x + 5, 52), 5, color(side.kind).filled()))?;
        let style = font(13, TEXT).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(name, (x + 16, 52), style))?;
        x += 48 + 8 * name.len() as i32;
    }
    for (index, panel) in PANELS.iter().enumerate() {
        let index = index as i32;
        draw_panel(&root, report, panel, (index % 2 * PANEL.0, HEADING + index / 2 * PANEL.1))?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(
    root: &Area<'_>,
    report: &Report,
    panel: &Panel,
    corner: (i32, i32),
) -> Result<(), Error> {
    let (left, right) = (corner.0 + 70, corner.0 + PANEL.0 - 24);
    let (top, bottom) = (corner.1 + 34, corner.1 + PANEL.1 - 34);
    let loads = report.plan.loads;
    let values = report.sides.iter().flat_map(|side| side.runs.iter().filter_map(panel.value));
    let axis = Axis::over(&values.collect::<Vec<_>>(), panel.is_logarithmic);
    let x = |index: usize| {
        let of = (loads.len() - 1).max(1) as i32;
        left + 20 + (right - left - 40) * index as i32 / of
    };
    let y = |value: f64| bottom - (f64::from(bottom - top) * axis.place(value)).round() as i32;

    root.draw(&Text::new(panel.title, (corner.0 + 16, corner.1 + 8), font(13, FAINT)))?;
    for &value in &axis.ticks {
        root.draw(&PathElement::new([(left, y(value)), (right, y(value))], GRID))?;
        let style = font(11, FAINT).pos(Pos::new(HPos::Right, VPos::Center));
        root.draw(&Text::new(label(value), (left - 6, y(value)), style))?;
    }
    for (index, load) in loads.iter().enumerate() {
        let style = font(11, FAINT).pos(Pos::new(HPos::Center, VPos::Top));
        root.draw(&Text::new(format!("{load} ×"), (x(index), bottom + 6), style))?;
    }
    // In front is what comes first.
    for side in report.sides.iter().rev() {
        let value = |(index, run): (usize, &Run)| Some((x(index), y((panel.value)(run)?)));
        let points: Vec<_> = side.runs.iter().enumerate().filter_map(value).collect();
        root.draw(&PathElement::new(points.clone(), color(side.kind).stroke_width(2)))?;
        for point in points {
            root.draw(&Circle::new(point, 4, color(side.kind).filled()))?;
        }
    }
    Ok(())
}

fn label(value: f64) -> String {
    if value < 1.0 { value.to_string() } else { grouped(&format!("{value:.0}")) }
}
