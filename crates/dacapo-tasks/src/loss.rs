//! What tasks minimise, as their configs say it: one loss, or several by weight. An engine computes them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::task::LossKind;
use crate::{Error, Result};

/// What is minimised of probabilities, each channel for itself: one loss (`bce`), or several by weight
/// (`{bce: 1, dice: 0.5}`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ProbabilityLoss {
    /// The sum of several.
    Sum(ProbabilityLossWeights),
    /// One.
    One(ProbabilityLossKind),
}

/// How much each loss counts; those that are not named do not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProbabilityLossWeights {
    /// Of binary cross-entropy.
    pub bce: f32,
    /// Of the squared difference.
    pub mse: f32,
    /// Of the dice loss.
    pub dice: f32,
}

/// A loss of probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbabilityLossKind {
    /// Binary cross-entropy: the mean over voxels, by their weights.
    Bce,
    /// The squared difference: the mean over voxels, by their weights.
    Mse,
    /// 1 - dice of each channel, over the batch: it does not matter how rare a class is.
    Dice,
}

impl Default for ProbabilityLoss {
    fn default() -> Self {
        Self::One(ProbabilityLossKind::Bce)
    }
}

impl ProbabilityLoss {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Each loss with its weight.
    pub(crate) fn terms(&self) -> Result<Vec<(LossKind, f32)>> {
        let weights = match *self {
            Self::Sum(weights) => weights,
            Self::One(kind) => {
                let one = |other| f32::from(u8::from(kind == other));
                ProbabilityLossWeights {
                    bce: one(ProbabilityLossKind::Bce),
                    mse: one(ProbabilityLossKind::Mse),
                    dice: one(ProbabilityLossKind::Dice),
                }
            }
        };
        checked(&[
            ("loss.bce", LossKind::BceWithLogits, weights.bce),
            ("loss.mse", LossKind::MseOfSigmoid, weights.mse),
            ("loss.dice", LossKind::Dice, weights.dice),
        ])
    }
}

/// What is minimised of classes that exclude each other: one loss (`cross_entropy`), or several by weight
/// (`{cross_entropy: 1, dice: 0.5}`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneHotLoss {
    /// The sum of several.
    Sum(OneHotLossWeights),
    /// One.
    One(OneHotLossKind),
}

/// How much each loss counts; those that are not named do not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OneHotLossWeights {
    /// Of cross-entropy.
    pub cross_entropy: f32,
    /// Of the dice loss.
    pub dice: f32,
}

/// A loss of classes that exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OneHotLossKind {
    /// The cross-entropy of the softmax: predictions are probabilities that add up to 1.
    CrossEntropy,
    /// 1 - dice of the softmax in each channel, over the batch: it does not matter how rare a class is. Predictions
    /// are probabilities that add up to 1.
    Dice,
    /// The squared difference to 1 in the class's channel and 0 in the others. Predictions are no probabilities.
    Mse,
}

impl Default for OneHotLoss {
    fn default() -> Self {
        Self::One(OneHotLossKind::CrossEntropy)
    }
}

impl OneHotLoss {
    /// Each loss with its weight.
    pub(crate) fn terms(&self) -> Result<Vec<(LossKind, f32)>> {
        match *self {
            Self::One(OneHotLossKind::CrossEntropy) => Ok(vec![(LossKind::CrossEntropy, 1.0)]),
            Self::One(OneHotLossKind::Dice) => Ok(vec![(LossKind::Dice, 1.0)]),
            Self::One(OneHotLossKind::Mse) => Ok(vec![(LossKind::Mse, 1.0)]),
            Self::Sum(weights) => checked(&[
                (
                    "loss.cross_entropy",
                    LossKind::CrossEntropy,
                    weights.cross_entropy,
                ),
                ("loss.dice", LossKind::Dice, weights.dice),
            ]),
        }
    }
}

/// Those that count.
fn checked(terms: &[(&'static str, LossKind, f32)]) -> Result<Vec<(LossKind, f32)>> {
    let bad = |key, value: f32, expected| {
        Err(Error::Value {
            key,
            value: f64::from(value),
            expected,
        })
    };
    for &(key, _, weight) in terms {
        if !(weight.is_finite() && weight >= 0.0) {
            return bad(key, weight, "finite and not negative");
        }
    }
    let counted = terms.iter().filter(|(_, _, weight)| *weight > 0.0);
    let counted: Vec<_> = counted.map(|&(_, kind, weight)| (kind, weight)).collect();
    if counted.is_empty() {
        return bad("loss", 0.0, "a loss with a weight above 0");
    }
    Ok(counted)
}
