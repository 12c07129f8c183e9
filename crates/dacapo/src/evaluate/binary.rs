//! Scoring classes voxel by voxel, channel by channel. A block is read with as much around it as its errors are far
//! from what they are measured to, so that distances are those of the whole volume.

use std::ops::Range;
use std::sync::Mutex;

use ndarray::{Array4, Axis};
use serde::Serialize;

use dacapo_array::{Coordinate, Roi};
use dacapo_tasks::{BinaryCounts, BinaryEvaluation, BinaryPart, BinaryScorer, Counted, Scores, class_scores};

use super::{BLOCK, integers};
use crate::observer::Observer;
use crate::volume::{Blocks, NamedArray, Ranges, Volume, for_each_block, lock, shared, within};
use crate::{Error, Result};

/// Voxels around a block that are read at first.
const AROUND: f64 = 16.0;

/// What is compared, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluateBinaryRequest {
    /// What scores with tolerance and clipped ones mean.
    pub evaluation: BinaryEvaluation,
    /// What the channels are called, if there are several; numbers from 0 without.
    pub names: Vec<String>,
    /// The part to compare, in world units; all that the arrays share without one.
    pub roi: Option<Roi>,
    /// Voxels of a block along each axis; it changes memory and time, and no score.
    pub block: usize,
}

impl Default for EvaluateBinaryRequest {
    fn default() -> Self {
        Self {
            evaluation: BinaryEvaluation::default(),
            names: Vec::new(),
            roi: None,
            block: BLOCK,
        }
    }
}

/// The scores of classes, and where they hold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluatedBinary {
    /// What was compared, in world units.
    pub roi: Roi,
    /// World units of a voxel.
    pub voxel_size: Coordinate,
    /// What the scores were made with.
    pub evaluation: BinaryEvaluation,
    /// What the channels are called.
    pub channels: Vec<String>,
    /// By name, as [`class_scores`] has them.
    #[serde(flatten)]
    pub scores: Scores,
}

/// Scores where one array is not 0 by where the other is not, in each channel.
///
/// # Errors
/// [`Error::Incomparable`] for arrays that do not lie on one grid, share nothing or differ in channels;
/// [`Error::LabelType`] for floats; [`Error::Task`] for a tolerance that means nothing; [`Error::Interrupted`].
pub fn evaluate_binary(
    truth: NamedArray,
    test: NamedArray,
    request: &EvaluateBinaryRequest,
    observer: &dyn Observer,
) -> Result<EvaluatedBinary> {
    request.evaluation.check()?;
    let channels = [integers(truth)?, integers(test)?].map(|spec| spec.channels.iter().product::<usize>());
    if channels[0] != channels[1] {
        return Err(Error::Incomparable {
            truth: truth.name.to_owned(),
            other: test.name.to_owned(),
            reason: format!("one has {} channels, the other {}", channels[0], channels[1]),
        });
    }
    let names = match request.names.len() == channels[0] {
        true => request.names.clone(),
        false => (0..channels[0]).map(|channel| channel.to_string()).collect(),
    };
    let roi = shared(truth, test, request.roi.as_ref())?;
    let voxel_size = truth.array.spec().voxel_size.clone();
    let (truth, test) = (Volume::new(truth, &roi)?, Volume::new(test, &roi)?);
    let blocks = Blocks::new(truth.shape, request.block)?;
    let mut size = [1.0; 3];
    size[3 - voxel_size.dims()..].copy_from_slice(&voxel_size.to_f64());
    let scene = Scene {
        scorer: BinaryScorer::new(truth.shape, size)?,
        truth,
        test,
        size,
        blocks: &blocks,
    };

    // How much is set at all says whether there is anything to be near to.
    let set = Mutex::new(vec![[0; 2]; names.len()]);
    for_each_block(&blocks.grid, 1, observer, |block| {
        let [truth, test] = scene.read(&blocks.inner(block))?;
        for (channel, set) in lock(&set).iter_mut().enumerate() {
            for (array, set) in [&truth, &test].into_iter().zip(set) {
                *set += array
                    .index_axis(Axis(0), channel)
                    .iter()
                    .filter(|&&is_set| is_set)
                    .count();
            }
        }
        Ok(())
    })?;
    let voxels = scene.truth.shape.iter().product();
    let exist: Vec<[bool; 2]> = (lock(&set).iter())
        .map(|set| set.map(|set| 0 < set && set < voxels))
        .collect();

    let counts = Mutex::new(vec![BinaryCounts::default(); names.len()]);
    for_each_block(&blocks.grid, 1, observer, |block| {
        let found = scene.count(&blocks.inner(block), &exist)?;
        for (sum, found) in lock(&counts).iter_mut().zip(&found) {
            *sum += found;
        }
        Ok(())
    })?;
    let counts = lock(&counts);
    let found: Vec<_> = (counts.iter())
        .map(|counts| scene.scorer.scores(counts, &request.evaluation))
        .collect();
    Ok(EvaluatedBinary {
        roi,
        voxel_size,
        evaluation: request.evaluation,
        scores: class_scores(&names, &found),
        channels: names,
    })
}

struct Scene<'a> {
    truth: Volume<'a>,
    test: Volume<'a>,
    /// World units of a voxel along z, y and x.
    size: [f64; 3],
    scorer: BinaryScorer,
    blocks: &'a Blocks,
}

impl Scene<'_> {
    /// Truth and test (channels, z, y, x).
    fn read(&self, ranges: &Ranges) -> Result<[Array4<bool>; 2]> {
        Ok([self.truth.set(ranges)?, self.test.set(ranges)?])
    }

    /// The counts of a block, channel by channel.
    fn count(&self, inner: &Ranges, exist: &[[bool; 2]]) -> Result<Vec<BinaryCounts>> {
        let mut reach = AROUND * self.size.iter().copied().fold(f64::INFINITY, f64::min);
        let mut found: Vec<Option<BinaryCounts>> = vec![None; exist.len()];
        loop {
            let around = self.size.map(|size| (reach / size).ceil() as usize);
            let outer = self.blocks.around(inner, around, around);
            let [truth, test] = self.read(&outer)?;
            let goes_on = |axis: usize| -> [bool; 2] {
                let Range { start, end } = outer[axis];
                [start > 0, end < self.truth.shape[axis]]
            };
            let mut further = reach;
            for (channel, found) in found.iter_mut().enumerate().filter(|(_, found)| found.is_none()) {
                let part = BinaryPart {
                    truth: truth.index_axis(Axis(0), channel),
                    test: test.index_axis(Axis(0), channel),
                    known: None,
                    inner: within(inner, &outer),
                    goes_on: [goes_on(0), goes_on(1), goes_on(2)],
                };
                match self.scorer.count(&part, exist[channel])? {
                    Counted::Done(counts) => *found = Some(counts),
                    // Out of sight: twice as far is looked. Else no further than what is in sight.
                    Counted::LookFurther { reach: to } if to.is_infinite() => {
                        further = further.max(2.0 * reach)
                    }
                    Counted::LookFurther { reach: to } => further = further.max(to),
                }
            }
            if found.iter().all(Option::is_some) {
                return Ok(found.into_iter().flatten().collect());
            }
            reach = further;
        }
    }
}
