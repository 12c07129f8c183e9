//! Opening the datasets of a config, and refusing those that cannot be learned from. Reading windows of them
//! lives in [`crate::window`].

use std::str::FromStr;
use std::sync::Arc;

use ndarray::{Array3, Array4, Axis};

use dacapo_array::{ArrayAddress, ArrayRead, Coordinate, DType, Roi};

use crate::config::{DatasetConfig, IntensityRange};
use crate::plan::Shapes;
use crate::window::{Lookup, spatial_shape};
use crate::{Error, Result};

/// How arrays are opened.
pub(crate) type Open<'a> = &'a dyn Fn(&ArrayAddress) -> dacapo_array::Result<Arc<dyn ArrayRead>>;

/// Raw data and labels, open and known to fit each other and the network.
pub struct Dataset {
    /// Its name in the config.
    pub name: String,
    /// The image.
    pub raw: Arc<dyn ArrayRead>,
    /// Its address in the config.
    pub raw_address: String,
    /// The objects.
    pub labels: Arc<dyn ArrayRead>,
    /// Their address in the config.
    pub labels_address: String,
    /// Where it is not 0, the labels are annotated.
    pub mask: Option<Arc<dyn ArrayRead>>,
    /// What may be used: where raw and labels overlap, within the config's roi.
    pub roi: Roi,
    /// How often crops are taken from it, relative to others.
    pub weight: f64,
    /// Raw values that become -0.5 and 0.5.
    pub intensity: IntensityRange,
}

/// Labels on the prediction's grid, and where they are known.
pub struct Labelled {
    /// Objects (z, y, x), 0 where unknown.
    pub labels: Array3<u64>,
    /// Where the labels are annotated (z, y, x).
    pub known: Array3<bool>,
}

impl Dataset {
    /// Opens the arrays that `config` names.
    ///
    /// # Errors
    /// Each thing that can be wrong with a dataset has a variant of [`Error`].
    pub(crate) fn open(
        config: &DatasetConfig,
        intensity: Option<IntensityRange>,
        shapes: &Shapes,
        open: Open,
    ) -> Result<Self> {
        let dataset = config.name.clone();
        let array = |role, text: &str| {
            let opened = ArrayAddress::from_str(text).and_then(|address| open(&address));
            opened.map_err(|source| Error::Dataset {
                dataset: dataset.clone(),
                role,
                source: Box::new(source),
            })
        };
        let raw = array("raw", &config.raw)?;
        let labels = array("labels", &config.labels)?;
        let mask = config
            .mask
            .as_deref()
            .map(|mask| array("mask", mask))
            .transpose()?;
        let expected = shapes.dims();
        let arrays = [
            ("raw", Some(&raw)),
            ("labels", Some(&labels)),
            ("mask", mask.as_ref()),
        ];
        for (what, array) in arrays
            .into_iter()
            .filter_map(|(what, array)| Some((what, array?)))
        {
            let found = array.spec().spatial_dims();
            if found != expected {
                return Err(Error::Dimensions {
                    dataset,
                    what,
                    found,
                    expected,
                });
            }
        }
        let expected = shapes.input_channels;
        let found = raw.spec().channels.iter().product();
        if found != expected {
            return Err(Error::Channels {
                dataset,
                found,
                expected,
            });
        }
        let dtype = labels.spec().dtype;
        if dtype.is_float() {
            return Err(Error::LabelType { dataset, dtype });
        }
        let prediction = shapes.output_voxel_size(&raw.spec().voxel_size);
        let voxels = &labels.spec().voxel_size;
        let divides = |(a, b)| {
            let (a, b) = (Coordinate::new([a]), Coordinate::new([b]));
            a.is_multiple_of(&b) || b.is_multiple_of(&a)
        };
        if !voxels
            .iter()
            .copied()
            .zip(prediction.iter().copied())
            .all(divides)
        {
            return Err(Error::VoxelSizes {
                dataset,
                labels: voxels.clone(),
                prediction,
            });
        }
        let overlap = raw.spec().roi.intersect(&labels.spec().roi);
        let roi = config
            .roi
            .as_ref()
            .map_or_else(|| overlap.clone(), |roi| overlap.intersect(roi));
        if roi.is_empty() {
            let roi_of = |array: &Arc<dyn ArrayRead>| Box::new(array.spec().roi.clone());
            let (raw, labels) = (roi_of(&raw), roi_of(&labels));
            let roi = config.roi.clone().map(Box::new);
            return Err(Error::NoOverlap {
                dataset,
                raw,
                labels,
                roi,
            });
        }
        let intensity = match intensity.or_else(|| default_range(raw.spec().dtype)) {
            Some(range) => range,
            None => {
                return Err(Error::IntensityRange {
                    dataset,
                    dtype: raw.spec().dtype,
                });
            }
        };
        Ok(Self {
            name: dataset,
            raw,
            raw_address: config.raw.clone(),
            labels,
            labels_address: config.labels.clone(),
            mask,
            roi,
            weight: config.weight,
            intensity,
        })
    }

    /// Finds a labelled voxel, looking block by block.
    ///
    /// # Errors
    /// [`Error::NothingLabelled`] if there is none.
    pub(crate) fn check_labelled(&self) -> Result<()> {
        let voxel_size = self.labels.spec().voxel_size.clone();
        let inside = self.roi.snap_to_grid(&voxel_size, dacapo_array::SnapMode::Shrink);
        let blocks = |axis: usize| {
            let length = inside.shape.iter().nth(axis).copied().unwrap_or_default();
            let step = voxel_size.iter().nth(axis).copied().unwrap_or_default();
            Coordinate::new([length]).ceil_div(&Coordinate::new([step]))[0].max(1)
        };
        let lengths: Vec<i64> = (0..inside.dims()).map(blocks).collect();
        for begin in starts(&lengths) {
            let shape: Vec<usize> = begin
                .iter()
                .zip(&lengths)
                .map(|(b, l)| (l - b).min(BLOCK) as usize)
                .collect();
            let begin = &inside.begin().clone() + &Coordinate::from_voxels(&begin, &voxel_size);
            let found = self.labelled(&begin, &shape, &voxel_size)?;
            if found
                .labels
                .iter()
                .zip(&found.known)
                .any(|(&label, &known)| known && label != 0)
            {
                return Ok(());
            }
        }
        Err(Error::NothingLabelled {
            dataset: self.name.clone(),
            roi: self.roi.clone(),
        })
    }

    /// Labels of `shape` voxels of `voxel_size` from the world position `begin`: of the nearest voxel where the
    /// labels have another voxel size, unknown outside of the Roi and the mask.
    pub(crate) fn labelled(
        &self,
        begin: &Coordinate,
        shape: &[usize],
        voxel_size: &Coordinate,
    ) -> Result<Labelled> {
        let lookup =
            |array: &dyn ArrayRead| Lookup::nearest(array.spec(), &self.roi, begin, shape, voxel_size);
        let at = lookup(&*self.labels);
        let labels = at.read::<u64>(&*self.labels)?.index_axis_move(Axis(0), 0);
        let mut known = at.known();
        if let Some(mask) = &self.mask {
            let values = lookup(&**mask).read::<u64>(&**mask)?.index_axis_move(Axis(0), 0);
            known.zip_mut_with(&values, |known, &value| *known &= value != 0);
        }
        Ok(Labelled { labels, known })
    }

    /// A window of raw as it is stored (channels, z, y, x), from `begin` voxels of the raw array; mirrored past its
    /// border.
    pub(crate) fn raw(&self, begin: &[i64], shape: &[usize]) -> Result<Array4<f32>> {
        Lookup::mirrored(self.raw.spec(), begin, shape).read_floats(&*self.raw)
    }
}

/// Raw as the network takes it: mirrored past its border, the intensity range mapped to -0.5…0.5.
pub(crate) fn read_input(
    raw: &dyn ArrayRead,
    intensity: IntensityRange,
    begin: &[i64],
    shape: &[usize],
) -> Result<Array4<f32>> {
    let mut values = Lookup::mirrored(raw.spec(), begin, shape).read_floats(raw)?;
    if let Some(values) = values.as_slice_mut() {
        intensity.map(values);
    }
    Ok(values)
}

impl IntensityRange {
    /// Maps raw values to those that the network takes: the range to -0.5…0.5.
    pub(crate) fn map(&self, values: &mut [f32]) {
        let factor = (1.0 / (self.max - self.min)) as f32;
        let low = self.min as f32;
        for value in values {
            *value = (*value - low) * factor - 0.5;
        }
    }
}

/// The range of a type's values, where it has a sensible one.
pub(crate) fn default_range(dtype: DType) -> Option<IntensityRange> {
    let max = match dtype {
        DType::U8 => f64::from(u8::MAX),
        DType::U16 => f64::from(u16::MAX),
        DType::F32 | DType::F64 | DType::Bool => 1.0,
        _ => return None,
    };
    Some(IntensityRange { min: 0.0, max })
}

/// Labels are looked through in blocks of this many voxels along each axis.
const BLOCK: i64 = 128;

/// Where the blocks begin that fill a box of these lengths.
fn starts(lengths: &[i64]) -> Vec<Vec<i64>> {
    lengths.iter().fold(vec![Vec::new()], |starts, &length| {
        let along = |start: Vec<i64>| {
            (0..length)
                .step_by(BLOCK as usize)
                .map(move |at| start.iter().copied().chain([at]).collect())
        };
        starts.into_iter().flat_map(along).collect()
    })
}

/// Where a window of raw may begin, in voxels of the raw array along each axis: first and last place. What lies
/// up to `room` voxels before and behind the window is in the array as well, where it is large enough.
pub(crate) fn crop_range(dataset: &Dataset, shapes: &Shapes, room: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let spec = dataset.raw.spec();
    let voxel_size = &spec.voxel_size;
    let context = Coordinate::from_voxels(&shapes.context(), voxel_size);
    let output = shapes.output_size(voxel_size);
    // The output's begin is the raw window's begin and the context.
    let zero = spec.roi.begin() + &context;
    let first = (dataset.roi.begin() - &zero).ceil_div(voxel_size);
    let last = (&(&dataset.roi.end() - &output) - &zero).floor_div(voxel_size);
    let lengths = spatial_shape(spec);
    (0..first.len())
        .map(|axis| {
            // Where the output is longer than the Roi, it may lie anywhere around it.
            let (low, high) = (first[axis].min(last[axis]), first[axis].max(last[axis]));
            let end = lengths[axis] as i64 - shapes.input[axis] as i64;
            let (before, behind) = room[axis];
            let within = |(from, to): (i64, i64)| {
                let range = (low.max(from), high.min(to));
                (range.0 <= range.1).then_some(range)
            };
            within((before, end - behind))
                .or_else(|| within((0, end)))
                .unwrap_or((low, high))
        })
        .collect()
}
