//! Scores of one class against its truth: how many voxels are right, and how far the wrong ones are.

use ndarray::{Array3, ArrayView3, Axis, Slice, Zip};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_kernels::{Agreement, DistanceOptions, distance_transform};

use super::criterion;
use crate::task::{Criterion, expect_shape};
use crate::{Error, Result};

/// What the scores with tolerance and the clipped ones mean, in world units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BinaryEvaluation {
    /// Wrong voxels count as right up to this distance.
    pub tolerance: f64,
    /// In clipped means, no distance is larger.
    pub clip: f64,
}

impl Default for BinaryEvaluation {
    fn default() -> Self {
        Self {
            tolerance: 40.0,
            clip: 200.0,
        }
    }
}

impl BinaryEvaluation {
    pub(crate) fn check(&self) -> Result<()> {
        let values = [
            ("evaluation.tolerance", self.tolerance),
            ("evaluation.clip", self.clip),
        ];
        match values
            .into_iter()
            .find(|(_, value)| !(value.is_finite() && *value >= 0.0))
        {
            None => Ok(()),
            Some((key, value)) => {
                let expected = "finite and at least 0";
                Err(Error::Value { key, value, expected })
            }
        }
    }
}

const SHARE: &str = "0 to 1";
const WORLD: &str = "world units";

/// What [`binary_scores`] finds, in its order. The names are DaCapo's, but for the last two.
pub static BINARY_CRITERIA: [Criterion; 23] = [
    criterion("dice", true, SHARE, "2 TP / (2 TP + FP + FN)"),
    criterion("jaccard", true, SHARE, "TP / (TP + FP + FN)"),
    criterion(
        "hausdorff",
        false,
        WORLD,
        "the furthest that a wrong voxel is from the other object",
    ),
    criterion("false_negative_rate", false, SHARE, "FN / (TP + FN)"),
    criterion(
        "false_negative_rate_with_tolerance",
        false,
        SHARE,
        "FN beyond the tolerance / (TP + FN)",
    ),
    criterion("false_positive_rate", false, SHARE, "FP / (FP + TN)"),
    criterion("false_discovery_rate", false, SHARE, "FP / (TP + FP)"),
    criterion(
        "false_positive_rate_with_tolerance",
        false,
        SHARE,
        "FP beyond the tolerance / (FP + TN)",
    ),
    criterion(
        "voi",
        false,
        "bits",
        "variation of information of the two halves, background one of them",
    ),
    criterion(
        "mean_false_distance",
        false,
        WORLD,
        "mean of the two mean false distances",
    ),
    criterion(
        "mean_false_negative_distance",
        false,
        WORLD,
        "mean over the truth of the distance to the segmentation, 0 where they overlap",
    ),
    criterion(
        "mean_false_positive_distance",
        false,
        WORLD,
        "mean over the segmentation of the distance to the truth, 0 where they overlap",
    ),
    criterion(
        "mean_false_distance_clipped",
        false,
        WORLD,
        "mean of the two clipped mean false distances",
    ),
    criterion(
        "mean_false_negative_distance_clipped",
        false,
        WORLD,
        "mean_false_negative_distance with no distance above the clip",
    ),
    criterion(
        "mean_false_positive_distance_clipped",
        false,
        WORLD,
        "mean_false_positive_distance with no distance above the clip",
    ),
    criterion(
        "precision_with_tolerance",
        true,
        SHARE,
        "right ones / (right ones + FP beyond the tolerance); wrong ones within it are right",
    ),
    criterion(
        "recall_with_tolerance",
        true,
        SHARE,
        "right ones / (right ones + FN beyond the tolerance); wrong ones within it are right",
    ),
    criterion(
        "f1_score_with_tolerance",
        true,
        SHARE,
        "harmonic mean of precision and recall with tolerance",
    ),
    criterion("precision", true, SHARE, "TP / (TP + FP)"),
    criterion("recall", true, SHARE, "TP / (TP + FN)"),
    criterion(
        "f1_score",
        true,
        SHARE,
        "harmonic mean of precision and recall: the same as dice",
    ),
    criterion(
        "hausdorff_95",
        false,
        WORLD,
        "95th percentile of the distances from either surface to the other, the larger of the two",
    ),
    criterion(
        "average_surface_distance",
        false,
        WORLD,
        "mean of the distances from either surface to the other",
    ),
];

/// The scores of a class, in the order of [`BINARY_CRITERIA`]; nothing where one is not defined: `docs/scores.md`
/// says when. Voxels that are not known are of neither.
///
/// All of them come from the distances to the surface of truth and segmentation: two transforms. A surface voxel has a
/// neighbour across a face that is not in the object; the outside of the volume is no such neighbour.
///
/// # Errors
/// [`Error::Shape`] if shapes differ, [`Error::Value`] and [`Error::Kernel`] for tolerances and voxel sizes that mean
/// nothing.
pub fn binary_scores(
    truth: ArrayView3<bool>,
    test: ArrayView3<bool>,
    known: Option<ArrayView3<bool>>,
    voxel_size: [f64; 3],
    evaluation: &BinaryEvaluation,
) -> Result<[Option<f64>; 23]> {
    evaluation.check()?;
    expect_shape("segmentation", test.shape(), truth.shape())?;
    let (mut truth, mut test) = (truth.to_owned(), test.to_owned());
    let mut unknown = 0_u64;
    if let Some(known) = known {
        expect_shape("volume of what is known", known.shape(), truth.shape())?;
        Zip::from(&mut truth)
            .and(&mut test)
            .and(known)
            .for_each(|truth, test, &known| {
                *truth &= known;
                *test &= known;
                unknown += u64::from(!known);
            });
    }
    let surfaces = [surface(&truth), surface(&test)];
    let options = DistanceOptions {
        spacing: voxel_size,
        ..DistanceOptions::default()
    };
    let to_surface = |surface: &Array3<bool>| {
        let elsewhere = surface.mapv(|is_surface| !is_surface);
        distance_transform(elsewhere.view(), &options)
    };
    let distances = [to_surface(&surfaces[0])?, to_surface(&surfaces[1])?];

    let mut counts = Counts::default();
    let [to_truth, to_test] = &distances;
    Zip::from(&truth)
        .and(&test)
        .and(to_truth)
        .and(to_test)
        .for_each(|&truth, &test, &to_truth, &to_test| match (truth, test) {
            (true, true) => counts.right += 1,
            (false, false) => counts.background += 1,
            (false, true) => counts.false_positives.add(to_truth, evaluation),
            (true, false) => counts.false_negatives.add(to_test, evaluation),
        });
    counts.background -= unknown;
    let from_surfaces = [
        at_surface(&surfaces[0], to_test),
        at_surface(&surfaces[1], to_truth),
    ];
    Ok(counts.scores(from_surfaces))
}

/// Voxels of an object beside voxels that are not of it.
fn surface(object: &Array3<bool>) -> Array3<bool> {
    let mut surface = Array3::from_elem(object.raw_dim(), false);
    for axis in 0..3 {
        let ends = [Slice::from(..-1), Slice::from(1..)];
        if object.len_of(Axis(axis)) < 2 {
            continue;
        }
        for (here, there) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            Zip::from(surface.slice_axis_mut(Axis(axis), here))
                .and(object.slice_axis(Axis(axis), here))
                .and(object.slice_axis(Axis(axis), there))
                .for_each(|surface, &here, &there| *surface |= here && !there);
        }
    }
    surface
}

fn at_surface(surface: &Array3<bool>, distances: &Array3<f32>) -> Vec<f32> {
    let on_it = surface
        .iter()
        .zip(distances)
        .filter(|(is_surface, _)| **is_surface);
    on_it.map(|(_, &distance)| distance).collect()
}

/// Voxels that are wrong.
#[derive(Default)]
struct Wrong {
    count: u64,
    /// Those beyond the tolerance.
    far: u64,
    most: f64,
    sum: f64,
    sum_clipped: f64,
}

impl Wrong {
    /// Adds a voxel at a distance; an infinite one where there is no object to be near to.
    fn add(&mut self, distance: f32, evaluation: &BinaryEvaluation) {
        let distance = f64::from(distance);
        self.count += 1;
        self.far += u64::from(distance > evaluation.tolerance);
        self.most = self.most.max(distance);
        self.sum += distance;
        self.sum_clipped += distance.min(evaluation.clip);
    }
}

#[derive(Default)]
struct Counts {
    right: u64,
    background: u64,
    false_positives: Wrong,
    false_negatives: Wrong,
}

impl Counts {
    fn scores(&self, from_surfaces: [Vec<f32>; 2]) -> [Option<f64>; 23] {
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let finite = |value: f64| value.is_finite().then_some(value);
        let (fp, fn_) = (&self.false_positives, &self.false_negatives);
        let tp = self.right;
        let (of_truth, of_test) = (tp + fn_.count, tp + fp.count);
        let agreement = Agreement {
            both: tp,
            only_predicted: fp.count,
            only_true: fn_.count,
            neither: self.background,
        };
        // Wrong ones within the tolerance are right.
        let near = tp + (fp.count - fp.far) + (fn_.count - fn_.far);
        let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64).and_then(finite);
        let middle = |a: Option<f64>, b: Option<f64>| Some((a? + b?) / 2.0);
        let negative = mean(fn_.sum, of_truth);
        let positive = mean(fp.sum, of_test);
        let negative_clipped = mean(fn_.sum_clipped, of_truth);
        let positive_clipped = mean(fp.sum_clipped, of_test);
        let [surface_95, surface_mean] = surface_scores(from_surfaces);
        [
            agreement.dice(),
            agreement.jaccard(),
            finite(fp.most.max(fn_.most)),
            ratio(fn_.count, of_truth),
            ratio(fn_.far, of_truth),
            ratio(fp.count, fp.count + self.background),
            ratio(fp.count, of_test),
            ratio(fp.far, fp.count + self.background),
            self.voi(),
            middle(negative, positive),
            negative,
            positive,
            middle(negative_clipped, positive_clipped),
            negative_clipped,
            positive_clipped,
            ratio(near, near + fp.far),
            ratio(near, near + fn_.far),
            ratio(2 * near, 2 * near + fp.far + fn_.far),
            agreement.precision(),
            agreement.recall(),
            agreement.f1(),
            surface_95,
            surface_mean,
        ]
    }

    /// H(truth, test) and once more, less H(truth) and H(test).
    fn voi(&self) -> Option<f64> {
        let cells = [
            self.right,
            self.false_positives.count,
            self.false_negatives.count,
            self.background,
        ];
        let total: u64 = cells.iter().sum();
        let entropy = |counts: &[u64]| -> f64 {
            let parts = counts.iter().filter(|&&count| count > 0);
            parts
                .map(|&count| count as f64 / total as f64)
                .map(|p| -p * p.log2())
                .sum()
        };
        let [tp, fp, fn_, tn] = cells;
        let both = 2.0 * entropy(&cells) - entropy(&[tp + fn_, fp + tn]) - entropy(&[tp + fp, fn_ + tn]);
        (total > 0).then(|| both.max(0.0))
    }
}

/// The 95th percentile and the mean of the distances from two surfaces to each other: percentiles by nearest rank.
/// Nothing where either has no surface.
fn surface_scores([mut a, mut b]: [Vec<f32>; 2]) -> [Option<f64>; 2] {
    if a.is_empty() || b.is_empty() {
        return [None; 2];
    }
    let sum: f64 = a.iter().chain(&b).map(|&distance| f64::from(distance)).sum();
    let mean = sum / (a.len() + b.len()) as f64;
    let percentile = |distances: &mut Vec<f32>| {
        let rank = (distances.len() * 95).div_ceil(100) - 1;
        f64::from(*distances.select_nth_unstable_by(rank, f32::total_cmp).1)
    };
    [Some(percentile(&mut a).max(percentile(&mut b))), Some(mean)]
}
