//! Classes out of predictions: the channel with the largest value, and what is above a threshold.

use ndarray::{Array3, ArrayView1, ArrayView3, ArrayView4, Axis};
use rayon::prelude::*;

use crate::elementwise::map;
use crate::{Error, Result};

/// The channel with the largest value at each voxel of (channels, z, y, x): the first of equal ones. NaN is less than
/// anything; where all are NaN, and so all minus infinity, it is channel 0.
///
/// ```
/// use dacapo_kernels::argmax;
/// use ndarray::array;
///
/// let scores = array![[[[0.1f32, 0.5, f32::NAN]]], [[[0.9, 0.5, -3.0]]]];
/// assert_eq!(argmax(scores.view())?, array![[[1, 0, 1]]]);
/// # Ok::<(), dacapo_kernels::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`] without any channel, and with more than 256.
pub fn argmax(values: ArrayView4<f32>) -> Result<Array3<u8>> {
    let (channels, depth, height, width) = values.dim();
    if !(1..=256).contains(&channels) {
        return Err(Error::Parameter {
            name: "the number of channels",
            value: channels as f64,
            expected: "between 1 and 256",
        });
    }
    let mut winners = Array3::zeros((depth, height, width));
    winners
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .enumerate()
        .for_each_init(
            || (vec![0.0; width], vec![0; width]),
            |(most, best), (z, mut plane)| {
                let values = values.index_axis(Axis(1), z);
                for (y, mut winners) in plane.outer_iter_mut().enumerate() {
                    most.fill(f32::NEG_INFINITY);
                    best.fill(0);
                    for (values, channel) in values.axis_iter(Axis(0)).zip(0..) {
                        raise(most, best, values.index_axis_move(Axis(0), y), channel);
                    }
                    winners
                        .iter_mut()
                        .zip(&*best)
                        .for_each(|(winner, &best)| *winner = best as u8);
                }
            },
        );
    Ok(winners)
}

/// Notes a channel where its values are the largest so far. Numbers as wide as values are compared side by side.
fn raise(most: &mut [f32], best: &mut [u32], row: ArrayView1<f32>, channel: u32) {
    let places = most.iter_mut().zip(best);
    let note = |((most, best), &value): ((&mut f32, &mut u32), &f32)| {
        // As bits, so that there is no branch.
        let is_more = 0_u32.wrapping_sub(u32::from(value > *most));
        *best = (channel & is_more) | (*best & !is_more);
        *most = if value > *most { value } else { *most };
    };
    match row.to_slice() {
        Some(row) => places.zip(row).for_each(note),
        None => places.zip(&row).for_each(note),
    }
}

/// Whether each value is above a threshold. NaN is not.
pub fn threshold(values: ArrayView3<f32>, threshold: f32) -> Array3<bool> {
    map(values, |value| value > threshold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array4, s};

    #[test]
    fn classes_are_their_definition_in_any_layout() {
        let value = |i: usize| [0.5, -1.0, f32::NAN, 0.25, f32::NEG_INFINITY, 2.0, 0.5][i * i % 7];
        for shape in [
            (1, 2, 3, 4),
            (3, 4, 5, 18),
            (5, 1, 1, 7),
            (2, 0, 3, 3),
            (256, 2, 2, 2),
        ] {
            let mut index = 0;
            let values = Array4::from_shape_simple_fn(shape, || {
                index += 1;
                value(index)
            });
            let expected = Array3::from_shape_fn((shape.1, shape.2, shape.3), |(z, y, x)| {
                let of = |c: usize| values[[c, z, y, x]];
                let is_first_most =
                    |c: usize| (0..shape.0).all(|d| !(of(d) > of(c) || d < c && of(d) == of(c)));
                let some = (0..shape.0).find(|&c| of(c) > f32::NEG_INFINITY && is_first_most(c));
                some.unwrap_or(0) as u8
            });
            assert_eq!(argmax(values.view()).unwrap(), expected);
            let mut spread = Array4::zeros((shape.0, shape.1, 2 * shape.2, 2 * shape.3));
            spread.slice_mut(s![.., .., ..;2, ..;2]).assign(&values);
            assert_eq!(argmax(spread.slice(s![.., .., ..;2, ..;2])).unwrap(), expected);
            let turned = argmax(values.view().permuted_axes([0, 3, 2, 1])).unwrap();
            assert_eq!(turned.permuted_axes([2, 1, 0]), expected);
            let first = values.index_axis(Axis(0), 0);
            let above = threshold(first, 0.25);
            assert!(
                above
                    .iter()
                    .zip(first)
                    .all(|(&above, &value)| above == (value > 0.25))
            );
        }
        assert!(argmax(Array4::zeros((0, 1, 1, 1)).view()).is_err());
        assert!(argmax(Array4::zeros((257, 1, 1, 1)).view()).is_err());
    }
}
