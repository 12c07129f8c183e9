//! From maps of classes to segments and scores: what tasks with a value a class have in common.

use ndarray::{Array3, ArrayView3, ArrayView4, Axis, Zip};

use dacapo_kernels::{Connectivity, ValueRange, argmax, connected_components_into};

use crate::classes::Classes;
use crate::parameters::PostProcessorParameters;
use crate::scores::{
    BinaryEvaluation, INSTANCE_CRITERIA, binary_scores, class_criteria, class_scores, instance_scores,
};
use crate::task::{Annotation, Criterion, Head, PredictionType, Scores, Targets, Task, expect_shape};
use crate::{Error, Result};

/// What segments are, and how they are scored.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Segments {
    /// The classes, from 1: of those above a threshold, the one with the largest value. Scored class by class.
    Classes(BinaryEvaluation),
    /// The connected regions above a threshold. Scored as instances.
    Instances,
}

/// Makes and scores segments of one map (z, y, x) a class.
pub(crate) struct Maps {
    pub classes: Classes,
    pub segments: Segments,
    pub range: ValueRange,
    pub parameters: Vec<PostProcessorParameters>,
    criteria: Vec<Criterion>,
}

impl Maps {
    /// With a threshold to try a set.
    pub fn new(classes: Classes, segments: Segments, range: ValueRange, thresholds: &[f32]) -> Result<Self> {
        let mut parameters = Vec::new();
        for &threshold in thresholds {
            let set = match segments {
                Segments::Classes(_) => PostProcessorParameters::Threshold { threshold },
                Segments::Instances => PostProcessorParameters::Components { threshold },
            };
            set.check(range)?;
            if !parameters.contains(&set) {
                parameters.push(set);
            }
        }
        Self::with(classes, segments, range, parameters)
    }

    /// With parameter sets that are checked.
    pub fn with(
        classes: Classes,
        segments: Segments,
        range: ValueRange,
        parameters: Vec<PostProcessorParameters>,
    ) -> Result<Self> {
        if parameters.is_empty() {
            return Err(Error::NoParameters);
        }
        if segments == Segments::Instances && classes.len() > 1 {
            return Err(Error::Classes {
                reason: "instances can be told apart in one class only".to_owned(),
            });
        }
        if let Segments::Classes(evaluation) = segments {
            evaluation.check()?;
        }
        let criteria = criteria(&classes, segments);
        Ok(Self {
            classes,
            segments,
            range,
            parameters,
            criteria,
        })
    }

    pub fn criteria(&self) -> &[Criterion] {
        &self.criteria
    }

    /// Hands over the segmentation of each parameter set, in their order: in the same memory, unless it is
    /// taken out.
    pub fn sweep(
        &self,
        maps: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
        parameters: &[PostProcessorParameters],
        each: &mut dyn FnMut(&PostProcessorParameters, &mut Array3<u64>) -> Result<()>,
    ) -> Result<()> {
        self.check(maps, mask)?;
        let shape = maps.index_axis(Axis(0), 0).raw_dim();
        // The class with the largest value, and that value.
        let winners: Array3<u8> = argmax(maps)?;
        let mut most = Array3::from_elem(shape, f32::NEG_INFINITY);
        for map in maps.outer_iter() {
            Zip::from(&mut most)
                .and(map)
                .par_for_each(|most, &value| *most = if value > *most { value } else { *most });
        }
        if let Some(mask) = mask {
            Zip::from(&mut most).and(mask).par_for_each(|most, &open| {
                if !open {
                    *most = f32::NEG_INFINITY;
                }
            });
        }
        let mut segments = Array3::default((0, 0, 0));
        for set in parameters {
            let is_ours =
                |own: &PostProcessorParameters| std::mem::discriminant(own) == std::mem::discriminant(set);
            if !self.parameters.iter().any(is_ours) {
                return Err(Error::Method { parameters: *set });
            }
            if segments.raw_dim() != shape {
                segments = Array3::zeros(shape);
            }
            let found = Zip::from(&winners).and(&most);
            let class = |winner: u8, is_above: bool| (u16::from(winner) + 1) * u16::from(is_above);
            match *set {
                PostProcessorParameters::Threshold { threshold } => {
                    found.and(&mut segments).par_for_each(|&winner, &most, segment| {
                        *segment = class(winner, most > threshold).into();
                    });
                }
                PostProcessorParameters::Components { threshold } => {
                    let above = found.par_map_collect(|&winner, &most| class(winner, most > threshold));
                    connected_components_into(above.view(), Connectivity::Faces, segments.view_mut())?;
                }
                PostProcessorParameters::Argmax => {
                    found.and(&mut segments).par_for_each(|&winner, &most, segment| {
                        *segment = u64::from(winner) * u64::from(most > f32::NEG_INFINITY);
                    });
                }
                other => return Err(Error::Method { parameters: other }),
            }
            each(set, &mut segments)?;
        }
        Ok(())
    }

    fn check(&self, maps: ArrayView4<f32>, mask: Option<ArrayView3<bool>>) -> Result<()> {
        // Beside the classes, a map of what is of none.
        let is_argmax = self.parameters.contains(&PostProcessorParameters::Argmax);
        let channels = self.classes.len() + usize::from(is_argmax);
        if maps.shape()[0] != channels {
            return Err(Error::Shape {
                what: "prediction",
                found: maps.shape().to_vec(),
                expected: format!("{channels} channels"),
            });
        }
        mask.map_or(Ok(()), |mask| {
            expect_shape("mask", mask.shape(), &maps.shape()[1..])
        })
    }

    /// The segmentation of one parameter set.
    pub fn segment(
        &self,
        maps: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
        parameters: &PostProcessorParameters,
    ) -> Result<Array3<u64>> {
        parameters.check(self.range)?;
        let mut found = Array3::zeros((0, 0, 0));
        self.sweep(maps, mask, &[*parameters], &mut |_, segments| {
            found = std::mem::take(segments);
            Ok(())
        })?;
        Ok(found)
    }

    pub fn evaluate(&self, truth: Annotation, segmentation: ArrayView3<u64>) -> Result<Scores> {
        truth.check()?;
        expect_shape("segmentation", segmentation.shape(), truth.labels.shape())?;
        let classes = self.classes.of(truth.labels);
        let evaluation = match self.segments {
            Segments::Classes(evaluation) => evaluation,
            Segments::Instances => {
                // Of other classes nothing is said.
                let known = Zip::from(&classes).and(truth.known);
                let known = known.map_collect(|&class, &known| known && class > 0);
                let known = known.view();
                return instance_scores(Annotation { known, ..truth }, segmentation);
            }
        };
        let mut found = Vec::new();
        for class in (1_u8..).take(self.classes.len()) {
            let of_truth = classes.mapv(|found| found == class);
            let of_test = segmentation.mapv(|found| found == u64::from(class));
            let (truth_view, test_view) = (of_truth.view(), of_test.view());
            let known = Some(truth.known);
            found.push(binary_scores(
                truth_view,
                test_view,
                known,
                truth.voxel_size,
                &evaluation,
            )?);
        }
        Ok(class_scores(self.classes.names(), &found))
    }
}

/// Of several classes: the means over those for which a score is defined, and each by itself.
fn criteria(classes: &Classes, segments: Segments) -> Vec<Criterion> {
    if segments == Segments::Instances {
        return INSTANCE_CRITERIA.to_vec();
    }
    class_criteria(classes.names())
}

/// What a task of maps learns. What becomes of its predictions is the same for all.
pub(crate) trait LearnMaps: Send + Sync {
    fn maps(&self) -> &Maps;

    fn head(&self) -> Head;

    fn label_context(&self, _: [f64; 3]) -> ([usize; 3], [usize; 3]) {
        ([0; 3], [0; 3])
    }

    fn targets(&self, annotation: Annotation) -> Result<Targets>;

    fn prediction_dtype(&self) -> PredictionType;

    /// The channels that segments are made of.
    fn segmented<'a>(&self, prediction: ArrayView4<'a, f32>) -> Result<ArrayView4<'a, f32>> {
        Ok(prediction)
    }
}

impl<T: LearnMaps> Task for T {
    fn head(&self) -> Head {
        LearnMaps::head(self)
    }

    fn label_context(&self, voxel_size: [f64; 3]) -> ([usize; 3], [usize; 3]) {
        LearnMaps::label_context(self, voxel_size)
    }

    fn targets(&self, annotation: Annotation) -> Result<Targets> {
        LearnMaps::targets(self, annotation)
    }

    fn prediction_dtype(&self) -> PredictionType {
        LearnMaps::prediction_dtype(self)
    }

    fn prediction_range(&self) -> ValueRange {
        self.maps().range
    }

    fn parameters(&self) -> Vec<PostProcessorParameters> {
        self.maps().parameters.clone()
    }

    fn sweep(
        &self,
        prediction: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
        each: &mut dyn FnMut(&PostProcessorParameters, &mut Array3<u64>) -> Result<()>,
    ) -> Result<()> {
        let maps = self.maps();
        maps.sweep(self.segmented(prediction)?, mask, &maps.parameters, each)
    }

    fn segment(
        &self,
        prediction: ArrayView4<f32>,
        mask: Option<ArrayView3<bool>>,
        parameters: &PostProcessorParameters,
    ) -> Result<Array3<u64>> {
        self.maps().segment(self.segmented(prediction)?, mask, parameters)
    }

    fn evaluate(&self, truth: Annotation, segmentation: ArrayView3<u64>) -> Result<Scores> {
        self.maps().evaluate(truth, segmentation)
    }

    fn criteria(&self) -> &[Criterion] {
        self.maps().criteria()
    }

    fn default_criterion(&self) -> &Criterion {
        &self.maps().criteria()[0]
    }
}
