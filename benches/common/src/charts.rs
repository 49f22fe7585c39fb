//! Text, colours and ticks of the charts.

use plotters::style::{IntoFont, RGBColor, TextStyle};

/// The colour of text and marks.
pub const TEXT: RGBColor = RGBColor(33, 37, 41);
/// The colour of labels and titles of panels.
pub const FAINT: RGBColor = RGBColor(108, 117, 125);
/// The colour of the grid.
pub const GRID: RGBColor = RGBColor(222, 226, 230);

/// Text of a size in pixels.
pub fn font(size: u32, color: RGBColor) -> TextStyle<'static> {
    // The SVG backend writes a font size that is smaller by this factor.
    ("sans-serif", f64::from(size) * 1.24).into_font().color(&color)
}

/// 1, 2 or 5 times a power of ten, not less than `least`.
pub fn tick(least: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= least * 0.999_999);
    step.unwrap_or(10.0) * power
}
