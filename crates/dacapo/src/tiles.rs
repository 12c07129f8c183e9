//! How a volume is predicted piece by piece: which pieces, and running the network over them. What the pieces
//! are for is decided elsewhere.

use std::sync::Mutex;

use ndarray::{ArrayViewD, Axis, IxDyn, Slice};

use dacapo_array::{ArrayRead, ArraySpec, ArrayWrite, Coordinate, DType, DraftArray, NdData, Roi, SnapMode};
use dacapo_blockwise::{Block, BlockGrid};
use dacapo_nn::{Network, Padding, Tensor};
use dacapo_tasks::{PredictionType, Task, ValueRange, quantise};

use crate::config::{IntensityRange, RunConfig};
use crate::dataset::read_input;
use crate::observer::Observer;
use crate::plan::{Shapes, signed};
use crate::volume::for_each_block;
use crate::{Error, Result};

/// Reading and writing go on in as many threads beside the network's.
const THREADS: usize = 2;
/// A piece may be longer than the default by this part, if fewer of them then cover an axis.
const STRETCH: f64 = 0.25;

/// The shape of the pieces. Each is one input of the network:
///
/// ```text
/// ├──────────────────────────────────┤  input
/// ├────┤ context ├──────────────┤       output: what a valid network predicts from it
///                ├──┤ halo ├──┤         predicted, but cut off
///                   ├────────┤          written
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Tiling {
    shapes: Shapes,
    /// Predicted voxels cut off on each side.
    halo: Vec<usize>,
}

impl Tiling {
    /// The pieces that a config asks for, whatever the volume.
    ///
    /// # Errors
    /// [`Error::Network`] for a shape that the network cannot take, [`Error::Shape`] if nothing would be left
    /// to write.
    pub fn of(config: &RunConfig) -> Result<Self> {
        let unet = config.architecture.unet();
        let block = config
            .validation
            .block_shape
            .clone()
            .unwrap_or_else(|| unet.eval_input_shape());
        let shapes = Shapes::for_input(config, &block)?;
        let is_padded = unet.padding == Padding::Same;
        let whole_voxels = |(n, f): (&usize, &usize)| if is_padded { n / 4 / f * f } else { 0 };
        let default = || {
            shapes
                .output
                .iter()
                .zip(&shapes.upsampling)
                .map(whole_voxels)
                .collect()
        };
        let halo = config.validation.halo.clone().unwrap_or_else(default);
        Self::new(shapes, halo)
    }

    /// The same for a volume of `shape` predicted voxels, with the block fitted to it where the config does not
    /// fix it: stretched or shrunk so that no piece is mostly outside or done twice.
    ///
    /// # Errors
    /// As [`Tiling::of`].
    pub fn fitted(config: &RunConfig, shape: &[usize]) -> Result<Self> {
        let tiling = Self::of(config)?;
        if config.validation.block_shape.is_some() {
            return Ok(tiling);
        }
        let mut input = tiling.shapes.input.clone();
        for (axis, written) in tiling.write_shape().into_iter().enumerate() {
            let pieces = (shape[axis] as f64 / written as f64 - STRETCH).ceil().max(1.0) as usize;
            let needed = shape[axis].div_ceil(pieces) + 2 * tiling.halo[axis];
            let mut candidate = tiling.shapes.input.clone();
            // Not below the training input: there the network has not learned to work.
            let smallest = config.architecture.unet().input_shape[axis];
            for length in smallest..=smallest + needed + tiling.shapes.input[axis] {
                candidate[axis] = length;
                if Shapes::for_input(config, &candidate).is_ok_and(|shapes| shapes.output[axis] >= needed) {
                    input[axis] = length;
                    break;
                }
            }
        }
        Self::new(Shapes::for_input(config, &input)?, tiling.halo)
    }

    fn new(shapes: Shapes, halo: Vec<usize>) -> Result<Self> {
        let refuse = |reason| {
            Err(Error::Shape {
                what: "validation.halo".to_owned(),
                reason,
            })
        };
        if halo.len() != shapes.dims() {
            return refuse(format!("{halo:?} has not {} lengths", shapes.dims()));
        }
        if halo.iter().zip(&shapes.output).any(|(h, n)| 2 * h >= *n) {
            return refuse(format!(
                "{halo:?} on each side leaves nothing of the {:?} predicted voxels",
                shapes.output
            ));
        }
        if halo
            .iter()
            .zip(&shapes.upsampling)
            .any(|(h, f)| !h.is_multiple_of(*f))
        {
            return refuse(format!(
                "{halo:?} are not multiples of the upsampling {:?}",
                shapes.upsampling
            ));
        }
        Ok(Self { shapes, halo })
    }

    /// Predicted voxels that one piece adds.
    pub fn write_shape(&self) -> Vec<usize> {
        self.shapes
            .output
            .iter()
            .zip(&self.halo)
            .map(|(n, h)| n - 2 * h)
            .collect()
    }

    /// Voxels of raw that one piece reads.
    pub fn input_shape(&self) -> &[usize] {
        &self.shapes.input
    }
}

/// What of `roi` can be predicted from `raw`: whole voxels of both, in world units.
pub(crate) fn predictable(raw: &ArraySpec, roi: &Roi) -> Roi {
    // The grid of predictions has a line wherever that of raw has one.
    let origin = raw.roi.begin();
    let back = Coordinate::splat(origin.dims(), 0) - origin;
    roi.intersect(&raw.roi)
        .shift(&back)
        .snap_to_grid(&raw.voxel_size, SnapMode::Shrink)
        .shift(origin)
}

/// The prediction of `roi`, as an array: its chunks are the pieces' write regions.
pub(crate) fn prediction_spec(
    shapes: &Shapes,
    raw: &ArraySpec,
    roi: Roi,
    channels: usize,
    kind: PredictionType,
) -> ArraySpec {
    let dtype = match kind {
        PredictionType::U8 => DType::U8,
        PredictionType::F32 => DType::F32,
    };
    ArraySpec::new(roi, shapes.output_voxel_size(&raw.voxel_size), dtype)
        .with_channels(vec![channels])
        .with_units(raw.units.clone())
}

/// What the channels of a prediction are, and what its bytes stand for: 0 and 255 for the two ends of `value_range`.
pub(crate) fn describe_prediction(
    attributes: &mut serde_json::Map<String, serde_json::Value>,
    task: &dyn Task,
) {
    attributes.insert("channel_names".to_owned(), task.head().channel_names().into());
    if task.prediction_dtype() == PredictionType::U8 {
        let range = task.prediction_range();
        attributes.insert("value_range".to_owned(), vec![range.min(), range.max()].into());
    }
}

/// A volume to predict.
pub(crate) struct Job<'a> {
    pub raw: &'a dyn ArrayRead,
    pub intensity: IntensityRange,
    pub output: &'a DraftArray,
    pub tiling: &'a Tiling,
    /// What bytes stand for, where the output has such.
    pub range: ValueRange,
}

impl Job<'_> {
    /// Predicts all of the output array. Every piece is a whole input of the network, so that all are pooled on
    /// one grid and join without a seam: the last ones reach past what is written, and raw is mirrored where a
    /// piece reaches past its border.
    ///
    /// # Errors
    /// [`Error::Blocks`] if pieces failed: the first failure ends the job. [`Error::Interrupted`] if the
    /// observer asked for it.
    pub fn run(&self, network: &mut dyn Network, observer: &dyn Observer) -> Result<()> {
        let spec = self.output.spec();
        let dims = spec.spatial_dims();
        let one = Coordinate::splat(dims, 1);
        let zero = Coordinate::splat(dims, 0);
        let shape = crate::window::spatial_shape(spec);
        // In voxels of the prediction, from its first one: no offset can be off this grid.
        let total = Roi::new(zero.clone(), Coordinate::from_voxels(&signed(&shape), &one));
        let write = Coordinate::from_voxels(&signed(&self.tiling.write_shape()), &one);
        // What is stored in one piece is predicted before the next is begun.
        let objects = &self.output.object_shape()[spec.channels.len()..];
        let pieces = objects.iter().zip(self.tiling.write_shape());
        let groups: Vec<usize> = pieces.map(|(&object, piece)| (object / piece).max(1)).collect();
        let grid = BlockGrid::new(total, write, zero.clone(), zero, one)?.in_groups(&groups);
        let network = Mutex::new((network, Tensor::default()));
        for_each_block(&grid, THREADS, observer, |block| self.block(block, &network))
    }

    fn block(&self, block: &Block, network: &Mutex<(&mut dyn Network, Tensor)>) -> Result<()> {
        let Tiling { shapes, halo } = self.tiling;
        let raw = self.raw.spec();
        let target = self.output.spec();
        let voxels = |at: &Coordinate| at.floor_div(&Coordinate::splat(at.dims(), 1));
        let (write_begin, write_shape) = (voxels(block.write_roi.begin()), voxels(&block.write_roi.shape));

        // Where the input begins, in voxels of raw.
        let first = (target.roi.begin() - raw.roi.begin()).floor_div(&raw.voxel_size);
        let begin: Vec<i64> = shapes
            .context()
            .iter()
            .enumerate()
            .map(|(a, context)| {
                first[a] + (write_begin[a] - halo[a] as i64).div_euclid(shapes.upsampling[a] as i64) - context
            })
            .collect();
        let input = read_input(self.raw, self.intensity, &begin, &shapes.input)?;
        let mut shape = vec![1, input.shape()[0]];
        shape.extend(&shapes.input);
        let input = Tensor {
            shape,
            data: input.into_raw_vec_and_offset().0,
        };

        let data = {
            let mut guard = network.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let (network, output) = &mut *guard;
            network.forward(&input, output)?;
            #[allow(clippy::expect_used, reason = "a tensor has as many values as its shape says")]
            let mut view =
                ArrayViewD::from_shape(IxDyn(&output.shape[1..]), &output.data).expect("whole tensor");
            for axis in 0..halo.len() {
                // What was predicted begins a halo before the block, and ends behind the last blocks.
                let start = halo[axis];
                view.slice_axis_inplace(
                    Axis(axis + 1),
                    Slice::from(start..start + write_shape[axis] as usize),
                );
            }
            match target.dtype {
                DType::U8 => NdData::U8(quantise(view, self.range)),
                _ => NdData::F32(view.to_owned()),
            }
        };
        let world = |n: &[i64]| Coordinate::from_voxels(n, &target.voxel_size);
        let roi = Roi::new(target.roi.begin() + &world(&write_begin), world(&write_shape));
        Ok(self.output.write(&roi, &data)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Format, parse_config};
    use std::path::Path;

    fn config(architecture: &str, validation: &str) -> RunConfig {
        let text = format!(
            "{{name: a, num_iterations: 1, data: {{train: [{{name: t, raw: a.zarr/r, labels: a.zarr/l}}]}},
              task: {{kind: affinities}}, architecture: {{kind: unet, {architecture}}},
              validation: {{{validation}}}}}"
        );
        parse_config(&text, Format::Yaml, Path::new("test")).unwrap()
    }

    const SAME: &str = "padding: same, input_shape: [80, 80, 80], eval_shape_increase: [16, 16, 16]";

    #[test]
    fn padded_networks_lose_a_quarter_and_valid_ones_nothing() {
        let tiling = Tiling::of(&config(SAME, "")).unwrap();
        assert_eq!(
            (tiling.input_shape(), &tiling.write_shape()[..]),
            (&[96; 3][..], &[48; 3][..])
        );
        let tiling = Tiling::of(&config("input_shape: [92, 92, 92]", "")).unwrap();
        assert_eq!(
            (tiling.input_shape(), &tiling.write_shape()[..]),
            (&[92; 3][..], &[52; 3][..])
        );
    }

    #[test]
    fn blocks_are_fitted_to_the_volume_unless_they_are_given() {
        // 50 voxels are one block, not two; 250 are five, not six.
        let tiling = Tiling::fitted(&config(SAME, ""), &[50, 250, 20]).unwrap();
        let pieces: Vec<usize> = [50, 250, 20]
            .iter()
            .zip(tiling.write_shape())
            .map(|(n, w)| usize::div_ceil(*n, w))
            .collect();
        assert_eq!(pieces, [1, 5, 1]);
        assert!(
            tiling.input_shape().iter().all(|&n| (80..=112).contains(&n)),
            "{tiling:?}"
        );
        let given = config(SAME, "block_shape: [96, 96, 96], halo: [8, 8, 8]");
        assert_eq!(
            Tiling::fitted(&given, &[50, 250, 20]).unwrap().write_shape(),
            [80; 3]
        );
    }

    #[test]
    fn what_leaves_nothing_is_refused() {
        let refused = |validation| Tiling::of(&config(SAME, validation)).unwrap_err().to_string();
        assert!(refused("halo: [48, 48, 48]").contains("leaves nothing"));
        assert!(refused("halo: [8, 8]").contains("has not 3 lengths"));
        assert!(refused("block_shape: [97, 96, 96]").contains("[96, 96, 96]"));
    }
}
