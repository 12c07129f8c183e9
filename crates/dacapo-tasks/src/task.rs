//! The trait of all tasks, and the values that it trades in.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ndarray::{Array3, Array4, ArrayView3, ArrayView4};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_kernels::ValueRange;

use crate::affinities::AffinitiesTaskConfig;
use crate::classes::ClassConfig;
use crate::distance::{DistanceTaskConfig, HotDistanceTaskConfig, InnerDistanceTaskConfig};
use crate::foreground::ForegroundTaskConfig;
use crate::one_hot::OneHotTaskConfig;
use crate::parameters::PostProcessorParameters;
use crate::{Error, Result};

/// What the network is to learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TaskConfig {
    /// Which voxels belong together, by the offsets of a neighbourhood: for segmenting single objects.
    Affinities(AffinitiesTaskConfig),
    /// How far it is to the border of classes or objects, inside and outside.
    Distance(DistanceTaskConfig),
    /// How far it is to the border of classes or objects, inside only.
    InnerDistance(InnerDistanceTaskConfig),
    /// Whether a voxel is of a class, and how far it is to its border.
    HotDistance(HotDistanceTaskConfig),
    /// Which one of several classes a voxel is of.
    OneHot(OneHotTaskConfig),
    /// Whether a voxel is of a class, for each class by itself.
    Foreground(ForegroundTaskConfig),
}

impl TaskConfig {
    /// The task, for data of 2 or 3 spatial axes.
    ///
    /// # Errors
    /// If the config means nothing for such data.
    pub fn build(&self, dims: usize) -> Result<Box<dyn Task>> {
        if !(2..=3).contains(&dims) {
            return Err(Error::Dims { dims });
        }
        Ok(match self {
            Self::Affinities(config) => Box::new(config.build(dims)?),
            Self::Distance(config) => Box::new(config.build(dims)?),
            Self::InnerDistance(config) => Box::new(config.build(dims)?),
            Self::HotDistance(config) => Box::new(config.build(dims)?),
            Self::OneHot(config) => Box::new(config.build()?),
            Self::Foreground(config) => Box::new(config.build()?),
        })
    }

    /// The classes that it names; none of a task of objects.
    pub fn classes(&self) -> &[ClassConfig] {
        match self {
            Self::Affinities(_) => &[],
            Self::Distance(config) => &config.classes,
            Self::InnerDistance(config) => &config.classes,
            Self::HotDistance(config) => &config.classes,
            Self::OneHot(config) => &config.classes,
            Self::Foreground(config) => &config.classes,
        }
    }
}

/// The last layer that a task asks for, and what is made of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Channels that belong together, in their order.
    pub groups: Vec<HeadGroup>,
}

/// Channels of a head that share what makes predictions of them, and what they are learned by.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadGroup {
    /// What each channel is.
    pub channel_names: Vec<String>,
    /// What makes predictions of the network's raw output.
    pub activation: Activation,
    /// What the network minimises: each loss, and how much it counts in the sum over all groups.
    pub losses: Vec<(LossKind, f32)>,
}

impl Head {
    /// A head of one group.
    pub(crate) fn of(
        channel_names: Vec<String>,
        activation: Activation,
        losses: Vec<(LossKind, f32)>,
    ) -> Self {
        Self {
            groups: vec![HeadGroup {
                channel_names,
                activation,
                losses,
            }],
        }
    }

    /// Channels that the network predicts.
    pub fn channels(&self) -> usize {
        self.groups.iter().map(|group| group.channel_names.len()).sum()
    }

    /// What each one is.
    pub fn channel_names(&self) -> Vec<String> {
        let names = self.groups.iter().flat_map(|group| &group.channel_names);
        names.cloned().collect()
    }
}

/// What makes predictions of a network's raw output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// 1 / (1 + e⁻ˣ): probabilities.
    Sigmoid,
    /// Probabilities that add up to 1 over the channels of the group.
    Softmax,
    /// The output as it is.
    None,
}

/// What the network minimises: a mean over the channels and voxels of a group, by weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossKind {
    /// Binary cross-entropy of the sigmoid of the output.
    BceWithLogits,
    /// The squared difference, times the weight; so weights count squared, as the original has it.
    Mse,
    /// The squared difference of the sigmoid of the output.
    MseOfSigmoid,
    /// Cross-entropy of the softmax of the output.
    CrossEntropy,
    /// 1 - dice of the prediction, the group's activation applied: the mean over channels.
    Dice,
}

/// How predictions are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// A byte: 0 to 255 stand for the range of the task's values, which is written beside them.
    #[default]
    U8,
    /// A 32-bit float: the values themselves.
    F32,
}

/// Labels, where they are known, and how large their voxels are. All of the same shape (z, y, x).
#[derive(Debug, Clone, Copy)]
pub struct Annotation<'a> {
    /// Objects or classes.
    pub labels: ArrayView3<'a, u64>,
    /// False where nothing is annotated.
    pub known: ArrayView3<'a, bool>,
    /// Along z, y and x, in world units; 1 for the axis that an image does not have.
    pub voxel_size: [f64; 3],
}

impl Annotation<'_> {
    pub(crate) fn check(&self) -> Result<()> {
        expect_shape("volume of what is known", self.known.shape(), self.labels.shape())
    }
}

pub(crate) fn expect_shape(what: &'static str, found: &[usize], expected: &[usize]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Shape {
        what,
        found: found.to_vec(),
        expected: format!("{expected:?}"),
    })
}

/// The shape of targets: that of the labels without the context around.
pub(crate) fn inner_shape(found: &[usize], before: [usize; 3], after: [usize; 3]) -> Result<[usize; 3]> {
    let least: [usize; 3] = std::array::from_fn(|a| before[a] + after[a]);
    if (0..3).any(|a| found[a] < least[a]) {
        return Err(Error::Shape {
            what: "volume of labels",
            found: found.to_vec(),
            expected: format!("at least {least:?}"),
        });
    }
    Ok(std::array::from_fn(|a| found[a] - least[a]))
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
#[derive(Debug, Clone, PartialEq)]
pub struct Criterion {
    /// Its key among the scores.
    pub name: Cow<'static, str>,
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
    /// The last layer of the network, and what it minimises.
    fn head(&self) -> Head;

    /// Voxels of labels (z, y, x) that targets need beyond what is predicted, before and after, for voxels of this
    /// size in world units.
    fn label_context(&self, voxel_size: [f64; 3]) -> ([usize; 3], [usize; 3]);

    /// Targets and weights of a crop, whose annotation is larger than the result by
    /// [`label_context`](Self::label_context).
    ///
    /// # Errors
    /// If shapes differ or are too small.
    fn targets(&self, annotation: Annotation) -> Result<Targets>;

    /// How predictions are stored.
    fn prediction_dtype(&self) -> PredictionType;

    /// The values that predictions have: what the bytes of [`PredictionType::U8`] stand for, and what the parameters
    /// of post-processing are measured in.
    fn prediction_range(&self) -> ValueRange;

    /// Every parameter set of the config, each once, in its order.
    fn parameters(&self) -> Vec<PostProcessorParameters>;

    /// Segments a prediction (channels, z, y, x) with every parameter set, and hands each segmentation over in the
    /// order of [`parameters`](Self::parameters). The same segmentations as [`segment`](Self::segment) makes, for
    /// less. Voxels outside the mask are 0. The next one may be in the same memory: who wants to keep one takes it out.
    ///
    /// # Errors
    /// If shapes do not fit; and the first error of the callback, which ends the sweep.
    fn sweep(
        &self,
        prediction: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
        each: &mut dyn FnMut(&PostProcessorParameters, &mut Array3<u64>) -> Result<()>,
    ) -> Result<()>;

    /// Segments a prediction with one parameter set, be it in the config or not.
    ///
    /// # Errors
    /// If shapes do not fit, or the parameters are of a method that the task does not have.
    fn segment(
        &self,
        prediction: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
        parameters: &PostProcessorParameters,
    ) -> Result<Array3<u64>>;

    /// Scores a segmentation against the truth.
    ///
    /// # Errors
    /// If the shapes differ.
    fn evaluate(&self, truth: Annotation, segmentation: ArrayView3<u64>) -> Result<Scores>;

    /// What [`evaluate`](Self::evaluate) computes.
    fn criteria(&self) -> &[Criterion];

    /// The criterion that decides where the config names none.
    fn default_criterion(&self) -> &Criterion;
}
