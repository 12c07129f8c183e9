//! Exact geometry, and arrays that are read and written by world region: in memory, as Zarr, and in the formats
//! of other programs. What arrays are for, and which of them belong to a run, is said elsewhere.
//!
//! Axes are in the order of memory, slowest first: channels, then z, y, x. Positions and sizes are in world
//! units and exact ([`Decimal`]); shapes are in voxels.

mod address;
mod convert;
mod coordinate;
mod decimal;
mod dtype;
mod error;
mod formats;
mod huge_pages;
pub mod lazy;
mod memory;
mod pyramid;
mod roi;
mod spec;
pub mod storage;
mod traits;
mod zarr;

pub use address::ArrayAddress;
pub use coordinate::Coordinate;
pub use decimal::Decimal;
pub use dtype::{DType, Element, NdData};
pub use error::{Error, Result};
pub use formats::{ExportOptions, Exported, OnPart, Placement, copy_array, export, open_source};
pub use huge_pages::HugePages;
pub use memory::MemoryArray;
pub use pyramid::{Level, PyramidOptions, Reduce, make_pyramid, open_level};
pub use roi::{Roi, SnapMode};
pub use spec::ArraySpec;
pub use traits::{ArrayRead, ArrayReadExt, ArrayWrite};
pub use zarr::{
    Codec, CreateOptions, DamagedChunk, DraftArray, Missing, Stored, ZarrArray, ZarrFormat, leave_group,
    levels_within, list_arrays, open_array,
};
