//! Training: steps, and what is kept of them, from the last checkpoint to the end of the run.

use std::time::{Duration, Instant};

use dacapo_nn::{Engine, Network, Tensor};
use dacapo_store::{ConfigStore, LocalStore, RunLease, StatsStore, TrainingStat, WeightsStore};

use crate::best::{best_by, latest_scores};
use crate::config::{RunConfig, differences};
use crate::early::{Stale, stale};
use crate::memory::check_memory;
use crate::observer::{Event, Observer};
use crate::plan::{Plan, check};
use crate::runs::{originals, stored_config};
use crate::sampler::{Sampler, TrainingBatch, with_batches};
use crate::tensorboard::{self, Scalar};
use crate::validate::Validator;
use crate::{Error, Result, checkpoint, datasplit, prune, snapshot, start, synthetic};

/// How to train, beside what the config says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrainOptions {
    /// Train under this name instead of the config's: a run of its own.
    pub as_new: Option<String>,
}

/// How training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainOutcome {
    /// All steps are done.
    Finished {
        /// How many there are.
        iteration: u64,
    },
    /// The observer asked to stop. A checkpoint was written: training again goes on from here.
    Interrupted {
        /// Steps done.
        iteration: u64,
    },
}

/// Trains a run to its end: from its last checkpoint if it was begun before, as if it had never stopped.
///
/// Steps count from 1. A step's batch and learning rate are functions of its number; on the CPU engine its
/// loss is the same to the last bit, however often the run was interrupted before.
///
/// # Errors
/// Before anything is written: whatever [`check`] finds, [`Error::ConfigChanged`] if the run was begun with
/// another config (a larger `num_iterations` continues it), [`Error::Memory`] if there is too little for the network,
/// [`dacapo_store::Error::Held`] if another process trains it, and if the weights that it should begin with cannot be
/// read or do not fit. Later: [`Error::NotFinite`] if the loss is NaN or infinite, with a snapshot of its batch;
/// [`Error::Store`] if something cannot be written. What is on disk is whole at any time.
pub fn train(
    store: &LocalStore,
    config: &RunConfig,
    engine: &dyn Engine,
    observer: &dyn Observer,
    options: &TrainOptions,
) -> Result<TrainOutcome> {
    // What is trained on is what is there now: the run's own config names it.
    let mut config = datasplit::expanded(config, store.access())?;
    if let Some(name) = &options.as_new {
        config.name.clone_from(name);
    }
    refuse_changes(store, &config)?;
    let plan = check(&config, store.access())?;
    check_memory(engine, &plan.network(), config.trainer.batch_size)?;
    let mut network = engine.build(&plan.network())?;
    // Weights to begin with are looked at before anything is written.
    let is_new = store.weights.iterations(&config.name)?.is_empty();
    let begin = config.start.as_ref().filter(|_| is_new);
    let begin = begin
        .map(|from| start::apply(&start::read(store, from)?, &config, &mut *network))
        .transpose()?;

    let lease = store.lease(&config.name)?;
    // Again under the lease: another process may have begun the run since.
    refuse_changes(store, &config)?;
    let plan = match &config.data.synthetic {
        Some(made) if synthetic::write_if_missing(made, store.access())? => {
            observer.event(&Event::SyntheticWritten {
                container: made.container.parse()?,
            });
            Plan::open(&config, store.access())?
        }
        _ => plan,
    };
    store.configs.replace_run(&config.name, &config.to_yaml()?)?;
    let first = checkpoint::load_last(store, &config.name, u64::MAX, &mut *network, observer)?;
    store.stats.truncate_after(&config.name, first)?;
    tensorboard::truncate_after(store, &config.name, first)?;
    match (begin, &config.start) {
        (Some(started), _) if first == 0 => observer.event(&Event::Started(started)),
        // None of its checkpoints can be used: it begins once more.
        (None, Some(from)) if first == 0 => {
            let started = start::apply(&start::read(store, from)?, &config, &mut *network)?;
            observer.event(&Event::Started(started));
        }
        _ => {}
    }
    Trainer {
        store,
        lease: &lease,
        plan: &plan,
        engine,
        network: &mut *network,
        observer,
        pending: Vec::new(),
        flushed: Instant::now(),
        scalars: Vec::new(),
    }
    .run(first)
}

/// Refuses a config that differs from the one that the run was begun with in more than its length.
fn refuse_changes(store: &LocalStore, config: &RunConfig) -> Result<()> {
    let Some(begun) = stored_config(store, &config.name)? else {
        return match originals(store)? {
            Some(base) if base.has(&config.name)? => Err(Error::Original {
                path: store.run_dir(&config.name)?.to_string().into(),
                reason: "the Python DaCapo has a run of this name there, which stays as it is; train under another name \
                         (`--as-new`) or in another base"
                    .to_owned(),
            }),
            _ => Ok(()),
        };
    };
    let begun = RunConfig {
        num_iterations: config.num_iterations,
        ..begun
    };
    let differences = differences(&begun.to_value()?, &config.to_value()?);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::ConfigChanged {
        run: config.name.clone(),
        differences,
    })
}

/// Records are written in groups of so many, or after so long.
const GROUP: usize = 10;
const GROUP_TIME: Duration = Duration::from_secs(1);

struct Trainer<'a> {
    store: &'a LocalStore,
    lease: &'a RunLease,
    plan: &'a Plan,
    engine: &'a dyn Engine,
    network: &'a mut dyn Network,
    observer: &'a dyn Observer,
    /// Records that are not written yet.
    pending: Vec<TrainingStat>,
    flushed: Instant,
    /// What TensorBoard shows of the steps since the last checkpoint, if that is kept.
    scalars: Vec<Scalar>,
}

impl Trainer<'_> {
    fn run(mut self, start: u64) -> Result<TrainOutcome> {
        let config = &self.plan.config;
        let total = config.num_iterations;
        let parameters = self.network.export()?;
        let weights = parameters
            .iter()
            .filter(|tensor| tensor.name.starts_with("model/"));
        self.observer.event(&Event::TrainingStarted {
            run: config.name.clone(),
            iteration: start,
            total,
            parameters: weights.map(|tensor| tensor.data.len()).sum(),
        });
        if start == 0 && self.is_validated(0) {
            self.checkpoint(0)?;
        }
        // The untrained network, or a run that was killed while it was validated.
        if self.is_validated(start) {
            match self.validate(start)? {
                Validated::Interrupted => return self.stopped(start, false),
                Validated::Enough => return self.stopped(start, true),
                Validated::GoOn => {}
            }
        }
        let sampler = Sampler::new(self.plan);
        let workers = config.trainer.workers;
        let each = u64::from(config.trainer.accumulate);
        let (from, to) = (start * each + 1, total * each + 1);
        let (done, finished) = with_batches(&sampler, from, to, workers, |batches| {
            let mut iteration = start;
            loop {
                if iteration >= total {
                    return Ok((iteration, true));
                }
                iteration += 1;
                self.step(iteration, batches)?;
                let stop = self.observer.cancelled();
                if stop
                    || iteration == total
                    || iteration.is_multiple_of(config.checkpoint_interval())
                    || self.is_validated(iteration)
                {
                    self.checkpoint(iteration)?;
                }
                if stop {
                    return Ok((iteration, false));
                }
                if self.is_validated(iteration) {
                    match self.validate(iteration)? {
                        Validated::Interrupted => return Ok((iteration, false)),
                        Validated::Enough => return Ok((iteration, true)),
                        Validated::GoOn => {}
                    }
                }
            }
        })?;
        self.stopped(done, finished)
    }

    fn stopped(&self, iteration: u64, finished: bool) -> Result<TrainOutcome> {
        self.observer.event(&Event::TrainingStopped {
            iteration,
            total: self.plan.config.num_iterations,
        });
        Ok(if finished {
            TrainOutcome::Finished { iteration }
        } else {
            TrainOutcome::Interrupted { iteration }
        })
    }

    /// One step, with its record and its snapshot.
    fn step(
        &mut self,
        iteration: u64,
        batches: &mut dyn Iterator<Item = Result<TrainingBatch>>,
    ) -> Result<()> {
        let since = Instant::now();
        let config = &self.plan.config;
        let trainer = &config.trainer;
        let total = config.num_iterations;
        let factor = trainer.schedule.factor(iteration - 1, total);
        let learning_rate = trainer.optimizer.learning_rate * factor;
        let mut batch = batches.next().unwrap_or(Err(Error::WorkerLost))?;
        let mut learnt = self.network.accumulate(&batch.tensors);
        for _ in 1..trainer.accumulate {
            if learnt.is_ok() {
                batch = batches.next().unwrap_or(Err(Error::WorkerLost))?;
                learnt = self.network.accumulate(&batch.tensors);
            }
        }
        // The last batch stands for the step where it is shown.
        let batch = &batch;
        let step = match learnt.and_then(|_| self.network.update(learning_rate)) {
            Ok(step) => step,
            Err(source @ dacapo_nn::Error::NotFinite { .. }) => {
                self.flush()?;
                return Err(self.not_finite(iteration, batch, source));
            }
            Err(other) => return Err(other.into()),
        };
        let seconds = since.elapsed().as_secs_f64();
        self.pending.push(TrainingStat {
            iteration,
            loss: step.loss,
            time: seconds,
        });
        if trainer.tensorboard {
            let time = tensorboard::now();
            self.scalars.extend(
                [
                    ("training/loss", step.loss),
                    ("training/learning_rate", learning_rate),
                    ("training/gradient_norm", step.gradient_norm),
                ]
                .map(|(tag, value)| Scalar {
                    tag: tag.to_owned(),
                    iteration,
                    value,
                    time,
                }),
            );
        }
        if self.pending.len() >= GROUP || self.flushed.elapsed() >= GROUP_TIME {
            self.flush()?;
        }
        self.observer.event(&Event::Step {
            iteration,
            total,
            loss: step.loss,
            learning_rate,
            gradient_norm: step.gradient_norm,
            seconds,
        });
        let interval = trainer.snapshot_interval;
        if interval > 0 && (iteration == 1 || iteration == total || iteration.is_multiple_of(interval)) {
            let container =
                snapshot::write(self.store, self.plan, iteration, batch, self.network.prediction())?;
            self.observer.event(&Event::Snapshot { iteration, container });
        }
        Ok(())
    }

    fn not_finite(&self, iteration: u64, batch: &TrainingBatch, source: dacapo_nn::Error) -> Error {
        let place: Vec<String> = batch
            .crops
            .iter()
            .map(|crop| format!("dataset {} at {}", crop.dataset, crop.input_roi))
            .collect();
        let prediction: &Tensor = self.network.prediction();
        let snapshot = snapshot::write(self.store, self.plan, iteration, batch, prediction);
        let run = self.plan.config.name.clone();
        // That the batch could not be kept matters less than why training stops.
        Error::NotFinite {
            run,
            iteration,
            place: place.join(", "),
            snapshot: snapshot.ok().map(Box::new),
            source: Box::new(source),
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.lease.check()?;
        if !self.pending.is_empty() {
            self.store
                .stats
                .append_training(&self.plan.config.name, &self.pending)?;
            self.pending.clear();
        }
        self.flushed = Instant::now();
        Ok(())
    }

    fn checkpoint(&mut self, iteration: u64) -> Result<()> {
        self.flush()?;
        if !self.scalars.is_empty() {
            let run = &self.plan.config.name;
            tensorboard::write(self.store, run, iteration, "training", &self.scalars)?;
            self.scalars.clear();
        }
        checkpoint::save(self.store, &self.plan.config, iteration, self.network)?;
        self.observer.event(&Event::Checkpoint { iteration });
        Ok(())
    }

    /// Whether the run is validated after this step; step 0 is none.
    fn is_validated(&self, iteration: u64) -> bool {
        let config = &self.plan.config;
        match iteration {
            0 => config.validation.untrained,
            _ => iteration == config.num_iterations || iteration.is_multiple_of(config.validation.interval),
        }
    }

    /// Validates the datasets that have no scores yet.
    fn validate(&mut self, iteration: u64) -> Result<Validated> {
        let validator = Validator {
            store: self.store,
            plan: self.plan,
            engine: self.engine,
            observer: self.observer,
        };
        match validator.missing(iteration, self.network) {
            Ok(()) => {}
            Err(Error::Interrupted) => return Ok(Validated::Interrupted),
            Err(other) => return Err(other),
        }
        let config = &self.plan.config;
        prune::after_validation(self.store, config)?;
        if config.trainer.tensorboard {
            self.show_scores(iteration)?;
        }
        if config.trainer.early_stopping.is_none() {
            return Ok(Validated::GoOn);
        }
        let scores = latest_scores(self.store.stats.scores(&config.name)?);
        let Some(Stale {
            best,
            criterion,
            validations,
        }) = stale(config, &*self.plan.task, &scores)
        else {
            return Ok(Validated::GoOn);
        };
        self.observer.event(&Event::StoppedEarly {
            iteration,
            best,
            criterion,
            validations,
        });
        Ok(Validated::Enough)
    }

    /// Gives TensorBoard the best scores of an iteration, by each criterion.
    fn show_scores(&self, iteration: u64) -> Result<()> {
        let run = &self.plan.config.name;
        let scores = latest_scores(self.store.stats.scores(run)?);
        let mut scalars = Vec::new();
        for dataset in &self.plan.validate {
            for criterion in self.plan.task.criteria() {
                let here = scores
                    .iter()
                    .filter(|score| score.iteration == iteration && score.dataset == dataset.name);
                if let Some((_, value)) = best_by(criterion, here) {
                    scalars.push(Scalar {
                        tag: format!("validation/{}/{}", dataset.name, criterion.name),
                        iteration,
                        value,
                        time: tensorboard::now(),
                    });
                }
            }
        }
        tensorboard::write(self.store, run, iteration, "validation", &scalars)
    }
}

/// What a validation means for training.
enum Validated {
    GoOn,
    /// The run gets no better.
    Enough,
    /// It was asked to stop.
    Interrupted,
}

impl RunConfig {
    fn to_value(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self).map_err(|error| Error::Yaml {
            message: error.to_string(),
        })
    }
}
