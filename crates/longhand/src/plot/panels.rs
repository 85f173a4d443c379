//! Panels over a text's tokens, one below the other, wrapped over rows like the text itself.

use std::ops::Range;
use std::path::Path;

use super::canvas::Canvas;
use super::scale::{Scale, range};
use super::*;

const WIDTH: f32 = 1800.0;
/// The tallest image, which is then held in 150 MiB.
const TALLEST: f32 = 29_000.0;
/// Heights of the first panel of a row and of the others, and the room above each for its title.
const FIRST: f32 = 220.0;
const FURTHER: f32 = 110.0;
const TITLE_ROOM: f32 = 44.0;
/// The room below a row's panels for the tokens.
const LABEL_ROOM: f32 = 76.0;
const NARROWEST_SLOT: f32 = 34.0;
const MOST_LETTERS: usize = 10;

/// The values to be drawn for each token.
#[derive(Clone, Debug)]
pub struct Panel<'a> {
    /// Name of the panel, for its upper left corner.
    pub title: &'a str,
    /// How its values are drawn.
    pub form: PanelForm,
    /// The least and the greatest value; where none are given, those of the values.
    pub range: Option<(f64, f64)>,
    /// The names, each with a value for every token. A name looks the same in every panel.
    pub series: Vec<(&'a str, Vec<f64>)>,
}

/// How a panel's values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanelForm {
    /// One bar for each token, its series stacked; what is negative downwards.
    Bars,
    /// One curve for each series.
    Curves,
}

/// Draws panels over tokens, wrapped over as many rows as needed, and writes the image to `path`
/// (PNG, an existing file is replaced). All rows share their scales. Values that are not finite
/// are left out. Spaces and line ends in labels are shown as `␣` and `⏎`.
///
/// # Errors
/// If a series has not one value for each label, if no value is finite, if there are more labels
/// than an image can hold, or if the file cannot be written.
pub fn token_panels(
    path: &Path,
    title: &str,
    labels: &[String],
    panels: &[Panel],
) -> Result<(), PlotError> {
    for (name, values) in panels.iter().flat_map(|panel| &panel.series) {
        if values.len() != labels.len() {
            let (series, title) = ((*name).into(), title.into());
            let (labels, values) = (labels.len(), values.len());
            return Err(PlotError::Lengths { title, series, labels, values });
        }
    }
    let mut values = panels.iter().flat_map(|panel| &panel.series).flat_map(|(_, values)| values);
    if !values.any(|value| value.is_finite()) {
        return Err(PlotError::Empty { title: title.into() });
    }
    let layout = Layout::new(labels, panels);
    let fitting = ((TALLEST - layout.first_row) / layout.row_height).max(1.0) as usize;
    if let Some(row) = layout.rows.get(fitting) {
        let (title, labels) = (title.into(), labels.len());
        return Err(PlotError::TooManyTokens { title, labels, most: row.start });
    }

    let mut canvas = Canvas::new(WIDTH as usize, layout.height() as usize, PAPER);
    canvas.text(title, MARGIN, MARGIN + TITLE_SIZE * 0.8, TITLE_SIZE, INK);
    layout.legend.draw(&mut canvas, &layout.names, |canvas, index, x, y| {
        let right = x + Legend::SAMPLE;
        match layout.forms[index] {
            PanelForm::Bars => {
                let bounds = (right - 46.0, y - 15.0, right, y + 15.0);
                canvas.rectangle(bounds, series_colour(index), index);
            }
            PanelForm::Curves => {
                curve(canvas, index, [(x, y), ((x + right) / 2.0, y), (right, y)].into_iter());
            }
        }
    });
    for (row, tokens) in layout.rows.iter().enumerate() {
        layout.draw_row(&mut canvas, row, tokens.clone(), panels);
    }
    save(&canvas, path)
}

/// The place of everything in the image.
struct Layout<'a> {
    /// Labels as they are drawn, and the left end and the width of each one's place in its row.
    labels: Vec<(String, f32, f32)>,
    /// The tokens of each row.
    rows: Vec<Range<usize>>,
    first_row: f32,
    row_height: f32,
    left: f32,
    /// Least and greatest value of each panel.
    ranges: Vec<(f64, f64)>,
    /// Every series' name once, and how it is drawn.
    names: Vec<&'a str>,
    forms: Vec<PanelForm>,
    legend: Legend,
}

impl<'a> Layout<'a> {
    fn new(labels: &[String], panels: &[Panel<'a>]) -> Self {
        // Sizes of text are known before the image's height is.
        let ruler = Canvas::new(1, 1, PAPER);
        let (mut names, mut forms) = (Vec::new(), Vec::new());
        for panel in panels {
            for (name, _) in &panel.series {
                if !names.contains(name) {
                    names.push(*name);
                    forms.push(panel.form);
                }
            }
        }
        let legend_top = MARGIN + TITLE_SIZE + 22.0;
        let legend = Legend::layout(&ruler, &names, MARGIN, WIDTH - MARGIN, legend_top);
        let ranges: Vec<(f64, f64)> = panels.iter().map(panel_range).collect();
        let ticks = ranges.iter().flat_map(|&from| Scale { from, to: (0.0, 0.0) }.ticks(3));
        let widest = ticks.map(|(_, text)| ruler.text_width(&text, TICK_SIZE)).fold(0.0, f32::max);
        let (left, right) = (MARGIN + widest + 18.0, WIDTH - MARGIN);

        let mut placed = Vec::with_capacity(labels.len());
        let mut rows: Vec<Range<usize>> = Vec::new();
        let mut at = right;
        for (token, label) in labels.iter().enumerate() {
            let label = visible(label);
            let wanted = ruler.text_width(&label, TICK_SIZE) + 12.0;
            let width = wanted.clamp(NARROWEST_SLOT, right - left);
            if at + width > right {
                rows.push(token..token);
                at = left;
            }
            if let Some(row) = rows.last_mut() {
                row.end = token + 1;
            }
            placed.push((label, at, width));
            at += width;
        }
        let heights: f32 = (0..panels.len()).map(|panel| TITLE_ROOM + height(panel)).sum();
        Self {
            labels: placed,
            rows,
            first_row: legend_top + legend.height + 8.0,
            row_height: heights + LABEL_ROOM,
            left,
            ranges,
            names,
            forms,
            legend,
        }
    }

    fn height(&self) -> f32 {
        self.first_row + self.rows.len() as f32 * self.row_height + MARGIN / 2.0
    }

    fn draw_row(&self, canvas: &mut Canvas, row: usize, tokens: Range<usize>, panels: &[Panel]) {
        let mut top = self.first_row + row as f32 * self.row_height;
        let slots = &self.labels[tokens.clone()];
        let end = slots.last().map_or(self.left, |(_, left, width)| left + width);
        for (index, panel) in panels.iter().enumerate() {
            canvas.text(panel.title, self.left, top + TITLE_ROOM - 14.0, TICK_SIZE, FAINT_INK);
            top += TITLE_ROOM;
            let y = Scale { from: self.ranges[index], to: (top + height(index), top) };
            for (value, text) in y.ticks(3) {
                let place = y.pixel(value).round() + 0.5;
                canvas.line((self.left, place), (end, place), 1.0, GRID);
                let width = canvas.text_width(&text, TICK_SIZE);
                canvas.text(&text, self.left - 14.0 - width, place + 8.0, TICK_SIZE, FAINT_INK);
            }
            match panel.form {
                PanelForm::Bars => {
                    for (token, (_, left, width)) in tokens.clone().zip(slots) {
                        let across = (left + width / 2.0, (width * 0.76).min(64.0));
                        self.stack(canvas, &y, across, token, panel);
                    }
                }
                PanelForm::Curves => {
                    for (name, values) in &panel.series {
                        let points = tokens.clone().zip(slots).map(|(token, (_, left, width))| {
                            (left + width / 2.0, y.pixel(values[token]))
                        });
                        curve(canvas, self.look(name), points);
                    }
                }
            }
            let zero = y.pixel(y.from.0.max(0.0)).round();
            canvas.line((self.left, zero), (end, zero), 2.0, FAINT_INK);
            top += height(index);
        }
        for (label, left, width) in slots {
            let start = left + (width - canvas.text_width(label, TICK_SIZE)) / 2.0;
            canvas.text(label, start, top + 32.0, TICK_SIZE, INK);
        }
    }

    /// A name's place among all: its colour, hatching and mark.
    fn look(&self, name: &str) -> usize {
        self.names.iter().position(|other| *other == name).unwrap_or(0)
    }

    /// One bar: what is positive upwards from zero, what is negative downwards.
    fn stack(
        &self,
        canvas: &mut Canvas,
        y: &Scale,
        (middle, width): (f32, f32),
        token: usize,
        panel: &Panel,
    ) {
        let (mut above, mut below) = (0.0, 0.0);
        for (name, values) in &panel.series {
            let value = values[token];
            if !value.is_finite() {
                continue;
            }
            let end = if value >= 0.0 { &mut above } else { &mut below };
            let (from, to) = (y.pixel(*end), y.pixel(*end + value));
            *end += value;
            let (left, right) = (middle - width / 2.0, middle + width / 2.0);
            let look = self.look(name);
            canvas.rectangle((left, from.min(to), right, from.max(to)), series_colour(look), look);
        }
    }
}

fn height(panel: usize) -> f32 {
    if panel == 0 { FIRST } else { FURTHER }
}

/// A marked point for each token, joined to the next.
fn curve(canvas: &mut Canvas, look: usize, points: impl Iterator<Item = (f32, f32)>) {
    let mut last: Option<(f32, f32)> = None;
    for point in points {
        let here = point.1.is_finite().then_some(point);
        if let (Some(last), Some(here)) = (last, here) {
            canvas.line(last, here, 3.0, series_colour(look));
        }
        if let Some((x, y)) = here {
            canvas.mark(look, x, y, 7.0, series_colour(look));
        }
        last = here;
    }
}

/// The least and greatest value of a panel; of bars, their ends and zero.
fn panel_range(panel: &Panel) -> (f64, f64) {
    if let Some(range) = panel.range {
        return range;
    }
    let found = match panel.form {
        PanelForm::Curves => {
            range(panel.series.iter().flat_map(|(_, values)| values.iter().copied()))
        }
        PanelForm::Bars => {
            let (mut least, mut greatest) = (0.0_f64, 0.0_f64);
            for bar in 0..panel.series.first().map_or(0, |(_, values)| values.len()) {
                let parts = || panel.series.iter().map(move |(_, values)| values[bar]);
                let finite = || parts().filter(|x| x.is_finite());
                greatest = greatest.max(finite().filter(|x| *x > 0.0).sum());
                least = least.min(finite().filter(|x| *x < 0.0).sum());
            }
            (least < greatest).then_some((least, greatest))
        }
    };
    found.unwrap_or((0.0, 1.0))
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
