//! Which datasets there are: found in folders, made from a table, and described. What a dataset is, and how a config
//! names its arrays, is said in `config`.

mod describe;
mod simple;
mod table;

use dacapo_array::storage::Access;

use crate::config::{DataConfig, RunConfig};
use crate::{Error, Result};

pub(crate) use simple::{Found, Names, find};

pub use describe::{ArraySummary, DatasetSummary, Picture, describe, pictures};
pub use table::{Table, TableOptions, Targets};

/// A run's config with the datasets that its `data.simple` finds named one by one, in front of those that it names
/// itself.
///
/// # Errors
/// As [`found`].
pub fn expanded(config: &RunConfig, access: &Access) -> Result<RunConfig> {
    Ok(RunConfig {
        data: found(&config.data, access)?,
        ..config.clone()
    })
}

/// As [`expanded`], of the data alone.
///
/// # Errors
/// [`Error::Datasplit`] with everything that is wrong in the folders.
pub fn found(data: &DataConfig, access: &Access) -> Result<DataConfig> {
    let mut data = data.clone();
    let Some(simple) = data.simple.take() else {
        return Ok(data);
    };
    let [train, validate] = simple::datasets(&simple, access)?;
    data.train.splice(..0, train);
    data.validate.splice(..0, validate);
    let problems = data.problems();
    if problems.is_empty() {
        return Ok(data);
    }
    Err(Error::Datasplit {
        path: simple.path.into(),
        problems,
    })
}

/// As YAML, as configs are written.
///
/// # Errors
/// [`Error::Yaml`] if it cannot be written as YAML.
pub fn to_yaml(value: &serde_json::Value) -> Result<String> {
    serde_saphyr::to_string(value).map_err(|error| Error::Yaml {
        message: error.to_string(),
    })
}
