//! Validation: predict a dataset by blocks, segment it with every parameter set, score each, keep what the
//! config asks for. Everything goes through the store.

use std::collections::BTreeMap;
use std::time::Instant;

use ndarray::{Array3, Array4, Axis};

use dacapo_array::{ArrayReadExt, ArraySpec, ArrayWrite, CreateOptions, DType, DraftArray, NdData};
use dacapo_nn::{Engine, Network};
use dacapo_store::{
    ArrayStore, LocalArrayIdentifier, LocalStore, Provenance, StatsStore, ValidationScore, WeightsStore,
};
use dacapo_tasks::{Annotation, Criterion};

use crate::best::{best_by, deciding, is_better, latest_scores};
use crate::config::KeepOutputs;
use crate::dataset::Dataset;
use crate::observer::{Event, Observer};
use crate::plan::{Plan, task_voxel_size};
use crate::tiles::{Job, PIECE_MEMORY, Tiling, describe_prediction, predictable, prediction_spec};
use crate::window::spatial_shape;
use crate::{Error, Result, checkpoint, inputs, load_run};

/// What a validation found on one dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetValidation {
    /// Steps done.
    pub iteration: u64,
    /// The dataset.
    pub dataset: String,
    /// Each parameter set with its scores.
    pub scores: Vec<(String, BTreeMap<String, Option<f64>>)>,
    /// The best parameters by the deciding criterion, with their score.
    pub best: Option<(String, f64)>,
    /// Whether no other iteration is better.
    pub is_best: bool,
}

/// Validates a checkpoint of a run on all its validation datasets: that of `iteration`, or the last. Scores
/// that it had before are replaced.
///
/// # Errors
/// [`Error::NoRun`], [`Error::NoCheckpoint`], [`Error::Interrupted`] if the observer asked for it,
/// [`dacapo_store::Error::Held`] while the run is trained, and whatever is wrong with the data.
pub fn validate(
    store: &LocalStore,
    run: &str,
    iteration: Option<u64>,
    engine: &dyn Engine,
    observer: &dyn Observer,
) -> Result<Vec<DatasetValidation>> {
    let config = load_run(store, run)?;
    let plan = Plan::for_validation(&config, store.access())?;
    let mut network = engine.build(&plan.network())?;
    let there = store.weights.iterations(run)?;
    let iteration = match iteration {
        Some(wanted) => checkpoint::existing(run, wanted, &there)?,
        None => checkpoint::latest(run, &there)?,
    };
    let _lease = store.lease(run)?;
    checkpoint::load(store, run, iteration, &mut *network)?;
    let validator = Validator {
        store,
        plan: &plan,
        engine,
        observer,
    };
    plan.validate
        .iter()
        .map(|dataset| validator.dataset(dataset, iteration, &mut *network))
        .collect()
}

/// Validates the datasets of a plan.
pub(crate) struct Validator<'a> {
    pub store: &'a LocalStore,
    pub plan: &'a Plan,
    pub engine: &'a dyn Engine,
    pub observer: &'a dyn Observer,
}

/// A dataset on the grid of its prediction.
struct Scene<'a> {
    dataset: &'a Dataset,
    iteration: u64,
    /// The prediction's grid, as an array of labels.
    spec: ArraySpec,
    /// Objects (z, y, x), 0 where unknown.
    truth: Array3<u64>,
    /// Where the truth is annotated.
    known: Array3<bool>,
    provenance: Provenance,
}

/// The best segmentation of a sweep so far.
struct Candidate {
    parameters: String,
    score: f64,
    segmentation: Array3<u64>,
}

impl Validator<'_> {
    /// Validates those datasets that have no scores at `iteration` yet. The checkpoint of the iteration has to
    /// be there.
    pub fn missing(&self, iteration: u64, network: &mut dyn Network) -> Result<()> {
        let scores = self.store.stats.scores(&self.plan.config.name)?;
        let is_done = |name: &str| {
            scores
                .iter()
                .any(|score| score.iteration == iteration && score.dataset == name)
        };
        let missing = self
            .plan
            .validate
            .iter()
            .filter(|dataset| !is_done(&dataset.name));
        missing
            .into_iter()
            .try_for_each(|dataset| self.dataset(dataset, iteration, network).map(drop))
    }

    /// Predicts, segments and scores one dataset. The scores are stored last: where they are, so is everything
    /// else.
    fn dataset(
        &self,
        dataset: &Dataset,
        iteration: u64,
        network: &mut dyn Network,
    ) -> Result<DatasetValidation> {
        let started = Instant::now();
        let config = &self.plan.config;
        self.observer.event(&Event::ValidationStarted {
            iteration,
            dataset: dataset.name.clone(),
        });
        let scene = self.scene(dataset, iteration)?;
        let prediction = self.predict(&scene, network)?;
        let (scores, best) = self.sweep(&scene, prediction)?;

        let criterion = deciding(config, &*self.plan.task);
        let before = latest_scores(self.store.stats.scores(&config.name)?);
        let others = before
            .iter()
            .filter(|score| score.counted_by.is_none())
            .filter(|score| score.dataset == dataset.name && score.iteration != iteration);
        let rival = best_by(criterion, others);
        let is_best = best
            .as_ref()
            .is_some_and(|best| rival.is_none_or(|(_, score)| is_better(criterion, best.score, score)));
        if let Some(best) = &best {
            self.keep(&scene, best, is_best, rival.map(|(score, _)| score), criterion)?;
        }
        self.store.stats.append_scores(&config.name, &scores)?;
        let best = best.map(|best| (best.parameters, best.score));
        self.observer.event(&Event::ValidationFinished {
            iteration,
            dataset: dataset.name.clone(),
            criterion: criterion.name.to_string(),
            best: best.clone(),
            is_best,
            seconds: started.elapsed().as_secs_f64(),
        });
        let scores = scores
            .into_iter()
            .map(|score| (score.parameters, score.scores))
            .collect();
        Ok(DatasetValidation {
            iteration,
            dataset: dataset.name.clone(),
            scores,
            best,
            is_best,
        })
    }

    fn scene<'d>(&self, dataset: &'d Dataset, iteration: u64) -> Result<Scene<'d>> {
        let config = &self.plan.config;
        let raw = dataset.raw.spec();
        let roi = predictable(raw, &dataset.roi);
        let voxel_size = self.plan.shapes.output_voxel_size(&raw.voxel_size);
        let shape = roi.voxels(&voxel_size).filter(|shape| !shape.contains(&0));
        let Some(shape) = shape else {
            let reason = format!("its roi {} has no whole voxel of {}", dataset.roi, raw.voxel_size);
            return Err(Error::Shape {
                what: format!("dataset {}", dataset.name),
                reason,
            });
        };
        let labelled = dataset.labelled(roi.begin(), &shape, &voxel_size)?;
        let mut truth = labelled.labels;
        truth.zip_mut_with(&labelled.known, |label, &known| *label *= u64::from(known));

        let mut provenance = Provenance::new(&config.name);
        provenance.iteration = Some(iteration);
        provenance.dataset = Some(dataset.name.clone());
        provenance.config_hash = Some(config.hash()?);
        let weights = self.store.weights.load(&config.name, iteration)?;
        provenance.weights_hash = Some(dacapo_store::provenance::hash(&weights));
        let spec = ArraySpec::new(roi.clone(), voxel_size, DType::U64).with_units(raw.units.clone());
        provenance.input = Some(inputs::keep(
            self.store,
            &config.name,
            dataset,
            &roi,
            &truth,
            &spec,
        )?);
        Ok(Scene {
            dataset,
            iteration,
            spec,
            truth,
            known: labelled.known,
            provenance,
        })
    }

    /// Predicts into the store, and returns the prediction (channels, z, y, x).
    fn predict(&self, scene: &Scene, network: &mut dyn Network) -> Result<Array4<f32>> {
        let Plan {
            config, shapes, task, ..
        } = self.plan;
        let Scene {
            dataset, iteration, ..
        } = *scene;
        let channels = task.head().channels();
        let kind = task.prediction_dtype();
        let spec = prediction_spec(shapes, dataset.raw.spec(), scene.spec.roi.clone(), channels, kind);
        let (network_spec, shape) = (self.plan.network(), spatial_shape(&spec));
        let tiling = Tiling::fitted(config, &network_spec, &shape, self.engine, PIECE_MEMORY)?;
        let block = std::iter::once(channels).chain(tiling.write_shape()).collect();
        let identifier =
            self.store
                .arrays
                .validation_prediction_array(&config.name, iteration, &dataset.name)?;
        let mut attributes = scene.provenance.attributes();
        describe_prediction(&mut attributes, &**task);
        let output = draft(self.store, &identifier, &spec, attributes, Some(block))?;
        Job {
            raw: &*dataset.raw,
            intensity: dataset.intensity,
            output: &output,
            tiling: &tiling,
            range: task.prediction_range(),
        }
        .run(network, self.observer)?;

        // What is segmented is what is stored.
        let stored = output.publish()?.read_all()?;
        let values = match stored {
            NdData::U8(values) => values.mapv(|byte| task.prediction_range().value(byte)),
            other => other.into_typed::<f32>()?,
        };
        let (depth, height, width) = scene.truth.dim();
        let shape = (channels, depth, height, width);
        values.into_shape_with_order(shape).map_err(|error| Error::Shape {
            what: identifier.to_string(),
            reason: error.to_string(),
        })
    }

    /// Segments and scores with every parameter set; keeps the best segmentation, or stores each.
    fn sweep(
        &self,
        scene: &Scene,
        prediction: Array4<f32>,
    ) -> Result<(Vec<ValidationScore>, Option<Candidate>)> {
        let Plan { config, task, .. } = self.plan;
        let Scene {
            dataset, iteration, ..
        } = *scene;
        let criterion = deciding(config, &**task);
        let mut scores = Vec::new();
        let mut best: Option<Candidate> = None;
        let mut since = Instant::now();
        let mut each = |parameters: String, segmentation: &mut Array3<u64>| -> Result<()> {
            if self.observer.cancelled() {
                return Err(Error::Interrupted);
            }
            let truth = Annotation {
                labels: scene.truth.view(),
                known: scene.known.view(),
                voxel_size: task_voxel_size(&scene.spec.voxel_size),
            };
            let values = task.evaluate(truth, segmentation.view())?.0;
            let dataset = dataset.name.clone();
            self.observer.event(&Event::Scored {
                iteration,
                dataset: dataset.clone(),
                parameters: parameters.clone(),
                scores: values.clone(),
            });
            if config.validation.keep_outputs == KeepOutputs::All {
                self.write_output(scene, &parameters, segmentation)?;
            }
            let score = values
                .get(&*criterion.name)
                .copied()
                .flatten()
                .filter(|score| score.is_finite());
            if let Some(score) = score
                && best
                    .as_ref()
                    .is_none_or(|best| is_better(criterion, score, best.score))
            {
                // The memory of the one before serves the next.
                let mut kept = best.take().map(|best| best.segmentation).unwrap_or_default();
                std::mem::swap(&mut kept, segmentation);
                best = Some(Candidate {
                    parameters: parameters.clone(),
                    score,
                    segmentation: kept,
                });
            }
            let time = since.elapsed().as_secs_f64();
            since = Instant::now();
            scores.push(ValidationScore {
                iteration,
                dataset,
                parameters,
                scores: values,
                time,
                counted_by: None,
            });
            Ok(())
        };
        let mut trouble = None;
        let swept = task.sweep(prediction.view(), None, &mut |parameters, segmentation| {
            // The sweep only knows the task's errors: ours is kept aside, and ends it.
            each(parameters.to_string(), segmentation).map_err(|error| {
                trouble = Some(error);
                dacapo_tasks::Error::Stopped
            })
        });
        match trouble {
            Some(error) => Err(error),
            None => swept.map(|()| (scores, best)).map_err(Error::from),
        }
    }

    /// Keeps the best segmentation of an iteration, as the config says; and as the best of all, if it is.
    fn keep(
        &self,
        scene: &Scene,
        best: &Candidate,
        is_best: bool,
        rival: Option<&ValidationScore>,
        criterion: &Criterion,
    ) -> Result<()> {
        let run = &self.plan.config.name;
        let name = &scene.dataset.name;
        let keep = self.plan.config.validation.keep_outputs;
        if keep == KeepOutputs::Best || keep == KeepOutputs::BestOverall && is_best {
            self.write_output(scene, &best.parameters, &best.segmentation)?;
        }
        if !is_best {
            return Ok(());
        }
        let array = self
            .store
            .arrays
            .best_validation_array(run, &criterion.name, Some(name))?;
        self.write(&array, scene, &best.parameters, &best.segmentation)?;
        if let Some(rival) = rival.filter(|_| keep == KeepOutputs::BestOverall) {
            let arrays = &self.store.arrays;
            let old = arrays.validation_output_array(run, rival.iteration, &rival.parameters, name)?;
            // That it is gone already is as good.
            let _ = arrays.remove(&old)?;
        }
        Ok(())
    }

    fn write_output(&self, scene: &Scene, parameters: &str, segmentation: &Array3<u64>) -> Result<()> {
        let run = &self.plan.config.name;
        let name = &scene.dataset.name;
        let array = self
            .store
            .arrays
            .validation_output_array(run, scene.iteration, parameters, name)?;
        self.write(&array, scene, parameters, segmentation)
    }

    fn write(
        &self,
        array: &LocalArrayIdentifier,
        scene: &Scene,
        parameters: &str,
        segmentation: &Array3<u64>,
    ) -> Result<()> {
        let mut provenance = scene.provenance.clone();
        provenance.parameters = Some(parameters.to_owned());
        write_volume(self.store, array, &scene.spec, &provenance, segmentation)
    }
}

/// Writes a volume as an array of 2 or 3 axes, whatever was there before.
pub(crate) fn write_volume(
    store: &LocalStore,
    array: &LocalArrayIdentifier,
    spec: &ArraySpec,
    provenance: &Provenance,
    volume: &Array3<u64>,
) -> Result<()> {
    let mut values = volume.clone().into_dyn();
    if spec.spatial_dims() == 2 {
        values.index_axis_inplace(Axis(0), 0);
    }
    let target = draft(store, array, spec, provenance.attributes(), None)?;
    target.write(&spec.roi, &NdData::U64(values))?;
    target.publish()?;
    Ok(())
}

/// A new array in the store, which will take the place of one that is there.
pub(crate) fn draft(
    store: &LocalStore,
    array: &LocalArrayIdentifier,
    spec: &ArraySpec,
    attributes: serde_json::Map<String, serde_json::Value>,
    block_shape: Option<Vec<usize>>,
) -> Result<DraftArray> {
    let options = CreateOptions {
        block_shape,
        overwrite: true,
        attributes,
        ..CreateOptions::default()
    };
    Ok(store.arrays.draft(array, spec, &options)?)
}
