//! The task of foreground: whether a voxel is of a class, for each class by itself.

use ndarray::Array4;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_kernels::ValueRange;

use crate::Result;
use crate::classes::{ClassConfig, ClassWeights, Classes, Weighting, default_classes};
use crate::loss::ProbabilityLoss;
use crate::maps::{LearnMaps, Maps, Segments};
use crate::scores::BinaryEvaluation;
use crate::task::{Activation, Annotation, Head, LossKind, PredictionType, Targets};

/// Which classes to tell from everything else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ForegroundTaskConfig {
    /// The classes, one a channel.
    pub classes: Vec<ClassConfig>,
    /// What is minimised.
    #[serde(skip_serializing_if = "ProbabilityLoss::is_default")]
    pub loss: ProbabilityLoss,
    /// How much voxels count in training.
    pub weights: ClassWeights,
    /// Probabilities to try as thresholds, from 0 to 1.
    pub thresholds: Vec<f32>,
    /// How segmentations are scored.
    pub evaluation: BinaryEvaluation,
    /// How predictions are stored.
    pub store_prediction_as: PredictionType,
}

impl Default for ForegroundTaskConfig {
    fn default() -> Self {
        Self {
            classes: default_classes(),
            loss: ProbabilityLoss::default(),
            weights: ClassWeights::default(),
            thresholds: vec![0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
            evaluation: BinaryEvaluation::default(),
            store_prediction_as: PredictionType::default(),
        }
    }
}

impl ForegroundTaskConfig {
    pub(crate) fn build(&self) -> Result<ForegroundTask> {
        Ok(ForegroundTask {
            maps: Maps::new(
                Classes::new(&self.classes)?,
                Segments::Classes(self.evaluation),
                ValueRange::UNIT,
                &self.thresholds,
            )?,
            losses: self.loss.terms()?,
            weights: self.weights.build()?,
            prediction: self.store_prediction_as,
        })
    }
}

/// The task that a [`ForegroundTaskConfig`] describes.
pub(crate) struct ForegroundTask {
    maps: Maps,
    losses: Vec<(LossKind, f32)>,
    weights: Weighting,
    prediction: PredictionType,
}

impl LearnMaps for ForegroundTask {
    fn maps(&self) -> &Maps {
        &self.maps
    }

    fn head(&self) -> Head {
        let names = self.maps.classes.names().to_vec();
        Head::of(names, Activation::Sigmoid, self.losses.clone())
    }

    fn targets(&self, annotation: Annotation) -> Result<Targets> {
        annotation.check()?;
        let classes = self.maps.classes.of(annotation.labels);
        let (depth, height, width) = classes.dim();
        let shape = (self.maps.classes.len(), depth, height, width);
        let mut targets = Targets {
            target: Array4::zeros(shape),
            weight: Array4::zeros(shape),
        };
        let channels = targets
            .target
            .outer_iter_mut()
            .zip(targets.weight.outer_iter_mut());
        for ((mut target, mut weight), class) in channels.zip(1..) {
            let members = classes.mapv(|found| u8::from(found == class));
            target.assign(&members.mapv(f32::from));
            weight.assign(&self.weights.of(&members, 2, annotation.known));
        }
        Ok(targets)
    }

    fn prediction_dtype(&self) -> PredictionType {
        self.prediction
    }
}
