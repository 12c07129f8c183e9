//! What a long job tells while it works, and how it is asked to stop. How that is shown is not decided here.

use dacapo_array::storage::Location;
use std::collections::BTreeMap;

use crate::start::Started;

/// Watches a long job. Called from the thread that runs the job, except [`Event::Block`], which may come from
/// any thread.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event);

    /// Asked after each step and block: whether to stop at the next safe place.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Watches nothing.
impl Observer for () {
    fn event(&self, _: &Event) {}
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The config's synthetic volume was not there and has been written.
    SyntheticWritten {
        /// Where it lies.
        container: Location,
    },
    /// Training begins, or goes on.
    TrainingStarted {
        /// The run's name.
        run: String,
        /// Steps already done.
        iteration: u64,
        /// Steps when done.
        total: u64,
        /// Weights that are trained.
        parameters: usize,
    },
    /// A run begins with weights that were there.
    Started(Started),
    /// Validations have got no better for as long as the config allows: training is done.
    StoppedEarly {
        /// Steps done.
        iteration: u64,
        /// The iteration that was best.
        best: u64,
        /// By which criterion.
        criterion: String,
        /// Validations since.
        validations: u64,
    },
    /// A training step is done.
    Step {
        /// Its number, from 0.
        iteration: u64,
        /// Steps when done.
        total: u64,
        /// The batch's loss.
        loss: f64,
        /// Its learning rate.
        learning_rate: f64,
        /// Norm of the gradients before clipping.
        gradient_norm: f64,
        /// How long it took, waiting for the batch included.
        seconds: f64,
    },
    /// A batch and its prediction were written.
    Snapshot {
        /// The step that they belong to.
        iteration: u64,
        /// The container, with a group per snapshot.
        container: Location,
    },
    /// A checkpoint was written.
    Checkpoint {
        /// Steps done.
        iteration: u64,
    },
    /// Validation on a dataset begins.
    ValidationStarted {
        /// Steps done.
        iteration: u64,
        /// The dataset.
        dataset: String,
    },
    /// Prediction of an array begins.
    PredictionStarted {
        /// Blocks to predict.
        blocks: usize,
    },
    /// A block is predicted and written.
    Block {
        /// Blocks done.
        done: usize,
        /// Blocks in all.
        total: usize,
    },
    /// A parameter set has its scores.
    Scored {
        /// Steps done.
        iteration: u64,
        /// The dataset.
        dataset: String,
        /// The post-processing parameters.
        parameters: String,
        /// By criterion; none where it is undefined.
        scores: BTreeMap<String, Option<f64>>,
    },
    /// Validation on a dataset is done.
    ValidationFinished {
        /// Steps done.
        iteration: u64,
        /// The dataset.
        dataset: String,
        /// The criterion that decides.
        criterion: String,
        /// The best parameters of this iteration and their score; none where no score is defined.
        best: Option<(String, f64)>,
        /// Whether no iteration was better so far.
        is_best: bool,
        /// How long it took.
        seconds: f64,
    },
    /// Training is done, or stopped where asked.
    TrainingStopped {
        /// Steps done.
        iteration: u64,
        /// Steps when done.
        total: u64,
    },
    /// Something a person should know, though the job goes on.
    Warning {
        /// One sentence.
        message: String,
    },
}
