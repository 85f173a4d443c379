//! Plots as PNG files, drawn in pure Rust with fonts of our own: no system library, no font file.
//!
//! Colours are Okabe and Ito's, which colour-blind readers can tell apart, and never carry the
//! meaning alone: curves differ in dashes and marks too, bars in hatching.

use std::path::Path;

mod canvas;
mod curves;
mod panels;
mod scale;
#[cfg(test)]
mod tests;

pub use curves::lines;
pub use panels::{Panel, PanelForm, token_panels};

use canvas::{Canvas, Colour};

/// Why a plot could not be drawn or written.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// There is nothing to draw.
    #[error("the plot '{title}' has no finite value to draw")]
    Empty {
        /// Title of the plot.
        title: String,
    },
    /// A series has more or fewer values than there are labels.
    #[error(
        "the plot '{title}' has {labels} labels, but its series '{series}' has {values} values"
    )]
    Lengths {
        /// Title of the plot.
        title: String,
        /// Name of the series.
        series: String,
        /// How many labels there are.
        labels: usize,
        /// How many values the series has.
        values: usize,
    },
    /// More tokens than an image can hold.
    #[error(
        "the plot '{title}' has {labels} tokens, and only the first {most} fit into an image; take \
         a part"
    )]
    TooManyTokens {
        /// Title of the plot.
        title: String,
        /// How many labels there are.
        labels: usize,
        /// Number of labels that fit.
        most: usize,
    },
    /// The file could not be written.
    #[error("cannot write the plot")]
    Write(#[from] std::io::Error),
    /// The image could not be encoded.
    #[error("cannot write the plot")]
    Encode(#[from] png::EncodingError),
}

const PAPER: Colour = Colour(255, 255, 255);
const INK: Colour = Colour(34, 34, 34);
const FAINT_INK: Colour = Colour(96, 96, 96);
const GRID: Colour = Colour(226, 226, 226);
const SERIES: [Colour; 6] = [
    Colour(0, 114, 178),
    Colour(213, 94, 0),
    Colour(0, 158, 115),
    Colour(204, 121, 167),
    Colour(86, 180, 233),
    Colour(230, 159, 0),
];

/// Sizes of text and space in pixels; the images are twice as dense as a plain screen.
const TITLE_SIZE: f32 = 38.0;
const LABEL_SIZE: f32 = 28.0;
const TICK_SIZE: f32 = 24.0;
const MARGIN: f32 = 36.0;

fn series_colour(index: usize) -> Colour {
    SERIES[index % SERIES.len()]
}

/// A name's place in a legend, and the legend's height.
struct Legend {
    places: Vec<(f32, f32)>,
    height: f32,
}

impl Legend {
    const SAMPLE: f32 = 92.0;
    const LINE: f32 = 44.0;

    /// Puts the names one after the other from (`left`, `top`), in as many lines as they need.
    fn layout(canvas: &Canvas, names: &[&str], left: f32, right: f32, top: f32) -> Self {
        let (mut x, mut y) = (left, top);
        let mut places = Vec::with_capacity(names.len());
        for name in names {
            let width = Self::SAMPLE + 14.0 + canvas.text_width(name, LABEL_SIZE);
            if x > left && x + width > right {
                (x, y) = (left, y + Self::LINE);
            }
            places.push((x, y));
            x += width + 44.0;
        }
        Self { places, height: y - top + Self::LINE }
    }

    /// Writes the names; `sample` draws what stands before each, centred on the point given.
    fn draw(
        &self,
        canvas: &mut Canvas,
        names: &[&str],
        mut sample: impl FnMut(&mut Canvas, usize, f32, f32),
    ) {
        for (index, (name, &(x, y))) in names.iter().zip(&self.places).enumerate() {
            let middle = y + Self::LINE / 2.0;
            sample(canvas, index, x, middle);
            canvas.text(name, x + Self::SAMPLE + 14.0, middle + 9.0, LABEL_SIZE, INK);
        }
    }
}

fn save(canvas: &Canvas, path: &Path) -> Result<(), PlotError> {
    let file = fs_err::File::create(path)?;
    canvas.write_png(std::io::BufWriter::new(file))
}
