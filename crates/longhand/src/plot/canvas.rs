//! An image to draw on: smooth lines and shapes, text in any script, and its PNG form.

use std::io::Write;

use ab_glyph::{Font, FontRef, GlyphId, PxScale, ScaleFont, point};

use super::PlotError;

/// Red, green and blue, 0 to 255 each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Colour(pub(super) u8, pub(super) u8, pub(super) u8);

impl Colour {
    /// The colour mixed with white; `share` 0 leaves it, 1 is white.
    pub(super) fn lighter(self, share: f32) -> Self {
        let mix = |part: u8| (f32::from(part) + (255.0 - f32::from(part)) * share) as u8;
        Self(mix(self.0), mix(self.1), mix(self.2))
    }
}

/// An image in sRGB; the origin is at the top left, y grows downwards.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    font: Option<FontRef<'static>>,
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize, paper: Colour) -> Self {
        let pixels = [paper.0, paper.1, paper.2].repeat(width * height);
        // Without the outlines every character comes from the bitmap font.
        let font = FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT).ok();
        Self { width, height, pixels, font }
    }

    /// Mixes `colour` into one pixel; `share` 1 covers it. Outside the image nothing happens.
    fn blend(&mut self, x: i64, y: i64, colour: Colour, share: f32) {
        if x < 0 || y < 0 || x >= self.width as i64 || y >= self.height as i64 {
            return;
        }
        let place = (y as usize * self.width + x as usize) * 3;
        let pixel = &mut self.pixels[place..place + 3];
        for (old, new) in pixel.iter_mut().zip([colour.0, colour.1, colour.2]) {
            *old = (f32::from(*old) + (f32::from(new) - f32::from(*old)) * share).round() as u8;
        }
    }

    /// Covers every pixel whose `distance` to a shape is negative, with a smooth edge.
    fn shape(
        &mut self,
        (left, top, right, bottom): (f32, f32, f32, f32),
        colour: Colour,
        distance: impl Fn(f32, f32) -> f32,
    ) {
        let rows = (top.floor().max(0.0) as i64)..=(bottom.ceil().min(self.height as f32) as i64);
        for y in rows {
            for x in (left.floor().max(0.0) as i64)..=(right.ceil().min(self.width as f32) as i64) {
                let share = 0.5 - distance(x as f32 + 0.5, y as f32 + 0.5);
                if share > 0.0 {
                    self.blend(x, y, colour, share.min(1.0));
                }
            }
        }
    }

    /// A straight line with round ends.
    pub(super) fn line(&mut self, a: (f32, f32), b: (f32, f32), width: f32, colour: Colour) {
        let half = width / 2.0;
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let squared = dx * dx + dy * dy;
        let room = half + 1.0;
        let bounds =
            (a.0.min(b.0) - room, a.1.min(b.1) - room, a.0.max(b.0) + room, a.1.max(b.1) + room);
        self.shape(bounds, colour, |x, y| {
            let along = if squared > 0.0 {
                (((x - a.0) * dx + (y - a.1) * dy) / squared).clamp(0.0, 1.0)
            } else {
                0.0
            };
            (x - a.0 - along * dx).hypot(y - a.1 - along * dy) - half
        });
    }

    /// A mark of one of four shapes: circle, square, triangle, diamond.
    pub(super) fn mark(&mut self, shape: usize, x: f32, y: f32, radius: f32, colour: Colour) {
        let room = radius + 2.0;
        self.shape((x - room, y - room, x + room, y + room), colour, |px, py| {
            let (dx, dy) = (px - x, py - y);
            match shape % 4 {
                0 => dx.hypot(dy) - radius,
                1 => dx.abs().max(dy.abs()) - radius * 0.88,
                2 => (dx.abs() * 0.866 - dy * 0.5).max(dy) - radius * 0.62,
                _ => (dx.abs() + dy.abs()) * 0.707 - radius * 0.85,
            }
        });
    }

    /// A filled rectangle on whole pixels; `hatching` 0 is plain, 1 to 3 differ from it
    /// and from each other.
    pub(super) fn rectangle(
        &mut self,
        (left, top, right, bottom): (f32, f32, f32, f32),
        colour: Colour,
        hatching: usize,
    ) {
        let light = colour.lighter(0.6);
        for y in top.round() as i64..bottom.round() as i64 {
            for x in left.round() as i64..right.round() as i64 {
                let hatched = match hatching % 4 {
                    0 => false,
                    1 => (x + y).rem_euclid(10) < 3,
                    2 => y.rem_euclid(9) < 3,
                    _ => x.rem_euclid(9) < 4 && y.rem_euclid(9) < 4,
                };
                self.blend(x, y, if hatched { light } else { colour }, 1.0);
            }
        }
    }

    /// How wide `text` is when drawn at `size`.
    pub(super) fn text_width(&self, text: &str, size: f32) -> f32 {
        text.chars().map(|character| self.advance(character, size)).sum()
    }

    /// Draws text with its baseline's left end at (x, y).
    pub(super) fn text(&mut self, text: &str, x: f32, y: f32, size: f32, colour: Colour) {
        self.letters(text, size, |canvas, dx, dy, share| {
            canvas.blend((x + dx).floor() as i64, (y + dy).floor() as i64, colour, share);
        });
    }

    /// Draws text upwards, its baseline's lower end at (x, y).
    pub(super) fn text_upwards(&mut self, text: &str, x: f32, y: f32, size: f32, colour: Colour) {
        self.letters(text, size, |canvas, dx, dy, share| {
            canvas.blend((x + dy).floor() as i64, (y - dx).floor() as i64, colour, share);
        });
    }

    /// Calls `put` for each covered pixel, relative to the baseline's start.
    fn letters(&mut self, text: &str, size: f32, put: impl Fn(&mut Self, f32, f32, f32)) {
        let mut x = 0.0;
        for character in text.chars() {
            if let Some((font, id)) = self.outline(character) {
                let glyph = id.with_scale_and_position(PxScale::from(size), point(x, 0.0));
                if let Some(outline) = font.outline_glyph(glyph) {
                    let corner = outline.px_bounds().min;
                    outline.draw(|px, py, share| {
                        put(self, corner.x + px as f32, corner.y + py as f32, share.min(1.0));
                    });
                }
            } else if let Some(glyph) = unifont::get_glyph(character) {
                // Nine samples per pixel smooth the bitmap at any size.
                let unit = bitmap_unit(size);
                let across = (glyph.get_width() as f32 * unit).ceil() as usize;
                for (py, px) in pairs((16.0 * unit).ceil() as usize, across) {
                    let set = pairs(3, 3).filter(|&(sy, sx)| {
                        let at = |pixel: usize, sample: usize| {
                            ((pixel as f32 + (sample as f32 + 0.5) / 3.0) / unit) as usize
                        };
                        glyph.get_pixel(at(px, sx), at(py, sy))
                    });
                    let share = set.count() as f32 / 9.0;
                    if share > 0.0 {
                        put(self, x.round() + px as f32, py as f32 - 13.5 * unit, share);
                    }
                }
            }
            x += self.advance(character, size);
        }
    }

    fn advance(&self, character: char, size: f32) -> f32 {
        if let Some((font, id)) = self.outline(character) {
            return font.as_scaled(PxScale::from(size)).h_advance(id);
        }
        unifont::get_glyph(character)
            .map_or(0.0, |glyph| glyph.get_width() as f32 * bitmap_unit(size))
    }

    /// The character in the outline font, if that has it.
    fn outline(&self, character: char) -> Option<(FontRef<'static>, GlyphId)> {
        let font = self.font.clone()?;
        let id = font.glyph_id(character);
        (id.0 != 0).then_some((font, id))
    }

    pub(super) fn write_png(&self, writer: impl Write) -> Result<(), PlotError> {
        let mut encoder = png::Encoder::new(writer, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut image = encoder.write_header()?;
        image.write_image_data(&self.pixels)?;
        image.finish()?;
        Ok(())
    }
}

/// The side of a bitmap glyph's dot beside outlines of `size`.
fn bitmap_unit(size: f32) -> f32 {
    size * 0.9 / 16.0
}

fn pairs(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)))
}
