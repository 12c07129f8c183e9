//! Arrays of other programs: TIFF, folders of images, `.npy`, N5, HDF5, read by window wherever the format has
//! one, and written part by part. Local files only; Zarr is at home elsewhere.
//!
//! | read | lazy by | place in the world |
//! |---|---|---|
//! | TIFF, of one or many pages | strip or tile | ImageJ's and OME-TIFF's; resolution tags alone are not believed |
//! | folder of `.png` or `.tif`, natural order | slice | – |
//! | `.npy` | row | – |
//! | N5 (raw, gzip, zstd, blosc) | block | `resolution`, `pixelResolution`, `downsamplingFactors`, `offset`, `units`, `axes`, `transform` |
//! | HDF5, with the feature `hdf5` | rows of chunks | `voxel_size`, `resolution`, `offset`, `units`, `axis_names`, `element_size_um` |
//!
//! Samples of a pixel and further axes become channel axes in front of the spatial ones.

mod aside;
mod blocks;
mod copy;
mod export;
mod images;
mod n5;
mod npy;
mod parts;
mod placement;
mod rows;
mod source;
mod tiff;
mod values;

#[cfg(feature = "hdf5")]
mod hdf5;
#[cfg(not(feature = "hdf5"))]
#[path = "no_hdf5.rs"]
mod hdf5;

pub use copy::copy_array;
pub use export::{ExportOptions, Exported, export};
pub use parts::OnPart;
pub(crate) use parts::{PART, go_through, parts};
pub use placement::Placement;
pub use source::open_source;
