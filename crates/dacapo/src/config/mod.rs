//! The run config: everything that determines a run, one noun a file. Opening the data that it names, and
//! building what it describes, happens elsewhere.

mod augment;
mod data;
mod diff;
mod early_stopping;
mod load;
mod schema;
mod source;
mod start;
mod trainer;
mod validation;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_nn::UNetConfig;
use dacapo_tasks::TaskConfig;

pub use augment::{AugmentConfig, BlurConfig, ElasticConfig, Outside, PoissonConfig, Rotate, SectionsConfig};
pub use data::{DataConfig, DatasetConfig, IntensityRange, Sampling, SimpleConfig};
pub use diff::{Difference, differences};
pub use early_stopping::EarlyStopping;
pub(crate) use load::resolve;
pub use load::{Format, config_schema, load_config, load_data, parse_config};
pub use schema::Problem;
pub(crate) use schema::suggestion;
pub use source::{
    AnnotatedConfig, ArraySource, IntensitiesConfig, MadeArray, PercentilesConfig, ResampleConfig, ValueType,
};
pub use start::{NamedIteration, StartConfig, StartFile, StartIteration, StartRun};
pub use trainer::TrainerConfig;
pub use validation::{KeepOutputs, KeepPolicy, ValidationConfig};

use crate::{Error, Result};

/// One run: its data, its task, its network, and how that is trained and validated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The run's name, and its folder's in the base directory.
    pub name: String,
    /// Determines the initial weights and every random choice of the run.
    #[serde(default)]
    pub seed: u64,
    /// How many steps to train. Raising it later continues the run.
    pub num_iterations: u64,
    /// What to train and validate on.
    pub data: DataConfig,
    /// What the network learns to predict, and how its predictions become a result.
    pub task: TaskConfig,
    /// The network.
    pub architecture: ArchitectureConfig,
    /// Weights to begin with: of another run (`run`, `iteration`), or in a `file`. Default: random ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartConfig>,
    /// How it is trained.
    #[serde(default)]
    pub trainer: TrainerConfig,
    /// How it is validated.
    #[serde(default)]
    pub validation: ValidationConfig,
}

/// The network's kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ArchitectureConfig {
    /// A U-Net, in 2D or 3D.
    Unet(UNetConfig),
}

impl ArchitectureConfig {
    /// The U-Net that it is.
    pub fn unet(&self) -> &UNetConfig {
        match self {
            Self::Unet(unet) => unet,
        }
    }
}

impl RunConfig {
    /// Steps between checkpoints: the trainer's own, else the validation's.
    pub fn checkpoint_interval(&self) -> u64 {
        self.trainer
            .checkpoint_interval
            .unwrap_or(self.validation.interval)
    }

    /// As YAML, every default filled in.
    ///
    /// # Errors
    /// [`Error::Yaml`] if it cannot be written as YAML (a number that is not finite).
    pub fn to_yaml(&self) -> Result<String> {
        serde_saphyr::to_string(self).map_err(|error| Error::Yaml {
            message: error.to_string(),
        })
    }

    /// A short hash of everything but the run's name and length: what the arrays that it makes are labelled with.
    ///
    /// # Errors
    /// As [`RunConfig::to_yaml`].
    pub fn hash(&self) -> Result<String> {
        let mut value = serde_json::to_value(self).map_err(|e| Error::Yaml {
            message: e.to_string(),
        })?;
        if let Some(map) = value.as_object_mut() {
            map.remove("name");
            map.remove("num_iterations");
        }
        Ok(blake3::hash(value.to_string().as_bytes()).to_hex()[..16].to_owned())
    }
}
