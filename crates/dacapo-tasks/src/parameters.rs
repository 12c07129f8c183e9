//! Post-processing: what the config offers to try, and one choice out of it as a value with a name.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_kernels::ValueRange;

use crate::{Error, Result};

/// A method that makes segments of affinities, with the parameters to try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum PostProcessingConfig {
    /// Watershed fragments, merged while the mean affinity of their contact is at least a threshold. Uses the
    /// affinities of at most 3 voxels along each axis.
    Agglomerate {
        /// Thresholds to try, each from 0 to 1.
        #[serde(default = "default_thresholds")]
        thresholds: Vec<f32>,
    },
    /// Mutex watershed: affinities above their bias join voxels, those below keep them apart, the most certain
    /// first.
    MutexWatershed {
        /// Pairs of biases to try: of the affinities of at most 3 voxels along each axis, and of the longer
        /// ones; each from 0 to 1.
        #[serde(default = "default_biases")]
        biases: Vec<[f32; 2]>,
    },
}

fn default_thresholds() -> Vec<f32> {
    vec![0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9]
}

fn default_biases() -> Vec<[f32; 2]> {
    vec![[0.5, 0.5], [0.4, 0.6], [0.3, 0.7]]
}

impl PostProcessingConfig {
    /// Both methods, with the parameters that are worth a try.
    pub(crate) fn defaults() -> Vec<Self> {
        let (thresholds, biases) = (default_thresholds(), default_biases());
        vec![Self::Agglomerate { thresholds }, Self::MutexWatershed { biases }]
    }

    /// Each parameter set to try.
    pub(crate) fn parameters(&self) -> Vec<PostProcessorParameters> {
        match self {
            Self::Agglomerate { thresholds } => thresholds
                .iter()
                .map(|&threshold| PostProcessorParameters::Agglomerate { threshold })
                .collect(),
            Self::MutexWatershed { biases } => biases
                .iter()
                .map(
                    |&[bias_short, bias_long]| PostProcessorParameters::MutexWatershed {
                        bias_short,
                        bias_long,
                    },
                )
                .collect(),
        }
    }
}

/// One way to make segments. Its text, such as `agglomerate(threshold=0.6)`, names it in paths and scores and
/// can be parsed again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PostProcessorParameters {
    /// Fragments, merged by mean affinity.
    Agglomerate {
        /// The mean affinity from which on two regions are one.
        threshold: f32,
    },
    /// Mutex watershed.
    MutexWatershed {
        /// The bias of short offsets.
        bias_short: f32,
        /// The bias of long offsets.
        bias_long: f32,
    },
    /// Of the classes above a threshold, that with the largest value.
    Threshold {
        /// What a value has to be above.
        threshold: f32,
    },
    /// The connected regions above a threshold.
    Components {
        /// What a value has to be above.
        threshold: f32,
    },
    /// The class with the largest value.
    Argmax,
}

impl PostProcessorParameters {
    /// The biases of short and long offsets, where the method has them.
    pub(crate) fn biases(&self) -> Option<[f32; 2]> {
        match *self {
            Self::MutexWatershed {
                bias_short,
                bias_long,
            } => Some([bias_short, bias_long]),
            _ => None,
        }
    }

    /// Refuses what no prediction reaches: values outside of their range, and those that are no numbers.
    ///
    /// # Errors
    /// [`Error::Range`].
    pub fn check(&self, range: ValueRange) -> Result<()> {
        let values = match *self {
            Self::Agglomerate { threshold }
            | Self::Threshold { threshold }
            | Self::Components { threshold } => [("thresholds", threshold); 2],
            Self::MutexWatershed {
                bias_short,
                bias_long,
            } => [("biases", bias_short), ("biases", bias_long)],
            Self::Argmax => return Ok(()),
        };
        let is_outside = |(_, value): &(&str, f32)| !(range.min()..=range.max()).contains(value);
        match values.into_iter().find(is_outside) {
            None => Ok(()),
            Some((key, value)) => Err(Error::Range {
                key,
                value,
                min: range.min(),
                max: range.max(),
            }),
        }
    }
}

impl fmt::Display for PostProcessorParameters {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Agglomerate { threshold } => write!(f, "agglomerate(threshold={threshold})"),
            Self::MutexWatershed {
                bias_short,
                bias_long,
            } => {
                write!(f, "mutex_watershed(short={bias_short}, long={bias_long})")
            }
            Self::Threshold { threshold } => write!(f, "threshold(threshold={threshold})"),
            Self::Components { threshold } => write!(f, "components(threshold={threshold})"),
            Self::Argmax => f.write_str("argmax()"),
        }
    }
}

impl FromStr for PostProcessorParameters {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |reason: String| Error::Parse {
            text: text.to_owned(),
            reason,
        };
        let call = text
            .trim()
            .strip_suffix(')')
            .and_then(|rest| rest.split_once('('));
        let (method, arguments) = call.ok_or_else(|| wrong("expected method(name=value, …)".to_owned()))?;
        let mut given: Vec<(&str, f32)> = Vec::new();
        let arguments = arguments.split(',').filter(|_| !arguments.trim().is_empty());
        for argument in arguments {
            let (name, value) = argument
                .split_once('=')
                .ok_or_else(|| wrong(format!("{argument:?} is not name=value")))?;
            let value = value.trim();
            let number = value
                .parse()
                .map_err(|_| wrong(format!("{value:?} is not a number")))?;
            given.push((name.trim(), number));
        }
        let values = |names: &[&str]| -> Result<Vec<f32>> {
            if let Some((unknown, _)) = given.iter().find(|(name, _)| !names.contains(name)) {
                return Err(wrong(format!(
                    "{method} has no {unknown:?}, but {}",
                    names.join(", ")
                )));
            }
            if given.len() > names.len() {
                return Err(wrong("a name is there twice".to_owned()));
            }
            let value = |name: &&str| {
                given
                    .iter()
                    .find(|(given, _)| given == name)
                    .map(|&(_, value)| value)
            };
            let values = names
                .iter()
                .map(|name| value(name).ok_or_else(|| wrong(format!("{name} is missing"))));
            values.collect()
        };
        let threshold = || Ok::<f32, Error>(values(&["threshold"])?[0]);
        let parameters = match method.trim() {
            "agglomerate" => Self::Agglomerate {
                threshold: threshold()?,
            },
            "threshold" => Self::Threshold {
                threshold: threshold()?,
            },
            "components" => Self::Components {
                threshold: threshold()?,
            },
            "argmax" => {
                values(&[])?;
                Self::Argmax
            }
            "mutex_watershed" => {
                let biases = values(&["short", "long"])?;
                Self::MutexWatershed {
                    bias_short: biases[0],
                    bias_long: biases[1],
                }
            }
            _ => {
                let methods = "agglomerate, mutex_watershed, threshold, components and argmax";
                return Err(wrong(format!("the methods are {methods}")));
            }
        };
        // Which task they are for is not known here: no prediction leaves this range.
        let range = match parameters {
            Self::Agglomerate { .. } | Self::MutexWatershed { .. } => ValueRange::UNIT,
            _ => ValueRange::SIGNED,
        };
        parameters
            .check(range)
            .map_err(|error| wrong(error.to_string()))?;
        Ok(parameters)
    }
}
