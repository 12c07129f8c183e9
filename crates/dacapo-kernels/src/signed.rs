//! Distances to the faces between voxels of unlike labels, with a sign.

use ndarray::{Array3, ArrayView3, ArrayViewMut1, Axis, Zip};

use crate::distance::{check_spacing, lines};
use crate::envelope::lower;
use crate::{Label, Result};

/// The distance of each voxel's centre to the nearest centre of a face between two voxels of unlike labels, in the
/// units of `spacing`: positive in objects, negative in the background, so that it is 0 at the faces and never at a
/// voxel. Infinite, with that sign, if all labels are the same. Faces of the volume are no faces between labels.
///
/// This is DaCapo's definition, which doubles the grid for it. Here, faces across an axis are distances along the
/// lines of that axis, in half voxels, which the other two axes lower to envelopes; faces across y and x go through
/// z together. A voxel of scratch takes 8 bytes.
///
/// ```
/// use dacapo_kernels::signed_distance;
/// use ndarray::array;
///
/// let distance = signed_distance(array![[[0u8, 0, 5, 5, 6]]].view(), [1.0, 1.0, 8.0])?;
/// assert_eq!(distance, array![[[-12.0, -4.0, 4.0, 4.0, 4.0]]]);
/// # Ok::<(), dacapo_kernels::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`](crate::Error::Parameter) unless the spacing is between 10⁻¹² and 10¹².
pub fn signed_distance<T: Label>(labels: ArrayView3<T>, spacing: [f64; 3]) -> Result<Array3<f32>> {
    check_spacing(spacing)?;
    let mut distance = across(labels, spacing, 1);
    lower_along(&mut distance, 2, spacing);
    let mut other = across(labels, spacing, 2);
    lower_along(&mut other, 1, spacing);
    least(&mut distance, &other);
    lower_along(&mut distance, 0, spacing);
    if labels.len_of(Axis(0)) > 1 {
        other = across(labels, spacing, 0);
        lower_along(&mut other, 1, spacing);
        lower_along(&mut other, 2, spacing);
        least(&mut distance, &other);
    }
    Zip::from(&mut distance)
        .and(labels)
        .par_for_each(|distance, &label| {
            let root = distance.sqrt();
            *distance = if label == T::BACKGROUND { -root } else { root };
        });
    Ok(distance)
}

fn lower_along(heights: &mut Array3<f32>, axis: usize, spacing: [f64; 3]) {
    if heights.len_of(Axis(axis)) > 1 {
        let heights = heights.view_mut().permuted_axes(lines(axis));
        lower(heights, None, spacing[axis], false);
    }
}

fn least(values: &mut Array3<f32>, others: &Array3<f32>) {
    Zip::from(values)
        .and(others)
        .par_for_each(|value, &other| *value = value.min(other));
}

/// The squared distance to the nearest face across an axis, along the line through it.
fn across<T: Label>(labels: ArrayView3<T>, spacing: [f64; 3], axis: usize) -> Array3<f32> {
    let mut distances = Array3::from_elem(labels.raw_dim(), f32::INFINITY);
    if labels.is_empty() {
        return distances;
    }
    let spacing = spacing[axis];
    Zip::from(labels.lanes(Axis(axis)))
        .and(distances.lanes_mut(Axis(axis)))
        .par_for_each(|labels, mut distances: ArrayViewMut1<f32>| {
            let mut steps = f64::INFINITY;
            for i in 1..labels.len() {
                steps = if labels[i] == labels[i - 1] {
                    steps + 1.0
                } else {
                    0.5
                };
                distances[i] = (steps * spacing).powi(2) as f32;
            }
            steps = f64::INFINITY;
            for i in (1..labels.len()).rev() {
                steps = if labels[i] == labels[i - 1] {
                    steps + 1.0
                } else {
                    0.5
                };
                distances[i - 1] = distances[i - 1].min((steps * spacing).powi(2) as f32);
            }
        });
    distances
}
