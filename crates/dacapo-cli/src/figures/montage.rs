//! Slices beside each other: raw, truth, affinities and segmentation, a row for each iteration.

use std::path::Path;

use ndarray::{ArrayView2, ArrayView3};

use super::canvas::{CHARACTER, Canvas, Colour};

/// One row of a montage: what a network of some iteration made of the same slice.
pub struct Row<'a> {
    /// Written above it.
    pub caption: String,
    /// Affinities (channel, y, x), 0 to 1: the first three are shown as red, green and blue.
    pub prediction: ArrayView3<'a, f32>,
    /// Segments (y, x).
    pub segmentation: ArrayView2<'a, u64>,
}

const BACKGROUND: Colour = [250, 250, 250];
const INK: Colour = [30, 30, 30];
const GAP: usize = 12;
/// Tiles are scaled up to at least so many pixels.
const TILE: usize = 256;

/// Draws the rows and saves them as PNG. Values of raw from `black` to `white` become grey.
pub fn montage(
    path: &Path,
    raw: ArrayView2<'_, f32>,
    [black, white]: [f32; 2],
    truth: ArrayView2<'_, u64>,
    rows: &[Row<'_>],
) -> anyhow::Result<()> {
    let (height, width) = raw.dim();
    let scale = TILE.div_ceil(width.max(1)).max(1);
    let text = 2;
    let line = CHARACTER * text + GAP;
    let tile = [width * scale, height * scale];
    let size = [
        GAP + 4 * (tile[0] + GAP),
        line + rows.len() * (line + tile[1] + GAP),
    ];
    let mut canvas = Canvas::new(size[0], size[1], BACKGROUND);
    let corner = |column: usize, row: usize| {
        [
            GAP + column * (tile[0] + GAP),
            line + row * (line + tile[1] + GAP) + line,
        ]
    };
    for (column, title) in ["raw", "truth", "affinities", "segmentation"]
        .into_iter()
        .enumerate()
    {
        canvas.text([corner(column, 0)[0], GAP / 2], text, INK, title);
    }
    let grey = |x: usize, y: usize| {
        let value = (raw[[y, x]] - black) / (white - black).max(f32::EPSILON);
        [(value.clamp(0.0, 1.0) * 255.0) as u8; 3]
    };
    for (i, row) in rows.iter().enumerate() {
        let [x, y] = corner(0, i);
        canvas.text([x, y - line + GAP / 2], text, INK, &row.caption);
        let channels = row.prediction.dim().0;
        let affinity = |x: usize, y: usize| -> Colour {
            std::array::from_fn(|c| {
                (row.prediction[[c.min(channels - 1), y, x]].clamp(0.0, 1.0) * 255.0) as u8
            })
        };
        canvas.tile(corner(0, i), [width, height], scale, grey);
        canvas.tile(corner(1, i), [width, height], scale, |x, y| {
            label_colour(truth, x, y)
        });
        canvas.tile(corner(2, i), [width, height], scale, affinity);
        canvas.tile(corner(3, i), [width, height], scale, |x, y| {
            label_colour(row.segmentation, x, y)
        });
    }
    canvas.save(path)
}

/// The colour of a label: always the same one, black for 0, dark where another label begins.
pub(super) fn label_colour(labels: ArrayView2<'_, u64>, x: usize, y: usize) -> Colour {
    let label = labels[[y, x]];
    if label == 0 {
        return [0; 3];
    }
    let differs = |y: usize, x: usize| labels.get([y, x]).is_some_and(|&other| other != label);
    let colour = palette(label);
    if differs(y, x + 1) || differs(y + 1, x) {
        colour.map(|c| c / 4)
    } else {
        colour
    }
}

/// A bright colour for a label; labels that are near each other get colours that are far apart.
fn palette(label: u64) -> Colour {
    // Multiples of the golden ratio spread evenly over the circle of hues.
    let turn = (label as f64 * 0.618_033_988_749_895).fract();
    let value = [0.95, 0.75, 0.85][(label % 3) as usize];
    let saturation = [0.55, 0.75, 0.40][(label / 3 % 3) as usize];
    std::array::from_fn(|channel| {
        let distance = ((turn * 6.0 + [5.0, 3.0, 1.0][channel]) % 6.0).min(6.0);
        let wave = distance.min(4.0 - distance).clamp(0.0, 1.0);
        ((value - value * saturation * wave) * 255.0) as u8
    })
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};

    use super::*;

    #[test]
    fn a_montage_is_a_png_of_four_tiles_a_row() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.png");
        let raw = Array2::from_shape_fn((40, 50), |(y, x)| (y + x) as f32);
        let labels = Array2::from_shape_fn((40, 50), |(y, x)| (y / 10 * 5 + x / 10) as u64);
        let prediction = Array3::from_elem((2, 40, 50), 0.5);
        let row = || Row {
            caption: "x".into(),
            prediction: prediction.view(),
            segmentation: labels.view(),
        };
        montage(&path, raw.view(), [0.0, 90.0], labels.view(), &[row(), row()]).unwrap();
        let file = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
        let reader = png::Decoder::new(file).read_info().unwrap();
        assert_eq!(reader.info().width as usize, GAP + 4 * (50 * 6 + GAP));
    }

    #[test]
    fn neighbouring_labels_differ_in_colour() {
        for label in 1..500 {
            let (a, b) = (palette(label), palette(label + 1));
            let distance: i32 = a
                .iter()
                .zip(b)
                .map(|(&a, b)| (i32::from(a) - i32::from(b)).abs())
                .sum();
            assert!(distance > 60, "{label}: {a:?} {b:?}");
        }
    }
}
