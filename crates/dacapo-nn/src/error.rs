//! The one error type of this crate.

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in building, running, training or restoring a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An architecture or optimiser setting that makes no sense.
    #[error("`{field}`: {reason}")]
    Config {
        /// The setting's name, as it stands in a config.
        field: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// A spatial shape that the network cannot take.
    #[error(
        "the network cannot take an input of {shape:?} voxels: {reason}{}",
        nearest_text(nearest)
    )]
    InputShape {
        /// The spatial shape asked for, in voxels.
        shape: Vec<usize>,
        /// Where in the network it does not fit.
        reason: String,
        /// The nearest spatial shape that fits, in voxels.
        nearest: Option<Vec<usize>>,
    },
    /// A tensor whose shape is not what the operation needs.
    #[error("{what} has shape {found:?}, expected {expected:?}")]
    TensorShape {
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it should have.
        expected: Vec<usize>,
    },
    /// The loss or a gradient became NaN or infinite, and no weight was changed by this step; or what is to be predicted
    /// from, or was predicted.
    #[error("the {what} is {value} (not finite)")]
    NotFinite {
        /// `loss`, `gradient norm`, `input` or `prediction`.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// Weights were to be updated, and no batch has given gradients.
    #[error("no batch has been learnt from since the weights were last updated")]
    NoGradients,
    /// Tensors that do not belong to this network.
    #[error("the weights do not fit this network: {0}")]
    Weights(String),
    /// Bytes that are no complete checkpoint.
    #[error("not a complete checkpoint: {0}")]
    Checkpoint(String),
    /// Bytes that are no pickle, or one that asks for what is not done.
    #[error("not a pickle that can be read: at byte {offset}, {opcode}: {reason}")]
    Pickle {
        /// Where the opcode stands, in bytes.
        offset: usize,
        /// Its name.
        opcode: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of PyTorch that does not hold readable tensors.
    #[error("not a PyTorch file that can be read: {0}")]
    TorchFile(String),
    /// Writing a checkpoint failed.
    #[error("writing the checkpoint failed")]
    Write(#[source] std::io::Error),
    /// A computation of libtorch failed: memory of the device that is missing, above all.
    #[error("libtorch could not compute: {0}")]
    Torch(String),
    /// The engine could not be started.
    #[error("the engine cannot start: {0}")]
    Engine(String),
}

fn nearest_text(nearest: &Option<Vec<usize>>) -> String {
    nearest.as_ref().map_or(String::new(), |shape| {
        format!("; the nearest that it can take is {shape:?}")
    })
}
