//! How a volume is predicted piece by piece: which pieces, and running the network over them. What the pieces
//! are for is decided elsewhere.

use std::sync::Mutex;

use ndarray::{ArrayViewD, Axis, IxDyn, Slice};

use dacapo_array::{ArrayRead, ArraySpec, ArrayWrite, Coordinate, DType, DraftArray, NdData, Roi, SnapMode};
use dacapo_blockwise::{Block, BlockGrid};
use dacapo_nn::{Engine, Network, NetworkSpec, Padding, Tensor};
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
/// Bytes that pieces may take where nobody says otherwise. With twice as many little is gained: the context is then a
/// small part of a piece.
pub const PIECE_MEMORY: u64 = 1_000_000_000;
/// How much longer each size of a piece is than the one before it, when the best is looked for.
const GROWTH: f64 = 1.1;

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
    /// fix it, so that no piece is mostly outside or done twice: as large as is best within `memory`, in bytes, and within
    /// half of what the engine has, where the size of a piece does not change what is predicted; else
    /// a little longer or shorter than the config's.
    ///
    /// # Errors
    /// As [`Tiling::of`].
    pub fn fitted(
        config: &RunConfig,
        network: &NetworkSpec,
        shape: &[usize],
        engine: &dyn Engine,
        memory: u64,
    ) -> Result<Self> {
        let tiling = Self::of(config)?;
        if config.validation.block_shape.is_some() {
            return Ok(tiling);
        }
        let unet = config.architecture.unet();
        if unet.is_local() && unet.eval_shape_increase.is_none() {
            let most = engine.free_memory().map_or(memory, |free| memory.min(free / 2));
            return tiling.best(config, network, shape, engine, most);
        }
        let pieces =
            |(&n, written): (&usize, usize)| (n as f64 / written as f64 - STRETCH).ceil().max(1.0) as usize;
        let pieces: Vec<usize> = shape.iter().zip(tiling.write_shape()).map(pieces).collect();
        tiling.of_so_many(config, shape, &pieces)
    }

    /// Pieces of any size that together read the fewest voxels.
    fn best(
        self,
        config: &RunConfig,
        network: &NetworkSpec,
        shape: &[usize],
        engine: &dyn Engine,
        most: u64,
    ) -> Result<Self> {
        let written = self.write_shape();
        let read = |tiling: &Self, pieces: &[usize]| -> usize {
            pieces.iter().chain(&tiling.shapes.input).product()
        };
        let mut best: Option<(usize, Self)> = None;
        let mut before = Vec::new();
        let mut factor = 1.0;
        loop {
            let pieces = |(&n, &written): (&usize, &usize)| {
                (n as f64 / (written as f64 * factor)).ceil().max(1.0) as usize
            };
            let pieces: Vec<usize> = shape.iter().zip(&written).map(pieces).collect();
            factor *= GROWTH;
            if pieces == before {
                continue;
            }
            let tiling = self.clone().of_so_many(config, shape, &pieces)?;
            if best.is_some() && tiling.memory(network, engine)? > most {
                break;
            }
            let read = read(&tiling, &pieces);
            if best.as_ref().is_none_or(|(least, _)| read < *least) {
                best = Some((read, tiling));
            }
            if pieces.iter().all(|&count| count == 1) {
                break;
            }
            before = pieces;
        }
        Ok(best.map_or(self, |(_, tiling)| tiling))
    }

    /// The shortest pieces of which so many cover the volume along each axis.
    fn of_so_many(self, config: &RunConfig, shape: &[usize], pieces: &[usize]) -> Result<Self> {
        let mut input = self.shapes.input.clone();
        for axis in 0..input.len() {
            let needed = shape[axis].div_ceil(pieces[axis]) + 2 * self.halo[axis];
            let mut candidate = self.shapes.input.clone();
            // Not below the training input: there the network has not learned to work.
            let smallest = config.architecture.unet().input_shape[axis];
            for length in smallest..=smallest + needed + self.shapes.input[axis] {
                candidate[axis] = length;
                if Shapes::for_input(config, &candidate).is_ok_and(|shapes| shapes.output[axis] >= needed) {
                    input[axis] = length;
                    break;
                }
            }
        }
        Self::new(Shapes::for_input(config, &input)?, self.halo)
    }

    /// Bytes that predicting one piece takes, with those that are read and written meanwhile.
    fn memory(&self, network: &NetworkSpec, engine: &dyn Engine) -> Result<u64> {
        let values = |shape: &[usize], channels: usize| channels * shape.iter().product::<usize>();
        let Shapes {
            input,
            output,
            input_channels,
            ..
        } = &self.shapes;
        let beside = values(input, *input_channels) + values(output, network.out_channels());
        let beside = (THREADS * beside * size_of::<f32>()) as u64;
        Ok(engine.memory(network, input, 1)?.prediction + beside)
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
    use dacapo_nn::CpuEngine;
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

    fn fitted(config: &RunConfig, shape: &[usize], memory: u64) -> Tiling {
        let engine = CpuEngine::new(Some(1)).unwrap();
        Tiling::fitted(config, &config.network().unwrap(), shape, &engine, memory).unwrap()
    }

    #[test]
    fn where_their_size_changes_nothing_pieces_are_as_large_as_memory_allows() {
        let valid = config("input_shape: [92, 92, 92], num_fmaps: 4", "");
        let engine = CpuEngine::new(Some(1)).unwrap();
        let network = valid.network().unwrap();
        let mut before = usize::MAX;
        for memory in [0, 100 << 20, 300 << 20, 1 << 30] {
            let tiling = fitted(&valid, &[170, 250, 250], memory);
            let pieces = [170, 250, 250].iter().zip(tiling.write_shape());
            let pieces: Vec<usize> = pieces.map(|(n, written)| usize::div_ceil(*n, written)).collect();
            let read: usize = pieces.iter().chain(tiling.input_shape()).product();
            assert!(read < before, "{memory}: {tiling:?}");
            before = read;
            // The smallest is what the network was trained with, whatever it takes.
            match memory {
                0 => assert!(tiling.input_shape().iter().all(|&n| n <= 92), "{tiling:?}"),
                _ => assert!(tiling.memory(&network, &engine).unwrap() <= memory),
            }
        }
        // What a padded network predicts depends on the piece, and a config may ask for another.
        let grown = "input_shape: [92, 92, 92], num_fmaps: 4, eval_shape_increase: [8, 8, 8]";
        assert_eq!(
            fitted(&config(grown, ""), &[60, 60, 60], 1 << 30).input_shape(),
            [100; 3]
        );
        assert!(fitted(&config(SAME, ""), &[400; 3], 1 << 30).input_shape() < &[112; 3]);
    }

    #[test]
    fn blocks_are_fitted_to_the_volume_unless_they_are_given() {
        // 50 voxels are one block, not two; 250 are five, not six.
        let tiling = fitted(&config(SAME, ""), &[50, 250, 20], 1 << 30);
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
        assert_eq!(fitted(&given, &[50, 250, 20], 1 << 30).write_shape(), [80; 3]);
    }

    #[test]
    fn what_leaves_nothing_is_refused() {
        let refused = |validation| Tiling::of(&config(SAME, validation)).unwrap_err().to_string();
        assert!(refused("halo: [48, 48, 48]").contains("leaves nothing"));
        assert!(refused("halo: [8, 8]").contains("has not 3 lengths"));
        assert!(refused("block_shape: [97, 96, 96]").contains("[96, 96, 96]"));
    }
}
