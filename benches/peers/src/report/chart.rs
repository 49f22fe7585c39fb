//! Horizontal bars, one chart for each workload with a panel for each metric. Every axis starts
//! at zero and is linear, every bar has its value written at its end; thin lines go from the
//! smallest to the largest round. A bar that would leave no room for the others ends at the edge,
//! with a gap in it that says so.

use std::path::Path;

use bench_common::charts::{FAINT, GRID, TEXT, font, tick};
use bench_common::comparison::Better;
use bench_common::stats::{self, Spread};
use bench_common::text::{grouped, number};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Report, Table, best_peer, cost, cost_text, ranking, variant};
use crate::workloads::{Contender, Kind, Metric};

type Drawn = Result<(), Box<dyn std::error::Error + Send + Sync>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

const WIDTH: u32 = 960;
const ROW: u32 = 24;
const LABELS: u32 = 270;
/// To the right of the longest bar, for its value.
const VALUES: u32 = 130;
const HEADING: u32 = 44;
/// How many times as long as the usual bar the longest may be.
const FAR: f64 = 4.0;
const PANEL_HEAD: u32 = 30;
const AXIS: u32 = 34;

const GAP: &str = "a bar with a gap is longer than the axis";

const OURS: RGBColor = RGBColor(214, 93, 14);
const PEER: RGBColor = RGBColor(74, 111, 165);
const REFERENCE: RGBColor = RGBColor(173, 181, 189);

struct Bar {
    label: String,
    kind: Kind,
    spread: Option<Spread>,
    value: f64,
    text: String,
}

struct Panel {
    title: String,
    bars: Vec<Bar>,
    /// A value to mark with a line.
    mark: Option<f64>,
    /// What the axis has to reach at least, so that panels of shares can be compared.
    reach: f64,
}

impl Panel {
    fn height(&self) -> u32 {
        PANEL_HEAD + self.bars.len() as u32 * ROW + AXIS
    }

    fn longest(&self) -> f64 {
        self.bars.iter().map(|bar| bar.value).chain(self.mark).fold(self.reach, f64::max)
    }

    /// Where the axis ends: behind the longest bar, unless that is far off the others.
    fn end(&self) -> f64 {
        let usual = stats::median(self.bars.iter().map(|bar| bar.value).collect());
        let far = usual.max(self.mark.unwrap_or(self.reach)) * FAR;
        let longest = self.longest();
        let most = if longest > far * 1.5 && far > 0.0 { far } else { longest };
        let step = tick(most / 6.0);
        (most / step).ceil().max(1.0) * step
    }
}

/// The rows of a workload; Python's would leave no room for the others.
pub(super) fn workload(table: &Table, file: &Path) -> Drawn {
    let panel = |(index, metric): (usize, &Metric)| {
        let better = metric.better.word();
        let rows = ranking(table, index).into_iter().filter(|(row, _)| row.kind != Kind::Python);
        let bar = |(row, spread): (&Contender, Spread)| {
            let fewer = if row.count < table.subject.count { " *" } else { "" };
            Bar {
                label: format!("{}{fewer}", row.name),
                kind: row.kind,
                spread: Some(spread),
                value: spread.median,
                text: number(spread.median),
            }
        };
        Panel {
            title: format!("{}: {}, {better} is better", metric.name, metric.unit),
            bars: rows.map(bar).collect(),
            mark: None,
            reach: if metric.better == Better::Higher { 1.0 } else { 0.0 },
        }
    };
    let panels: Vec<_> = table.subject.metrics.iter().enumerate().map(panel).collect();
    let fewer = |row: &Contender| {
        row.count < table.subject.count && row.kind != Kind::Python && row.run.is_some()
    };
    let mut footnotes = Vec::new();
    if table.subject.contenders.iter().any(fewer) {
        footnotes.push("*: fewer tasks or items, see the table");
    }
    if panels.iter().any(|panel| panel.longest() > panel.end()) {
        footnotes.push(GAP);
    }
    draw(file, table.subject.title, &footnotes.join("; "), &panels)
}

/// Our cost relative to the best peer's, in every metric that is compared.
pub(super) fn overview(report: &Report, file: &Path) -> Drawn {
    let mut bars = Vec::new();
    for table in &report.tables {
        for (index, metric) in table.subject.metrics.iter().enumerate() {
            for (row, ours) in ranking(table, index) {
                if row.kind != Kind::Ours {
                    continue;
                }
                let Some((_, best)) = best_peer(table, index, row) else { continue };
                let cost = cost(metric, ours, best);
                bars.push(Bar {
                    label: format!("{}{}: {}", table.subject.title, variant(row), metric.name),
                    kind: Kind::Ours,
                    spread: None,
                    value: cost,
                    text: cost_text(cost),
                });
            }
        }
    }
    if bars.is_empty() {
        return Ok(()); // Without a peer there is nothing to compare with.
    }
    let title = "the best peer of each row is 1, shorter is better".to_owned();
    let panel = Panel { title, bars, mark: Some(1.0), reach: 0.0 };
    let footnote = if panel.longest() > panel.end() { GAP } else { "" };
    draw(file, "Cost on concurrent-futures, relative to the best peer", footnote, &[panel])
}

fn draw(file: &Path, title: &str, footnote: &str, panels: &[Panel]) -> Drawn {
    let panels: Vec<_> = panels.iter().filter(|panel| !panel.bars.is_empty()).collect();
    let foot = if footnote.is_empty() { 6 } else { 24 };
    let height = HEADING + panels.iter().map(|panel| panel.height()).sum::<u32>() + foot;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(title, (16, 14), font(18, TEXT)))?;
    let mut top = HEADING as i32;
    for panel in panels {
        draw_panel(&root, panel, top)?;
        top += panel.height() as i32;
    }
    if !footnote.is_empty() {
        root.draw(&Text::new(footnote, (16, top), font(12, FAINT)))?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(root: &Area<'_>, panel: &Panel, top: i32) -> Drawn {
    let rows = panel.bars.len() as i32;
    let row = ROW as i32;
    let labels = labels_width(panel) as i32;
    let left = labels + 16;
    let right = (WIDTH - VALUES) as i32;
    let first = top + PANEL_HEAD as i32;
    let bottom = first + rows * row;

    let end = panel.end();
    let step = tick(end / 6.0 * 0.999);
    let axis: RangedCoordf64 = (0.0..end).into();
    let x = |value: f64| axis.map(&value.clamp(0.0, end), (left, right));

    root.draw(&Text::new(panel.title.as_str(), (16, top + 8), font(13, FAINT)))?;
    for index in 0..=(end / step).round() as u32 {
        let value = f64::from(index) * step;
        root.draw(&PathElement::new([(x(value), first), (x(value), bottom)], GRID))?;
        let style = font(11, FAINT).pos(Pos::new(HPos::Center, VPos::Top));
        root.draw(&Text::new(tick_label(value, step), (x(value), bottom + 5), style))?;
    }
    for (index, bar) in panel.bars.iter().enumerate() {
        let middle = first + index as i32 * row + row / 2;
        let color = match bar.kind {
            Kind::Ours => OURS,
            Kind::Peer => PEER,
            Kind::Reference | Kind::Python => REFERENCE,
        };
        let corners = [(left, middle - 8), (x(bar.value), middle + 8)];
        root.draw(&Rectangle::new(corners, color.filled()))?;
        let mut text_at = x(bar.value);
        let is_cut = bar.value > end;
        if is_cut {
            let gap = [(text_at - 26, middle + 9), (text_at - 18, middle - 9)];
            root.draw(&PathElement::new(gap, WHITE.stroke_width(5)))?;
        }
        if let Some(spread) = bar.spread.filter(|_| !is_cut) {
            let (from, to) = (x(spread.min), x(spread.max));
            root.draw(&PathElement::new([(from, middle), (to, middle)], TEXT))?;
            for end in [from, to] {
                root.draw(&PathElement::new([(end, middle - 3), (end, middle + 3)], TEXT))?;
            }
            text_at = text_at.max(to);
        }
        text_at = text_at.max(panel.mark.map_or(left, x));
        let style = font(12, TEXT).pos(Pos::new(HPos::Right, VPos::Center));
        root.draw(&Text::new(bar.label.as_str(), (left - 8, middle), style))?;
        let style = font(12, TEXT).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(bar.text.as_str(), (text_at + 8, middle), style))?;
    }
    if let Some(mark) = panel.mark {
        root.draw(&PathElement::new([(x(mark), first - 4), (x(mark), bottom)], TEXT))?;
    }
    Ok(())
}

fn tick_label(value: f64, step: f64) -> String {
    if step >= 1.0 { grouped(&format!("{value:.0}")) } else { format!("{value:.1}") }
}

/// Wide enough for the longest label, at about 6.6 pixels a letter.
fn labels_width(panel: &Panel) -> u32 {
    let longest = panel.bars.iter().map(|bar| bar.label.chars().count()).max().unwrap_or(0);
    ((longest as f64 * 6.6) as u32).clamp(LABELS, WIDTH / 2 + 60)
}
