//! Trained networks as bytes that other programs read.

use std::collections::BTreeMap;

use dacapo_nn::{export_onnx, load_checkpoint, save_checkpoint};
use dacapo_store::{LocalStore, WeightsStore};

use crate::plan::{Shapes, network_spec};
use crate::predict::{IterationChoice, choose};
use crate::start::CHANNELS;
use crate::{Result, load_run};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// The network with its weights.
    Onnx,
    /// The weights alone, by name.
    Safetensors,
}

/// What to export, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRequest {
    /// Which weights.
    pub iteration: IterationChoice,
    /// As what.
    pub format: ExportFormat,
    /// Voxels of the input along each spatial axis; those of training if none are given.
    pub input_shape: Option<Vec<usize>>,
}

/// A network as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Steps after which it had these weights.
    pub iteration: u64,
    /// Voxels of its input along each spatial axis.
    pub input_shape: Vec<usize>,
    /// Voxels of what it predicts of that.
    pub output_shape: Vec<usize>,
    /// The file.
    pub bytes: Vec<u8>,
}

/// The network of a run for other programs, with what its channels are, and the run that it is of, as metadata.
///
/// # Errors
/// [`crate::Error::NoRun`], [`crate::Error::NoCheckpoint`], [`crate::Error::Network`] for an input shape that the
/// network cannot take.
pub fn export(store: &LocalStore, run: &str, request: &ExportRequest) -> Result<Exported> {
    let config = load_run(store, run)?;
    let unet = config.architecture.unet();
    let task = config.task.build(unet.dims())?;
    let iteration = choose(store, run, request.iteration)?;
    let (mut tensors, _) = load_checkpoint(&store.weights.load(run, iteration)?)?;
    tensors.retain(|tensor| tensor.name.starts_with("model/"));
    let input = request.input_shape.as_ref().unwrap_or(&unet.input_shape);
    let shapes = Shapes::for_input(&config, input)?;
    let channels = serde_json::to_string(&task.head().channel_names()).unwrap_or_default();
    let metadata: BTreeMap<String, String> = [
        ("run", run.to_owned()),
        ("iteration", iteration.to_string()),
        ("config", config.hash()?),
        (CHANNELS, channels),
        ("program", dacapo_store::PROGRAM.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let bytes = match request.format {
        ExportFormat::Onnx => export_onnx(&network_spec(&config, &*task), &tensors, input, &metadata)?,
        ExportFormat::Safetensors => {
            let mut bytes = Vec::new();
            save_checkpoint(&mut bytes, &tensors, &metadata)?;
            bytes
        }
    };
    Ok(Exported {
        iteration,
        input_shape: shapes.input,
        output_shape: shapes.output,
        bytes,
    })
}
