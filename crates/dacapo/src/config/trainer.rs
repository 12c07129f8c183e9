//! How a network is trained, as a run's config says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_nn::{OptimizerConfig, Schedule};

use super::{AugmentConfig, EarlyStopping};

/// Batches, optimiser, and what is kept while training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainerConfig {
    /// Crops in one batch.
    pub batch_size: usize,
    /// Batches of one step: their gradients are averaged. Learns as from one batch of as many crops, in the memory of
    /// one of these.
    pub accumulate: u32,
    /// How a step changes the weights.
    pub optimizer: OptimizerConfig,
    /// How the learning rate goes over the run.
    pub schedule: Schedule,
    /// Gradients are scaled down to this Euclidean norm where theirs is larger; null: never.
    pub clip_gradient_norm: Option<f64>,
    /// Decay of an average of the weights, which validation and prediction then use (0.999 remembers about a thousand
    /// steps); null: they use the weights as they are.
    pub ema: Option<f64>,
    /// Take less memory, and about one forward pass longer for a step.
    pub recompute: bool,
    /// Crops with a smaller labelled fraction are not used.
    pub min_labelled: f64,
    /// How crops are varied.
    pub augment: AugmentConfig,
    /// Steps between snapshots of a batch and its prediction; 0: none.
    pub snapshot_interval: u64,
    /// Steps between checkpoints. Default: the validation's interval.
    pub checkpoint_interval: Option<u64>,
    /// Stop before `num_iterations` if validations get no better. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
    /// Keep losses and scores as TensorBoard's event files, too, in the run's folder `tensorboard`.
    #[serde(skip_serializing_if = "is_off")]
    pub tensorboard: bool,
    /// Threads that prepare batches while the network works.
    pub workers: usize,
}

impl Default for TrainerConfig {
    fn default() -> Self {
        Self {
            batch_size: 1,
            accumulate: 1,
            optimizer: OptimizerConfig::default(),
            schedule: Schedule::default(),
            clip_gradient_norm: Some(1.0),
            ema: None,
            recompute: false,
            min_labelled: 0.01,
            augment: AugmentConfig::default(),
            snapshot_interval: 1000,
            checkpoint_interval: None,
            early_stopping: None,
            tensorboard: false,
            workers: 1,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_off(flag: &bool) -> bool {
    !flag
}
