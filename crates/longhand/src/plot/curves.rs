//! Curves over a common axis.

use std::path::Path;

use super::canvas::{Canvas, Colour};
use super::scale::{Scale, range};
use super::*;

const WIDTH: f32 = 1600.0;
const HEIGHT: f32 = 1000.0;
const STROKE: f32 = 4.0;
const MARK: f32 = 10.0;
/// Lengths of a stroke and the gap after it; none for an unbroken line.
const DASHES: [Option<(f32, f32)>; 4] =
    [None, Some((24.0, 12.0)), Some((6.0, 10.0)), Some((40.0, 14.0))];

/// Draws each series as a curve of (x, y) points and writes the image to `path` (PNG, an existing
/// file is replaced). The horizontal axis includes zero. A point that is not
/// finite interrupts its curve.
///
/// # Errors
/// If no point is finite, or the file cannot be written.
pub fn lines(
    path: &Path,
    title: &str,
    x_label: &str,
    y_label: &str,
    series: &[(&str, Vec<(f64, f64)>)],
) -> Result<(), PlotError> {
    let finite = |&&(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
    let points = || series.iter().flat_map(|(_, points)| points).filter(finite);
    let (Some(mut xs), Some(ys)) = (range(points().map(|p| p.0)), range(points().map(|p| p.1)))
    else {
        return Err(PlotError::Empty { title: title.into() });
    };
    // Distances and steps are read from zero.
    xs.0 = xs.0.min(0.0);
    let room = (ys.1 - ys.0) * 0.05;
    let mut canvas = Canvas::new(WIDTH as usize, HEIGHT as usize, PAPER);
    canvas.text(title, MARGIN, MARGIN + TITLE_SIZE * 0.8, TITLE_SIZE, INK);

    let names: Vec<&str> = series.iter().map(|(name, _)| *name).collect();
    let legend_top = MARGIN + TITLE_SIZE + 22.0;
    let legend = Legend::layout(&canvas, &names, MARGIN, WIDTH - MARGIN, legend_top);
    let bottom = HEIGHT - MARGIN - 2.0 * LABEL_SIZE - 22.0;
    let mut y = Scale {
        from: (ys.0 - room, ys.1 + room),
        to: (bottom, (legend_top + legend.height + 24.0).min(bottom - 100.0)),
    };
    // An axis that begins at zero says so, instead of at a little below it.
    if ys.0 == 0.0 {
        y.from.0 = 0.0;
    }
    let y_ticks = y.ticks(7);
    let widest =
        y_ticks.iter().map(|(_, text)| canvas.text_width(text, TICK_SIZE)).fold(0.0, f32::max);
    let left = MARGIN + LABEL_SIZE + 26.0 + widest;
    let x = Scale { from: xs, to: (left, WIDTH - MARGIN - 20.0) };

    axes(&mut canvas, &x, &y, x_label, y_label);
    for (index, (_, points)) in series.iter().enumerate() {
        let pixels: Vec<(f32, f32)> =
            points.iter().map(|&(a, b)| (x.pixel(a), y.pixel(b))).collect();
        curve(&mut canvas, index, &pixels);
    }
    legend.draw(&mut canvas, &names, |canvas, index, x, y| {
        curve(canvas, index, &[(x, y), (x + Legend::SAMPLE / 2.0, y), (x + Legend::SAMPLE, y)]);
    });
    save(&canvas, path)
}

fn axes(canvas: &mut Canvas, x: &Scale, y: &Scale, x_label: &str, y_label: &str) {
    let ((left, right), (bottom, top)) = (x.to, y.to);
    for (value, text) in y.ticks(7) {
        let place = y.pixel(value).round() + 0.5;
        canvas.line((left, place), (right, place), 1.0, GRID);
        let width = canvas.text_width(&text, TICK_SIZE);
        canvas.text(&text, left - 14.0 - width, place + 8.0, TICK_SIZE, FAINT_INK);
    }
    for (value, text) in x.ticks(9) {
        let place = x.pixel(value).round() + 0.5;
        canvas.line((place, bottom), (place, bottom + 8.0), 1.5, FAINT_INK);
        let width = canvas.text_width(&text, TICK_SIZE);
        canvas.text(&text, place - width / 2.0, bottom + 36.0, TICK_SIZE, FAINT_INK);
    }
    canvas.line((left, bottom), (right, bottom), 2.0, FAINT_INK);
    let middle = (left + right - canvas.text_width(x_label, LABEL_SIZE)) / 2.0;
    canvas.text(x_label, middle, HEIGHT - MARGIN, LABEL_SIZE, INK);
    let middle = (top + bottom + canvas.text_width(y_label, LABEL_SIZE)) / 2.0;
    canvas.text_upwards(y_label, MARGIN + LABEL_SIZE * 0.7, middle, LABEL_SIZE, INK);
}

/// A curve through pixels, dashed and marked as its number wants.
fn curve(canvas: &mut Canvas, index: usize, pixels: &[(f32, f32)]) {
    let colour = series_colour(index);
    let dashes = DASHES[index % DASHES.len()];
    let mut travelled = 0.0;
    for pair in pixels.windows(2) {
        let [a, b] = [pair[0], pair[1]];
        if [a.0, a.1, b.0, b.1].iter().all(|place| place.is_finite()) {
            travelled = dashed(canvas, a, b, travelled, dashes, colour);
        }
    }
    // Every point of a short curve has a mark; of a long one, as many as tell it from others.
    let every = if pixels.len() <= 24 { 1 } else { pixels.len() / 8 };
    let lone = pixels.len() == 1;
    let is_sample = pixels.len() == 3;
    for (place, &(x, y)) in pixels.iter().enumerate() {
        let chosen = (place + every / 2) % every == 0 || lone;
        if chosen && x.is_finite() && y.is_finite() && !(is_sample && place != 1) {
            canvas.mark(index, x, y, MARK + 3.0, PAPER);
            canvas.mark(index, x, y, MARK, colour);
        }
    }
}

/// Draws from `a` to `b`, the dashes going on from what was `travelled`; gives the new total.
fn dashed(
    canvas: &mut Canvas,
    a: (f32, f32),
    b: (f32, f32),
    travelled: f32,
    dashes: Option<(f32, f32)>,
    colour: Colour,
) -> f32 {
    let length = (b.0 - a.0).hypot(b.1 - a.1);
    let Some((stroke, gap)) = dashes else {
        canvas.line(a, b, STROKE, colour);
        return travelled + length;
    };
    let at = |along: f32| {
        let share = if length > 0.0 { along / length } else { 0.0 };
        (a.0 + (b.0 - a.0) * share, a.1 + (b.1 - a.1) * share)
    };
    let mut along = -(travelled % (stroke + gap));
    while along < length {
        let (from, to) = (along.max(0.0), (along + stroke).min(length));
        if from < to {
            canvas.line(at(from), at(to), STROKE, colour);
        }
        along += stroke + gap;
    }
    travelled + length
}
