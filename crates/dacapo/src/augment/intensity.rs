//! Changes of intensities, voxel by voxel: the range of raw mapped to what the network is shown, contrast,
//! brightness, gamma, and noise. In one pass over stretches that stay in the cache.

use ndarray::Array4;
use rayon::prelude::*;

use super::{Draw, poisson};
use crate::config::{AugmentConfig, IntensityRange};
use crate::elementary::power;
use crate::random::{Purpose, Random};

/// Voxels that are worked on together; each stretch has a part of the random sequences to itself, so that the
/// result is the same at any number of threads.
const STRETCH: usize = 1 << 14;
/// Groups of four random numbers of a stretch: twice as many as one number for each voxel would take.
const GROUPS: u32 = (STRETCH / 2) as u32;

/// A change of intensities: values are scaled about the middle of the range, shifted, raised to a power, and noise
/// is added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IntensityChange {
    /// Factor of the contrast.
    pub scale: f32,
    /// Added brightness.
    pub shift: f32,
    /// Exponent of the intensities, which are 0 to 1; what is below 0 stays as it is.
    pub gamma: f32,
    /// Expected particles of a voxel of intensity 1, if they are counted.
    pub counts: Option<f32>,
    /// Standard deviation of Gaussian noise.
    pub noise: f32,
}

impl IntensityChange {
    /// Changes nothing.
    pub const NONE: Self = Self {
        scale: 1.0,
        shift: 0.0,
        gamma: 1.0,
        counts: None,
        noise: 0.0,
    };

    /// One drawn from the config's ranges.
    pub fn draw(config: &AugmentConfig, random: &mut Random) -> Self {
        let scale = random.between(config.intensity_scale);
        let shift = random.between(config.intensity_shift);
        let noise = random.between([0.0, config.noise]);
        let gamma = config
            .gamma
            .map_or(1.0, |range| random.between_evenly(range.map(f64::from)) as f32);
        let counts = config.poisson.as_ref().and_then(|poisson| {
            let happens = random.chance(poisson.probability);
            let counts = random.between_evenly(poisson.counts.map(f64::from)) as f32;
            happens.then_some(counts)
        });
        Self {
            scale,
            shift,
            gamma,
            counts,
            noise,
        }
    }

    /// Makes of raw values what the network is shown: the range becomes -0.5…0.5, changed; the noise is that of
    /// `draw`.
    pub fn apply(&self, values: &mut Array4<f32>, range: IntensityRange, draw: Draw) {
        if !values.is_standard_layout() {
            *values = values.as_standard_layout().into_owned();
        }
        let Some(values) = values.as_slice_mut() else {
            return;
        };
        let gaussian = draw.random(Purpose::Noise);
        let particles = draw.random(Purpose::Poisson);
        values
            .par_chunks_mut(STRETCH)
            .enumerate()
            .for_each(|(stretch, values)| {
                let group = (stretch as u32).wrapping_mul(GROUPS);
                range.map(values);
                self.expose(values);
                if let Some(counts) = self.counts {
                    poisson::count(values, counts, &mut particles.clone().jump(group));
                }
                if self.noise > 0.0 {
                    self.disturb(values, &mut gaussian.clone().jump(group));
                }
            });
    }

    fn expose(&self, values: &mut [f32]) {
        for value in values.iter_mut() {
            *value = *value * self.scale + self.shift;
        }
        if self.gamma != 1.0 {
            for value in values.iter_mut() {
                let intensity = *value + 0.5;
                let changed = power(intensity.max(0.0), self.gamma);
                *value = if intensity > 0.0 { changed } else { intensity } - 0.5;
            }
        }
    }

    fn disturb(&self, values: &mut [f32], random: &mut Random) {
        let mut normal = [0.0; 256];
        for values in values.chunks_mut(normal.len()) {
            random.normals(&mut normal[..values.len()]);
            for (value, normal) in values.iter_mut().zip(normal) {
                *value += self.noise * normal;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: IntensityRange = IntensityRange { min: -0.5, max: 0.5 };

    fn at(iteration: u64) -> Draw {
        Draw {
            seed: 1,
            iteration,
            sample: 0,
        }
    }

    fn constant(value: f32) -> Array4<f32> {
        Array4::from_elem((2, 20, 30, 31), value)
    }

    fn changed(change: IntensityChange, value: f32, iteration: u64) -> Array4<f32> {
        let mut values = constant(value);
        change.apply(&mut values, UNIT, at(iteration));
        values
    }

    fn moments(values: &Array4<f32>) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance)
    }

    #[test]
    fn nothing_changes_nothing_but_the_range() {
        assert_eq!(changed(IntensityChange::NONE, 0.25, 0), constant(0.25));
        let mut bytes = Array4::from_elem((1, 2, 2, 2), 255.0);
        let range = IntensityRange { min: 0.0, max: 255.0 };
        IntensityChange::NONE.apply(&mut bytes, range, at(0));
        assert!(bytes.iter().all(|&v| v == 0.5));
    }

    #[test]
    fn contrast_brightness_and_gamma_change_as_said() {
        let change = IntensityChange {
            scale: 2.0,
            shift: 0.1,
            ..IntensityChange::NONE
        };
        assert!(changed(change, 0.25, 2).iter().all(|v| (v - 0.6).abs() < 1e-6));
        let change = IntensityChange {
            gamma: 2.0,
            ..IntensityChange::NONE
        };
        // Intensity 0.7 becomes 0.49; black stays black, white white, and what is darker than black as it is.
        for (before, after) in [(0.2, -0.01), (-0.5, -0.5), (0.5, 0.5), (-0.8, -0.8)] {
            assert!(
                changed(change, before, 2)
                    .iter()
                    .all(|v| (v - after).abs() < 1e-5),
                "{before}"
            );
        }
    }

    #[test]
    fn gaussian_noise_has_its_deviation_and_differs_from_voxel_to_voxel() {
        let change = IntensityChange {
            noise: 0.5,
            ..IntensityChange::NONE
        };
        let noisy = changed(change, 0.0, 2);
        let (mean, variance) = moments(&noisy);
        assert!(
            mean.abs() < 0.01 && (variance.sqrt() - 0.5).abs() < 0.01,
            "{mean} {variance}"
        );
        assert_ne!(
            noisy.index_axis(ndarray::Axis(0), 0),
            noisy.index_axis(ndarray::Axis(0), 1)
        );
        let mut seen: Vec<u32> = noisy.iter().map(|v| v.to_bits()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert!(
            seen.len() > noisy.len() * 9 / 10,
            "stretches do not repeat each other"
        );
        assert_eq!(noisy, changed(change, 0.0, 2));
        assert_ne!(noisy, changed(change, 0.0, 3));
    }

    #[test]
    fn counted_particles_keep_the_mean_and_have_the_variance_of_their_number() {
        for (counts, value) in [(5.0, 0.1), (40.0, 0.3), (1000.0, -0.2)] {
            let change = IntensityChange {
                counts: Some(counts),
                ..IntensityChange::NONE
            };
            let (mean, variance) = moments(&changed(change, value, 4));
            let expected = f64::from(value + 0.5) / f64::from(counts);
            assert!(
                (mean - f64::from(value)).abs() < 4.0 * (expected / 37_200.0).sqrt(),
                "{counts}: {mean}"
            );
            assert!(
                (variance / expected - 1.0).abs() < 0.04,
                "{counts}: {variance} {expected}"
            );
        }
    }

    #[test]
    fn the_result_is_the_same_at_any_number_of_threads() {
        let change = IntensityChange {
            scale: 1.1,
            shift: 0.01,
            gamma: 0.8,
            counts: Some(30.0),
            noise: 0.1,
        };
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| changed(change, 0.1, 7))
        };
        assert_eq!(with(1), with(3));
    }
}
