//! The errors of all stores.

use std::{io, path::PathBuf};

use crate::lease::Holder;

/// The result of a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a store did not do what it was asked. A cause stands in the source, not in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that cannot be written.
    #[error("{what} {name:?} is refused: {reason}")]
    Name {
        /// What it was to name.
        what: &'static str,
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A text that names no array or container.
    #[error("{text:?} does not identify an array: {reason}")]
    Identifier {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name whose twin of another case is there already: they would meet where case is ignored.
    #[error("{name:?} cannot stand beside {twin:?} in {}: they differ only in case", dir.display())]
    Twin {
        /// The directory of both.
        dir: PathBuf,
        /// The name that was to be created.
        name: String,
        /// The name that is there.
        twin: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A run that another process writes.
    #[error("run {run:?} is being written by {holder}")]
    Held {
        /// The run.
        run: String,
        /// Who holds it.
        holder: Holder,
    },
    /// A run that this process wrote until its lease ran out.
    #[error("the lease of run {run:?} was lost: another process may write it")]
    LeaseLost {
        /// The run.
        run: String,
    },
    /// A run that was stored before with another config.
    #[error("run {run:?} is stored with another config in {}", path.display())]
    Differs {
        /// The run.
        run: String,
        /// Its stored config.
        path: PathBuf,
    },
    /// A record that is not what was written.
    #[error("line {line} of {} is not a record", path.display())]
    Record {
        /// The file of records.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Why it does not read.
        source: serde_json::Error,
    },
    /// Weights that were never stored, or were removed.
    #[error("run {run:?} has no weights of iteration {iteration}; {}", listed(there))]
    NoWeights {
        /// The run.
        run: String,
        /// The iteration asked for.
        iteration: u64,
        /// The iterations that have weights.
        there: Vec<u64>,
    },
    /// Something that is not an array of this store, and is therefore left alone.
    #[error("{identifier} is left alone: {reason}")]
    Refused {
        /// What was to be created or removed.
        identifier: String,
        /// Why it was not.
        reason: String,
    },
    /// A text that is no pattern, range or kind.
    #[error("{text:?} says not which arrays are meant: {reason}")]
    Pattern {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something stands where an array was to go.
    #[error("{place} is there already")]
    Occupied {
        /// Where.
        place: String,
    },
    /// Something that is not there.
    #[error("there is no {what}")]
    Missing {
        /// What was asked for.
        what: String,
    },
    /// What was being copied is no longer what it was when the copy began.
    #[error("{what} has changed while it was copied")]
    Changed {
        /// The source, or the part of it that changed.
        what: String,
    },
    /// Bytes that did not come back as they were written.
    #[error("{place} does not hold what was written to it")]
    Unfaithful {
        /// The copy's object.
        place: String,
    },
    /// An array that was to be copied and is not what was written.
    #[error("{array} is damaged{}: {reason}", roi.as_ref().map_or_else(String::new, |roi| format!(" at {roi}")))]
    Damaged {
        /// The array.
        array: String,
        /// Where, in world units; none where it concerns the whole array.
        roi: Option<Box<dacapo_array::Roi>>,
        /// What is wrong with it.
        reason: String,
    },
    /// Stopped where asked.
    #[error("stopped before it was done")]
    Stopped,
    /// Provenance that does not read.
    #[error("the provenance of an array does not read")]
    Provenance(#[source] serde_json::Error),
    /// The array itself.
    #[error(transparent)]
    Array(dacapo_array::Error),
}

fn listed(there: &[u64]) -> String {
    match there {
        [] => "none are stored".to_owned(),
        [one] => format!("only those of {one} are stored"),
        [first, .., last] => format!("{} iterations from {first} to {last} are stored", there.len()),
    }
}

impl From<dacapo_array::Error> for Error {
    /// What the system or a service said about a file or an object is the same here.
    fn from(error: dacapo_array::Error) -> Self {
        match error {
            dacapo_array::Error::Io { action, path, source } => Self::Io { action, path, source },
            error => Self::Array(error),
        }
    }
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// What the user can do about it, as a sentence, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { source, .. } | Self::Array(dacapo_array::Error::Io { source, .. }) => {
                match source.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
                        "free some space and run the same command again: what was stored before is whole",
                    ),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                        Some("choose a base directory that you may write, with --base")
                    }
                    _ => None,
                }
            }
            Self::Held { .. } => Some("wait until it ends or stop it; a crashed process holds nothing"),
            Self::Changed { .. } => Some("copy again when nobody writes it: what was copied is gone on with"),
            Self::Damaged { .. } => Some(
                "`dacapo arrays verify` names all that is damaged; with `--damaged` it is copied as it is",
            ),
            Self::Occupied { .. } => {
                Some("name another place; where the command has it, `--overwrite` replaces an array")
            }
            Self::LeaseLost { .. } => Some("run the same command again: it goes on from the last checkpoint"),
            Self::Twin { .. } => Some("choose a name that differs in more than upper and lower case"),
            Self::Differs { .. } => Some("give the changed config another run name"),
            Self::Name { what: "run name", .. } => {
                Some("use letters, digits and `-`, `_`, `.`, beginning with a letter or digit")
            }
            _ => None,
        }
    }
}
