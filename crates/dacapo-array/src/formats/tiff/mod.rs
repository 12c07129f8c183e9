//! TIFF files of one or many pages: read page by page, written page by page. What pages mean (slices,
//! channels, times, and how large a voxel is) is said by their description.

mod description;
mod read;
mod write;

pub(super) use read::{TiffFile, open};
pub(super) use write::write;
