//! Scores of classes against their truth, voxel by voxel: what they are called, and what several classes make of them.
//! What they are computed from is in `binary_counts`.

use std::borrow::Cow;

use ndarray::ArrayView3;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::binary_counts::{BinaryPart, BinaryScorer, Counted};
use super::criterion;
use crate::task::{Criterion, Scores};
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
    /// Refuses distances that mean nothing.
    ///
    /// # Errors
    /// [`Error::Value`] unless both are finite and at least 0.
    pub fn check(&self) -> Result<()> {
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
/// says when.
pub type BinaryScores = [Option<f64>; BINARY_CRITERIA.len()];

/// The scores of a class in a whole volume. Voxels that are not known are of neither, and do not count.
///
/// All of them come from the distances to the surface of truth and segmentation: two transforms. A surface voxel has a
/// neighbour across a face that is not in the object; the outside of the volume is no such neighbour.
///
/// # Errors
/// [`Error::Shape`] if shapes differ, [`Error::Value`] for tolerances and voxel sizes that mean nothing.
pub fn binary_scores(
    truth: ArrayView3<bool>,
    test: ArrayView3<bool>,
    known: Option<ArrayView3<bool>>,
    voxel_size: [f64; 3],
    evaluation: &BinaryEvaluation,
) -> Result<BinaryScores> {
    evaluation.check()?;
    let (depth, height, width) = truth.dim();
    let shape = [depth, height, width];
    let scorer = BinaryScorer::new(shape, voxel_size)?;
    let part = BinaryPart {
        truth,
        test,
        known,
        inner: shape.map(|length| 0..length),
        goes_on: [[false; 2]; 3],
    };
    match scorer.count(&part, [true; 2])? {
        Counted::Done(counts) => Ok(scorer.scores(&counts, evaluation)),
        Counted::LookFurther { .. } => unreachable!("nothing lies beyond a whole volume"),
    }
}

/// The scores of several classes by name: `NAME.dice` and so on of each, and by the names of [`BINARY_CRITERIA`] the
/// means over those for which a score is defined. Of a single class there are only the latter.
pub fn class_scores(names: &[String], found: &[BinaryScores]) -> Scores {
    let mut scores = Scores::default();
    for (place, criterion) in BINARY_CRITERIA.iter().enumerate() {
        let defined: Vec<f64> = found.iter().filter_map(|found| found[place]).collect();
        let mean = (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64);
        scores.0.insert(criterion.name.to_string(), mean);
        for (name, found) in names.iter().zip(found).filter(|_| names.len() > 1) {
            scores
                .0
                .insert(format!("{name}.{}", criterion.name), found[place]);
        }
    }
    scores
}

/// What [`class_scores`] finds, in order: of all classes first, then class by class.
pub fn class_criteria(names: &[String]) -> Vec<Criterion> {
    let mut criteria = BINARY_CRITERIA.to_vec();
    for name in names.iter().filter(|_| names.len() > 1) {
        criteria.extend(BINARY_CRITERIA.iter().map(|criterion| Criterion {
            name: Cow::Owned(format!("{name}.{}", criterion.name)),
            ..criterion.clone()
        }));
    }
    criteria
}
