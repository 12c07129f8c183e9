//! Training batches as the network sees them: raw, labels, what is to be learned and how much it counts, in slices
//! through the middle of each sample.

use std::path::Path;

use dacapo::nn::Tensor;
use dacapo::{Shapes, TrainingBatch};
use ndarray::{ArrayView2, ArrayView3, ArrayView4, Axis};

use super::canvas::{CHARACTER, Canvas, Colour};
use super::montage::label_colour;

const BACKGROUND: Colour = [250, 250, 250];
const INK: Colour = [30, 30, 30];
const FRAME: Colour = [255, 170, 0];
const GAP: usize = 10;
const LINE: usize = CHARACTER + 8;
/// Raw is scaled up to at least so many pixels.
const TILE: usize = 192;

/// Draws every sample of a batch and saves them as PNG: raw in grey, of which -0.5 to 0.5 is black to white, with
/// a frame round what is predicted; labels in colours; targets and weights three channels at a time, as red, green
/// and blue. 3D samples have a row across the first axis and one across the second. `voxel_size` is that of raw,
/// for how it looks along coarse axes.
pub fn preview(
    path: &Path,
    batch: &TrainingBatch,
    shapes: &Shapes,
    voxel_size: &[f64],
) -> anyhow::Result<()> {
    let views = views(shapes, voxel_size);
    let groups = batch.tensors.target.shape[1].div_ceil(3);
    let width = |view: &View| view.raw[0] + GAP + (1 + 2 * groups) * (view.output[0] + GAP);
    let widest = views.iter().map(width).max().unwrap_or(0);
    let row_height = |view: &View| 2 * LINE + view.raw[1] + GAP;
    let height = GAP + batch.labels.len() * views.iter().map(row_height).sum::<usize>();
    let mut canvas = Canvas::new(GAP + widest, height, BACKGROUND);
    let mut top = GAP;
    for (sample, crop) in batch.crops.iter().enumerate() {
        for view in &views {
            let caption = match view.axis {
                Some(axis) => format!("{} {}, across {axis}", crop.dataset, crop.roi),
                None => format!("{} {}", crop.dataset, crop.roi),
            };
            canvas.text([GAP, top], 1, INK, &caption);
            draw_row(&mut canvas, top + LINE, batch, sample, view);
            top += row_height(view);
        }
    }
    canvas.save(path)
}

/// A slice through the middle of a sample.
struct View {
    /// The axis that it lies across; of 3D data only.
    axis: Option<char>,
    /// Pixels (across, down) of a voxel of raw, and of a predicted one.
    voxel: [[usize; 2]; 2],
    /// Pixels (across, down) of raw, and of what is predicted.
    raw: [usize; 2],
    output: [usize; 2],
    /// Where what is predicted lies in raw, in pixels.
    corner: [usize; 2],
}

fn views(shapes: &Shapes, voxel_size: &[f64]) -> Vec<View> {
    let last = shapes.dims() - 1;
    let finest = voxel_size.iter().copied().fold(f64::INFINITY, f64::min);
    let long = |axis: usize| ((voxel_size[axis] / finest).round() as usize).max(1);
    // Predicted voxels may be smaller than those of raw: they get whole pixels, too.
    let finer = shapes.upsampling.iter().copied().max().unwrap_or(1);
    let unit = TILE
        .div_ceil(shapes.input[last] * long(last))
        .next_multiple_of(finer);
    let context = shapes.context();
    let view = |axis, down: usize| {
        let axes = [last, down];
        let pixels = axes.map(|a| unit * long(a));
        let predicted: [usize; 2] = std::array::from_fn(|i| pixels[i] / shapes.upsampling[axes[i]]);
        View {
            axis,
            voxel: [pixels, predicted],
            raw: std::array::from_fn(|i| shapes.input[axes[i]] * pixels[i]),
            output: std::array::from_fn(|i| shapes.output[axes[i]] * predicted[i]),
            corner: std::array::from_fn(|i| context[axes[i]] as usize * pixels[i]),
        }
    };
    match last {
        2 => vec![view(Some('z'), 1), view(Some('y'), 0)],
        _ => vec![view(None, 0)],
    }
}

impl View {
    /// The slice of (z, y, x) that is shown, as (down, across).
    fn plane<'a, T>(&self, volume: ArrayView3<'a, T>) -> ArrayView2<'a, T> {
        let axis = Axis(usize::from(self.axis == Some('y')));
        let middle = volume.len_of(axis) / 2;
        volume.index_axis_move(axis, middle)
    }
}

/// Raw, labels, targets and weights of a sample beside each other, each with its title above.
fn draw_row(canvas: &mut Canvas, top: usize, batch: &TrainingBatch, sample: usize, view: &View) {
    let (Some(raw), Some(target), Some(weight)) = (
        sample_of(&batch.tensors.input, sample),
        sample_of(&batch.tensors.target, sample),
        sample_of(&batch.tensors.weight, sample),
    ) else {
        return;
    };
    let [raw_voxel, voxel] = view.voxel;
    canvas.text([GAP, top], 1, INK, "raw");
    let top = top + LINE;
    let slice = view.plane(raw.index_axis(Axis(0), 0));
    canvas.tile([GAP, top], view.raw, 1, |x, y| {
        let value = slice[[y / raw_voxel[1], x / raw_voxel[0]]];
        [((value + 0.5).clamp(0.0, 1.0) * 255.0) as u8; 3]
    });
    if view.output != view.raw {
        canvas.frame([GAP + view.corner[0], top + view.corner[1]], view.output, FRAME);
    }

    // What is predicted is drawn at the height of its place in raw.
    let mut corner = [GAP + view.raw[0] + GAP, top + view.corner[1]];
    let mut tile = |title: &str, colour: &dyn Fn(usize, usize) -> Colour| {
        canvas.text([corner[0], corner[1] - LINE], 1, INK, title);
        canvas.tile(corner, view.output, 1, |x, y| colour(x / voxel[0], y / voxel[1]));
        corner[0] += view.output[0] + GAP;
    };
    let labels = view.plane(batch.labels[sample].view());
    tile("labels", &|x, y| label_colour(labels, x, y));
    let largest = weight.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let lowest = target.iter().copied().fold(0.0, f32::min);
    for (title, values, black, white) in [
        ("target", &target, lowest, 1.0),
        ("weight", &weight, 0.0, largest),
    ] {
        let channels = values.len_of(Axis(0));
        for first in (0..channels).step_by(3) {
            let shown: Vec<_> = (first..channels.min(first + 3))
                .map(|channel| view.plane(values.index_axis(Axis(0), channel)))
                .collect();
            let colour = |x: usize, y: usize| -> Colour {
                // A single channel is grey.
                std::array::from_fn(|c| {
                    let slice = if shown.len() == 1 {
                        shown.first()
                    } else {
                        shown.get(c)
                    };
                    let value = slice.map_or(black, |slice| slice[[y, x]]);
                    (((value - black) / (white - black)).clamp(0.0, 1.0) * 255.0) as u8
                })
            };
            let channels = match shown.len() {
                1 => first.to_string(),
                n => format!("{first}-{}", first + n - 1),
            };
            tile(&format!("{title} {channels}"), &colour);
        }
    }
}

/// A sample's (channels, z, y, x); of 2D data with one plane.
fn sample_of(tensor: &Tensor, sample: usize) -> Option<ArrayView4<'_, f32>> {
    let mut shape = [1; 4];
    let inner = tensor.shape.get(1..)?;
    shape[0] = *inner.first()?;
    let spatial = &inner[1..];
    shape[4 - spatial.len()..].copy_from_slice(spatial);
    let length: usize = shape.iter().product();
    let values = tensor.data.get(sample * length..(sample + 1) * length)?;
    ArrayView4::from_shape(shape, values).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dacapo::Crop;
    use dacapo::array::{Coordinate, Roi};
    use ndarray::Array3;

    fn batch(shapes: &Shapes, samples: usize, channels: usize) -> TrainingBatch {
        let tensor = |channels: usize, shape: &[usize]| {
            let shape: Vec<usize> = [samples, channels].iter().chain(shape).copied().collect();
            Tensor::zeros(&shape)
        };
        let mut volume = [1; 3];
        volume[3 - shapes.dims()..].copy_from_slice(&shapes.output);
        let roi = Roi::new(
            Coordinate::splat(shapes.dims(), 0),
            Coordinate::splat(shapes.dims(), 8),
        );
        let crop = Crop {
            dataset: "a".to_owned(),
            roi: roi.clone(),
            input_roi: roi,
        };
        TrainingBatch {
            tensors: dacapo::nn::Batch {
                input: tensor(1, &shapes.input),
                target: tensor(channels, &shapes.output),
                weight: tensor(channels, &shapes.output),
            },
            labels: vec![Array3::from_elem(volume, 1); samples],
            crops: vec![crop; samples],
        }
    }

    fn size(path: &Path) -> (usize, usize) {
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        let reader = png::Decoder::new(file).read_info().unwrap();
        (reader.info().width as usize, reader.info().height as usize)
    }

    #[test]
    fn a_preview_has_a_row_for_each_view_of_each_sample() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.png");
        let shapes = Shapes {
            input: vec![12, 40, 40],
            output: vec![8, 24, 24],
            input_channels: 1,
            upsampling: vec![1; 3],
        };
        preview(&path, &batch(&shapes, 2, 4), &shapes, &[40.0, 8.0, 8.0]).unwrap();
        // Five pixels a voxel, 25 along z; 4 channels are two targets and two weights.
        let width = GAP + 40 * 5 + GAP + 5 * (24 * 5 + GAP);
        let height = GAP + 2 * (2 * LINE + 40 * 5 + GAP) + 2 * (2 * LINE + 12 * 25 + GAP);
        assert_eq!(size(&path), (width, height));

        let shapes = Shapes {
            input: vec![100, 64],
            output: vec![200, 128],
            input_channels: 1,
            upsampling: vec![2; 2],
        };
        preview(&path, &batch(&shapes, 1, 1), &shapes, &[8.0, 8.0]).unwrap();
        let (across, down) = (64 * 4, 100 * 4);
        assert_eq!(
            size(&path),
            (
                GAP + across + GAP + 3 * (across + GAP),
                GAP + 2 * LINE + down + GAP
            )
        );
    }
}
