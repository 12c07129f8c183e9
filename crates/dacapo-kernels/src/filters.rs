//! Separable filters of volumes: Gaussian smoothing and the maximum in a window.

use ndarray::{Array1, Array3, ArrayViewMut1, Axis, Zip};

use crate::{Error, Result};

/// Smooths with a Gaussian of `sigma` voxels, cut off at 4 sigma. The volume is mirrored at its faces, as
/// SciPy's `gaussian_filter` does by default: … b a | a b c ….
///
/// # Errors
/// [`Error::Parameter`] if sigma is negative or not finite.
pub fn gaussian(volume: Array3<f32>, sigma: f64) -> Result<Array3<f32>> {
    if !(sigma.is_finite() && sigma >= 0.0) {
        let (name, expected) = ("sigma", "finite and at least 0");
        return Err(Error::Parameter {
            name,
            value: sigma,
            expected,
        });
    }
    let radius = (4.0 * sigma + 0.5) as usize;
    if radius == 0 {
        return Ok(volume);
    }
    let bell = |i: usize| (-0.5 * (i as f64 / sigma).powi(2)).exp();
    let total = bell(0) + 2.0 * (1..=radius).map(bell).sum::<f64>();
    let half: Vec<f64> = (0..=radius).map(|i| bell(i) / total).collect();
    Ok(each_line(volume, |mut line| {
        let n = line.len();
        // The line, mirrored as often as it takes.
        let padded: Vec<f64> = (0..n + 2 * radius)
            .map(|i| {
                let place = (i + 2 * n * radius - radius) % (2 * n);
                f64::from(line[place.min(2 * n - 1 - place)])
            })
            .collect();
        for (i, value) in line.iter_mut().enumerate() {
            let centre = i + radius;
            let pairs = half.iter().enumerate().skip(1);
            let sum = pairs.map(|(d, weight)| weight * (padded[centre - d] + padded[centre + d]));
            *value = (half[0] * padded[centre] + sum.sum::<f64>()) as f32;
        }
    }))
}

/// The largest value within `radius` voxels along each axis: in a window of 2 × radius + 1, as much of it as
/// is inside the volume.
pub fn maximum(volume: Array3<f32>, radius: usize) -> Array3<f32> {
    each_line(volume, |mut line| {
        let values: Array1<f32> = line.to_owned();
        for (i, value) in line.iter_mut().enumerate() {
            let window = i.saturating_sub(radius)..(i + radius + 1).min(values.len());
            *value = window.fold(f32::NEG_INFINITY, |most, j| most.max(values[j]));
        }
    })
}

/// Filters all lines of each axis in turn; axes of one voxel too.
fn each_line(mut volume: Array3<f32>, filter: impl Fn(ArrayViewMut1<f32>) + Sync) -> Array3<f32> {
    if !volume.is_empty() {
        for axis in (0..3).rev() {
            Zip::from(volume.lanes_mut(Axis(axis))).par_for_each(&filter);
        }
    }
    volume
}
