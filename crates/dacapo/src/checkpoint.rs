//! Checkpoints: everything that a run needs to go on as if it had never stopped. The random generator has no
//! state to keep.

use std::collections::BTreeMap;

use dacapo_nn::{Network, load_checkpoint, save_checkpoint};
use dacapo_store::{LocalStore, WeightsStore};

use crate::config::RunConfig;
use crate::observer::{Event, Observer};
use crate::start::CHANNELS;
use crate::{Error, Result};

/// Keeps the network's weights and its optimiser's state as they are after `iteration` steps.
///
/// # Errors
/// [`Error::Store`] if it cannot be written; then it is not there at all.
pub(crate) fn save(
    store: &LocalStore,
    config: &RunConfig,
    iteration: u64,
    network: &dyn Network,
) -> Result<()> {
    let task = config.task.build(config.architecture.unet().dims())?;
    let channels = serde_json::to_string(&task.head().channel_names()).unwrap_or_default();
    let schedule = serde_json::to_string(&config.trainer.schedule).unwrap_or_default();
    let meta = [
        ("iteration", iteration.to_string()),
        ("num_iterations", config.num_iterations.to_string()),
        ("seed", config.seed.to_string()),
        ("schedule", schedule),
        (CHANNELS, channels),
        ("config", config.hash()?),
        ("program", dacapo_store::PROGRAM.to_owned()),
    ];
    let meta: BTreeMap<String, String> = meta.map(|(key, value)| (key.to_owned(), value)).into();
    let mut bytes = Vec::new();
    save_checkpoint(&mut bytes, &network.export()?, &meta)?;
    Ok(store.weights.store(&config.name, iteration, &bytes)?)
}

/// Loads the checkpoint of `iteration`.
///
/// # Errors
/// [`Error::Checkpoint`] if it is torn or belongs to another network; the network is then unchanged.
pub(crate) fn load(store: &LocalStore, run: &str, iteration: u64, network: &mut dyn Network) -> Result<()> {
    let bytes = store.weights.load(run, iteration)?;
    let loaded = load_checkpoint(&bytes).and_then(|(tensors, _)| network.import(&tensors));
    loaded.map_err(|source| Error::Checkpoint {
        run: run.to_owned(),
        iteration,
        source,
    })
}

/// Loads the last checkpoint that is whole, at most that of `limit`, and returns its iteration: 0 where there
/// is none, and the network is as it was built. Damaged ones are told of and passed over.
pub(crate) fn load_last(
    store: &LocalStore,
    run: &str,
    limit: u64,
    network: &mut dyn Network,
    observer: &dyn Observer,
) -> Result<u64> {
    let iterations = store.weights.iterations(run)?;
    for &iteration in iterations.iter().rev().filter(|&&iteration| iteration <= limit) {
        match load(store, run, iteration, network) {
            Ok(()) => return Ok(iteration),
            Err(error @ Error::Checkpoint { .. }) => {
                let message = format!("{error}; going back to the one before");
                observer.event(&Event::Warning { message });
            }
            Err(other) => return Err(other),
        }
    }
    Ok(0)
}

/// The last of the iterations that have a checkpoint.
pub(crate) fn latest(run: &str, there: &[u64]) -> Result<u64> {
    let missing = || Error::NoCheckpoint {
        run: run.to_owned(),
        what: "checkpoint".to_owned(),
    };
    there.last().copied().ok_or_else(missing)
}

/// `wanted`, if it is one of the iterations that have a checkpoint.
pub(crate) fn existing(run: &str, wanted: u64, there: &[u64]) -> Result<u64> {
    if there.contains(&wanted) {
        return Ok(wanted);
    }
    let what = format!("checkpoint of iteration {wanted}; it has those of {there:?}");
    Err(Error::NoCheckpoint {
        run: run.to_owned(),
        what,
    })
}
