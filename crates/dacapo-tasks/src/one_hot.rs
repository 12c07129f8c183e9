//! The task of classes that exclude each other: which one a voxel is of, or none of them.

use ndarray::{Array4, Zip};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_kernels::ValueRange;

use crate::Result;
use crate::classes::{ClassConfig, ClassWeights, Classes, Weighting, default_classes};
use crate::loss::{OneHotLoss, OneHotLossKind};
use crate::maps::{LearnMaps, Maps, Segments};
use crate::parameters::PostProcessorParameters;
use crate::scores::BinaryEvaluation;
use crate::task::{Activation, Annotation, Head, LossKind, PredictionType, Targets};

/// Which classes to tell from each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OneHotTaskConfig {
    /// The classes, one a channel; channel 0, in front of them, is everything else.
    pub classes: Vec<ClassConfig>,
    /// What is minimised.
    pub loss: OneHotLoss,
    /// How much voxels count in training.
    pub weights: ClassWeights,
    /// How segmentations are scored.
    pub evaluation: BinaryEvaluation,
    /// How predictions are stored.
    pub store_prediction_as: PredictionType,
}

impl Default for OneHotTaskConfig {
    fn default() -> Self {
        Self {
            classes: default_classes(),
            loss: OneHotLoss::default(),
            weights: ClassWeights::default(),
            evaluation: BinaryEvaluation::default(),
            store_prediction_as: PredictionType::default(),
        }
    }
}

impl OneHotTaskConfig {
    pub(crate) fn build(&self) -> Result<OneHotTask> {
        Ok(OneHotTask {
            maps: Maps::with(
                Classes::new(&self.classes)?,
                Segments::Classes(self.evaluation),
                ValueRange::UNIT,
                vec![PostProcessorParameters::Argmax],
            )?,
            losses: self.loss.terms()?,
            activation: match self.loss {
                OneHotLoss::One(OneHotLossKind::Mse) => Activation::None,
                _ => Activation::Softmax,
            },
            weights: self.weights.build()?,
            prediction: self.store_prediction_as,
        })
    }
}

/// The task that a [`OneHotTaskConfig`] describes.
pub(crate) struct OneHotTask {
    maps: Maps,
    losses: Vec<(LossKind, f32)>,
    activation: Activation,
    weights: Weighting,
    prediction: PredictionType,
}

impl LearnMaps for OneHotTask {
    fn maps(&self) -> &Maps {
        &self.maps
    }

    fn head(&self) -> Head {
        let mut names = vec!["background".to_owned()];
        names.extend(self.maps.classes.names().iter().cloned());
        Head::of(names, self.activation, self.losses.clone())
    }

    fn targets(&self, annotation: Annotation) -> Result<Targets> {
        annotation.check()?;
        let classes = self.maps.classes.of(annotation.labels);
        let count = self.maps.classes.len() + 1;
        let weight = self.weights.of(&classes, count, annotation.known);
        let (depth, height, width) = classes.dim();
        let shape = (count, depth, height, width);
        let mut target = Array4::zeros(shape);
        for (mut channel, class) in target.outer_iter_mut().zip(0..) {
            Zip::from(&mut channel)
                .and(&classes)
                .par_for_each(|target, &found| *target = f32::from(u8::from(found == class)));
        }
        #[allow(clippy::expect_used, reason = "one axis more, of any length, always fits")]
        let weight = weight.broadcast(shape).expect("the same voxels").to_owned();
        Ok(Targets { target, weight })
    }

    fn prediction_dtype(&self) -> PredictionType {
        self.prediction
    }
}
