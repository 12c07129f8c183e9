//! The task of affinities: for each voxel and offset, whether the two voxels that it links belong together.

use ndarray::parallel::prelude::*;
use ndarray::{Array3, Array4, ArrayView3, ArrayView4, Axis, Slice, Zip};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_kernels::{Background, Clip, ContingencyTable, Offset, check_offsets, class_weights};

use crate::parameters::{PostProcessingConfig, PostProcessorParameters};
use crate::segmenter::Segmenter;
use crate::task::{Activation, Criterion, Head, LossKind, PredictionType, Scores, Targets, Task};
use crate::{Error, Result};

/// No offset may be longer: labels of that size around each crop would have to be read.
const LONGEST: u64 = 1 << 12;

/// Which affinities to learn, and how to make segments of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AffinitiesTaskConfig {
    /// Offsets in voxels, one a channel: its affinity at a voxel p says whether p and p + offset belong to the
    /// same object.
    pub neighborhood: Vec<Vec<i64>>,
    /// Whether label 0 is an object like any other, not the absence of one.
    pub background_as_object: bool,
    /// How much each voxel counts in training.
    pub weights: AffinityWeights,
    /// The methods and parameters that a validation tries.
    pub post_processing: Vec<PostProcessingConfig>,
    /// How predictions are stored.
    pub store_prediction_as: PredictionType,
}

impl Default for AffinitiesTaskConfig {
    /// Offsets of 1, 3 and 9 voxels back along each axis of a volume.
    fn default() -> Self {
        let axis = |length: i64, axis: usize| (0..3).map(|a| if a == axis { -length } else { 0 }).collect();
        Self {
            neighborhood: [1, 3, 9]
                .iter()
                .flat_map(|&n| (0..3).map(move |a| axis(n, a)))
                .collect(),
            background_as_object: false,
            weights: AffinityWeights::default(),
            post_processing: PostProcessingConfig::defaults(),
            store_prediction_as: PredictionType::default(),
        }
    }
}

/// How much each voxel counts in training. Pairs with an end that is not annotated never count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AffinityWeights {
    /// In each channel of a crop, pairs that belong together count as much as those that do not: each by the
    /// inverse of its share, which is clipped to the given range first.
    Balanced {
        /// The smallest share.
        #[serde(default = "default_clip_min")]
        clip_min: f64,
        /// The largest share.
        #[serde(default = "default_clip_max")]
        clip_max: f64,
    },
    /// Pairs that do not belong together count so many times as much as those that do. Pairs of two voxels of
    /// background do not count.
    Boundary(f32),
}

fn default_clip_min() -> f64 {
    0.05
}

fn default_clip_max() -> f64 {
    0.95
}

impl Default for AffinityWeights {
    fn default() -> Self {
        Self::Balanced {
            clip_min: default_clip_min(),
            clip_max: default_clip_max(),
        }
    }
}

impl AffinitiesTaskConfig {
    pub(crate) fn build(&self, dims: usize) -> Result<AffinitiesTask> {
        if !(2..=3).contains(&dims) {
            return Err(Error::Dims { dims });
        }
        let offsets: Vec<Offset> = self
            .neighborhood
            .iter()
            .enumerate()
            .map(|(index, offset)| {
                let offset = offset.clone();
                match offset[..] {
                    [_, ..] if offset.iter().any(|n| n.unsigned_abs() > LONGEST) => {
                        Err(Error::OffsetLength {
                            index,
                            offset,
                            limit: LONGEST,
                        })
                    }
                    [y, x] if dims == 2 => Ok([0, y, x]),
                    [z, y, x] if dims == 3 => Ok([z, y, x]),
                    _ => Err(Error::OffsetDims { index, offset, dims }),
                }
            })
            .collect::<Result<_>>()?;
        check_offsets(&offsets).map_err(in_config("neighborhood"))?;
        let weights = match self.weights {
            AffinityWeights::Balanced { clip_min, clip_max } => {
                Weights::Balanced(Clip::new(clip_min, clip_max).map_err(in_config("weights.balanced"))?)
            }
            AffinityWeights::Boundary(weight) if weight.is_finite() && weight > 0.0 => {
                Weights::Boundary(weight)
            }
            AffinityWeights::Boundary(weight) => {
                let (key, value) = ("weights.boundary", f64::from(weight));
                return Err(Error::Value {
                    key,
                    value,
                    expected: "finite and above 0",
                });
            }
        };
        let mut parameters: Vec<PostProcessorParameters> = Vec::new();
        for set in self
            .post_processing
            .iter()
            .flat_map(PostProcessingConfig::parameters)
        {
            set.check()?;
            if !parameters.contains(&set) {
                parameters.push(set);
            }
        }
        if parameters.is_empty() {
            return Err(Error::NoParameters);
        }
        Ok(AffinitiesTask {
            channel_names: self
                .neighborhood
                .iter()
                .map(|offset| format!("affinity {offset:?}"))
                .collect(),
            segmenter: Segmenter::new(offsets.clone()),
            offsets,
            background: if self.background_as_object {
                Background::Object
            } else {
                Background::Nothing
            },
            weights,
            parameters,
            prediction: self.store_prediction_as,
        })
    }
}

enum Weights {
    Balanced(Clip),
    Boundary(f32),
}

/// The task that an [`AffinitiesTaskConfig`] describes.
pub(crate) struct AffinitiesTask {
    offsets: Vec<Offset>,
    channel_names: Vec<String>,
    background: Background,
    weights: Weights,
    parameters: Vec<PostProcessorParameters>,
    segmenter: Segmenter,
    prediction: PredictionType,
}

/// The scores of segmentations: the variation of information, truth 0 ignored, every other voxel counted.
const CRITERIA: [Criterion; 3] = [
    Criterion {
        name: "voi",
        higher_is_better: false,
        meaning: "variation of information: voi_split + voi_merge",
        unit: "bits",
    },
    Criterion {
        name: "voi_split",
        higher_is_better: false,
        meaning: "how far true objects are split: H(segmentation | truth)",
        unit: "bits",
    },
    Criterion {
        name: "voi_merge",
        higher_is_better: false,
        meaning: "how far true objects are merged: H(truth | segmentation)",
        unit: "bits",
    },
];

impl Task for AffinitiesTask {
    fn head(&self) -> Head {
        Head {
            channels: self.offsets.len(),
            channel_names: self.channel_names.clone(),
            activation: Activation::Sigmoid,
        }
    }

    fn loss(&self) -> LossKind {
        LossKind::BceWithLogits
    }

    fn label_context(&self) -> ([usize; 3], [usize; 3]) {
        let reach = |axis: usize, sign: i64| {
            let along = self
                .offsets
                .iter()
                .map(|offset| (sign * offset[axis]).max(0) as usize);
            along.max().unwrap_or(0)
        };
        (
            std::array::from_fn(|axis| reach(axis, -1)),
            std::array::from_fn(|axis| reach(axis, 1)),
        )
    }

    fn targets(&self, labels: ArrayView3<u64>, known: ArrayView3<bool>) -> Result<Targets> {
        let (before, after) = self.label_context();
        let shape = |what, found: &[usize], expected| {
            let found = found.to_vec();
            Error::Shape {
                what,
                found,
                expected,
            }
        };
        if known.shape() != labels.shape() {
            return Err(shape(
                "volume of what is known",
                known.shape(),
                format!("{:?}", labels.shape()),
            ));
        }
        if (0..3).any(|a| labels.shape()[a] < before[a] + after[a]) {
            let least: Vec<usize> = (0..3).map(|a| before[a] + after[a]).collect();
            return Err(shape(
                "volume of labels",
                labels.shape(),
                format!("at least {least:?}"),
            ));
        }
        let inner: [usize; 3] = std::array::from_fn(|a| labels.shape()[a] - before[a] - after[a]);
        let mut targets = Targets {
            target: Array4::zeros((self.offsets.len(), inner[0], inner[1], inner[2])),
            weight: Array4::zeros((self.offsets.len(), inner[0], inner[1], inner[2])),
        };
        let channels = targets.target.axis_iter_mut(Axis(0)).into_par_iter();
        let channels = channels.zip(targets.weight.axis_iter_mut(Axis(0)));
        channels
            .zip(&self.offsets)
            .for_each(|((mut target, mut weight), offset)| {
                let window = |offset: &Offset| -> [Slice; 3] {
                    std::array::from_fn(|a| {
                        let start = before[a] as isize + offset[a] as isize;
                        Slice::from(start..start + inner[a] as isize)
                    })
                };
                let (here, there) = (window(&[0; 3]), window(offset));
                let (p, q) = (cut(labels, here), cut(labels, there));
                Zip::from(&mut target)
                    .and(&p)
                    .and(&q)
                    .for_each(|target, &p, &q| *target = f32::from(u8::from(self.background.links(p, q))));
                let (p_known, q_known) = (cut(known, here), cut(known, there));
                match self.weights {
                    Weights::Balanced(clip) => {
                        let mut counts = [0; 2];
                        Zip::from(&target).and(&p_known).for_each(|&target, &known| {
                            counts[usize::from(target > 0.0)] += u64::from(known);
                        });
                        let weights = class_weights(counts, clip);
                        Zip::from(&mut weight)
                            .and(&target)
                            .and(&p_known)
                            .and(&q_known)
                            .for_each(|weight, &target, &p, &q| {
                                *weight = if p && q {
                                    weights[usize::from(target > 0.0)]
                                } else {
                                    0.0
                                };
                            });
                    }
                    Weights::Boundary(boundary) => {
                        Zip::from(&mut weight)
                            .and(&target)
                            .and(&p_known)
                            .and(&q_known)
                            .for_each(|weight, &target, &p, &q| {
                                let of_pair = if target > 0.0 { 1.0 } else { boundary };
                                *weight = if p && q { of_pair } else { 0.0 };
                            });
                        if self.background == Background::Nothing {
                            Zip::from(&mut weight).and(&p).and(&q).for_each(|weight, &p, &q| {
                                if p == 0 && q == 0 {
                                    *weight = 0.0;
                                }
                            });
                        }
                    }
                }
            });
        Ok(targets)
    }

    fn prediction_dtype(&self) -> PredictionType {
        self.prediction
    }

    fn parameters(&self) -> Vec<PostProcessorParameters> {
        self.parameters.clone()
    }

    fn sweep(
        &self,
        prediction: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
        each: &mut dyn FnMut(&PostProcessorParameters, Array3<u64>) -> Result<()>,
    ) -> Result<()> {
        self.segmenter.sweep(prediction, mask, &self.parameters, each)
    }

    fn segment(
        &self,
        prediction: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
        parameters: &PostProcessorParameters,
    ) -> Result<Array3<u64>> {
        parameters.check()?;
        let mut segmentation = Array3::zeros((0, 0, 0));
        self.segmenter
            .sweep(prediction, mask, &[*parameters], &mut |_, segments| {
                segmentation = segments;
                Ok(())
            })?;
        Ok(segmentation)
    }

    fn evaluate(&self, truth: ArrayView3<u64>, segmentation: ArrayView3<u64>) -> Result<Scores> {
        let voi = ContingencyTable::new(truth, segmentation)?.voi();
        let scores = [
            ("voi", voi.map(|voi| voi.sum())),
            ("voi_split", voi.map(|voi| voi.split)),
            ("voi_merge", voi.map(|voi| voi.merge)),
        ];
        Ok(Scores(
            scores
                .into_iter()
                .map(|(name, score)| (name.to_owned(), score))
                .collect(),
        ))
    }

    fn criteria(&self) -> &[Criterion] {
        &CRITERIA
    }

    fn default_criterion(&self) -> &Criterion {
        &CRITERIA[0]
    }
}

fn in_config(key: &'static str) -> impl Fn(dacapo_kernels::Error) -> Error {
    move |reason| Error::Config { key, reason }
}

fn cut<T>(mut volume: ArrayView3<T>, window: [Slice; 3]) -> ArrayView3<T> {
    for (axis, slice) in window.into_iter().enumerate() {
        volume.slice_axis_inplace(ndarray::Axis(axis), slice);
    }
    volume
}
