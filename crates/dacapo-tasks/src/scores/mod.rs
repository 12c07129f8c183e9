//! Scores: each defined once, in words, with its range, its direction, and what it is where nothing is there.
//! `docs/scores.md` has them in a table.

mod binary;
mod voi;

pub use binary::{BINARY_CRITERIA, BinaryEvaluation, binary_scores};
pub(crate) use voi::{VOI_CRITERIA, voi_scores};
