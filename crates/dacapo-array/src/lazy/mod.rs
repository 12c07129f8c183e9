//! Arrays that are computed from other arrays when they are read, region by region and never as a whole. They
//! compose in any order: each is an [`crate::ArrayRead`] over others. What a config calls them is said elsewhere.
//!
//! | | values | channels | region |
//! |---|---|---|---|
//! | [`Crop`] | as they are | all | what is in a Roi |
//! | [`Channels`] | as they are | some | |
//! | [`Cast`] | as another type, without loss | all | |
//! | [`Intensities`] | (v - min) / (max - min), as f32 | all | |
//! | [`Percentiles`] | the same, between two percentiles | all | |
//! | [`Resample`] | nearest, or linear and means | all | whole voxels of another size |
//! | [`Binarize`] | whether an id is of a group | one a group | |
//! | [`Classes`] | the number of an id's group | none | |
//! | [`Annotated`] | whether it is known if a voxel is of a group | one a group | |
//! | [`Constant`] | one value | | |
//! | [`Concat`] | as they are | those of all parts | where all parts are |
//! | [`AnyOf`] | whether a part is not 0 | none | where any part is |
//! | [`Sum`] | the sum of the parts | all | where any part is |
//! | [`Merge`] | objects of all parts, their ids kept apart | none | where any part is |
//! | [`Layers`] | the number of the part that is not 0 | none | where any part is |
//!
//! Outside of its own region each of them is 0, whatever the fill value of what it reads. Parts have to lie on
//! one grid.

mod binarize;
mod cast;
mod channels;
mod concat;
mod constant;
mod crop;
mod groups;
mod intensities;
mod layers;
mod merge;
mod parts;
mod percentiles;
mod resample;
mod sum;
mod values;
mod window;

pub use binarize::{Annotated, Binarize};
pub use cast::Cast;
pub use channels::Channels;
pub use concat::Concat;
pub use constant::Constant;
pub use crop::Crop;
pub use groups::Classes;
pub use intensities::Intensities;
pub use layers::{AnyOf, Layers};
pub use merge::Merge;
pub use percentiles::Percentiles;
pub use resample::{Interpolation, Resample};
pub use sum::Sum;

#[cfg(test)]
mod tests;
