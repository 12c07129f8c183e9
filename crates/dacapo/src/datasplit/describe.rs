//! What there is in the datasets of a config: how much is annotated, how much of that is labelled, as what; and a
//! picture of each.

use std::collections::HashMap;

use ndarray::{Array2, Array3, Axis};
use serde::Serialize;

use dacapo_array::storage::Access;
use dacapo_array::{ArraySpec, Coordinate, Roi};

use crate::config::{DataConfig, DatasetConfig};
use crate::dataset::{Arrays, labelled};
use crate::places::blocks_of;
use crate::plan::files;
use crate::sources::Files;
use crate::window::Lookup;
use crate::{Error, Result};

/// What an array is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArraySummary {
    /// What the config calls it.
    pub source: String,
    /// Type of its values.
    pub dtype: String,
    /// Channels and voxels.
    pub shape: Vec<usize>,
    /// Size of a voxel, in world units.
    pub voxel_size: Coordinate,
}

/// What is in a dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetSummary {
    /// Its name.
    pub name: String,
    /// Whether it is trained on; validated on otherwise.
    pub is_training: bool,
    /// The image.
    pub raw: ArraySummary,
    /// The objects or classes.
    pub labels: ArraySummary,
    /// What is used, in world units.
    pub roi: Roi,
    /// Voxels of labels in it.
    pub voxels: u64,
    /// Those that are annotated.
    pub annotated: u64,
    /// Those of the annotated that are no background.
    pub labelled: u64,
    /// How many different labels they have.
    pub ids: usize,
    /// The most frequent labels with their voxels, the most frequent first, 0 among them.
    pub largest: Vec<(u64, u64)>,
}

/// As many labels are listed by their voxels.
const LISTED: usize = 8;
/// Labels are gone through in blocks of this many voxels along each axis.
const BLOCK: usize = 128;
/// Pictures have at most so many pixels along a side.
const MOST_PIXELS: usize = 768;

impl ArraySummary {
    fn of(source: String, spec: &ArraySpec) -> Self {
        Self {
            source,
            dtype: spec.dtype.to_string(),
            shape: spec.shape(),
            voxel_size: spec.voxel_size.clone(),
        }
    }
}

/// Each dataset of a config with whether it is trained on.
fn datasets(config: &DataConfig) -> impl Iterator<Item = (&DatasetConfig, bool)> {
    let train = config.train.iter().map(|dataset| (dataset, true));
    train.chain(config.validate.iter().map(|dataset| (dataset, false)))
}

/// Goes through the labels of all datasets, block by block.
///
/// # Errors
/// What is wrong with the datasets; all of it in [`Error::Several`] if there is more than one thing.
pub fn describe(config: &DataConfig, access: &Access) -> Result<Vec<DatasetSummary>> {
    let files = files(config, access)?;
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for (dataset, is_training) in datasets(config) {
        match summary(dataset, is_training, &*files) {
            Ok(summary) => found.push(summary),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(found)
    } else {
        Err(Error::all(errors))
    }
}

fn summary(config: &DatasetConfig, is_training: bool, files: &dyn Files) -> Result<DatasetSummary> {
    let Arrays {
        raw,
        labels,
        mask,
        roi,
    } = Arrays::open(config, files)?;
    let size = labels.spec().voxel_size.clone();
    let (mut voxels, mut annotated) = (0, 0);
    let mut counts: HashMap<u64, u64> = HashMap::new();
    for block in blocks_of(&*labels, &roi, BLOCK) {
        let shape = block.voxels(&size).unwrap_or_default();
        let part = labelled(&*labels, mask.as_deref(), &roi, block.begin(), &shape, &size)?;
        voxels += part.labels.len() as u64;
        for (&label, _) in part.labels.iter().zip(&part.known).filter(|(_, known)| **known) {
            annotated += 1;
            *counts.entry(label).or_default() += 1;
        }
    }
    let ids = counts.keys().filter(|&&id| id != 0).count();
    let background = counts.get(&0).copied().unwrap_or(0);
    let mut largest: Vec<(u64, u64)> = counts.into_iter().collect();
    largest.sort_by_key(|&(id, count)| (std::cmp::Reverse(count), id));
    largest.truncate(LISTED);
    Ok(DatasetSummary {
        name: config.name.clone(),
        is_training,
        raw: ArraySummary::of(config.raw.to_string(), raw.spec()),
        labels: ArraySummary::of(config.labels.to_string(), labels.spec()),
        roi,
        voxels,
        annotated,
        labelled: annotated - background,
        ids,
        largest,
    })
}

/// A plane of a dataset, on the grid of its raw.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Raw (channel, y, x).
    pub raw: Array3<f32>,
    /// Labels (y, x), 0 where there are none.
    pub labels: Array2<u64>,
    /// Where they are annotated (y, x).
    pub known: Array2<bool>,
    /// What it shows, in world units.
    pub roi: Roi,
}

/// The middle plane of each dataset, in the order of [`describe`]; where it is large, every second, third … voxel.
///
/// # Errors
/// What is wrong with the datasets.
pub fn pictures(config: &DataConfig, access: &Access) -> Result<Vec<Picture>> {
    let files = files(config, access)?;
    datasets(config)
        .map(|(dataset, _)| picture(dataset, &*files))
        .collect()
}

fn picture(config: &DatasetConfig, files: &dyn Files) -> Result<Picture> {
    let Arrays {
        raw,
        labels,
        mask,
        roi,
    } = Arrays::open(config, files)?;
    let spec = raw.spec();
    let dims = roi.dims();
    let size = &spec.voxel_size;
    let first = (roi.begin() - spec.roi.begin()).ceil_div(size);
    let end = (&roi.end() - spec.roi.begin()).floor_div(size);
    let mut begin = first;
    let mut shape: Vec<i64> = begin
        .iter()
        .zip(&end)
        .map(|(begin, end)| (end - begin).max(1))
        .collect();
    // Axes in front of the last two are cut in the middle.
    for axis in 0..dims.saturating_sub(2) {
        begin[axis] += shape[axis] / 2;
        shape[axis] = 1;
    }
    let step = (shape.iter().copied().max().unwrap_or(1) as usize).div_ceil(MOST_PIXELS) as i64;
    let factors: Vec<i64> = shape.iter().map(|&n| if n == 1 { 1 } else { step }).collect();
    let pixel = size * &Coordinate::new(factors.iter().copied());
    let shape: Vec<usize> = shape
        .iter()
        .zip(&factors)
        .map(|(n, factor)| (n / factor).max(1) as usize)
        .collect();
    let begin = spec.roi.begin() + &Coordinate::from_voxels(&begin, size);
    let shown = Lookup::nearest(spec, &spec.roi, &begin, &shape, &pixel).read::<f32>(&*raw)?;
    let part = labelled(&*labels, mask.as_deref(), &roi, &begin, &shape, &pixel)?;
    let lengths: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    Ok(Picture {
        raw: shown.index_axis_move(Axis(1), 0),
        labels: part.labels.index_axis_move(Axis(0), 0),
        known: part.known.index_axis_move(Axis(0), 0),
        roi: Roi::new(begin, Coordinate::from_voxels(&lengths, &pixel)),
    })
}
