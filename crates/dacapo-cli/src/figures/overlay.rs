//! A plane of a dataset: raw, and its labels drawn over it.

use std::path::Path;

use dacapo::datasplit::Picture;

use super::canvas::{CHARACTER, Canvas, Colour};
use super::montage::{BACKGROUND, GAP, INK, TILE, label_colour};

/// How much of a label's colour is seen over raw.
const OPACITY: f32 = 0.45;
/// Where nothing is annotated.
const UNKNOWN: Colour = [90, 110, 140];

/// Draws raw beside raw with the colours of its labels, and saves it as PNG. From its darkest to its brightest value
/// raw is grey; of several channels the first three are red, green and blue. Where nothing is annotated it is bluish.
pub fn overlay(path: &Path, caption: &str, picture: &Picture) -> anyhow::Result<()> {
    let (height, width) = picture.labels.dim();
    let scale = TILE.div_ceil(width.max(1)).max(1);
    let line = CHARACTER * 2 + GAP;
    let tile = [width * scale, height * scale];
    let mut canvas = Canvas::new(GAP + 2 * (tile[0] + GAP), line + tile[1] + GAP, BACKGROUND);
    canvas.text([GAP, GAP / 2], 2, INK, caption);
    let channels = picture.raw.dim().0;
    let range = |channel: usize| {
        let values = picture.raw.index_axis(ndarray::Axis(0), channel);
        values
            .iter()
            .fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)))
    };
    // Of one channel all colours, of two the third is dark.
    let ranges: Vec<(f32, f32)> = (0..channels).map(range).collect();
    let raw = |x: usize, y: usize| -> Colour {
        std::array::from_fn(|colour| {
            let channel = if channels == 1 { 0 } else { colour };
            let Some((low, high)) = ranges.get(channel) else {
                return 0;
            };
            let value = (picture.raw[[channel, y, x]] - low) / (high - low).max(f32::EPSILON);
            (value.clamp(0.0, 1.0) * 255.0) as u8
        })
    };
    let over = |x: usize, y: usize| -> Colour {
        let below = raw(x, y);
        let above = match (picture.known[[y, x]], picture.labels[[y, x]]) {
            (false, _) => UNKNOWN,
            (true, 0) => return below,
            (true, _) => label_colour(picture.labels.view(), x, y),
        };
        std::array::from_fn(|i| (f32::from(below[i]) * (1.0 - OPACITY) + f32::from(above[i]) * OPACITY) as u8)
    };
    canvas.tile([GAP, line], [width, height], scale, raw);
    canvas.tile([2 * GAP + tile[0], line], [width, height], scale, over);
    canvas.save(path)
}

#[cfg(test)]
mod tests {
    use dacapo::array::{Coordinate, Roi};
    use ndarray::{Array2, Array3};

    use super::*;

    #[test]
    fn labels_colour_raw_where_they_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("o.png");
        let picture = Picture {
            raw: Array3::from_shape_fn((1, 200, 300), |(_, y, _)| y as f32),
            labels: Array2::from_shape_fn((200, 300), |(_, x)| u64::from(x >= 100) * 7),
            known: Array2::from_shape_fn((200, 300), |(_, x)| x < 200),
            roi: Roi::new(Coordinate::new([0, 0]), Coordinate::new([200, 300])),
        };
        overlay(&path, "crop", &picture).unwrap();
        let file = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!(info.width as usize, 3 * GAP + 600);
        let at = |x: usize, y: usize| -> Colour {
            let start = ((y + CHARACTER * 2 + GAP) * info.width as usize + x) * 3;
            [pixels[start], pixels[start + 1], pixels[start + 2]]
        };
        let (left, right) = (GAP, 2 * GAP + 300);
        assert_eq!(at(left + 50, 100), at(right + 50, 100), "background is raw");
        assert_eq!(at(left, 0), [0; 3]);
        let labelled = at(right + 150, 100);
        assert!(
            labelled[0] != labelled[1] || labelled[1] != labelled[2],
            "{labelled:?}"
        );
        assert_ne!(at(right + 250, 100), labelled);
    }
}
