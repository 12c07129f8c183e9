//! What a task means: the targets and weights that a network learns from, how its predictions become segments,
//! and how segments are scored. No engine, no files and no world units live here: volumes are (z, y, x) and
//! channels stand in front; a 2D image is a volume of depth 1.
//!
//! ```
//! use dacapo_tasks::{AffinitiesTaskConfig, TaskConfig};
//!
//! # fn main() -> Result<(), dacapo_tasks::Error> {
//! let task = TaskConfig::Affinities(AffinitiesTaskConfig::default()).build(3)?;
//! assert_eq!(task.head().channels(), 9);
//! assert_eq!(task.label_context([4.0; 3]), ([9; 3], [0; 3]));
//! assert_eq!(task.default_criterion().name, "voi");
//! # Ok(())
//! # }
//! ```

mod affinities;
mod by_blocks;
mod classes;
mod distance;
mod error;
mod foreground;
mod loss;
mod maps;
mod one_hot;
mod parameters;
mod scores;
mod segmenter;
mod task;

pub use affinities::{AffinitiesTaskConfig, AffinityWeights, LsdConfig, neighborhood_of};
pub use by_blocks::AffinityBlocks;
pub use classes::{ClassConfig, ClassWeights};
pub use dacapo_kernels::{ValueRange, quantise};
pub use distance::{DistanceMap, DistanceTaskConfig, HotDistanceTaskConfig, InnerDistanceTaskConfig};
pub use error::{Error, Result};
pub use foreground::ForegroundTaskConfig;
pub use loss::{
    OneHotLoss, OneHotLossKind, OneHotLossWeights, ProbabilityLoss, ProbabilityLossKind,
    ProbabilityLossWeights,
};
pub use one_hot::OneHotTaskConfig;
pub use parameters::{PostProcessingConfig, PostProcessorParameters};
pub use scores::{
    BINARY_CRITERIA, BinaryCounts, BinaryEvaluation, BinaryPart, BinaryScorer, BinaryScores, Counted,
    Detection, INSTANCE_CRITERIA, InstanceRules, InstanceScores, Mistake, Part, ZeroIs, binary_scores,
    class_criteria, class_scores,
};
pub use task::{
    Activation, Annotation, Criterion, Head, HeadGroup, LossKind, PredictionType, Scores, Targets, Task,
    TaskConfig,
};
