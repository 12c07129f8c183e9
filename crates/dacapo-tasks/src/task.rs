//! The trait of all tasks, and the values that it trades in.

use std::collections::BTreeMap;

use ndarray::{Array3, Array4, ArrayView3, ArrayView4};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::affinities::AffinitiesTaskConfig;
use crate::parameters::PostProcessorParameters;

/// What the network is to learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TaskConfig {
    /// Which voxels belong together, by the offsets of a neighbourhood: for segmenting single objects.
    Affinities(AffinitiesTaskConfig),
}

impl TaskConfig {
    /// The task, for data of 2 or 3 spatial axes.
    ///
    /// # Errors
    /// If the config means nothing for such data.
    pub fn build(&self, dims: usize) -> Result<Box<dyn Task>> {
        match self {
            Self::Affinities(config) => Ok(Box::new(config.build(dims)?)),
        }
    }
}

/// The last layer that a task asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Channels that the network predicts.
    pub channels: usize,
    /// What each one is.
    pub channel_names: Vec<String>,
    /// What makes predictions of the network's raw output.
    pub activation: Activation,
}

/// What makes predictions of a network's raw output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// 1 / (1 + e⁻ˣ): probabilities.
    Sigmoid,
    /// The output as it is.
    None,
}

/// What the network minimises: a mean over channels and voxels by weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossKind {
    /// Binary cross-entropy of the sigmoid of the output.
    BceWithLogits,
    /// The squared difference.
    Mse,
}

/// How predictions are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// A byte: 0 to 255 stand for 0 to 1.
    #[default]
    U8,
    /// A 32-bit float.
    F32,
}

/// What a crop teaches: both (channels, z, y, x).
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// What the network should say.
    pub target: Array4<f32>,
    /// How much each voxel counts; 0 where nothing is known.
    pub weight: Array4<f32>,
}

/// A way to rank segmentations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Criterion {
    /// Its key among the scores.
    pub name: &'static str,
    /// Which way is better.
    pub higher_is_better: bool,
    /// What it says, in one sentence.
    pub meaning: &'static str,
    /// What it is counted in.
    pub unit: &'static str,
}

/// Scores by name; nothing where one is not defined.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Scores(pub BTreeMap<String, Option<f64>>);

/// What a run is for.
pub trait Task: Send + Sync {
    /// The last layer of the network.
    fn head(&self) -> Head;

    /// What the network minimises.
    fn loss(&self) -> LossKind;

    /// Voxels of labels (z, y, x) that targets need beyond what is predicted: before and after.
    fn label_context(&self) -> ([usize; 3], [usize; 3]);

    /// Targets and weights of a crop. Labels and `known`, false where nothing is annotated, are larger than the
    /// result by [`label_context`](Self::label_context).
    ///
    /// # Errors
    /// If the two differ in shape, or are too small.
    fn targets(&self, labels: ArrayView3<u64>, known: ArrayView3<bool>) -> Result<Targets>;

    /// How predictions are stored.
    fn prediction_dtype(&self) -> PredictionType;

    /// Every parameter set of the config, each once, in its order.
    fn parameters(&self) -> Vec<PostProcessorParameters>;

    /// Segments a prediction (channels, z, y, x), from 0 to 1, with every parameter set, and hands each
    /// segmentation over in the order of [`parameters`](Self::parameters). The same segmentations as
    /// [`segment`](Self::segment) makes, for less. Voxels outside the mask are 0.
    ///
    /// # Errors
    /// If shapes do not fit; and the first error of the callback, which ends the sweep.
    fn sweep(
        &self,
        prediction: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
        each: &mut dyn FnMut(&PostProcessorParameters, Array3<u64>) -> Result<()>,
    ) -> Result<()>;

    /// Segments a prediction with one parameter set, be it in the config or not.
    ///
    /// # Errors
    /// If shapes do not fit.
    fn segment(
        &self,
        prediction: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
        parameters: &PostProcessorParameters,
    ) -> Result<Array3<u64>>;

    /// Scores a segmentation against the truth, in which 0 is unknown.
    ///
    /// # Errors
    /// If the shapes differ.
    fn evaluate(&self, truth: ArrayView3<u64>, segmentation: ArrayView3<u64>) -> Result<Scores>;

    /// What [`evaluate`](Self::evaluate) computes.
    fn criteria(&self) -> &[Criterion];

    /// The criterion that decides where the config names none.
    fn default_criterion(&self) -> &Criterion;
}
