//! The task of affinities: for each voxel and offset, whether the two voxels that it links belong together.

use ndarray::{Array3, Array4, ArrayView3, ArrayView4, CowArray, Ix3};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_kernels::{Background, Clip, Offset, check_offsets, class_weights};

use crate::parameters::{PostProcessingConfig, PostProcessorParameters};
use crate::scores::{InstanceRules, InstanceScores};
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
        let (labels, known) = (labels.as_standard_layout(), known.as_standard_layout());
        let (labels, known) = (Rows::new(&labels), Rows::new(&known));
        // Two voxels of background say nothing about boundaries.
        let skip_background =
            matches!(self.weights, Weights::Boundary(_)) && self.background == Background::Nothing;
        let voxels = inner.iter().product::<usize>().max(1);
        let channels = slice_mut(&mut targets.target).par_chunks_mut(voxels);
        let channels = channels.zip(slice_mut(&mut targets.weight).par_chunks_mut(voxels));
        channels
            .zip(&self.offsets)
            .for_each(|((target, weight), offset)| {
                let there: [usize; 3] =
                    std::array::from_fn(|a| before[a].wrapping_add_signed(offset[a] as isize));
                let length = inner[2];
                let rows = || (0..inner[0]).flat_map(|z| (0..inner[1]).map(move |y| (z, y)));
                let mut counts = [0; 2];
                for ((z, y), target) in rows().zip(target.chunks_exact_mut(length.max(1))) {
                    let (p, q) = (labels.row(before, z, y, length), labels.row(there, z, y, length));
                    let p_known = known.row(before, z, y, length);
                    let (mut linked, mut seen) = (0, 0);
                    for (((target, &p), &q), &known) in target.iter_mut().zip(p).zip(q).zip(p_known) {
                        let links = self.background.links(p, q);
                        *target = f32::from(u8::from(links));
                        linked += u64::from(links && known);
                        seen += u64::from(known);
                    }
                    counts[0] += seen - linked;
                    counts[1] += linked;
                }
                let of_pair = match self.weights {
                    Weights::Balanced(clip) => class_weights(counts, clip),
                    Weights::Boundary(boundary) => [boundary, 1.0],
                };
                let weighted = target
                    .chunks_exact(length.max(1))
                    .zip(weight.chunks_exact_mut(length.max(1)));
                for ((z, y), (target, weight)) in rows().zip(weighted) {
                    let (p, q) = (labels.row(before, z, y, length), labels.row(there, z, y, length));
                    let p_known = known.row(before, z, y, length);
                    let q_known = known.row(there, z, y, length);
                    let ends = p.iter().zip(q).zip(p_known.iter().zip(q_known));
                    for ((weight, &target), ((&p, &q), (&p_known, &q_known))) in
                        weight.iter_mut().zip(target).zip(ends)
                    {
                        let counts = p_known && q_known && !(skip_background && (p | q) == 0);
                        let of_pair = if target > 0.0 { of_pair[1] } else { of_pair[0] };
                        *weight = if counts { of_pair } else { 0.0 };
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
        let rules = InstanceRules::default();
        let table = rules.count(truth, segmentation)?;
        Ok(InstanceScores::new(&table, rules, 0).scores())
    }

    fn criteria(&self) -> &[Criterion] {
        &InstanceScores::CRITERIA
    }

    fn default_criterion(&self) -> &Criterion {
        &InstanceScores::CRITERIA[0]
    }
}

fn in_config(key: &'static str) -> impl Fn(dacapo_kernels::Error) -> Error {
    move |reason| Error::Config { key, reason }
}

/// A volume in standard layout, by its rows along x.
struct Rows<'a, T> {
    values: &'a [T],
    shape: [usize; 3],
}

impl<'a, T> Rows<'a, T> {
    fn new(volume: &'a CowArray<T, Ix3>) -> Self {
        #[allow(clippy::expect_used, reason = "the caller has made it standard")]
        let values = volume.as_slice().expect("standard layout");
        let (z, y, x) = volume.dim();
        Self {
            values,
            shape: [z, y, x],
        }
    }

    /// `length` voxels of the row (z, y) behind `begin`.
    fn row(&self, begin: [usize; 3], z: usize, y: usize, length: usize) -> &'a [T] {
        let start = ((begin[0] + z) * self.shape[1] + begin[1] + y) * self.shape[2] + begin[2];
        &self.values[start..start + length]
    }
}

fn slice_mut(array: &mut Array4<f32>) -> &mut [f32] {
    #[allow(clippy::expect_used, reason = "the caller has just made it")]
    array.as_slice_mut().expect("standard layout")
}
