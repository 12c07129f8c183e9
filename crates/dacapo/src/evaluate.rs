//! Scoring one array by another, block by block: what the scores mean is `dacapo_tasks`' matter, and any block
//! size gives the same.

use ndarray::{Array3, ArrayD};

use dacapo_array::{ArrayRead, Coordinate, Roi};
use dacapo_blockwise::BlockGrid;
use dacapo_kernels::ContingencyTable;
use dacapo_tasks::{InstanceRules, InstanceScores};

use crate::observer::{Event, Observer};
use crate::{Error, Result};

/// Blocks have so many voxels along each axis unless asked for others.
const BLOCK: usize = 256;

/// An array with the name that errors call it by.
#[derive(Clone, Copy)]
pub struct NamedArray<'a> {
    /// The name.
    pub name: &'a str,
    /// The array.
    pub array: &'a dyn ArrayRead,
}

/// What is compared, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluateRequest {
    /// Which voxels count.
    pub rules: InstanceRules,
    /// The part to compare, in world units; all that the arrays share without one.
    pub roi: Option<Roi>,
    /// How many of the worst splits and merges are named.
    pub largest: usize,
    /// Voxels of a block along each axis; it changes memory and time, and no score.
    pub block: usize,
}

impl Default for EvaluateRequest {
    fn default() -> Self {
        Self {
            rules: InstanceRules::default(),
            roi: None,
            largest: 10,
            block: BLOCK,
        }
    }
}

/// The scores of a segmentation, and where they hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// What was compared, in world units.
    pub roi: Roi,
    /// World units of a voxel: places in the scores are voxels from the begin of `roi`.
    pub voxel_size: Coordinate,
    /// The scores.
    pub scores: InstanceScores,
}

impl Evaluated {
    /// Where a voxel of the scores (z, y, x) lies, in world units.
    pub fn world(&self, place: [u64; 3]) -> Coordinate {
        let dims = self.voxel_size.dims();
        let voxels: Vec<i64> = place[3 - dims..].iter().map(|&at| at as i64).collect();
        Coordinate::from_voxels(&voxels, &self.voxel_size) + self.roi.begin()
    }
}

/// Scores a segmentation by the truth, where both are.
///
/// # Errors
/// [`Error::Incomparable`] for arrays that do not lie on one grid, share nothing or have channels;
/// [`Error::LabelType`] for floats; [`Error::Interrupted`].
pub fn evaluate(
    truth: NamedArray,
    segmentation: NamedArray,
    request: &EvaluateRequest,
    observer: &dyn Observer,
) -> Result<Evaluated> {
    let incomparable = |reason: String| Error::Incomparable {
        truth: truth.name.to_owned(),
        other: segmentation.name.to_owned(),
        reason,
    };
    let (a, b) = (truth.array.spec(), segmentation.array.spec());
    for named in [truth, segmentation] {
        let spec = named.array.spec();
        if spec.dtype.is_float() {
            return Err(Error::LabelType {
                dataset: named.name.to_owned(),
                dtype: spec.dtype,
            });
        }
        let channels: usize = spec.channels.iter().product();
        if channels != 1 || !(2..=3).contains(&spec.spatial_dims()) {
            let shape = spec.shape();
            return Err(incomparable(format!(
                "{} of shape {shape:?} is no volume or image of labels",
                named.name
            )));
        }
    }
    if a.voxel_size != b.voxel_size {
        return Err(incomparable(format!(
            "their voxels are of {} and {}",
            a.voxel_size, b.voxel_size
        )));
    }
    let voxel_size = a.voxel_size.clone();
    if !(b.roi.begin().clone() - a.roi.begin()).is_multiple_of(&voxel_size) {
        return Err(incomparable(format!(
            "{} and {} do not lie on one grid of voxels",
            a.roi, b.roi
        )));
    }
    let shared = a.roi.intersect(&b.roi);
    let roi = request
        .roi
        .as_ref()
        .map_or(shared.clone(), |roi| roi.intersect(&shared));
    if roi.is_empty() {
        let within = request.roi.as_ref();
        let within = within.map_or(String::new(), |roi| format!(" within {roi}"));
        return Err(incomparable(format!(
            "{} and {} share nothing{within}",
            a.roi, b.roi
        )));
    }

    let dims = voxel_size.dims();
    let band: Vec<i64> = request.rules.boundary_band[3 - dims..]
        .iter()
        .map(|&voxels| voxels as i64)
        .collect();
    let band = Coordinate::from_voxels(&band, &voxel_size);
    let zero = Coordinate::splat(dims, 0);
    let block = Coordinate::from_voxels(&vec![request.block.max(1) as i64; dims], &voxel_size);
    let grid = BlockGrid::new(
        Roi::new(zero.clone(), roi.shape.clone()),
        block,
        zero.clone(),
        zero,
        voxel_size.clone(),
    )?;
    let voxels = |roi: &Roi| -> Result<[usize; 3]> {
        let found = roi
            .voxels(&voxel_size)
            .ok_or_else(|| incomparable(format!("{roi} is no whole number of voxels of {voxel_size}")))?;
        let mut shape = [1; 3];
        shape[3 - dims..].copy_from_slice(&found);
        Ok(shape)
    };
    observer.event(&Event::PredictionStarted { blocks: grid.len() });
    let mut table = ContingencyTable::default();
    for (number, block) in grid.iter().enumerate() {
        let inner = block.write_roi.shift(roi.begin());
        let outer = inner.grow(&band, &band).intersect(&roi);
        let before = voxels(&Roi::between(outer.begin(), inner.begin()))?;
        let (shape, length) = (voxels(&outer)?, voxels(&inner)?);
        let origin = voxels(&Roi::between(roi.begin(), inner.begin()))?;
        let at = |axis: usize| {
            let first = if axis < 3 - dims { 0 } else { before[axis] };
            first..first + length[axis]
        };
        let mut place = [0; 3];
        (3 - dims..3).for_each(|axis| place[axis] = origin[axis] as u64);
        table += &request.rules.count_block(
            labels(truth, &outer, shape)?.view(),
            labels(segmentation, &outer, shape)?.view(),
            [at(0), at(1), at(2)],
            place,
        )?;
        let (done, total) = (number + 1, grid.len());
        observer.event(&Event::Block { done, total });
        if observer.cancelled() {
            return Err(Error::Interrupted);
        }
    }
    Ok(Evaluated {
        scores: InstanceScores::new(&table, request.rules, request.largest),
        roi,
        voxel_size,
    })
}

/// Labels as a volume; an image has depth 1.
fn labels(named: NamedArray, roi: &Roi, shape: [usize; 3]) -> Result<Array3<u64>> {
    let values: ArrayD<u64> = named.array.read(roi)?.cast()?;
    values.into_shape_with_order(shape).map_err(|error| Error::Shape {
        what: named.name.to_owned(),
        reason: error.to_string(),
    })
}
