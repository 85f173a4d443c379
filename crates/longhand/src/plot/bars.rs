//! Stacked bars under tokens, wrapped over rows like the text they stand for.

use std::path::Path;

use super::canvas::Canvas;
use super::scale::Scale;
use super::*;

const WIDTH: f32 = 1800.0;
/// A row's bars, and the room below them for the labels.
const BAR_HEIGHT: f32 = 220.0;
const LABEL_ROOM: f32 = 76.0;
/// The most bars in one image, which is then some hundred rows high.
const MOST_BARS: usize = 4096;
const MOST_LETTERS: usize = 10;

/// Draws one bar per label, its series stacked, wrapped over as many rows as needed, and writes
/// the image to `path` (PNG, an existing file is replaced). All rows share one scale. Negative
/// values are stacked below zero; values that are not finite are left out. Spaces and line ends
/// in labels are shown as `␣` and `⏎`.
///
/// # Errors
/// If a series has not one value per label, if there is no finite value or more than 4,096
/// labels, or if the file cannot be written.
pub fn stacked_bars(
    path: &Path,
    title: &str,
    labels: &[String],
    series: &[(&str, Vec<f64>)],
) -> Result<(), PlotError> {
    let title_of = || title.to_owned();
    if let Some((name, values)) = series.iter().find(|(_, values)| values.len() != labels.len()) {
        let (labels, values) = (labels.len(), values.len());
        return Err(PlotError::Lengths {
            title: title_of(),
            series: (*name).into(),
            labels,
            values,
        });
    }
    if labels.len() > MOST_BARS {
        let labels = labels.len();
        return Err(PlotError::TooManyBars { title: title_of(), labels, most: MOST_BARS });
    }
    if !series.iter().flat_map(|(_, values)| values).any(|value| value.is_finite()) {
        return Err(PlotError::Empty { title: title_of() });
    }

    let labels: Vec<String> = labels.iter().map(|label| visible(label)).collect();
    let names: Vec<&str> = series.iter().map(|(name, _)| *name).collect();
    // Sizes of text are known before the image's height is.
    let ruler = Canvas::new(1, 1, PAPER);
    let legend_top = MARGIN + TITLE_SIZE + 22.0;
    let legend = Legend::layout(&ruler, &names, MARGIN, WIDTH - MARGIN, legend_top);
    let first_row = legend_top + legend.height + 24.0;
    let range = stacked_range(labels.len(), series);
    let ticks = Scale { from: range, to: (0.0, 0.0) }.ticks(3);
    let widest =
        ticks.iter().map(|(_, text)| ruler.text_width(text, TICK_SIZE)).fold(0.0, f32::max);
    let (left, right) = (MARGIN + widest + 18.0, WIDTH - MARGIN);
    let label_width =
        labels.iter().map(|label| ruler.text_width(label, TICK_SIZE)).fold(0.0, f32::max);
    let slot = (label_width + 12.0).clamp(34.0, right - left);
    let per_row = (((right - left) / slot) as usize).clamp(1, labels.len().max(1));
    let rows = labels.len().div_ceil(per_row);

    let height = first_row + rows as f32 * (BAR_HEIGHT + LABEL_ROOM) + MARGIN / 2.0;
    let mut canvas = Canvas::new(WIDTH as usize, height as usize, PAPER);
    canvas.text(title, MARGIN, MARGIN + TITLE_SIZE * 0.8, TITLE_SIZE, INK);
    legend.draw(&mut canvas, &names, |canvas, index, x, y| {
        let bounds = (x + Legend::SAMPLE - 46.0, y - 15.0, x + Legend::SAMPLE, y + 15.0);
        canvas.rectangle(bounds, series_colour(index), index);
    });
    for row in 0..rows {
        let top = first_row + row as f32 * (BAR_HEIGHT + LABEL_ROOM);
        let y = Scale { from: range, to: (top + BAR_HEIGHT, top) };
        let bars = row * per_row..((row + 1) * per_row).min(labels.len());
        let end = left + slot * bars.len() as f32;
        for (value, text) in &ticks {
            let place = y.pixel(*value).round() + 0.5;
            canvas.line((left, place), (end, place), 1.0, GRID);
            let width = canvas.text_width(text, TICK_SIZE);
            canvas.text(text, left - 14.0 - width, place + 8.0, TICK_SIZE, FAINT_INK);
        }
        for (place, bar) in bars.enumerate() {
            let middle = left + slot * (place as f32 + 0.5);
            stack(&mut canvas, &y, middle, (slot * 0.76).min(64.0), bar, series);
            let label = &labels[bar];
            let start = middle - canvas.text_width(label, TICK_SIZE) / 2.0;
            canvas.text(label, start, top + BAR_HEIGHT + 32.0, TICK_SIZE, INK);
        }
        let zero = y.pixel(0.0).round();
        canvas.line((left, zero), (end, zero), 2.0, FAINT_INK);
    }
    save(&canvas, path)
}

/// One bar: what is positive upwards from zero, what is negative downwards.
fn stack(
    canvas: &mut Canvas,
    y: &Scale,
    middle: f32,
    width: f32,
    bar: usize,
    series: &[(&str, Vec<f64>)],
) {
    let (mut above, mut below) = (0.0, 0.0);
    for (index, (_, values)) in series.iter().enumerate() {
        let value = values[bar];
        if !value.is_finite() {
            continue;
        }
        let end = if value >= 0.0 { &mut above } else { &mut below };
        let (from, to) = (y.pixel(*end), y.pixel(*end + value));
        *end += value;
        let (left, right) = (middle - width / 2.0, middle + width / 2.0);
        canvas.rectangle((left, from.min(to), right, from.max(to)), series_colour(index), index);
    }
}

/// From the lowest to the highest end of any bar, zero included.
fn stacked_range(bars: usize, series: &[(&str, Vec<f64>)]) -> (f64, f64) {
    let (mut least, mut greatest) = (0.0_f64, 0.0_f64);
    for bar in 0..bars {
        let values = || series.iter().map(|(_, values)| values[bar]).filter(|v| v.is_finite());
        greatest = greatest.max(values().filter(|value| *value > 0.0).sum());
        least = least.min(values().filter(|value| *value < 0.0).sum());
    }
    if least == greatest { (0.0, 1.0) } else { (least, greatest) }
}

/// A label in which nothing is invisible, and which is not too long.
fn visible(label: &str) -> String {
    let shown = |character: char| match character {
        ' ' => '␣',
        '\n' | '\r' => '⏎',
        '\t' => '⇥',
        other if other.is_control() => '�',
        other => other,
    };
    let mut text: String = label.chars().take(MOST_LETTERS).map(shown).collect();
    if label.chars().nth(MOST_LETTERS).is_some() {
        text.push('…');
    }
    text
}
