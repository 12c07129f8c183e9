//! The exact Euclidean distance transform: how far each voxel is from what is labelled otherwise. Distances to the
//! faces between voxels, with a sign, are in `signed`.

use ndarray::{Array3, ArrayView3, ArrayViewMut3, Axis};
use rayon::prelude::*;

use crate::envelope::{Changes, lower};
use crate::{Error, Label, Result};

/// How distances are measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DistanceOptions {
    /// The size of a voxel along z, y and x, in any unit: that of the distances.
    pub spacing: [f64; 3],
    /// Distances are given as their squares.
    pub squared: bool,
    /// Along which axes what lies outside of the volume is background; else it is nothing. An image of depth 1 has
    /// no border along z.
    pub border: [bool; 3],
}

impl Default for DistanceOptions {
    /// Voxels of size 1, no squares, no border.
    fn default() -> Self {
        Self {
            spacing: [1.0; 3],
            squared: false,
            border: [false; 3],
        }
    }
}

/// The distance of each labelled voxel to the nearest one whose label is another, background among them: from
/// centre to centre, in the units of the spacing. 0 in the background, infinite where there is no other label.
///
/// For the distance to background alone, give a mask: `labels.mapv(|label| label != 0)`.
///
/// Distances along x come from the runs of equal labels; y and z lower them to the envelope of parabolas (Meijster,
/// Roerdink and Hesselink 2000, with the early end of Saito and Toriwaki 1994). Squares are kept in 32 bits: exact
/// for integer spacing while they are below 2²⁴, else to 1 part in 10⁶. A voxel of scratch takes 1 byte.
///
/// ```
/// use dacapo_kernels::{DistanceOptions, distance_transform};
/// use ndarray::array;
///
/// let labels = array![[[7u8, 7, 7, 7, 2, 2, 0]]];
/// let options = DistanceOptions { spacing: [1.0, 1.0, 0.5], ..DistanceOptions::default() };
/// let distance = distance_transform(labels.view(), &options)?;
/// assert_eq!(distance, array![[[2.0, 1.5, 1.0, 0.5, 0.5, 0.5, 0.0]]]);
/// # Ok::<(), dacapo_kernels::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`] unless the spacing is between 10⁻¹² and 10¹².
pub fn distance_transform<T: Label>(labels: ArrayView3<T>, options: &DistanceOptions) -> Result<Array3<f32>> {
    check_spacing(options.spacing)?;
    let mut distances = Array3::zeros(labels.raw_dim());
    if labels.is_empty() {
        return Ok(distances);
    }
    let labels = labels.as_standard_layout();
    #[allow(clippy::expect_used, reason = "it has just been made so")]
    let values = labels.as_slice().expect("standard layout");
    let changes = along_x(values, &mut distances, options);
    let along = |axis: usize| Changes {
        flags: changes.view().permuted_axes(lines(axis)),
        bit: CHANGES[axis],
        border: options.border[axis],
    };
    for axis in [1, 0] {
        let heights: ArrayViewMut3<f32> = distances.view_mut().permuted_axes(lines(axis));
        let root = axis == 0 && !options.squared;
        lower(heights, Some(along(axis)), options.spacing[axis], root);
    }
    Ok(distances)
}

/// The order of axes for work on the lines of an axis: neighbours in memory are side by side.
pub(crate) fn lines(axis: usize) -> [usize; 3] {
    match axis {
        0 => [1, 0, 2],
        1 => [0, 1, 2],
        _ => [0, 2, 1],
    }
}

pub(crate) fn check_spacing(spacing: [f64; 3]) -> Result<()> {
    match spacing.iter().find(|s| !(1e-12..=1e12).contains(*s)) {
        None => Ok(()),
        Some(&value) => Err(Error::Parameter {
            name: "the spacing",
            value,
            expected: "above 0: between 1e-12 and 1e12",
        }),
    }
}

/// By axis: the bit that tells of a change along it.
const CHANGES: [u8; 3] = [2, 1, 0];

/// Squared distances along x, and for y and z where labels change.
fn along_x<T: Label>(labels: &[T], distances: &mut Array3<f32>, options: &DistanceOptions) -> Array3<u8> {
    let (_, height, width) = distances.dim();
    let mut changes = Array3::zeros(distances.raw_dim());
    let squares: Vec<f32> = (0..=width)
        .map(|k| (k as f64 * options.spacing[2]).powi(2) as f32)
        .collect();
    let planes = distances
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(changes.axis_iter_mut(Axis(0)));
    planes.enumerate().for_each(|(z, (mut plane, mut changes))| {
        let rows = plane.outer_iter_mut().zip(changes.outer_iter_mut());
        for (y, (mut distances, mut changes)) in rows.enumerate() {
            #[allow(clippy::expect_used, reason = "the caller has just made both")]
            let (distances, changes) = (
                distances.as_slice_mut().expect("standard layout"),
                changes.as_slice_mut().expect("standard layout"),
            );
            let row = |z: usize, y: usize| &labels[(z * height + y) * width..][..width];
            let here = row(z, y);
            runs(here, &squares, options.border[2], distances);
            let before_y = row(z, y.saturating_sub(1));
            let before_z = row(z.saturating_sub(1), y);
            let others = before_y.iter().zip(before_z);
            for ((change, &label), (&before_y, &before_z)) in changes.iter_mut().zip(here).zip(others) {
                *change = u8::from(label != before_y) | (u8::from(label != before_z) << 1);
            }
        }
    });
    changes
}

/// The squared distance of each voxel of a row to the nearest end of its run.
fn runs<T: Label>(row: &[T], squares: &[f32], border: bool, distances: &mut [f32]) {
    let mut start = 0;
    while start < row.len() {
        let label = row[start];
        let length = row[start..].iter().position(|&other| other != label);
        let end = length.map_or(row.len(), |length| start + length);
        let run = &mut distances[start..end];
        let length = run.len();
        let begins = start > 0 || border;
        let ends = end < row.len() || border;
        start = end;
        if label == T::BACKGROUND {
            run.fill(0.0);
            continue;
        }
        let rising = match (begins, ends) {
            (true, true) => length.div_ceil(2),
            (true, false) => length,
            (false, true) => 0,
            (false, false) => {
                run.fill(f32::INFINITY);
                continue;
            }
        };
        run[..rising].copy_from_slice(&squares[1..=rising]);
        for (distance, &square) in run[rising..].iter_mut().rev().zip(&squares[1..]) {
            *distance = square;
        }
    }
}
