//! The exact Euclidean distance transform.

use ndarray::{Array1, Array3, ArrayView3, Axis, Zip};

use crate::{Error, Result};

/// The distance of each voxel that is set to the nearest one that is not, in the units of `spacing` (z, y, x);
/// 0 where it is not set, infinite where nothing is unset. What lies outside the volume is neither.
///
/// One pass an axis over lower envelopes of parabolas (Felzenszwalb and Huttenlocher 2012).
///
/// # Errors
/// [`Error::Parameter`] unless the spacing is finite and positive.
pub fn distance_transform(mask: ArrayView3<bool>, spacing: [f64; 3]) -> Result<Array3<f32>> {
    if let Some(&value) = spacing.iter().find(|&&s| !(s.is_finite() && s > 0.0)) {
        let (name, expected) = ("spacing", "finite and above 0");
        return Err(Error::Parameter {
            name,
            value,
            expected,
        });
    }
    let mut squared = mask.mapv(|set| if set { f64::INFINITY } else { 0.0 });
    for axis in (0..3).rev() {
        Zip::from(squared.lanes_mut(Axis(axis))).par_for_each(|mut lane| {
            let line = lane.to_owned();
            if line.iter().any(|&value| value > 0.0) {
                lane.assign(&envelope(&line, spacing[axis]));
            }
        });
    }
    Ok(squared.mapv(|value| value.sqrt() as f32))
}

/// The least of `line[j] + (spacing × (i - j))²` over all j, at each i.
fn envelope(line: &Array1<f64>, spacing: f64) -> Array1<f64> {
    let area = spacing * spacing;
    // Parabolas of the envelope: their vertex, and where they begin to be the lowest.
    let mut lowest: Vec<(usize, f64)> = Vec::with_capacity(line.len());
    for (vertex, &height) in line.iter().enumerate().filter(|(_, height)| height.is_finite()) {
        let x = vertex as f64;
        let begin = loop {
            let Some(&(before, begin)) = lowest.last() else {
                break f64::NEG_INFINITY;
            };
            let at = before as f64;
            let crossing = ((height - line[before]) / area + x * x - at * at) / (2.0 * (x - at));
            if crossing > begin {
                break crossing;
            }
            lowest.pop();
        };
        lowest.push((vertex, begin));
    }
    if lowest.is_empty() {
        return line.clone();
    }
    let mut current = 0;
    Array1::from_shape_fn(line.len(), |i| {
        while lowest
            .get(current + 1)
            .is_some_and(|&(_, begin)| begin < i as f64)
        {
            current += 1;
        }
        let vertex = lowest[current].0;
        let steps = i.abs_diff(vertex) as f64;
        line[vertex] + steps * steps * area
    })
}
