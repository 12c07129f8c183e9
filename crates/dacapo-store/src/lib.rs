//! What DaCapo keeps: arrays, configs, statistics and weights of runs, each behind a trait with an
//! implementation over one base: a directory, a prefix in an object store, or memory.
//!
//! - [`LocalStore`] is all four over one base; [`RunLease`] makes its holder the one writer of a run.
//! - [`names`] and [`identifiers`] decide what may stand in a path, once and for all of them.
//! - Everything is written whole or not at all ([`dacapo_array::storage`]), and survives a kill, a crash and a
//!   full disk.

pub mod arrays;
pub mod catalog;
pub mod configs;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod copy;
pub mod details;
mod error;
pub mod filter;
pub mod identifiers;
pub mod input;
pub mod lease;
mod local;
mod lock;
pub mod names;
pub mod provenance;
mod remove;
pub mod stats;
mod time;
pub mod trash;
pub mod usage;
pub mod verify;
pub mod weights;

pub use arrays::{ArrayStore, LocalArrayStore};
pub use catalog::{ArrayEntry, ArrayKind};
pub use configs::{ConfigStore, LocalConfigStore};
pub use copy::{Copied, CopyOptions, Sound, copy_array, copy_dir, copy_tree};
pub use details::{ArrayDetails, Statistics, details, statistics};
pub use error::{Error, Result};
pub use filter::{ArrayFilter, Iterations, Pattern};
pub use identifiers::{LocalArrayIdentifier, LocalContainerIdentifier};
pub use input::{InputIdentity, input_identity};
pub use lease::{Holder, RunLease};
pub use local::LocalStore;
pub use names::{BestName, CriterionName, DatasetName, IndexName, ParametersName, RunName};
pub use provenance::Provenance;
pub use remove::Removed;
pub use stats::{LocalStatsStore, StatsStore, TrainingStat, ValidationScore};
pub use time::age;
pub use trash::TrashEntry;
pub use usage::Usage;
pub use verify::{Damage, Verified, verify};
pub use weights::{LocalWeightsStore, WeightsStore};

/// Called with how much more of a long job is done, from any thread; false asks it to stop where it is safe.
pub type Tick<'a> = &'a (dyn Fn(u64) -> bool + Sync);

/// What wrote a file, as provenance and leases say it.
pub const PROGRAM: &str = concat!("dacapo ", env!("CARGO_PKG_VERSION"));
