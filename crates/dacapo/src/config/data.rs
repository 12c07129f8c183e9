//! What a run is trained and validated on, as its config says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_array::{Coordinate, Roi};

use super::schema::Problem;
use super::source::ArraySource;
use crate::synthetic::SyntheticConfig;

/// The arrays to train and to validate on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// A made-up labelled volume, written before training where it is not there yet.
    #[serde(default)]
    pub synthetic: Option<SyntheticConfig>,
    /// Datasets that are found in folders, beside those that are named below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simple: Option<SimpleConfig>,
    /// Crops to train on come from these.
    #[serde(default)]
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
    /// The image, with as many channels as the network takes.
    pub raw: ArraySource,
    /// The objects, or classes, as integers; 0 is background.
    pub labels: ArraySource,
    /// Where it is not 0, the labels are annotated. Default: everywhere.
    #[serde(default)]
    pub mask: Option<ArraySource>,
    /// The part to use, in world units. Default: all that is labelled.
    #[serde(default)]
    #[schemars(with = "Option<RoiSchema>")]
    pub roi: Option<Roi>,
    /// How often crops are taken from it, relative to the other datasets.
    #[serde(default = "one")]
    pub weight: f64,
    /// How the places of crops are chosen. Default: `points` if there are `sample_points`, else `labelled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Points (z first, in world units) that crops are taken around.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<Vec<f64>>>")]
    pub sample_points: Option<Vec<Coordinate>>,
}

/// How the places of crops are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Anywhere; again where less than the trainer's `min_labelled` is labelled.
    Labelled,
    /// Anywhere, labelled or not.
    Uniform,
    /// By how many voxels of the mask are in what is predicted: twice as many, twice as often.
    Mask,
    /// Around one of the sample points, which is in the middle, or as near to it as the data goes.
    Points,
}

/// A folder, or a Zarr container, with a group to train on and one to validate on. Each of them has arrays called
/// `raw`, `labels` and, where not all is annotated, `mask`; or crops that have.
///
/// ```text
/// data.zarr/train/crop1/{raw,labels,mask}
///           train/crop2/{raw,labels}
///           test/crop3/{raw,labels}
/// ```
///
/// In folders, arrays can be files of other formats too (`raw.tif`), and crops containers (`train/crop1.zarr`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimpleConfig {
    /// The folder or container.
    pub path: String,
    /// The group to train on.
    #[serde(default = "names::train")]
    pub train: String,
    /// The group to validate on.
    #[serde(default = "names::validate")]
    pub validate: String,
    /// What raw arrays are called.
    #[serde(default = "names::raw")]
    pub raw: String,
    /// What arrays of labels are called.
    #[serde(default = "names::labels")]
    pub labels: String,
    /// What masks are called.
    #[serde(default = "names::mask")]
    pub mask: String,
}

/// What the parts of a simple datasplit are called unless a config says otherwise.
mod names {
    pub(super) fn train() -> String {
        "train".to_owned()
    }
    pub(super) fn validate() -> String {
        "test".to_owned()
    }
    pub(super) fn raw() -> String {
        "raw".to_owned()
    }
    pub(super) fn labels() -> String {
        "labels".to_owned()
    }
    pub(super) fn mask() -> String {
        "mask".to_owned()
    }
}

impl SimpleConfig {
    /// With the usual names.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            train: names::train(),
            validate: names::validate(),
            raw: names::raw(),
            labels: names::labels(),
            mask: names::mask(),
        }
    }
}

impl DataConfig {
    /// What makes no sense in it, as far as can be said without its data. Keys begin with `data`.
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        if self.train.is_empty() && self.simple.is_none() {
            found.push(Problem::new("data.train", "at least one dataset"));
        }
        if self.intensity.is_some_and(|range| range.min >= range.max) {
            found.push(Problem::new("data.intensity", "min below max"));
        }
        for (list, datasets) in [("train", &self.train), ("validate", &self.validate)] {
            for (index, dataset) in datasets.iter().enumerate() {
                let key = format!("data.{list}[{index}]");
                if datasets[..index].iter().any(|other| other.name == dataset.name) {
                    found.push(Problem::new(
                        format!("{key}.name"),
                        "another dataset has this name",
                    ));
                }
                found.extend(dataset.problems(&key));
            }
        }
        found
    }

    /// Every path in it.
    pub(super) fn paths_mut(&mut self) -> Vec<&mut String> {
        let synthetic = self.synthetic.as_mut().map(|synthetic| &mut synthetic.container);
        let simple = self.simple.as_mut().map(|simple| &mut simple.path);
        let datasets = self
            .train
            .iter_mut()
            .chain(&mut self.validate)
            .flat_map(|dataset| {
                let arrays = [
                    Some(&mut dataset.raw),
                    Some(&mut dataset.labels),
                    dataset.mask.as_mut(),
                ];
                arrays.into_iter().flatten().flat_map(ArraySource::paths_mut)
            });
        synthetic.into_iter().chain(simple).chain(datasets).collect()
    }
}

impl DatasetConfig {
    /// A dataset of these arrays, everything else as it is by default.
    pub fn new(
        name: impl Into<String>,
        raw: impl Into<ArraySource>,
        labels: impl Into<ArraySource>,
        mask: Option<ArraySource>,
    ) -> Self {
        Self {
            name: name.into(),
            raw: raw.into(),
            labels: labels.into(),
            mask,
            roi: None,
            weight: one(),
            sampling: None,
            sample_points: None,
        }
    }

    /// How the places of its crops are chosen.
    pub fn sampling(&self) -> Sampling {
        let usual = if self.sample_points.is_some() {
            Sampling::Points
        } else {
            Sampling::Labelled
        };
        self.sampling.unwrap_or(usual)
    }

    fn problems(&self, key: &str) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut need = |fine: bool, name: &str, message: &str| {
            if !fine {
                found.push(Problem::new(format!("{key}.{name}"), message));
            }
        };
        need(!self.name.is_empty(), "name", "a name");
        need(self.weight > 0.0 && self.weight.is_finite(), "weight", "above 0");
        need(
            self.roi.as_ref().is_none_or(|roi| !roi.is_empty()),
            "roi",
            "nothing is in it: each length above 0",
        );
        let points = self.sample_points.as_ref();
        need(
            points.is_none_or(|points| !points.is_empty()),
            "sample_points",
            "at least one point",
        );
        match self.sampling() {
            Sampling::Mask => need(self.mask.is_some(), "sampling", "`mask` needs a mask"),
            Sampling::Points => need(points.is_some(), "sampling", "`points` needs sample_points"),
            Sampling::Labelled | Sampling::Uniform => need(
                points.is_none(),
                "sample_points",
                "they are used only by the sampling `points`",
            ),
        }
        let arrays = [
            ("raw", Some(&self.raw)),
            ("labels", Some(&self.labels)),
            ("mask", self.mask.as_ref()),
        ];
        for (name, source) in arrays {
            let problems = source.map(|source| source.problems(&format!("{key}.{name}")));
            found.extend(problems.into_iter().flatten());
        }
        found
    }
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
pub(super) struct RoiSchema {
    /// Where it begins, in world units, z first.
    offset: Vec<f64>,
    /// How long it is, in world units, z first.
    shape: Vec<f64>,
}

fn one() -> f64 {
    1.0
}
