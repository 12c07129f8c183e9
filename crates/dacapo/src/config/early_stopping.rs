//! When a run stops before its end, as its config says it. Whether that is so lives in [`crate::early`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Stops a run that gets no better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Validations in a row without a new best one, after which training stops.
    pub patience: u64,
    /// The score that says what is better, in the mean over the validation datasets. Default: the one that says
    /// which iteration is best.
    #[serde(default)]
    pub criterion: Option<String>,
}
