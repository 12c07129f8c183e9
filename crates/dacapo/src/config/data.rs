//! What a run is trained and validated on, as its config says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_array::Roi;

use crate::synthetic::SyntheticConfig;

/// The arrays to train and to validate on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// A made-up labelled volume, written before training where it is not there yet.
    #[serde(default)]
    pub synthetic: Option<SyntheticConfig>,
    /// Crops to train on come from these.
    pub train: Vec<DatasetConfig>,
    /// Scores are computed on each of these.
    #[serde(default)]
    pub validate: Vec<DatasetConfig>,
    /// The raw values that become -0.5 and 0.5. Default: the range of the raw array's integer type, 0 to 1
    /// for floats.
    #[serde(default)]
    pub intensity: Option<IntensityRange>,
}

/// Raw data with its labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// What it is called in scores and in the store.
    pub name: String,
    /// The image: `container.zarr/dataset`. A relative path is looked for beside the config file, then in
    /// the working directory.
    pub raw: String,
    /// The objects, as integers; 0 is background.
    pub labels: String,
    /// Where it is not 0, the labels are annotated. Default: everywhere.
    #[serde(default)]
    pub mask: Option<String>,
    /// The part to use, in world units. Default: all that is labelled.
    #[serde(default)]
    #[schemars(with = "Option<RoiSchema>")]
    pub roi: Option<Roi>,
    /// How often crops are taken from it, relative to the other datasets.
    #[serde(default = "one")]
    pub weight: f64,
}

/// Raw values mapped to -0.5 (`min`) and 0.5 (`max`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IntensityRange {
    /// Becomes -0.5.
    pub min: f64,
    /// Becomes 0.5.
    pub max: f64,
}

/// How a Roi stands in a config.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used: Roi itself knows no schema")]
struct RoiSchema {
    /// Where it begins, in world units, z first.
    offset: Vec<f64>,
    /// How long it is, in world units, z first.
    shape: Vec<f64>,
}

fn one() -> f64 {
    1.0
}
