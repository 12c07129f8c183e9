//! An RGB image to draw on: tiles and text, saved as PNG.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use font8x8::UnicodeFonts;

/// Red, green, blue.
pub type Colour = [u8; 3];

/// An image.
pub struct Canvas {
    width: usize,
    pixels: Vec<Colour>,
}

/// Pixels of a character, at scale 1.
pub const CHARACTER: usize = 8;

impl Canvas {
    /// An image of one colour.
    pub fn new(width: usize, height: usize, background: Colour) -> Self {
        Self {
            width,
            pixels: vec![background; width * height],
        }
    }

    fn set(&mut self, x: usize, y: usize, colour: Colour) {
        if x < self.width
            && let Some(pixel) = self.pixels.get_mut(y * self.width + x)
        {
            *pixel = colour;
        }
    }

    /// Draws `colour(column, row)` as squares of `scale` pixels, from a corner.
    pub fn tile(
        &mut self,
        corner: [usize; 2],
        size: [usize; 2],
        scale: usize,
        colour: impl Fn(usize, usize) -> Colour,
    ) {
        for row in 0..size[1] * scale {
            for column in 0..size[0] * scale {
                self.set(
                    corner[0] + column,
                    corner[1] + row,
                    colour(column / scale, row / scale),
                );
            }
        }
    }

    /// Draws a line of one pixel around what has this size, just outside of it.
    pub fn frame(&mut self, corner: [usize; 2], size: [usize; 2], colour: Colour) {
        let [left, top] = corner.map(|n| n.saturating_sub(1));
        let (right, bottom) = (corner[0] + size[0], corner[1] + size[1]);
        for x in left..=right {
            self.set(x, top, colour);
            self.set(x, bottom, colour);
        }
        for y in top..=bottom {
            self.set(left, y, colour);
            self.set(right, y, colour);
        }
    }

    /// Writes text from a corner. What the font does not have is left out.
    pub fn text(&mut self, corner: [usize; 2], scale: usize, colour: Colour, text: &str) {
        for (i, character) in text.chars().enumerate() {
            let Some(glyph) = font8x8::BASIC_FONTS.get(character) else {
                continue;
            };
            for (row, bits) in glyph.iter().enumerate() {
                for column in (0..CHARACTER).filter(|column| bits >> column & 1 == 1) {
                    let at = [
                        corner[0] + (i * CHARACTER + column) * scale,
                        corner[1] + row * scale,
                    ];
                    self.tile(at, [1, 1], scale, |_, _| colour);
                }
            }
        }
    }

    /// Saves it as PNG.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let file = BufWriter::new(File::create(path)?);
        let height = self.pixels.len() / self.width.max(1);
        let mut encoder = png::Encoder::new(file, self.width as u32, height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(self.pixels.as_flattened())?;
        Ok(writer.finish()?)
    }
}
