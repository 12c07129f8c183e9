//! The tasks of distances: how far it is from each voxel to the border of its class or object; signed, inside only,
//! and beside the class itself.

use ndarray::{Array3, Array4, ArrayView3, ArrayView4, Axis, Zip, s};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_kernels::{ValueRange, signed_distance};

use crate::classes::{ClassConfig, ClassWeights, Classes, Weighting, default_classes};
use crate::loss::ProbabilityLoss;
use crate::maps::{LearnMaps, Maps, Segments};
use crate::scores::BinaryEvaluation;
use crate::task::{Activation, Annotation, Head, HeadGroup, LossKind, PredictionType, Targets, inner_shape};
use crate::{Error, Result};

/// From this tanh on, a distance is as good as any larger one: that there may be a nearer border, which is not
/// annotated but at least as far, does not matter.
const FAR: f64 = 0.8;
/// Labels are never read further around a crop than so many voxels.
const WIDEST: usize = 256;

macro_rules! config {
    ($(#[$meta:meta])* $Name:ident, $thresholds:expr, { $($(#[$doc:meta])* $field:ident: $Type:ty = $value:expr,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $Name {
            /// The classes, each with its distance.
            pub classes: Vec<ClassConfig>,
            /// Borders between touching objects of a class count too, and segments are single objects. Else they are
            /// voxels of a class.
            pub instances: bool,
            /// Distances d are learned as tanh(d / scale): the scale is in world units, and should be about as large
            /// as the radius of what is looked for.
            pub scale: f64,
            /// Distances that reach further than what is annotated do not count in training, for there may be a
            /// border that is nearer.
            pub mask_distances: bool,
            /// How much voxels count in training. The loss of distances squares these weights, as that of the original
            /// does: where a class is rare, `uniform` learns its borders better than balanced ones.
            pub weights: ClassWeights,
            $($(#[$doc])* pub $field: $Type,)*
            /// Values to try as thresholds, in those of the predictions.
            pub thresholds: Vec<f32>,
            /// How segmentations of classes are scored.
            pub evaluation: BinaryEvaluation,
            /// How predictions are stored.
            pub store_prediction_as: PredictionType,
        }

        impl Default for $Name {
            fn default() -> Self {
                Self {
                    classes: default_classes(),
                    instances: false,
                    scale: 80.0,
                    mask_distances: true,
                    weights: ClassWeights::default(),
                    $($field: $value,)*
                    thresholds: $thresholds,
                    evaluation: BinaryEvaluation::default(),
                    store_prediction_as: PredictionType::default(),
                }
            }
        }

        impl $Name {
            fn task(&self, dims: usize, kind: Kind, range: ValueRange) -> Result<DistanceTask> {
                if !(self.scale.is_finite() && self.scale > 0.0) {
                    return Err(Error::Value {
                        key: "scale",
                        value: self.scale,
                        expected: "finite and above 0",
                    });
                }
                let segments = if self.instances {
                    Segments::Instances
                } else {
                    Segments::Classes(self.evaluation)
                };
                Ok(DistanceTask {
                    dims,
                    kind,
                    maps: Maps::new(Classes::new(&self.classes)?, segments, range, &self.thresholds)?,
                    scale: self.scale,
                    mask_distances: self.mask_distances,
                    weights: self.weights.build()?,
                    class_losses: Vec::new(),
                    prediction: self.store_prediction_as,
                })
            }
        }
    };
}

config!(
    /// The signed distance to the border: positive inside, negative outside. Predictions are between -1 and 1.
    DistanceTaskConfig,
    vec![-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3],
    {}
);
config!(
    /// The distance to the border inside, and 0 outside. Predictions are between 0 and 1.
    InnerDistanceTaskConfig,
    vec![0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4],
    {}
);
config!(
    /// Whether a voxel is of a class, and its signed distance to the border, in channels of their own. Predictions are
    /// between -1 and 1, those of the classes between 0 and 1.
    HotDistanceTaskConfig,
    vec![-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3],
    {
        /// Which of the two segments are made of, by thresholds.
        segment_by: DistanceMap = DistanceMap::Distance,
        /// What is minimised of the classes. The squared difference of the distances counts 1 beside it.
        #[serde(skip_serializing_if = "ProbabilityLoss::is_default")]
        loss: ProbabilityLoss = ProbabilityLoss::default(),
    }
);

/// One of the two that a class has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DistanceMap {
    /// Its probability.
    Hot,
    /// Its distance.
    #[default]
    Distance,
}

impl DistanceTaskConfig {
    pub(crate) fn build(&self, dims: usize) -> Result<DistanceTask> {
        self.task(dims, Kind::Signed, ValueRange::SIGNED)
    }
}

impl InnerDistanceTaskConfig {
    pub(crate) fn build(&self, dims: usize) -> Result<DistanceTask> {
        self.task(dims, Kind::Inner, ValueRange::UNIT)
    }
}

impl HotDistanceTaskConfig {
    pub(crate) fn build(&self, dims: usize) -> Result<DistanceTask> {
        let task = self.task(dims, Kind::Hot(self.segment_by), ValueRange::SIGNED)?;
        let class_losses = self.loss.terms()?;
        Ok(DistanceTask { class_losses, ..task })
    }
}

/// What is learned of distances.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Signed,
    Inner,
    /// The classes, and behind them their signed distances.
    Hot(DistanceMap),
}

/// The task that one of the configs describes.
pub(crate) struct DistanceTask {
    dims: usize,
    kind: Kind,
    maps: Maps,
    scale: f64,
    mask_distances: bool,
    weights: Weighting,
    /// Of the classes, where they have channels of their own.
    class_losses: Vec<(LossKind, f32)>,
    prediction: PredictionType,
}

impl DistanceTask {
    /// Where a distance is certain: nothing that is not annotated is nearer than the border. What is outside of the
    /// volume is not annotated.
    fn certain(&self, distance: &Array3<f32>, annotation: &Annotation) -> Result<Array3<bool>> {
        let margin = |a: usize| usize::from(a + self.dims >= 3);
        let shape = [0, 1, 2].map(|a: usize| annotation.known.shape()[a] + 2 * margin(a));
        let inside = s![
            margin(0)..shape[0] - margin(0),
            margin(1)..shape[1] - margin(1),
            margin(2)..shape[2] - margin(2)
        ];
        let mut known = Array3::from_elem(shape, false);
        known.slice_mut(inside).assign(&annotation.known);
        let unknown = signed_distance(known.view(), annotation.voxel_size)?;
        let far = (FAR.atanh() * self.scale) as f32;
        // A border between what is known and what is not is none: it is as far as what is not known.
        Ok(Zip::from(distance)
            .and(unknown.slice(inside))
            .map_collect(|&distance, &unknown| {
                let distance = distance.abs();
                distance < unknown || distance >= far && unknown >= far
            }))
    }
}

impl LearnMaps for DistanceTask {
    fn maps(&self) -> &Maps {
        &self.maps
    }

    fn head(&self) -> Head {
        let names = self.maps.classes.names();
        let distances = names.iter().map(|name| format!("{name} distance")).collect();
        let mut head = Head::of(distances, Activation::None, vec![(LossKind::Mse, 1.0)]);
        if let Kind::Hot(_) = self.kind {
            let hot = HeadGroup {
                channel_names: names.to_vec(),
                activation: Activation::Sigmoid,
                losses: self.class_losses.clone(),
            };
            head.groups.insert(0, hot);
        }
        head
    }

    fn label_context(&self, voxel_size: [f64; 3]) -> ([usize; 3], [usize; 3]) {
        let far = FAR.atanh() * self.scale;
        let around = std::array::from_fn(|a| {
            let voxels = (far / voxel_size[a]).ceil() as usize + 1;
            if a + self.dims < 3 { 0 } else { voxels.min(WIDEST) }
        });
        (around, around)
    }

    fn targets(&self, annotation: Annotation) -> Result<Targets> {
        annotation.check()?;
        let (before, after) = LearnMaps::label_context(self, annotation.voxel_size);
        let [depth, height, width] = inner_shape(annotation.labels.shape(), before, after)?;
        let window = s![
            before[0]..before[0] + depth,
            before[1]..before[1] + height,
            before[2]..before[2] + width
        ];
        let count = self.maps.classes.len();
        let hot = if matches!(self.kind, Kind::Hot(_)) {
            count
        } else {
            0
        };
        let shape = (hot + count, depth, height, width);
        let mut targets = Targets {
            target: Array4::zeros(shape),
            weight: Array4::zeros(shape),
        };
        let all = self.maps.classes.of(annotation.labels);
        let known = annotation.known.slice(window);
        for index in 0..count {
            let members = all.mapv(|found| found == index as u8 + 1);
            let distance = if self.maps.segments == Segments::Instances {
                let objects = Zip::from(annotation.labels)
                    .and(&members)
                    .map_collect(|&label, &is_member| if is_member { label } else { 0 });
                signed_distance(objects.view(), annotation.voxel_size)?
            } else {
                signed_distance(members.view(), annotation.voxel_size)?
            };
            let inner = members.slice(window).mapv(u8::from);
            let mut counts = known.to_owned();
            if self.mask_distances {
                let certain = self.certain(&distance, &annotation)?;
                // Outside, an inner distance is 0 however far the border is.
                let is_given = |member: u8| self.kind == Kind::Inner && member == 0;
                Zip::from(&mut counts)
                    .and(certain.slice(window))
                    .and(&inner)
                    .for_each(|counts, &certain, &member| *counts &= certain || is_given(member));
            }
            let scaled = distance.slice(window).mapv(|distance| {
                let scaled = (f64::from(distance) / self.scale).tanh() as f32;
                if self.kind == Kind::Inner {
                    scaled.max(0.0)
                } else {
                    scaled
                }
            });
            let mut set = |channel: usize, target: &Array3<f32>, counts: ArrayView3<bool>| {
                targets.target.index_axis_mut(Axis(0), channel).assign(target);
                let weight = self.weights.of(&inner, 2, counts);
                targets.weight.index_axis_mut(Axis(0), channel).assign(&weight);
            };
            if hot > 0 {
                set(index, &inner.mapv(f32::from), known);
            }
            set(hot + index, &scaled, counts.view());
        }
        Ok(targets)
    }

    fn prediction_dtype(&self) -> PredictionType {
        self.prediction
    }

    fn segmented<'a>(&self, prediction: ArrayView4<'a, f32>) -> Result<ArrayView4<'a, f32>> {
        let Kind::Hot(map) = self.kind else {
            return Ok(prediction);
        };
        let count = self.maps.classes.len();
        let found = prediction.shape();
        if found[0] != 2 * count {
            return Err(Error::Shape {
                what: "prediction",
                found: found.to_vec(),
                expected: format!("{} channels", 2 * count),
            });
        }
        Ok(match map {
            DistanceMap::Hot => prediction.slice_move(s![..count, .., .., ..]),
            DistanceMap::Distance => prediction.slice_move(s![count.., .., .., ..]),
        })
    }
}
