//! DaCapo as a library: a run's config, the data that it names, and training, validation and prediction with
//! everything that they keep. Arrays, kernels, networks, tasks and stores are crates of their own; this one
//! joins them. It prints nothing, reads no environment and installs nothing: what happens is told to an
//! [`Observer`].

pub mod augment;
pub mod config;
pub mod datasplit;
pub mod original;
pub mod random;
pub mod synthetic;

mod absent;
mod best;
mod checkpoint;
mod dataset;
mod early;
mod elementary;
mod error;
mod evaluate;
mod export;
mod inputs;
mod memory;
mod observer;
mod options;
mod places;
mod plan;
mod predict;
mod prune;
mod runs;
mod sampler;
mod scores;
mod segment;
mod snapshot;
mod sources;
mod start;
mod sweep;
mod tensorboard;
mod tiles;
mod train;
mod validate;
mod volume;
mod window;

pub use {
    dacapo_array as array, dacapo_kernels as kernels, dacapo_nn as nn, dacapo_store as store,
    dacapo_tasks as tasks,
};

pub use best::{Best, best, latest_scores};
pub use config::{RunConfig, config_schema, load_config, parse_config};
pub use dacapo_store::LocalStore;
pub use dataset::Dataset;
pub use error::{Error, Result, hint, is_interruption};
pub use evaluate::{
    EvaluateBinaryRequest, EvaluateRequest, Evaluated, EvaluatedBinary, evaluate, evaluate_binary,
};
pub use export::{ExportFormat, ExportRequest, Exported, export};
pub use observer::{Event, Observer};
pub use options::{Compute, CredentialsKind, ObjectStore, Options, find_options, options_places};
pub use plan::{Plan, Shapes, check};
pub use predict::{IterationChoice, PredictRequest, Predicted, predict};
pub use prune::{PruneLine, PruneRequest, plan_prune, prune};
pub use runs::{RunState, RunSummary, load_run, runs, summary};
pub use sampler::{Crop, Sampler, TrainingBatch, with_batches};
pub use scores::{ArrayScore, RunScores};
pub use segment::{SegmentMethod, SegmentRequest, Segmented, segment};
pub use start::Started;
pub use sweep::{SweepMethod, SweepRequest, SweepScores, Swept, sweep};
pub use tiles::{PIECE_MEMORY, Tiling};
pub use train::{TrainOptions, TrainOutcome, train};
pub use validate::{DatasetValidation, validate};
pub use volume::NamedArray;
