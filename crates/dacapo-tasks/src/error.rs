//! What can go wrong with a task.

use crate::PostProcessorParameters;

/// What can go wrong with a task.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Data that a kernel refuses.
    #[error(transparent)]
    Kernel(#[from] dacapo_kernels::Error),
    /// A part of the config that a kernel refuses.
    #[error("{key}: {reason}")]
    Config {
        /// The key in the task's config.
        key: &'static str,
        /// Why.
        reason: dacapo_kernels::Error,
    },
    /// An offset has not one number an axis.
    #[error("offset {index} of the neighborhood, {offset:?}, has {} numbers, but the data has {dims} axes", offset.len())]
    OffsetDims {
        /// Its place in the neighbourhood.
        index: usize,
        /// The offset.
        offset: Vec<i64>,
        /// Axes of the data.
        dims: usize,
    },
    /// An offset that no crop can hold.
    #[error("offset {index} of the neighborhood, {offset:?}, is longer than {limit} voxels")]
    OffsetLength {
        /// Its place in the neighbourhood.
        index: usize,
        /// The offset.
        offset: Vec<i64>,
        /// The longest that is allowed.
        limit: u64,
    },
    /// Data that is neither 2D nor 3D.
    #[error("a task for {dims} spatial axes: only 2 and 3 are supported")]
    Dims {
        /// Axes of the data.
        dims: usize,
    },
    /// A volume that does not have the shape it needs.
    #[error("the {what} is of shape {found:?}, but {expected} is needed")]
    Shape {
        /// The volume.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// What it has to be.
        expected: String,
    },
    /// A value of the config that means nothing.
    #[error("{key} holds {value}, but it has to be {expected}")]
    Value {
        /// The key in the task's config.
        key: &'static str,
        /// What it holds.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// Classes that mean nothing.
    #[error("classes: {reason}")]
    Classes {
        /// Why.
        reason: String,
    },
    /// A method of post-processing that the task does not have.
    #[error("{parameters} is no post-processing of this task")]
    Method {
        /// What was asked for.
        parameters: PostProcessorParameters,
    },
    /// A parameter that no prediction reaches.
    #[error("{key} holds {value}, but predictions are between {min} and {max}")]
    Range {
        /// The key in the task's config.
        key: &'static str,
        /// What it holds.
        value: f32,
        /// The least that is predicted.
        min: f32,
        /// The most that is predicted.
        max: f32,
    },
    /// Nothing to segment with.
    #[error("post_processing has no parameters to try: give at least one threshold or bias pair")]
    NoParameters,
    /// A text that names no parameters.
    #[error("{text:?} names no post-processing parameters: {reason}")]
    Parse {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller of a sweep ended it.
    #[error("the sweep was stopped")]
    Stopped,
}

/// The result of a task.
pub type Result<T, E = Error> = std::result::Result<T, E>;
