//! Scores: what they mean, each defined once. Each file holds one evaluator; what it counts is additive over blocks.

mod instance;

pub use instance::{Detection, InstanceRules, InstanceScores, Mistake, Part, ZeroIs};
