//! How a run is validated, as its config says it.

use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When to validate, by what, and what to keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ValidationConfig {
    /// Steps between validations; the run's end is always validated.
    pub interval: u64,
    /// Validate the untrained network too, as iteration 0: what training has to beat.
    pub untrained: bool,
    /// The score that says which iteration and parameters are best. Default: the task's own.
    pub criterion: Option<String>,
    /// Voxels of input that the network gets at a time. Default: its input shape, grown by `eval_shape_increase`, and
    /// fitted so that few blocks cover the volume. Where it has valid padding, no norm over the input and no
    /// `eval_shape_increase`, the shape changes nothing but the time: blocks are then as large as memory allows.
    pub block_shape: Option<Vec<usize>>,
    /// Predicted voxels cut off on each side of a block. Default: none for a valid network; for one with same
    /// padding a quarter of the block, for what it makes of the zeros outside is not to be trusted.
    pub halo: Option<Vec<usize>>,
    /// Which segmentations to keep.
    pub keep_outputs: KeepOutputs,
    /// Of which iterations to keep predictions and outputs; those of others are removed after each validation.
    /// Only arrays go: checkpoints and scores stay. Default: all are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepPolicy>,
}

/// Of which validated iterations the arrays are kept, on each dataset. One that any of these names stays; the best
/// by the deciding criterion always stays, and so does what has no score yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeepPolicy {
    /// So many of the best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<usize>,
    /// So many of the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<usize>,
    /// Those that are multiples of this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<NonZeroU64>,
}

impl KeepPolicy {
    /// The policy that `best:2`, `last:1` or `every:5000` means.
    ///
    /// # Errors
    /// As a text what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is none of best:N, last:N and every:N");
        let (what, number) = text.split_once(':').ok_or_else(wrong)?;
        let count = || number.parse().map(Some).map_err(|_| wrong());
        let mut policy = Self::default();
        match what {
            "best" => policy.best = count()?,
            "last" => policy.last = count()?,
            "every" => policy.every = number.parse().map(Some).map_err(|_| wrong())?,
            _ => return Err(wrong()),
        }
        Ok(policy)
    }

    /// Both: what either keeps is kept.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            best: self.best.max(other.best),
            last: self.last.max(other.last),
            every: other.every.or(self.every),
        }
    }
}

/// Which of the segmentations made by a validation's parameter grid are kept in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeepOutputs {
    /// Those of the best parameters of each validated iteration.
    #[default]
    Best,
    /// Only those of the best iteration so far: older ones are removed when a better one is found.
    BestOverall,
    /// Those of every parameter set.
    All,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        Self {
            interval: 1000,
            untrained: false,
            criterion: None,
            block_shape: None,
            halo: None,
            keep_outputs: KeepOutputs::Best,
            keep: None,
        }
    }
}
