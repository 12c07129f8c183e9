//! The scores of every threshold or bias of a method, for about the price of one segmentation, and exactly as if each
//! had been segmented and scored by itself. In memory.

use std::collections::BTreeMap;

use ndarray::{Array3, Axis, s};

use dacapo_array::Roi;
use dacapo_kernels::{
    Connectivity, MeanAffinity, MergeHistory, MergeLimits, SweepRules, ThresholdCounts, ValueRange, Voi,
    component_sweep, quantise,
};
use dacapo_tasks::{
    AffinitiesTaskConfig, InstanceRules, InstanceScores, PostProcessingConfig, PostProcessorParameters,
    TaskConfig,
};
use serde::Serialize;

use crate::memory::check_free;
use crate::volume::{NamedArray, Volume, shared};
use crate::{Error, Result};

/// What is varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepMethod {
    /// The threshold of the first channel, scored voxel by voxel.
    Threshold,
    /// The threshold above which connected regions are objects.
    Components(Connectivity),
    /// The mean affinity from which on watershed fragments merge.
    Agglomerate,
    /// The bias of a mutex watershed.
    MutexWatershed,
}

/// What is swept.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepRequest {
    /// The method.
    pub method: SweepMethod,
    /// Of affinities, the offset of each channel, in voxels.
    pub neighborhood: Vec<Vec<i64>>,
    /// What bytes of the prediction stand for.
    pub range: ValueRange,
    /// Thresholds or biases. Without any: all 256 of bytes, or 19 from 0.05 to 0.95.
    pub values: Vec<f32>,
    /// The part to look at, in world units; all that both arrays have without one.
    pub roi: Option<Roi>,
    /// Bytes of memory that there are; without, nothing is refused for what it takes.
    pub memory: Option<u64>,
}

/// The scores at one threshold or bias.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SweepScores {
    /// Which.
    pub value: f32,
    /// By name; none where one is not defined.
    pub scores: BTreeMap<&'static str, Option<f64>>,
}

/// A curve of scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Swept {
    /// Where they hold, in world units.
    pub roi: Roi,
    /// The score that says which is best.
    pub criterion: &'static str,
    /// Which way that is better.
    pub higher_is_better: bool,
    /// In the order of the values.
    pub points: Vec<SweepScores>,
    /// The best of them, by its place; the first of several; none if no score is defined.
    pub best: Option<usize>,
}

/// Scores a prediction by the truth, in which 0 is unknown to instances and background to thresholds, at each value.
///
/// # Errors
/// [`Error::Incomparable`] for arrays that do not lie on one grid or share nothing; [`Error::LabelType`],
/// [`Error::Labels`], [`Error::LabelValue`]; [`Error::Task`] for values that no prediction has, and affinities that do
/// not fit their offsets; [`Error::TooLarge`].
pub fn sweep(prediction: NamedArray, truth: NamedArray, request: &SweepRequest) -> Result<Swept> {
    let roi = shared(truth, prediction, request.roi.as_ref())?;
    let scene = Scene {
        dims: truth.array.spec().spatial_dims(),
        truth: Volume::new(truth, &roi)?,
        prediction: Volume::new(prediction, &roi)?,
        request,
    };
    scene.check()?;
    let (criterion, higher_is_better) = match request.method {
        SweepMethod::Threshold => ("dice", true),
        _ => ("voi", false),
    };
    let points = match request.method {
        SweepMethod::Threshold => scene.thresholds()?,
        SweepMethod::Components(connectivity) => scene.components(connectivity)?,
        SweepMethod::Agglomerate => scene.agglomerate()?,
        SweepMethod::MutexWatershed => scene.mutex()?,
    };
    let scored = points
        .iter()
        .enumerate()
        .filter_map(|(place, point)| Some((place, (*point.scores.get(criterion)?)?)));
    let best = scored.reduce(|best, next| {
        let is_better = if higher_is_better {
            next.1 > best.1
        } else {
            next.1 < best.1
        };
        if is_better { next } else { best }
    });
    Ok(Swept {
        roi,
        criterion,
        higher_is_better,
        best: best.map(|(place, _)| place),
        points,
    })
}

/// A threshold between bytes, with the value that it stands for.
type Level = (u8, f32);

struct Scene<'a> {
    truth: Volume<'a>,
    prediction: Volume<'a>,
    request: &'a SweepRequest,
    dims: usize,
}

impl Scene<'_> {
    /// Refuses what cannot be swept before anything is read.
    fn check(&self) -> Result<()> {
        self.truth.check_labels()?;
        for &value in &self.request.values {
            let (parameters, range) = match self.request.method {
                SweepMethod::Threshold | SweepMethod::Components(_) => (
                    PostProcessorParameters::Threshold { threshold: value },
                    self.request.range,
                ),
                SweepMethod::Agglomerate => (
                    PostProcessorParameters::Agglomerate { threshold: value },
                    ValueRange::UNIT,
                ),
                SweepMethod::MutexWatershed => {
                    let (bias_short, bias_long) = (value, value);
                    (
                        PostProcessorParameters::MutexWatershed {
                            bias_short,
                            bias_long,
                        },
                        ValueRange::UNIT,
                    )
                }
            };
            parameters.check(range)?;
        }
        let voxels = self.truth.shape.iter().map(|&length| length as u64);
        check_free(
            self.request.memory,
            voxels.fold(1, u64::saturating_mul),
            self.prediction.values_bytes() + self.work_bytes(),
            format!("sweeping all of {}", self.prediction.name()),
            "sweep a part of it: --roi",
        )
    }

    /// Bytes that a voxel takes beside its values: measured, and rounded up. Mutex watersheds sort every affinity, and
    /// several are made at once.
    fn work_bytes(&self) -> u64 {
        match self.request.method {
            SweepMethod::Threshold | SweepMethod::Components(_) => 16,
            SweepMethod::Agglomerate => 48,
            SweepMethod::MutexWatershed => {
                16 + 4 * self.prediction.channels() as u64 + 72 * rayon::current_num_threads() as u64
            }
        }
    }

    fn truth(&self) -> Result<Array3<u64>> {
        self.truth.labels(&self.truth.all())
    }

    /// The first channel in bytes, and the thresholds between them with what they stand for.
    fn bytes(&self) -> Result<(Array3<u8>, Vec<Level>)> {
        let range = self.request.range;
        let values = self.prediction.values(&self.prediction.all(), range)?;
        let first = values.index_axis(Axis(0), 0);
        let bytes = quantise(first, range)
            .into_dimensionality()
            .map_err(|error| Error::Shape {
                what: "the prediction".to_owned(),
                reason: error.to_string(),
            })?;
        let thresholds = match self.request.values.as_slice() {
            [] => (0..=254).map(|byte| (byte, range.value(byte))).collect(),
            // A byte is above a value if it is above the largest byte that is not.
            values => values
                .iter()
                .map(|&value| {
                    let below = (0..=255).rev().find(|&byte| range.value(byte) <= value);
                    (below.unwrap_or(0), value)
                })
                .collect(),
        };
        Ok((bytes, thresholds))
    }

    fn thresholds(&self) -> Result<Vec<SweepScores>> {
        let (bytes, thresholds) = self.bytes()?;
        let truth = self.truth()?.mapv(|label| label != 0);
        let curve = ThresholdCounts::new(bytes.view(), truth.view(), None)?.curve();
        let point = |(byte, value): Level| {
            let agreement = &curve[usize::from(byte)];
            SweepScores {
                value,
                scores: [
                    ("dice", agreement.dice()),
                    ("jaccard", agreement.jaccard()),
                    ("precision", agreement.precision()),
                    ("recall", agreement.recall()),
                    ("f1", agreement.f1()),
                ]
                .into(),
            }
        };
        Ok(thresholds.into_iter().map(point).collect())
    }

    fn components(&self, connectivity: Connectivity) -> Result<Vec<SweepScores>> {
        let (bytes, thresholds) = self.bytes()?;
        let levels: Vec<u8> = thresholds.iter().map(|(byte, _)| *byte).collect();
        let truth = self.truth()?;
        let points = component_sweep(
            bytes.view(),
            truth.view(),
            &levels,
            connectivity,
            SweepRules::default(),
        )?;
        let by_level: BTreeMap<u8, Option<Voi>> = points
            .into_iter()
            .map(|point| (point.threshold, point.voi))
            .collect();
        let voi = |byte: u8| by_level.get(&byte).copied().flatten();
        Ok(thresholds
            .into_iter()
            .map(|(byte, value)| scored(value, voi(byte)))
            .collect())
    }

    fn affinities(&self, parameters: Vec<PostProcessingConfig>) -> AffinitiesTaskConfig {
        AffinitiesTaskConfig {
            neighborhood: self.request.neighborhood.clone(),
            post_processing: parameters,
            ..AffinitiesTaskConfig::default()
        }
    }

    /// The channels that have an offset, and the values to try.
    fn channels(&self) -> Result<(ndarray::Array4<f32>, Vec<f32>)> {
        let (all, range) = (self.prediction.all(), self.request.range);
        let mut values = self.prediction.values(&all, range)?;
        let (found, named) = (values.len_of(Axis(0)), self.request.neighborhood.len());
        if found < named {
            return Err(Error::Shape {
                what: "the prediction".to_owned(),
                reason: format!("affinities in {found} channels, of {named} offsets"),
            });
        }
        values = values.slice_move(s![..named, .., .., ..]);
        let tried = match self.request.values.as_slice() {
            [] => (1..20).map(|twentieth| twentieth as f32 / 20.0).collect(),
            values => values.to_vec(),
        };
        Ok((values, tried))
    }

    fn agglomerate(&self) -> Result<Vec<SweepScores>> {
        let (values, tried) = self.channels()?;
        let work = self.affinities(Vec::new()).by_blocks(self.dims, None)?;
        let fragments = work.fragments(values.view(), None)?;
        let (depth, height, width) = fragments.dim();
        let graph = work.contacts(fragments.view(), values.view(), [0..depth, 0..height, 0..width])?;
        let history = MergeHistory::new(&graph, MeanAffinity::mean, MergeLimits::default())?;
        let table = InstanceRules::default().count(self.truth()?.view(), fragments.view())?;
        let thresholds: Vec<f64> = tried.iter().map(|&value| f64::from(value)).collect();
        let curve = history.sweep(&table, &thresholds);
        Ok(tried
            .into_iter()
            .zip(curve)
            .map(|(value, voi)| scored(value, voi))
            .collect())
    }

    fn mutex(&self) -> Result<Vec<SweepScores>> {
        let (values, tried) = self.channels()?;
        let biases = tried.iter().map(|&bias| [bias; 2]).collect();
        let config = self.affinities(vec![PostProcessingConfig::MutexWatershed { biases }]);
        let task = TaskConfig::Affinities(config).build(self.dims)?;
        let (truth, rules) = (self.truth()?, InstanceRules::default());
        let mut points = Vec::new();
        task.sweep(values.view(), None, &mut |parameters, segments| {
            let table = rules.count(truth.view(), segments.view())?;
            let scores = InstanceScores::new(&table, rules, 0);
            if let PostProcessorParameters::MutexWatershed { bias_short, .. } = *parameters {
                points.push(SweepScores {
                    value: bias_short,
                    scores: [
                        ("voi", scores.voi),
                        ("voi_split", scores.voi_split),
                        ("voi_merge", scores.voi_merge),
                    ]
                    .into(),
                });
            }
            Ok(())
        })?;
        Ok(points)
    }
}

fn scored(value: f32, voi: Option<Voi>) -> SweepScores {
    SweepScores {
        value,
        scores: [
            ("voi", voi.map(|voi| voi.sum())),
            ("voi_split", voi.map(|voi| voi.split)),
            ("voi_merge", voi.map(|voi| voi.merge)),
        ]
        .into(),
    }
}
