//! Segmentation and evaluation kernels: ndarray views in, ndarrays out. Volumes are (z, y, x), affinities
//! (channel, z, y, x); a 2D image is a volume of depth 1. No input or output, no regions in world units, no
//! configuration lives here, and no result depends on the number of threads.
//!
//! The affinity of an offset `o` at voxel `p` links `p` and `p + o`. Label 0 is background in every volume.

mod affinities;
mod agglomerate;
mod apart;
mod balance;
mod band;
mod blocks;
mod classes;
mod components;
mod contacts;
mod contingency;
mod distance;
mod elementwise;
mod entropy;
mod envelope;
mod error;
mod evidence;
mod filters;
mod fragments;
mod hash;
mod hills;
mod label;
mod lsd;
mod merging;
mod mutex;
mod offsets;
mod quantise;
mod ranges;
mod relabel;
mod runs;
mod signed;
mod threshold_sweep;
mod union_find;
mod watershed;

pub use affinities::{Background, affinities};
pub use agglomerate::{Merge, MergeHistory, MergeLimits};
pub use balance::{Clip, class_weights};
pub use band::boundary_band;
pub use blocks::{
    BlockComponents, ComponentFaces, ComponentJoin, block_components, number_block, same_fragments,
};
pub use classes::{argmax, threshold};
pub use components::{Connectivity, connected_components, connected_components_into};
pub use contacts::{Contact, ContactGraph};
pub use contingency::{ContingencyTable, Overlap};
pub use distance::{DistanceOptions, distance_transform};
pub use entropy::Voi;
pub use error::{Error, Result};
pub use evidence::{AffinityHistogram, Evidence, MaximumAffinity, MeanAffinity};
pub use filters::{gaussian, maximum};
pub use fragments::{FragmentParameters, fragments};
pub use label::{Id, Label};
pub use lsd::{LsdOptions, local_shape_descriptors};
pub use mutex::{Affinity, MutexEdges, mutex_watershed};
pub use offsets::{Offset, check_offsets};
pub use quantise::{ValueRange, quantise};
pub use relabel::{
    Remap, Unlisted, relabel_in_place, relabel_sequential, remap_by_table, size_filter, unique,
};
pub use signed::signed_distance;
pub use threshold_sweep::{Agreement, SweepPoint, SweepRules, ThresholdCounts, best_point, component_sweep};
pub use union_find::UnionFind;
pub use watershed::{Height, watershed};
