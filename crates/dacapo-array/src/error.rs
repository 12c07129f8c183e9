//! The one error type of this crate.

use std::io;
use std::path::{Path, PathBuf};

use crate::storage::Location;
use crate::{ArrayAddress, DType, Roi};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with geometry and arrays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text that is no number that positions can have.
    #[error("`{text}` cannot be a position or size: {reason}")]
    Number {
        /// The text.
        text: String,
        /// Why.
        reason: &'static str,
    },
    /// A region that an array cannot be read or written at.
    #[error("the region {roi} {reason}")]
    Region {
        /// The region, in world units.
        roi: Roi,
        /// What is wrong with it.
        reason: String,
    },
    /// Values of another shape than expected.
    #[error("wrong shape: {reason}")]
    Shape {
        /// What was found and what was expected.
        reason: String,
    },
    /// Values of another type than the array's.
    #[error("the values are {found}, the array is {expected}")]
    Type {
        /// Of the values.
        found: DType,
        /// Of the array.
        expected: DType,
    },
    /// A value that another type does not have.
    #[error("{}{from}{} is no {to}", value.as_deref().map(|v| format!("{v} (")).unwrap_or_default(), if value.is_some() { ")" } else { "" })]
    Cast {
        /// The first such value, if it is not the type itself that differs.
        value: Option<String>,
        /// The type of the values.
        from: DType,
        /// The type asked for.
        to: DType,
    },
    /// An array that cannot be.
    #[error("no such array can be: {reason}")]
    Spec {
        /// Why.
        reason: String,
    },
    /// A text that names no array.
    #[error("`{text}` names no array: {reason}")]
    Address {
        /// The text.
        text: String,
        /// Why.
        reason: String,
    },
    /// A text that names no place where anything can be kept.
    #[error("`{text}` is no path or URL: {reason}")]
    Location {
        /// The text.
        text: String,
        /// Why.
        reason: String,
    },
    /// A text that is no key of a storage, or a key that leads through a symbolic link.
    #[error("`{key}` cannot be a key: {reason}")]
    Key {
        /// The text.
        key: String,
        /// Why.
        reason: String,
    },
    /// A container that is not there.
    #[error("there is no container {container}{}", alternatives(there))]
    NoContainer {
        /// Where it would be.
        container: Location,
        /// Containers beside it.
        there: Vec<String>,
    },
    /// A dataset that is not there.
    #[error("there is no array `{}` in {}{}", address.dataset, address.container, alternatives(there))]
    NoArray {
        /// What was asked for.
        address: ArrayAddress,
        /// Arrays of the container.
        there: Vec<String>,
    },
    /// An array that is there already.
    #[error("{address} is there already")]
    Exists {
        /// The array.
        address: ArrayAddress,
    },
    /// An array that is not what was opened any more.
    #[error("{address} was removed or replaced since it was opened; open it again")]
    Gone {
        /// The array.
        address: ArrayAddress,
    },
    /// Metadata that makes no sense, or that this program cannot handle.
    #[error("the metadata of {address} cannot be used: {reason}")]
    Metadata {
        /// The array.
        address: ArrayAddress,
        /// What is wrong.
        reason: String,
    },
    /// A chunk that does not decode, or cannot be encoded.
    #[error("chunk {chunk:?} of {address}: {reason}")]
    Chunk {
        /// The array.
        address: ArrayAddress,
        /// Its place among the chunks.
        chunk: Vec<u64>,
        /// What is wrong.
        reason: String,
    },
    /// A store that is not supported by this program.
    #[error("{what} is not supported{}", if hint.is_empty() { String::new() } else { format!("; {hint}") })]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What would do instead.
        hint: String,
    },
    /// A file or folder of another format that makes no sense, or that this program cannot handle.
    #[error("cannot use {}: {reason}", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or folder that is there already.
    #[error("{} is there already", path.display())]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// Work that the caller ended before it was done; nothing of it is left.
    #[error("interrupted")]
    Interrupted,
    /// A failed operation on a file or folder.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

/// Names that are there instead of the one asked for, as many as a sentence holds.
fn alternatives(there: &[String]) -> String {
    const MOST: usize = 8;
    if there.is_empty() {
        return "; nothing is there".into();
    }
    let more = if there.len() > MOST {
        format!(" and {} more", there.len() - MOST)
    } else {
        String::new()
    };
    format!("; there are: {}{more}", there[..there.len().min(MOST)].join(", "))
}
