//! Fragments: an over-segmentation by watershed, to be merged afterwards.

use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayView3, ArrayView4, Axis, Zip};

use crate::error::same_shape;
use crate::{
    Connectivity, Error, Result, connected_components, distance_transform, gaussian, maximum, watershed,
};

/// How fragments are made.
#[derive(Debug, Clone, PartialEq)]
pub struct FragmentParameters {
    /// The mean affinity above which a voxel is inside an object.
    pub foreground: f32,
    /// Smoothing of the distance to the boundary, in voxels.
    pub sigma: f64,
    /// A seed is the maximum within so many voxels along each axis.
    pub seed_radius: usize,
}

impl Default for FragmentParameters {
    fn default() -> Self {
        Self {
            foreground: 0.5,
            sigma: 1.0,
            seed_radius: 2,
        }
    }
}

/// Numbers fragments from 1. The mean of the affinities is a map of the inside; the maxima of the smoothed
/// distance to the boundary are the seeds; the map is flooded from them, highest first, until every voxel of
/// the mask belongs to a fragment. Where nothing is inside, there are no fragments: all 0. NaN counts as 0.
///
/// # Errors
/// [`Error::Channels`] without channels; [`Error::Shape`] if the mask does not fit; from bad parameters.
pub fn fragments(
    affinities: ArrayView4<f32>,
    mask: Option<ArrayView3<bool>>,
    parameters: &FragmentParameters,
) -> Result<Array3<u64>> {
    let channels = affinities.shape()[0];
    if channels == 0 {
        return Err(Error::Channels {
            channels,
            expected: 1,
            what: "at least",
        });
    }
    if !parameters.foreground.is_finite() {
        let value = f64::from(parameters.foreground);
        return Err(Error::Parameter {
            name: "foreground",
            value,
            expected: "finite",
        });
    }
    let mut boundary = mean(affinities).mapv_into(|inside| 1.0 - inside);
    if let Some(mask) = mask {
        same_shape("mask", mask.shape(), boundary.shape())?;
        Zip::from(&mut boundary).and(mask).for_each(|boundary, &open| {
            if !open {
                *boundary = f32::INFINITY;
            }
        });
    }
    let is_inside = |boundary: f32| boundary < 1.0 - parameters.foreground;
    let distance = distance_transform(boundary.mapv(is_inside).view(), [1.0; 3])?;
    let smooth = gaussian(distance, parameters.sigma)?;
    let peaks = Zip::from(&smooth)
        .and(&maximum(smooth.clone(), parameters.seed_radius))
        .and(&boundary)
        .par_map_collect(|&here, &most, &boundary| u64::from(is_inside(boundary) && here == most));
    // A plateau is one seed.
    let seeds = connected_components(peaks.view(), Connectivity::Corners)?;
    watershed(boundary.view(), seeds.view(), mask)
}

/// The mean over the channels, NaN as 0.
fn mean(affinities: ArrayView4<f32>) -> Array3<f32> {
    let (channels, depth, height, width) = affinities.dim();
    let mut mean = Array3::zeros((depth, height, width));
    let planes = mean.axis_iter_mut(Axis(0)).into_par_iter();
    planes
        .zip(affinities.axis_iter(Axis(1)))
        .for_each(|(mut mean, affinities)| {
            for channel in affinities.outer_iter() {
                Zip::from(&mut mean)
                    .and(channel)
                    .for_each(|mean, &value| *mean += if value.is_nan() { 0.0 } else { value });
            }
            mean /= channels as f32;
        });
    mean
}
