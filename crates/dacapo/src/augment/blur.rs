//! Gaussian blur, axis by axis. At the crop's border it is mirrored.

use ndarray::{Array4, ArrayViewMut2, Axis};
use rayon::prelude::*;

use super::Frame;
use crate::config::BlurConfig;
use crate::random::Random;

/// A blur, by its standard deviation in voxels along each axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blur {
    sigma: [f32; 3],
}

/// Deviations below this change nothing that could be seen.
const SMALLEST: f32 = 0.1;
/// The kernel reaches so many deviations to each side: what it leaves out is less than 1 in 300.
const REACH: f32 = 3.0;

impl Blur {
    /// Of so many voxels along each axis.
    pub fn new(sigma: [f32; 3]) -> Self {
        Self { sigma }
    }

    /// One drawn evenly from the config's range; none if it does not happen.
    pub(super) fn draw(config: &BlurConfig, frame: &Frame, random: &mut Random) -> Option<Self> {
        let happens = random.chance(config.probability);
        let sigma = random.between(config.sigma);
        let flat = 3 - frame.dims;
        let finest = frame.voxel_size[flat..]
            .iter()
            .copied()
            .fold(f64::INFINITY, f64::min);
        let first = flat + usize::from(config.in_plane && frame.dims == 3);
        let along = |a: usize| {
            if a < first {
                0.0
            } else {
                sigma * (finest / frame.voxel_size[a]) as f32
            }
        };
        happens.then(|| Self::new(std::array::from_fn(along)))
    }

    /// Blurs each channel of (channels, z, y, x).
    pub fn apply(&self, values: &mut Array4<f32>) {
        for (axis, &sigma) in self.sigma.iter().enumerate() {
            if sigma < SMALLEST || values.len_of(Axis(axis + 1)) < 2 {
                continue;
            }
            let kernel = kernel(sigma);
            for mut channel in values.outer_iter_mut() {
                // Along z the planes of y, else those of z, are blurred apart from each other; the axis that is
                // blurred comes first in them.
                let apart = Axis(usize::from(axis == 0));
                channel
                    .axis_iter_mut(apart)
                    .into_par_iter()
                    .for_each(|mut plane| {
                        if axis == 2 {
                            plane.swap_axes(0, 1);
                        }
                        blur_plane(plane, &kernel);
                    });
            }
        }
    }
}

/// Half a kernel, from its middle outwards; the whole adds up to 1.
fn kernel(sigma: f32) -> Vec<f32> {
    let reach = (REACH * sigma).ceil() as i32;
    let weight = |i: i32| (-0.5 * (i as f32 / sigma).powi(2)).exp();
    let sum: f32 = (-reach..=reach).map(weight).sum();
    (0..=reach).map(|i| weight(i) / sum).collect()
}

/// Blurs along the first axis: … 2 1 0 1 2 … past its ends.
fn blur_plane(mut plane: ArrayViewMut2<f32>, kernel: &[f32]) {
    let source = plane.to_owned();
    let last = source.nrows() as i64 - 1;
    let inside = |i: i64| {
        let place = i.rem_euclid(2 * last);
        (if place > last { 2 * last - place } else { place }) as usize
    };
    for (i, mut row) in plane.outer_iter_mut().enumerate() {
        row.zip_mut_with(&source.row(i), |out, &value| *out = value * kernel[0]);
        for (distance, &weight) in (1_i64..).zip(&kernel[1..]) {
            let (before, after) = (
                source.row(inside(i as i64 - distance)),
                source.row(inside(i as i64 + distance)),
            );
            ndarray::Zip::from(&mut row)
                .and(&before)
                .and(&after)
                .for_each(|out, &before, &after| *out += weight * (before + after));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    fn wavy(shape: (usize, usize, usize, usize)) -> Array4<f32> {
        Array4::from_shape_fn(shape, |(c, z, y, x)| {
            ((7 * c + 5 * z + 3 * y * y + 11 * x) % 17) as f32 / 17.0
        })
    }

    /// The sum over the whole box of the kernel, simple and slow.
    fn naive(values: &Array4<f32>, sigma: [f32; 3]) -> Array4<f32> {
        let weight = |d: i64, sigma: f32| {
            let half = if sigma < SMALLEST {
                vec![1.0]
            } else {
                kernel(sigma)
            };
            half.get(d.unsigned_abs() as usize).copied().unwrap_or(0.0)
        };
        let reach = sigma.map(|s| (REACH * s).ceil() as i64);
        let shape: Vec<i64> = values.shape()[1..].iter().map(|&n| n as i64).collect();
        let mirror = |i: i64, n: i64| {
            if n == 1 {
                return 0;
            }
            let place = i.rem_euclid(2 * (n - 1));
            (if place >= n { 2 * (n - 1) - place } else { place }) as usize
        };
        Array4::from_shape_fn(values.dim(), |(c, z, y, x)| {
            let mut sum = 0.0;
            for dz in -reach[0]..=reach[0] {
                for dy in -reach[1]..=reach[1] {
                    for dx in -reach[2]..=reach[2] {
                        let from = [
                            c,
                            mirror(z as i64 + dz, shape[0]),
                            mirror(y as i64 + dy, shape[1]),
                            mirror(x as i64 + dx, shape[2]),
                        ];
                        sum +=
                            weight(dz, sigma[0]) * weight(dy, sigma[1]) * weight(dx, sigma[2]) * values[from];
                    }
                }
            }
            sum
        })
    }

    #[test]
    fn it_is_the_sum_over_the_kernel() {
        for (shape, sigma) in [
            ((2, 5, 6, 7), [0.4, 0.8, 1.2]),
            ((1, 1, 9, 8), [0.0, 1.0, 0.6]),
            ((1, 2, 3, 2), [1.5, 1.5, 1.5]),
        ] {
            let values = wavy(shape);
            let mut blurred = values.clone();
            Blur::new(sigma).apply(&mut blurred);
            let expected = naive(&values, sigma);
            for (found, expected) in blurred.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-5, "{shape:?}: {found} {expected}");
            }
        }
    }

    #[test]
    fn without_width_it_changes_nothing_and_a_constant_stays() {
        let values = wavy((1, 4, 5, 6));
        let mut same = values.clone();
        Blur::new([0.0; 3]).apply(&mut same);
        assert_eq!(same, values);
        let mut constant = Array4::from_elem((1, 6, 6, 6), 0.7);
        Blur::new([1.3, 0.7, 2.0]).apply(&mut constant);
        assert!(constant.iter().all(|&v| (v - 0.7_f32).abs() < 1e-5));
    }

    #[test]
    fn it_is_as_wide_in_world_units_along_every_axis() {
        let frame = |dims, voxel_size| Frame {
            dims,
            shape: [9; 3],
            voxel_size,
            kinds: [0, 1, 2],
        };
        let config = |in_plane| BlurConfig {
            sigma: [2.0, 2.0],
            in_plane,
            probability: 1.0,
        };
        let draw = |config, frame| Blur::draw(&config, &frame, &mut Random::new(0, 0, 0, Purpose::Augment));
        assert_eq!(
            draw(config(false), frame(3, [40.0, 4.0, 8.0])).unwrap().sigma,
            [0.2, 2.0, 1.0]
        );
        assert_eq!(
            draw(config(true), frame(3, [40.0, 4.0, 8.0])).unwrap().sigma,
            [0.0, 2.0, 1.0]
        );
        assert_eq!(
            draw(config(true), frame(2, [1.0, 4.0, 4.0])).unwrap().sigma,
            [0.0, 2.0, 2.0]
        );
        let never = BlurConfig {
            probability: 0.0,
            ..config(false)
        };
        assert_eq!(draw(never, frame(2, [1.0, 4.0, 4.0])), None);
    }
}
