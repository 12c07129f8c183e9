//! How two labellings of the same voxels overlap, and the variation of information that follows from it.

use std::collections::HashMap;
use std::ops::AddAssign;

use ndarray::parallel::prelude::*;
use ndarray::{ArrayView3, Axis, Zip};

use crate::Result;
use crate::error::same_shape;

/// For each pair of a true object and a segment, the voxels that they share. Tables of parts of a volume add
/// up to that of the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContingencyTable {
    voxels: HashMap<(u64, u64), u64>,
}

/// Variation of information in bits (Meilă 2007): 0 is perfect, lower is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Voi {
    /// H(segmentation | truth): how far objects are split.
    pub split: f64,
    /// H(truth | segmentation): how far objects are merged.
    pub merge: f64,
}

impl Voi {
    /// Split and merge together: the distance itself.
    pub fn sum(&self) -> f64 {
        self.split + self.merge
    }
}

impl ContingencyTable {
    /// Of two labellings; voxels of truth 0 are ignored, segment 0 counts as any other.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes differ.
    pub fn new(truth: ArrayView3<u64>, segmentation: ArrayView3<u64>) -> Result<Self> {
        same_shape("segmentation", segmentation.shape(), truth.shape())?;
        let planes = truth.axis_iter(Axis(0)).into_par_iter();
        Ok(planes
            .zip(segmentation.axis_iter(Axis(0)))
            .fold(Self::default, |mut table, (truth, segmentation)| {
                // Labels come in runs: the table is only asked when one ends.
                let (mut pair, mut run) = ((0, 0), 0);
                Zip::from(truth).and(segmentation).for_each(|&truth, &segment| {
                    if (truth, segment) != pair {
                        table.add(pair, run);
                        (pair, run) = ((truth, segment), 0);
                    }
                    run += 1;
                });
                table.add(pair, run);
                table
            })
            .reduce(Self::default, |mut sum, part| {
                sum += &part;
                sum
            }))
    }

    fn add(&mut self, pair: (u64, u64), voxels: u64) {
        if pair.0 != 0 && voxels != 0 {
            *self.voxels.entry(pair).or_default() += voxels;
        }
    }

    /// The voxels that count.
    pub fn total(&self) -> u64 {
        self.voxels.values().sum()
    }

    /// The variation of information, or nothing where no voxel counts.
    pub fn voi(&self) -> Option<Voi> {
        let mut pairs: Vec<_> = self
            .voxels
            .iter()
            .map(|(&pair, &voxels)| (pair, voxels))
            .collect();
        // A fixed order of the sums: the table itself has none.
        pairs.sort_unstable();
        let (mut objects, mut segments) = (HashMap::<u64, u64>::new(), HashMap::<u64, u64>::new());
        for &((truth, segment), voxels) in &pairs {
            *objects.entry(truth).or_default() += voxels;
            *segments.entry(segment).or_default() += voxels;
        }
        let total = self.total();
        let entropy = |within: &dyn Fn((u64, u64)) -> u64| {
            let bits = pairs.iter().map(|&(pair, voxels)| {
                let share = voxels as f64 / within(pair) as f64;
                voxels as f64 / total as f64 * -share.log2()
            });
            // Adding to 0 makes 0 of the -0 that perfect labels give.
            bits.sum::<f64>() + 0.0
        };
        (total > 0).then(|| Voi {
            split: entropy(&|(truth, _)| objects[&truth]),
            merge: entropy(&|(_, segment)| segments[&segment]),
        })
    }
}

impl AddAssign<&Self> for ContingencyTable {
    fn add_assign(&mut self, other: &Self) {
        for (&pair, &voxels) in &other.voxels {
            self.add(pair, voxels);
        }
    }
}
