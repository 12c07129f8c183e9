//! Every threshold of a prediction of bytes for the price of one: against a truth of true and false from two histograms,
//! against objects from one falling pass over the connected components.

use std::ops::AddAssign;

use ndarray::ArrayView3;
use rayon::prelude::*;

use crate::error::same_shape;
use crate::hash::IdMap;
use crate::hills::Hills;
use crate::merging::MergingTable;
use crate::{Connectivity, Id, Result, Voi};

/// Voxels that are counted as one piece.
const PIECE: usize = 1 << 16;

/// How many voxels of each value are set in the truth, and how many are not: enough for the scores at every threshold.
/// Counts of parts of a volume add up to those of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThresholdCounts {
    /// By value; first those that are not set.
    counts: [[u64; 256]; 2],
}

impl Default for ThresholdCounts {
    fn default() -> Self {
        Self {
            counts: [[0; 256]; 2],
        }
    }
}

/// Voxels by what prediction and truth say of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Set in both.
    pub both: u64,
    /// Set in the prediction only.
    pub only_predicted: u64,
    /// Set in the truth only.
    pub only_true: u64,
    /// Set in neither.
    pub neither: u64,
}

impl ThresholdCounts {
    /// Of those voxels that `counted` names, or all.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes differ.
    pub fn new(
        prediction: ArrayView3<u8>,
        truth: ArrayView3<bool>,
        counted: Option<ArrayView3<bool>>,
    ) -> Result<Self> {
        same_shape("truth", truth.shape(), prediction.shape())?;
        let prediction = prediction.as_standard_layout();
        let truth = truth.as_standard_layout();
        let (values, set) = (
            prediction.as_slice().unwrap_or_default(),
            truth.as_slice().unwrap_or_default(),
        );
        let standard = match counted {
            Some(counted) => {
                same_shape("volume of voxels that count", counted.shape(), prediction.shape())?;
                Some(counted.as_standard_layout().into_owned())
            }
            None => None,
        };
        let counted = standard.as_ref().and_then(|counted| counted.as_slice());
        let pieces = values.par_chunks(PIECE).zip(set.par_chunks(PIECE)).enumerate();
        Ok(pieces
            .map(|(piece, (values, set))| {
                let counted = counted.map(|counted| &counted[piece * PIECE..][..values.len()]);
                Self::of_piece(values, set, counted)
            })
            .reduce(Self::default, |mut sum, part| {
                sum += &part;
                sum
            }))
    }

    fn of_piece(values: &[u8], set: &[bool], counted: Option<&[bool]>) -> Self {
        // Several tables, in turn: a count does not wait for the one before it.
        const TABLES: usize = 4;
        let mut tables = [[0u32; 512]; TABLES];
        let place = |value: u8, set: bool| usize::from(value) | usize::from(set) << 8;
        match counted {
            None => {
                for (i, (&value, &set)) in values.iter().zip(set).enumerate() {
                    tables[i % TABLES][place(value, set)] += 1;
                }
            }
            Some(counted) => {
                for (i, ((&value, &set), &counted)) in values.iter().zip(set).zip(counted).enumerate() {
                    tables[i % TABLES][place(value, set)] += u32::from(counted);
                }
            }
        }
        let sum = |place: usize| tables.iter().map(|table| u64::from(table[place])).sum();
        Self {
            counts: [0, 1].map(|set| std::array::from_fn(|value| sum(value | set << 8))),
        }
    }

    /// What prediction and truth say, for each threshold from 0 to 255: a voxel is set in the prediction if its value
    /// is above the threshold, so nothing is at 255.
    pub fn curve(&self) -> [Agreement; 256] {
        let [all_unset, all_set] = self.counts.map(|counts| counts.iter().sum::<u64>());
        let (mut above_unset, mut above_set) = (all_unset, all_set);
        std::array::from_fn(|threshold| {
            above_unset -= self.counts[0][threshold];
            above_set -= self.counts[1][threshold];
            Agreement {
                both: above_set,
                only_predicted: above_unset,
                only_true: all_set - above_set,
                neither: all_unset - above_unset,
            }
        })
    }

    /// The threshold with the highest score, and that score; the lowest of several, nothing where no score is defined.
    ///
    /// ```
    /// use dacapo_kernels::{Agreement, ThresholdCounts};
    /// use ndarray::array;
    ///
    /// let (prediction, truth) = (array![[[9u8, 90, 200, 201]]], array![[[false, false, true, true]]]);
    /// let counts = ThresholdCounts::new(prediction.view(), truth.view(), None)?;
    /// assert_eq!(counts.best(Agreement::dice), Some((90, 1.0)));
    /// # Ok::<(), dacapo_kernels::Error>(())
    /// ```
    pub fn best(&self, score: impl Fn(&Agreement) -> Option<f64>) -> Option<(u8, f64)> {
        let scores = (0u8..=255).zip(self.curve());
        let scores = scores.filter_map(|(threshold, agreement)| Some((threshold, score(&agreement)?)));
        scores.reduce(|best, next| if next.1 > best.1 { next } else { best })
    }
}

impl AddAssign<&Self> for ThresholdCounts {
    fn add_assign(&mut self, other: &Self) {
        for (mine, theirs) in self
            .counts
            .as_flattened_mut()
            .iter_mut()
            .zip(other.counts.as_flattened())
        {
            *mine += theirs;
        }
    }
}

impl Agreement {
    /// 2 both / (predicted + true), which is F1 too. From 0 to 1, higher is better; nothing where nothing is set.
    pub fn dice(&self) -> Option<f64> {
        ratio(
            2 * self.both,
            2 * self.both + self.only_predicted + self.only_true,
        )
    }

    /// Both / either. From 0 to 1, higher is better; nothing where nothing is set.
    pub fn jaccard(&self) -> Option<f64> {
        ratio(self.both, self.both + self.only_predicted + self.only_true)
    }

    /// Both / predicted. From 0 to 1, higher is better; nothing where nothing is predicted.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.both, self.both + self.only_predicted)
    }

    /// Both / true. From 0 to 1, higher is better; nothing where nothing is true.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.both, self.both + self.only_true)
    }

    /// The harmonic mean of precision and recall: the same as [`dice`](Self::dice).
    pub fn f1(&self) -> Option<f64> {
        self.dice()
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Which voxels count where components are compared with objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepRules {
    /// Whether voxels of truth 0 count.
    pub truth_zero: bool,
    /// Whether voxels that are in no component count, as one segment.
    pub segment_zero: bool,
}

impl Default for SweepRules {
    /// Truth 0 is unknown; every other voxel counts.
    fn default() -> Self {
        Self {
            truth_zero: false,
            segment_zero: true,
        }
    }
}

/// The components at a threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SweepPoint {
    /// Voxels above it are foreground.
    pub threshold: u8,
    /// How many components they make.
    pub components: u64,
    /// How far these are from the true objects; nothing where no voxel counts.
    pub voi: Option<Voi>,
}

/// The connected components of what is above each threshold, beside the true objects: as if each had been segmented
/// and compared by itself, to the last bit. Points are in the order of the thresholds.
///
/// As the threshold falls, voxels only join and components only merge: hills of the prediction are joined by one
/// union-find from the highest level to the lowest, and each merge adds up two rows of the table. Sums are made up for
/// the rows that changed, once a level.
///
/// # Errors
/// [`crate::Error::Shape`] if the shapes differ; [`crate::Error::TooLarge`] from 2³² hills on.
pub fn component_sweep<T: Id>(
    prediction: ArrayView3<u8>,
    truth: ArrayView3<T>,
    thresholds: &[u8],
    connectivity: Connectivity,
    rules: SweepRules,
) -> Result<Vec<SweepPoint>> {
    same_shape("truth", truth.shape(), prediction.shape())?;
    let mut ascending = thresholds.to_vec();
    ascending.sort_unstable();
    ascending.dedup();
    // Of so many thresholds nothing is above all of them.
    let level_of = std::array::from_fn(|value| {
        ascending.partition_point(|&threshold| usize::from(threshold) < value) as u8
    });
    let mut hills = Hills::new(prediction, truth, &level_of, connectivity)?;

    let counts = |object: usize| object != 0 || rules.truth_zero;
    let mut table = MergingTable::new(hills.peaks.len());
    let mut appear = [0; 256];
    for hill in 0..hills.sets.len() {
        if hills.sets.find(hill) == hill {
            appear[usize::from(hills.peaks[hill as usize])] += 1;
        }
    }
    let total = &hills.objects;
    // What is in no component yet.
    let mut rest = total.clone();
    let mut components = 0;
    let mut points: IdMap<u64, SweepPoint> = IdMap::default();
    for level in (1..=ascending.len()).rev() {
        components += appear.get(level).copied().unwrap_or(0);
        // Of voxels in a row most are of one component and object: they are added together.
        let mut open = (0, 0, 0);
        for voxels in hills.voxels.get(level).into_iter().flatten() {
            let count = u64::from(voxels.count);
            rest[voxels.object as usize] -= count;
            if counts(voxels.object as usize) {
                let component = hills.sets.find(voxels.hill);
                if (component, voxels.object) != (open.0, open.1) {
                    table.add(open.0 as usize, open.1, open.2);
                    open = (component, voxels.object, 0);
                }
                open.2 += count;
            }
        }
        table.add(open.0 as usize, open.1, open.2);
        for &[a, b] in hills.saddles.get(level).into_iter().flatten() {
            let (a, b) = (hills.sets.find(a), hills.sets.find(b));
            if a != b {
                let into = hills.sets.union(a, b);
                table.merge((a.max(b)) as usize, into as usize);
                components -= 1;
            }
        }
        let objects = total
            .iter()
            .zip(&rest)
            .enumerate()
            .filter(|&(object, _)| counts(object));
        let sizes = objects.map(|(_, (&all, &rest))| if rules.segment_zero { all } else { all - rest });
        let left = rest
            .iter()
            .enumerate()
            .filter(|&(object, _)| counts(object) && rules.segment_zero);
        let threshold = ascending[level - 1];
        let voi = table.voi(sizes, left.map(|(_, &voxels)| voxels));
        points.insert(
            u64::from(threshold),
            SweepPoint {
                threshold,
                components,
                voi,
            },
        );
    }
    Ok(thresholds
        .iter()
        .map(|&threshold| points[&u64::from(threshold)])
        .collect())
}

/// The point with the least variation of information; the first of several.
pub fn best_point(points: &[SweepPoint]) -> Option<&SweepPoint> {
    let scored = points.iter().filter_map(|point| Some((point, point.voi?.sum())));
    scored
        .reduce(|best, next| if next.1 < best.1 { next } else { best })
        .map(|(point, _)| point)
}
