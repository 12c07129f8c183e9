//! How a run is validated, as its config says it.

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
    /// Voxels of input that the network gets at a time. Default: its input shape, grown by
    /// `eval_shape_increase`, and fitted so that few blocks cover the volume.
    pub block_shape: Option<Vec<usize>>,
    /// Predicted voxels cut off on each side of a block. Default: none for a valid network; for one with same
    /// padding a quarter of the block, for what it makes of the zeros outside is not to be trusted.
    pub halo: Option<Vec<usize>>,
    /// Which segmentations to keep.
    pub keep_outputs: KeepOutputs,
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
        }
    }
}
