//! Scoring one array by another, block by block: what the scores mean is `dacapo_tasks`' matter, and any block
//! size gives the same. Objects are scored here, classes in `binary`.

mod binary;

use std::sync::Mutex;

use dacapo_array::{ArraySpec, Coordinate, Roi};
use dacapo_kernels::ContingencyTable;
use dacapo_tasks::{InstanceRules, InstanceScores};

use crate::observer::Observer;
use crate::volume::{Blocks, NamedArray, Volume, for_each_block, lock, shared, within};
use crate::{Error, Result};

pub use binary::{EvaluateBinaryRequest, EvaluatedBinary, evaluate_binary};

/// Blocks have so many voxels along each axis unless asked for others.
const BLOCK: usize = 256;

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
    for (named, other) in [(truth, segmentation), (segmentation, truth)] {
        let spec = integers(named)?;
        let channels: usize = spec.channels.iter().product();
        if channels != 1 || !(2..=3).contains(&spec.spatial_dims()) {
            let shape = spec.shape();
            return Err(Error::Incomparable {
                truth: named.name.to_owned(),
                other: other.name.to_owned(),
                reason: format!(
                    "{} of shape {shape:?} is no volume or image of labels",
                    named.name
                ),
            });
        }
    }
    let roi = shared(truth, segmentation, request.roi.as_ref())?;
    let voxel_size = truth.array.spec().voxel_size.clone();
    let (truth, segmentation) = (Volume::new(truth, &roi)?, Volume::new(segmentation, &roi)?);
    let blocks = Blocks::new(truth.shape, request.block)?;
    let band = request.rules.boundary_band;
    let table = Mutex::new(ContingencyTable::default());
    for_each_block(&blocks.grid, 1, observer, |block| {
        let inner = blocks.inner(block);
        let outer = blocks.around(&inner, band, band);
        let part = request.rules.count_block(
            truth.labels(&outer)?.view(),
            segmentation.labels(&outer)?.view(),
            within(&inner, &outer),
            inner.each_ref().map(|range| range.start as u64),
        )?;
        *lock(&table) += &part;
        Ok(())
    })?;
    Ok(Evaluated {
        scores: InstanceScores::new(&lock(&table), request.rules, request.largest),
        roi,
        voxel_size,
    })
}

/// The spec of an array that holds no floats.
fn integers<'a>(named: NamedArray<'a>) -> Result<&'a ArraySpec> {
    let spec = named.array.spec();
    if spec.dtype.is_float() {
        return Err(Error::LabelType {
            dataset: named.name.to_owned(),
            dtype: spec.dtype,
        });
    }
    Ok(spec)
}
