//! Scores: each defined once, in words, with its range, its direction, and what it is where nothing is there. Each file
//! holds one evaluator, or what it counts; `docs/scores.md` has them in tables.

mod binary;
mod binary_counts;
mod instance;

use std::borrow::Cow;

use crate::task::Criterion;

pub use binary::{
    BINARY_CRITERIA, BinaryEvaluation, BinaryScores, binary_scores, class_criteria, class_scores,
};
pub use binary_counts::{BinaryCounts, BinaryPart, BinaryScorer, Counted};
pub(crate) use instance::instance_scores;
pub use instance::{Detection, INSTANCE_CRITERIA, InstanceRules, InstanceScores, Mistake, Part, ZeroIs};

const fn criterion(
    name: &'static str,
    higher_is_better: bool,
    unit: &'static str,
    meaning: &'static str,
) -> Criterion {
    Criterion {
        name: Cow::Borrowed(name),
        higher_is_better,
        meaning,
        unit,
    }
}
