//! Beginning a run with weights that are there: of another run, or in a file. Which of them fit is decided here,
//! tensor by tensor, and told.

use std::fmt;
use std::fs;
use std::path::Path;

use dacapo_nn::{NamedTensor, Network, load_checkpoint};
use dacapo_store::{LocalStore, WeightsStore};

use crate::config::{NamedIteration, RunConfig, StartConfig, StartIteration};
use crate::predict::{IterationChoice, choose};
use crate::{Error, Result, load_run, original};

/// Key of a checkpoint's metadata: the names of the head's channels, as JSON.
pub(crate) const CHANNELS: &str = "channels";
/// Tensors of the head begin with this.
const HEAD: &str = "model/prediction_head.";

/// Weights to begin with, read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Source {
    /// What they are of, for people.
    name: String,
    tensors: Vec<NamedTensor>,
    /// What each channel of the head is, where that is known.
    channels: Option<Vec<String>>,
}

/// What became of the weights that a run was to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Where they come from.
    pub source: String,
    /// Tensors of the network that were taken over whole.
    pub taken: Vec<String>,
    /// The channels that were taken over of a head that has others, too.
    pub channels: Vec<String>,
    /// Tensors of the network that stay random, and tensors of the source that have no place, with the reason.
    pub left: Vec<(String, String)>,
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "begins with {} tensors of {}", self.taken.len(), self.source)?;
        if !self.taken.is_empty() {
            write!(f, ": {}", self.taken.join(", "))?;
        }
        if !self.channels.is_empty() {
            write!(f, "; of the head the channels {}", self.channels.join(", "))?;
        }
        for (name, reason) in &self.left {
            write!(f, "; not {name}: {reason}")?;
        }
        Ok(())
    }
}

/// Reads the weights that a config names.
///
/// # Errors
/// [`Error::NoRun`] or [`Error::NoCheckpoint`] if the run has none such, [`Error::Io`], [`Error::Network`] or
/// [`Error::Original`] if the file cannot be read.
pub(crate) fn read(store: &LocalStore, start: &StartConfig) -> Result<Source> {
    match start {
        StartConfig::Run(start) => {
            let config = load_run(store, &start.run)?;
            let iteration = match start.iteration {
                StartIteration::Number(number) => IterationChoice::Number(number),
                StartIteration::Named(NamedIteration::Best) => IterationChoice::Best,
                StartIteration::Named(NamedIteration::Latest) => IterationChoice::Latest,
            };
            let iteration = choose(store, &start.run, iteration)?;
            let (tensors, _) = load_checkpoint(&store.weights.load(&start.run, iteration)?)?;
            let task = config.task.build(config.architecture.unet().dims())?;
            Ok(Source {
                name: format!("run {} after {iteration} steps", start.run),
                tensors,
                channels: Some(task.head().channel_names()),
            })
        }
        StartConfig::File(start) => read_file(Path::new(&start.file)),
    }
}

fn read_file(path: &Path) -> Result<Source> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|source| Error::io("read the weights in", path, source))?;
    // PyTorch's files are zip archives, or pickles that follow each other.
    if bytes.starts_with(b"PK") || bytes.first() == Some(&0x80) {
        return Ok(Source {
            name,
            tensors: original::model_tensors(path)?,
            channels: None,
        });
    }
    let (mut tensors, metadata) = load_checkpoint(&bytes)?;
    // Files of other programs have the model alone.
    if !tensors.iter().any(|tensor| tensor.name.starts_with("model/")) {
        for tensor in &mut tensors {
            tensor.name.insert_str(0, "model/");
        }
    }
    let channels = metadata
        .get(CHANNELS)
        .and_then(|text| serde_json::from_str(text).ok());
    Ok(Source {
        name,
        tensors,
        channels,
    })
}

/// Takes over what fits; the optimiser begins anew.
///
/// # Errors
/// [`Error::Shape`] if nothing fits: another network was meant.
pub(crate) fn apply(source: &Source, config: &RunConfig, network: &mut dyn Network) -> Result<Started> {
    let task = config.task.build(config.architecture.unet().dims())?;
    let ours = task.head().channel_names();
    let mut started = Started {
        source: source.name.clone(),
        taken: Vec::new(),
        channels: Vec::new(),
        left: Vec::new(),
    };
    let short = |name: &str| name.trim_start_matches("model/").to_owned();
    let mut tensors = network.export()?;
    tensors.retain(|tensor| tensor.name.starts_with("model/"));
    // The channels of a head with a stem stand on the second axis of its kernel.
    let has_stem = config.architecture.unet().stem_factors.is_some();
    for tensor in &mut tensors {
        let Some(found) = source.tensors.iter().find(|found| found.name == tensor.name) else {
            let reason = "the source has no such tensor";
            started.left.push((short(&tensor.name), reason.to_owned()));
            continue;
        };
        let is_head = tensor.name.starts_with(HEAD);
        let axis = usize::from(has_stem && tensor.shape.len() > 1);
        match (&source.channels, is_head) {
            (Some(theirs), true) if *theirs != ours => {
                let taken = take_channels(tensor, found, axis, &ours, theirs);
                if taken.len() == ours.len() {
                    started.taken.push(short(&tensor.name));
                    continue;
                }
                let reason = if taken.is_empty() {
                    format!("none of its channels is among {}", theirs.join(", "))
                } else {
                    format!("only {} of its {} channels are there", taken.len(), ours.len())
                };
                started.left.push((short(&tensor.name), reason));
                started.channels = taken;
            }
            _ if found.shape == tensor.shape => {
                tensor.data.clone_from(&found.data);
                started.taken.push(short(&tensor.name));
            }
            _ => {
                let reason = format!(
                    "it has the shape {:?} here, {:?} there",
                    tensor.shape, found.shape
                );
                started.left.push((short(&tensor.name), reason));
            }
        }
    }
    let of_model = source
        .tensors
        .iter()
        .filter(|tensor| tensor.name.starts_with("model/"));
    for unknown in of_model.filter(|found| tensors.iter().all(|tensor| tensor.name != found.name)) {
        let reason = "the network has no such tensor";
        started.left.push((short(&unknown.name), reason.to_owned()));
    }
    if started.taken.is_empty() {
        return Err(Error::Shape {
            what: format!("start: {}", source.name),
            reason: "none of its tensors has the name and the shape of one of the network".to_owned(),
        });
    }
    network.import(&tensors)?;
    Ok(started)
}

/// Copies the channels of a tensor that stand in another one under the same name; returns their names. Nothing if
/// the tensors differ in more than how many channels there are.
fn take_channels(
    tensor: &mut NamedTensor,
    found: &NamedTensor,
    axis: usize,
    ours: &[String],
    theirs: &[String],
) -> Vec<String> {
    let others = |shape: &[usize]| -> Vec<usize> {
        let each = shape.iter().enumerate().filter(|(a, _)| *a != axis);
        each.map(|(_, &n)| n).collect()
    };
    let fits = others(&tensor.shape) == others(&found.shape)
        && tensor.shape.get(axis) == Some(&ours.len())
        && found.shape.get(axis) == Some(&theirs.len());
    if !fits {
        return Vec::new();
    }
    let block: usize = tensor.shape[axis + 1..].iter().product();
    let outer: usize = tensor.shape[..axis].iter().product();
    let mut taken = Vec::new();
    for (to, name) in ours.iter().enumerate() {
        let Some(from) = theirs.iter().position(|other| other == name) else {
            continue;
        };
        for i in 0..outer {
            let (to, from) = ((i * ours.len() + to) * block, (i * theirs.len() + from) * block);
            tensor.data[to..to + block].copy_from_slice(&found.data[from..from + block]);
        }
        taken.push(name.clone());
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], first: f32) -> NamedTensor {
        let length: usize = shape.iter().product();
        NamedTensor {
            name: "model/prediction_head.weight".to_owned(),
            shape: shape.to_vec(),
            data: (0..length).map(|i| first + i as f32).collect(),
        }
    }

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn channels_are_taken_by_name_on_either_axis() {
        let (ours, theirs) = (names("a b c"), names("c d a b"));
        // Channels first: a kernel of one voxel, two features.
        let (mut to, from) = (tensor(&[3, 2], 100.0), tensor(&[4, 2], 0.0));
        assert_eq!(take_channels(&mut to, &from, 0, &ours, &theirs), ours);
        assert_eq!(to.data, [4.0, 5.0, 6.0, 7.0, 0.0, 1.0]);
        // Channels second.
        let (mut to, from) = (tensor(&[2, 3, 2], 100.0), tensor(&[2, 4, 2], 0.0));
        assert_eq!(take_channels(&mut to, &from, 1, &ours, &theirs), ours);
        assert_eq!(
            to.data,
            [4.0, 5.0, 6.0, 7.0, 0.0, 1.0, 12.0, 13.0, 14.0, 15.0, 8.0, 9.0]
        );
        // Some of them: the others stay.
        let (mut to, from) = (tensor(&[3], 100.0), tensor(&[2], 0.0));
        assert_eq!(take_channels(&mut to, &from, 0, &ours, &names("b x")), ["b"]);
        assert_eq!(to.data, [100.0, 0.0, 102.0]);
        // Another width.
        let (mut to, from) = (tensor(&[3, 2], 100.0), tensor(&[4, 3], 0.0));
        assert!(take_channels(&mut to, &from, 0, &ours, &theirs).is_empty());
    }
}
