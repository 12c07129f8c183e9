//! What weights a run begins with, as its config says it. Taking them over lives in [`crate::start`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Weights to begin with, instead of random ones: of tensors with the same name and shape, and of the head where its
/// channels have the same names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StartConfig {
    /// Those of another run in the same base.
    Run(StartRun),
    /// Those in a file.
    File(StartFile),
}

/// A checkpoint of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRun {
    /// The run's name.
    pub run: String,
    /// Which of its checkpoints: `best` by validation score, `latest`, or a number of steps.
    #[serde(default)]
    pub iteration: StartIteration,
}

/// A file of weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartFile {
    /// A safetensors file, or a PyTorch file of tensors: a checkpoint of the Python DaCapo, a state dict. A relative
    /// path is looked for beside the config file, then in the working directory.
    pub file: String,
}

/// Which checkpoint of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StartIteration {
    /// By what it is.
    Named(NamedIteration),
    /// After so many steps.
    Number(u64),
}

/// A checkpoint by what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamedIteration {
    /// The one with the best validation score.
    Best,
    /// The last.
    Latest,
}

impl Default for StartIteration {
    fn default() -> Self {
        Self::Named(NamedIteration::Best)
    }
}
