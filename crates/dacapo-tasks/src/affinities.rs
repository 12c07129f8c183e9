//! The task of affinities: for each voxel and offset, whether the two voxels that it links belong together; beside
//! them, if asked, what the object looks like around each voxel.

use ndarray::{Array3, Array4, ArrayView3, ArrayView4, CowArray, Ix3, Zip, s};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use dacapo_kernels::{
    Background, Clip, LsdOptions, Offset, ValueRange, check_offsets, class_weights, local_shape_descriptors,
};

use crate::by_blocks::AffinityBlocks;
use crate::classes::{default_clip_max, default_clip_min};
use crate::loss::ProbabilityLoss;
use crate::parameters::{PostProcessingConfig, PostProcessorParameters};
use crate::scores::{INSTANCE_CRITERIA, instance_scores};
use crate::segmenter::Segmenter;
use crate::task::{
    Activation, Annotation, Criterion, Head, HeadGroup, LossKind, PredictionType, Scores, Targets, Task,
    expect_shape, inner_shape,
};
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
    /// What is minimised of the affinities.
    #[serde(skip_serializing_if = "ProbabilityLoss::is_default")]
    pub loss: ProbabilityLoss,
    /// How much each voxel counts in training.
    pub weights: AffinityWeights,
    /// Local shape descriptors, which the network learns beside the affinities: these get better by that. Segments
    /// are made of the affinities alone.
    pub lsds: Option<LsdConfig>,
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
            loss: ProbabilityLoss::default(),
            weights: AffinityWeights::default(),
            lsds: None,
            post_processing: PostProcessingConfig::defaults(),
            store_prediction_as: PredictionType::default(),
        }
    }
}

/// Local shape descriptors: where the mean of a voxel's object is, how it is spread, and how much of what is around
/// it fills.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LsdConfig {
    /// Standard deviation of the Gaussian that says what is around, in voxels of the axis where they are largest.
    pub num_voxels: f64,
    /// Every so many voxels along each axis are looked at.
    pub downsample: usize,
    /// How much their loss counts beside that of the affinities.
    pub loss_weight: f32,
}

impl Default for LsdConfig {
    fn default() -> Self {
        Self {
            num_voxels: 10.0,
            downsample: 1,
            loss_weight: 0.5,
        }
    }
}

impl LsdConfig {
    fn check(&self) -> Result<()> {
        let bad = |key, value, expected| Err(Error::Value { key, value, expected });
        if !(0.1..=100.0).contains(&self.num_voxels) {
            return bad("lsds.num_voxels", self.num_voxels, "between 0.1 and 100");
        }
        if !(1..=16).contains(&self.downsample) {
            return bad("lsds.downsample", self.downsample as f64, "between 1 and 16");
        }
        if !(self.loss_weight.is_finite() && self.loss_weight > 0.0) {
            return bad(
                "lsds.loss_weight",
                f64::from(self.loss_weight),
                "finite and above 0",
            );
        }
        Ok(())
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

impl Default for AffinityWeights {
    fn default() -> Self {
        Self::Balanced {
            clip_min: default_clip_min(),
            clip_max: default_clip_max(),
        }
    }
}

impl AffinitiesTaskConfig {
    /// Segments of such affinities by blocks, of data with 2 or 3 spatial axes; without parameters, fragments.
    ///
    /// # Errors
    /// If the neighbourhood means nothing for such data, or the parameters are not of affinities.
    pub fn by_blocks(
        &self,
        dims: usize,
        parameters: Option<PostProcessorParameters>,
    ) -> Result<AffinityBlocks> {
        AffinityBlocks::new(Segmenter::new(self.offsets(dims)?), dims, parameters)
    }

    fn offsets(&self, dims: usize) -> Result<Vec<Offset>> {
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
        Ok(offsets)
    }

    pub(crate) fn build(&self, dims: usize) -> Result<AffinitiesTask> {
        let offsets = self.offsets(dims)?;
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
            set.check(ValueRange::UNIT)?;
            if !parameters.contains(&set) {
                parameters.push(set);
            }
        }
        if parameters.is_empty() {
            return Err(Error::NoParameters);
        }
        self.lsds.as_ref().map_or(Ok(()), LsdConfig::check)?;
        Ok(AffinitiesTask {
            dims,
            losses: self.loss.terms()?,
            lsds: self.lsds.clone(),
            channel_names: self
                .neighborhood
                .iter()
                .map(|offset| format!("{NAME}{offset:?}"))
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
    dims: usize,
    losses: Vec<(LossKind, f32)>,
    lsds: Option<LsdConfig>,
    offsets: Vec<Offset>,
    channel_names: Vec<String>,
    background: Background,
    weights: Weights,
    parameters: Vec<PostProcessorParameters>,
    segmenter: Segmenter,
    prediction: PredictionType,
}

/// What channels of affinities are called, before their offset.
const NAME: &str = "affinity ";

/// The offsets of affinities by the names of their channels, as a prediction of ours has them.
pub fn neighborhood_of(channel_names: &[String]) -> Option<Vec<Vec<i64>>> {
    let affinities = channel_names.iter().map_while(|name| name.strip_prefix(NAME));
    let offsets: Vec<Vec<i64>> = affinities
        .map(|offset| serde_json::from_str(offset).ok())
        .collect::<Option<_>>()?;
    (!offsets.is_empty()).then_some(offsets)
}

/// The descriptors' names, by axes.
fn lsd_names(dims: usize) -> Vec<String> {
    let axes = &["z", "y", "x"][3 - dims..];
    let mut names: Vec<String> = axes.iter().map(|axis| format!("lsd offset {axis}")).collect();
    names.extend(axes.iter().map(|axis| format!("lsd variance {axis}")));
    for (place, a) in axes.iter().enumerate() {
        names.extend(
            axes[place + 1..]
                .iter()
                .map(|b| format!("lsd correlation {a}{b}")),
        );
    }
    names.push("lsd size".to_owned());
    names
}

impl AffinitiesTask {
    fn lsd_options(&self, config: &LsdConfig, voxel_size: [f64; 3]) -> LsdOptions {
        let largest = voxel_size[3 - self.dims..]
            .iter()
            .fold(0.0, |most: f64, &size| most.max(size));
        LsdOptions {
            dims: self.dims,
            spacing: voxel_size,
            sigma: config.num_voxels * largest,
            downsample: config.downsample,
        }
    }

    /// Descriptors behind the affinities, and their weights: objects and background count the same.
    fn describe(&self, config: &LsdConfig, annotation: Annotation, targets: &mut Targets) -> Result<()> {
        let options = self.lsd_options(config, annotation.voxel_size);
        let (before, _) = self.label_context(annotation.voxel_size);
        let shape = &targets.target.shape()[1..];
        let window: [_; 3] = std::array::from_fn(|a| before[a]..before[a] + shape[a]);
        let inner = |axis: ndarray::AxisDescription| window[axis.axis.index()].clone().into();
        let (mut labels, mut known) = (annotation.labels, annotation.known);
        labels.slice_each_axis_inplace(inner);
        known.slice_each_axis_inplace(inner);
        let descriptors = match self.background {
            Background::Nothing => local_shape_descriptors(annotation.labels, window.clone(), &options)?,
            Background::Object => {
                let objects = annotation.labels.mapv(|label| label.wrapping_add(1));
                local_shape_descriptors(objects.view(), window.clone(), &options)?
            }
        };
        let clip = match self.weights {
            Weights::Balanced(clip) => clip,
            Weights::Boundary(_) => Clip::new(default_clip_min(), default_clip_max())?,
        };
        let mut counts = [0; 2];
        Zip::from(labels).and(known).for_each(|&label, &known| {
            counts[usize::from(label != 0)] += u64::from(known);
        });
        let by_class = class_weights(&counts, clip);
        let first = self.offsets.len();
        targets
            .target
            .slice_mut(s![first.., .., .., ..])
            .assign(&descriptors);
        for weight in targets.weight.slice_mut(s![first.., .., .., ..]).outer_iter_mut() {
            Zip::from(weight)
                .and(labels)
                .and(known)
                .for_each(|weight, &label, &known| {
                    *weight = if known {
                        by_class[usize::from(label != 0)]
                    } else {
                        0.0
                    };
                });
        }
        Ok(())
    }
}

impl Task for AffinitiesTask {
    fn head(&self) -> Head {
        let mut head = Head::of(
            self.channel_names.clone(),
            Activation::Sigmoid,
            self.losses.clone(),
        );
        head.groups.extend(self.lsds.as_ref().map(|lsds| HeadGroup {
            channel_names: lsd_names(self.dims),
            activation: Activation::Sigmoid,
            losses: vec![(LossKind::MseOfSigmoid, lsds.loss_weight)],
        }));
        head
    }

    fn label_context(&self, voxel_size: [f64; 3]) -> ([usize; 3], [usize; 3]) {
        let lsds = self.lsds.as_ref();
        let around = lsds.map_or([0; 3], |lsds| self.lsd_options(lsds, voxel_size).context());
        let reach = |axis: usize, sign: i64| {
            let along = self
                .offsets
                .iter()
                .map(|offset| (sign * offset[axis]).max(0) as usize);
            along.max().unwrap_or(0).max(around[axis])
        };
        // A crop begins with a voxel that is looked at.
        let step = lsds.map_or(1, |lsds| lsds.downsample);
        let before =
            |axis: usize| reach(axis, -1).next_multiple_of(if axis + self.dims < 3 { 1 } else { step });
        (
            std::array::from_fn(before),
            std::array::from_fn(|axis| reach(axis, 1)),
        )
    }

    fn targets(&self, annotation: Annotation) -> Result<Targets> {
        annotation.check()?;
        let Annotation { labels, known, .. } = annotation;
        let (before, after) = self.label_context(annotation.voxel_size);
        let inner = inner_shape(labels.shape(), before, after)?;
        let channels = self.head().channels();
        let mut targets = Targets {
            target: Array4::zeros((channels, inner[0], inner[1], inner[2])),
            weight: Array4::zeros((channels, inner[0], inner[1], inner[2])),
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
                    Weights::Balanced(clip) => class_weights(&counts, clip),
                    Weights::Boundary(boundary) => vec![boundary, 1.0],
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
        if let Some(lsds) = &self.lsds {
            self.describe(lsds, annotation, &mut targets)?;
        }
        Ok(targets)
    }

    fn prediction_dtype(&self) -> PredictionType {
        self.prediction
    }

    fn prediction_range(&self) -> ValueRange {
        ValueRange::UNIT
    }

    fn parameters(&self) -> Vec<PostProcessorParameters> {
        self.parameters.clone()
    }

    fn sweep(
        &self,
        prediction: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
        each: &mut dyn FnMut(&PostProcessorParameters, &mut Array3<u64>) -> Result<()>,
    ) -> Result<()> {
        self.segmenter
            .sweep(self.only_affinities(prediction)?, mask, &self.parameters, each)
    }

    fn segment(
        &self,
        prediction: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
        parameters: &PostProcessorParameters,
    ) -> Result<Array3<u64>> {
        parameters.check(ValueRange::UNIT)?;
        let affinities = self.only_affinities(prediction)?;
        let mut segmentation = Array3::zeros((0, 0, 0));
        self.segmenter
            .sweep(affinities, mask, &[*parameters], &mut |_, segments| {
                segmentation = std::mem::take(segments);
                Ok(())
            })?;
        Ok(segmentation)
    }

    fn evaluate(&self, truth: Annotation, segmentation: ArrayView3<u64>) -> Result<Scores> {
        instance_scores(truth, segmentation)
    }

    fn criteria(&self) -> &[Criterion] {
        &INSTANCE_CRITERIA
    }

    fn default_criterion(&self) -> &Criterion {
        &INSTANCE_CRITERIA[0]
    }
}

impl AffinitiesTask {
    /// A prediction without the channels of descriptors.
    fn only_affinities<'a>(&self, prediction: ArrayView4<'a, f32>) -> Result<ArrayView4<'a, f32>> {
        let channels = self.head().channels();
        let found = prediction.shape();
        expect_shape("prediction", found, &[channels, found[1], found[2], found[3]])?;
        Ok(prediction.slice_move(s![..self.offsets.len(), .., .., ..]))
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
