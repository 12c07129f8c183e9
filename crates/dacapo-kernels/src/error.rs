//! What can be wrong with the input of a kernel.

use crate::Offset;

/// Bad input of a kernel.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Affinities need offsets.
    #[error("the neighbourhood is empty: at least one offset is needed")]
    NoOffsets,
    /// A voxel has no affinity to itself.
    #[error("offset {index} is zero: it links each voxel to itself")]
    ZeroOffset {
        /// Its place among the offsets.
        index: usize,
    },
    /// Two offsets link the same pairs.
    #[error("offset {offset:?} (number {index}) is there twice")]
    RepeatedOffset {
        /// Its second place.
        index: usize,
        /// The offset in voxels.
        offset: Offset,
    },
    /// Channels and what describes them differ in number.
    #[error("{channels} channels of affinities, but {expected} {what}")]
    Channels {
        /// Channels of the array.
        channels: usize,
        /// How many there should be.
        expected: usize,
        /// Of what there are so many.
        what: &'static str,
    },
    /// Volumes that should cover the same voxels do not.
    #[error("the {what} is of shape {found:?}, but {expected:?} is needed")]
    Shape {
        /// The volume.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// That of the others.
        expected: Vec<usize>,
    },
    /// Voxels are counted in 32 bits.
    #[error("{count} {what} are too many: at most {} in one piece", u32::MAX - 1)]
    TooLarge {
        /// How many there are.
        count: usize,
        /// Of what.
        what: &'static str,
    },
    /// A label that a table or map does not have.
    #[error("label {label} is not in the table")]
    UnknownLabel {
        /// The label.
        label: u64,
    },
    /// A label that its type cannot hold.
    #[error("label {label} does not fit the type of the volume")]
    LabelRange {
        /// The label.
        label: u64,
    },
    /// Blocks whose ids would collide with those of others.
    #[error("block {block} has {count} labels, but ids for {capacity} a block below 2^64")]
    BlockIds {
        /// The number of the block.
        block: u64,
        /// Ids that each block has.
        capacity: u64,
        /// Labels that it has.
        count: u64,
    },
    /// A parameter is out of its range.
    #[error("{name} is {value}, but it has to be {expected}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
}

/// The result of a kernel.
pub type Result<T, E = Error> = std::result::Result<T, E>;

pub(crate) fn same_shape(what: &'static str, found: &[usize], expected: &[usize]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (found.to_vec(), expected.to_vec());
    Err(Error::Shape {
        what,
        found,
        expected,
    })
}

/// Refuses more than 32 bits can count, with room for a marker.
pub(crate) fn countable(what: &'static str, count: usize) -> Result<()> {
    if count < u32::MAX as usize {
        Ok(())
    } else {
        Err(Error::TooLarge { count, what })
    }
}
