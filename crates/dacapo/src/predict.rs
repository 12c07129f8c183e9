//! Prediction of any array with a trained network.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use dacapo_array::storage::Access;
use dacapo_array::{ArrayAddress, ArrayRead, CreateOptions, DraftArray, Roi, ZarrFormat};
use dacapo_nn::Engine;
use dacapo_store::{LocalStore, Provenance, StatsStore, WeightsStore};

use crate::best::{best_iteration, latest_scores};
use crate::config::{ArraySource, RunConfig};
use crate::dataset::default_range;
use crate::observer::Observer;
use crate::plan::{Shapes, network_spec};
use crate::sources::{Role, open};
use crate::tiles::{Job, Tiling, describe_prediction, predictable, prediction_spec};
use crate::window::spatial_shape;
use crate::{Error, Result, checkpoint, load_run};

/// Which checkpoint to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IterationChoice {
    /// The one with the best validation score.
    #[default]
    Best,
    /// The last.
    Latest,
    /// That of this iteration.
    Number(u64),
}

impl FromStr for IterationChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "best" => Ok(Self::Best),
            "latest" => Ok(Self::Latest),
            number => number
                .parse()
                .map(Self::Number)
                .map_err(|_| format!("`{number}` is not an iteration: a number, best, or latest")),
        }
    }
}

impl fmt::Display for IterationChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.write_str("best"),
            Self::Latest => f.write_str("latest"),
            Self::Number(iteration) => iteration.fmt(f),
        }
    }
}

/// What to predict, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictRequest {
    /// Raw as it is, named as in a config: what the run's config does to the values of its raw, is done to it.
    pub input: ArraySource,
    /// The array to make.
    pub output: ArrayAddress,
    /// Which weights to use.
    pub iteration: IterationChoice,
    /// The part to predict, in world units; all of the input without one.
    pub roi: Option<Roi>,
    /// Replace an array that is there.
    pub overwrite: bool,
    /// Bytes that predicting may take: where larger pieces change nothing but the time, they are as large as that
    /// allows ([`Tiling::fitted`]).
    pub memory: u64,
    /// Version of Zarr to write: 3 has shards, which a large prediction needs to be few files that are quick to look
    /// into; some programs read only 2.
    pub format: ZarrFormat,
}

/// What was predicted.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicted {
    /// The iteration whose weights were used.
    pub iteration: u64,
    /// What was predicted, in world units.
    pub roi: Roi,
    /// The shape of the array: channels and voxels.
    pub shape: Vec<usize>,
}

/// Predicts an array of any size block by block. Input and output are reached as the store's own places are.
///
/// # Errors
/// Before anything is written: [`Error::NoRun`], [`Error::NoCheckpoint`], an input that does not fit the
/// network, a Roi apart from it. Later: [`Error::Blocks`], [`Error::Interrupted`]; the array is then there,
/// but not all of it.
pub fn predict(
    store: &LocalStore,
    run: &str,
    request: &PredictRequest,
    engine: &dyn Engine,
    observer: &dyn Observer,
) -> Result<Predicted> {
    let config = load_run(store, run)?;
    let dims = config.architecture.unet().dims();
    let task = config.task.build(dims)?;
    let iteration = choose(store, run, request.iteration)?;

    let input = request.input.to_string();
    let raw = as_trained(&config, &request.input, store.access())?;
    let spec = raw.spec();
    let found = spec.spatial_dims();
    if found != dims {
        return Err(Error::Dimensions {
            dataset: input,
            what: "raw",
            found,
            expected: dims,
        });
    }
    let training = Shapes::training(&config)?;
    let (found, expected) = (spec.channels.iter().product(), training.input_channels);
    if found != expected {
        return Err(Error::Channels {
            dataset: input,
            found,
            expected,
        });
    }
    let Some(intensity) = config.data.intensity.or_else(|| default_range(spec.dtype)) else {
        return Err(Error::IntensityRange {
            dataset: input,
            dtype: spec.dtype,
        });
    };
    let roi = predictable(spec, request.roi.as_ref().unwrap_or(&spec.roi));
    if roi.is_empty() {
        let roi = request.roi.clone().unwrap_or_else(|| spec.roi.clone());
        let array = Box::new(spec.roi.clone());
        return Err(Error::RoiApart { input, roi, array });
    }
    let channels = task.head().channels();
    let output_spec = prediction_spec(&training, spec, roi.clone(), channels, task.prediction_dtype());
    let network = network_spec(&config, &*task);
    let shape = spatial_shape(&output_spec);
    let tiling = Tiling::fitted(&config, &network, &shape, engine, request.memory)?;

    let mut network = engine.build(&network)?;
    checkpoint::load(store, run, iteration, &mut *network)?;
    let mut provenance = Provenance::new(run);
    provenance.iteration = Some(iteration);
    provenance.config_hash = Some(config.hash()?);
    provenance.weights_hash = Some(dacapo_store::provenance::hash(
        &store.weights.load(run, iteration)?,
    ));
    provenance.source = Some(request.input.to_string());
    let mut attributes = provenance.attributes();
    describe_prediction(&mut attributes, &*task);
    let block = std::iter::once(channels).chain(tiling.write_shape()).collect();
    let options = CreateOptions {
        block_shape: Some(block),
        join_blocks: true,
        format: request.format,
        overwrite: request.overwrite,
        attributes,
        ..CreateOptions::default()
    };
    let output = DraftArray::new(&request.output, store.access(), &output_spec, &options)?;
    Job {
        raw: &*raw,
        intensity,
        output: &output,
        tiling: &tiling,
        range: task.prediction_range(),
    }
    .run(&mut *network, observer)?;
    output.publish()?;
    Ok(Predicted {
        iteration,
        roi,
        shape: output_spec.shape(),
    })
}

/// The input as the network has learned to see it: with what the config does to the values of the raw that it was
/// trained on.
fn as_trained(config: &RunConfig, input: &ArraySource, access: &Access) -> Result<Arc<dyn ArrayRead>> {
    let source = match config.data.train.first() {
        Some(dataset) => dataset.raw.values_of(input),
        None => input.clone(),
    };
    open(&source, Role::Raw, access).map_err(|failure| {
        // Where the input itself cannot be opened, its name says enough.
        if failure.part.split('.').all(|key| matches!(key, "" | "source")) {
            return failure.error.into();
        }
        Error::Dataset {
            dataset: input.to_string(),
            role: Role::Raw.name(),
            part: failure.part,
            source: Box::new(failure.error),
        }
    })
}

/// The iteration that was chosen, if it has a checkpoint.
pub(crate) fn choose(store: &LocalStore, run: &str, choice: IterationChoice) -> Result<u64> {
    let there = store.weights.iterations(run)?;
    match choice {
        IterationChoice::Latest => checkpoint::latest(run, &there),
        IterationChoice::Number(wanted) => checkpoint::existing(run, wanted, &there),
        IterationChoice::Best => {
            let config = load_run(store, run)?;
            let task = config.task.build(config.architecture.unet().dims())?;
            let best = best_iteration(&config, &*task, &latest_scores(store.stats.scores(run)?));
            best.filter(|best| there.contains(best))
                .ok_or_else(|| Error::NoCheckpoint {
                    run: run.to_owned(),
                    what: "validated checkpoint; name an iteration, or `latest`".to_owned(),
                })
        }
    }
}
