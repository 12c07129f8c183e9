//! Segmentation and evaluation kernels: ndarray views in, ndarrays out. Volumes are (z, y, x), affinities
//! (channel, z, y, x); a 2D image is a volume of depth 1. No input or output, no regions in world units, no
//! configuration lives here, and no result depends on the number of threads.
//!
//! The affinity of an offset `o` at voxel `p` links `p` and `p + o`. Label 0 is background in every volume.

mod affinities;
mod agglomerate;
mod balance;
mod classes;
mod components;
mod contacts;
mod contingency;
mod distance;
mod envelope;
mod error;
mod filters;
mod fragments;
mod label;
mod lsd;
mod mutex;
mod offsets;
mod quantise;
mod relabel;
mod signed;
mod union_find;
mod watershed;

pub use affinities::{Background, affinities};
pub use agglomerate::{Merge, MergeHistory, agglomerate};
pub use balance::{Clip, class_weights};
pub use classes::{argmax, threshold};
pub use components::{Connectivity, connected_components};
pub use contacts::{Contact, contacts};
pub use contingency::{ContingencyTable, Voi};
pub use distance::{DistanceOptions, distance_transform};
pub use error::{Error, Result};
pub use filters::{gaussian, maximum};
pub use fragments::{FragmentParameters, fragments};
pub use label::Label;
pub use lsd::{LsdOptions, local_shape_descriptors};
pub use mutex::{MutexEdges, mutex_watershed};
pub use offsets::{Offset, check_offsets};
pub use quantise::{ValueRange, quantise};
pub use relabel::relabel_sequential;
pub use signed::signed_distance;
pub use union_find::UnionFind;
pub use watershed::watershed;
