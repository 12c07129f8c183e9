//! Grids that cannot be.

use dacapo_array::Coordinate;

/// The result of making a grid.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is no such grid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Coordinates of different dimensions.
    #[error("the {what} {value} has {} dimensions, and the voxel size {voxel_size} has {}", value.dims(), voxel_size.dims())]
    Dims {
        /// What has other dimensions.
        what: &'static str,
        /// Its value.
        value: Coordinate,
        /// The voxel size of the grid.
        voxel_size: Coordinate,
    },
    /// A coordinate between voxels.
    #[error("the {what} {value} is not a multiple of the voxel size {voxel_size}")]
    OffGrid {
        /// What is off the grid.
        what: &'static str,
        /// Its value.
        value: Coordinate,
        /// The voxel size of the grid.
        voxel_size: Coordinate,
    },
    /// A length that is zero or negative where it may not be.
    #[error("the {what} {value} is too small in one of its dimensions")]
    TooSmall {
        /// What is too small.
        what: &'static str,
        /// Its value.
        value: Coordinate,
    },
    /// A total that is not made of whole blocks, where only those were allowed.
    #[error("the total shape {total} is not a multiple of the block shape {block}")]
    NotWhole {
        /// Shape of the total.
        total: Coordinate,
        /// Shape of a block.
        block: Coordinate,
    },
    /// More blocks than can be counted.
    #[error("the total shape {total} in blocks of {block} makes too many blocks to count")]
    TooMany {
        /// Shape of the total.
        total: Coordinate,
        /// Shape of a block.
        block: Coordinate,
    },
}
