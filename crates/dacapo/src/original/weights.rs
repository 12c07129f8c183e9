//! Checkpoints of the Python DaCapo as tensors of ours: the state dicts of its model and of its optimiser.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use dacapo_nn::{NamedTensor, Network, TorchFile, TorchTensor};

use super::refuse;
use crate::{Error, Result};

/// What PyTorch keeps beside parameters. Not in our networks: how many batches a normalisation has seen.
const STATISTICS: [&str; 3] = ["running_mean", "running_var", "num_batches_tracked"];

fn open(path: &Path) -> Result<TorchFile<BufReader<File>>> {
    let file = File::open(path).map_err(|source| Error::io("read", path, source))?;
    TorchFile::open(BufReader::new(file)).or_else(|error| refuse(path, error.to_string()))
}

/// How many tensors a checkpoint has.
///
/// # Errors
/// [`Error::Original`] if it is none that can be read.
pub(super) fn count(path: &Path) -> Result<usize> {
    Ok(open(path)?.tensors().len())
}

/// The tensors of a model, under our names, each once: those of a checkpoint's, or of a state dict.
///
/// # Errors
/// [`Error::Original`] if they cannot be read.
pub(crate) fn model_tensors(path: &Path) -> Result<Vec<NamedTensor>> {
    let mut file = open(path)?;
    let all = file.tensors().to_vec();
    read_model(path, &mut file, &model(&all))
}

/// Those that are of the model, with our names.
fn model(all: &[TorchTensor]) -> Vec<(String, &TorchTensor)> {
    let in_model = all.iter().any(|tensor| tensor.name.starts_with("model/"));
    let mut model: Vec<(String, &TorchTensor)> = Vec::new();
    for tensor in all {
        let name = match tensor.name.strip_prefix("model/") {
            Some(name) => name,
            None if in_model => continue,
            None => &tensor.name,
        };
        let is_seen = model.iter().any(|(_, seen)| seen.is_same_as(tensor));
        if let Some(name) = ours(name).filter(|_| !is_seen) {
            model.push((name, tensor));
        }
    }
    model
}

fn read_model(
    path: &Path,
    file: &mut TorchFile<BufReader<File>>,
    model: &[(String, &TorchTensor)],
) -> Result<Vec<NamedTensor>> {
    let mut tensors = Vec::with_capacity(model.len());
    for (name, tensor) in model {
        if name.ends_with(STATISTICS[2]) {
            continue;
        }
        let read = file.read(tensor);
        let mut read = read.or_else(|error| refuse(path, error.to_string()))?;
        read.name = format!("model/{name}");
        tensors.push(read);
    }
    Ok(tensors)
}

/// The tensors of a checkpoint under our names, taken over by `network`, and what has to be said about them. Without
/// a readable state of the optimiser the weights come alone.
///
/// # Errors
/// [`Error::Original`] if it cannot be read, or is not of such a network.
pub(super) fn convert(path: &Path, network: &mut dyn Network) -> Result<(Vec<NamedTensor>, Vec<String>)> {
    let mut file = open(path)?;
    let all = file.tensors().to_vec();
    let model = model(&all);
    let tensors = read_model(path, &mut file, &model)?;
    network
        .import(&tensors)
        .or_else(|error| refuse(path, error.to_string()))?;

    // The optimiser numbers the parameters in the order of the model.
    let is_parameter = |name: &str| !STATISTICS.iter().any(|statistic| name.ends_with(statistic));
    let parameters: Vec<&str> = model
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| is_parameter(name))
        .collect();
    let alone = |tensors, reason: String| {
        let note = format!(
            "{}: the state of its optimiser is not taken: {reason}",
            path.display()
        );
        Ok((tensors, vec![note]))
    };
    let state = match optimizer(&mut file, &all, &parameters) {
        Ok(state) => state,
        Err(reason) => return alone(tensors, reason),
    };
    let whole: Vec<NamedTensor> = tensors.iter().cloned().chain(state).collect();
    match network.import(&whole) {
        Ok(()) => Ok((whole, Vec::new())),
        Err(error) => alone(tensors, error.to_string()),
    }
}

/// Our name of a tensor of the model; nothing for the head's second name. The model is a chain of the architecture and
/// the head, and the head also stands there by itself.
fn ours(name: &str) -> Option<String> {
    let name = match name.strip_prefix("chain.0.") {
        Some(name) => name,
        None if name.starts_with("chain.") => return None,
        None => name,
    };
    Some(name.strip_prefix("unet.").unwrap_or(name).to_owned())
}

fn optimizer(
    file: &mut TorchFile<BufReader<File>>,
    all: &[TorchTensor],
    parameters: &[&str],
) -> Result<Vec<NamedTensor>, String> {
    let mut state = Vec::new();
    let mut read = |place: String, name: String| -> Result<(), String> {
        let tensor = all.iter().find(|tensor| tensor.name == place);
        let tensor = tensor.ok_or_else(|| format!("`{place}` is missing"))?;
        let mut tensor = file.read(tensor).map_err(|error| error.to_string())?;
        tensor.name = name;
        state.push(tensor);
        Ok(())
    };
    read("optimizer/state/0/step".to_owned(), "optimizer/step".to_owned())?;
    for moment in ["exp_avg", "exp_avg_sq"] {
        for (index, name) in parameters.iter().enumerate() {
            read(
                format!("optimizer/state/{index}/{moment}"),
                format!("optimizer/{moment}/{name}"),
            )?;
        }
    }
    Ok(state)
}

/// Over how many steps the learning rate rises from a hundredth to its full value, where a checkpoint after
/// `iteration` steps tells: its scheduler is in no config.
pub(super) fn warmup(path: &Path, iteration: u64) -> Option<u64> {
    let file = open(path).ok()?;
    let root = file.pickle().root();
    let optimizer = root.get("optimizer").or_else(|| root.state()?.get("optimizer"));
    let group = optimizer?.get("param_groups")?.item(0)?;
    let factor = group.get("lr")?.as_f64()? / group.get("initial_lr")?.as_f64()?;
    let steps = 0.99 * iteration as f64 / (factor - 0.01);
    (factor < 0.999 && steps.is_finite() && steps >= 1.0).then(|| steps.round() as u64)
}
