//! Counted particles: random numbers of the Poisson distribution.

use crate::random::Random;

/// Replaces intensities, of which -0.5 is none and 0.5 is `counts` particles, by what is counted of them. What
/// is darker than that has no particles, and stays.
pub(super) fn count(values: &mut [f32], counts: f32, random: &mut Random) {
    for value in values {
        let expected = f64::from(*value + 0.5) * f64::from(counts);
        if expected > 0.0 {
            *value = (poisson(expected, random) / f64::from(counts)) as f32 - 0.5;
        }
    }
}

/// A number of the Poisson distribution.
///
/// Below 10 by multiplying uniform numbers (Knuth, The Art of Computer Programming 2, 3.4.1), else by transformed
/// rejection (PTRS: Hörmann, "The transformed rejection method for generating Poisson random variables", 1993).
fn poisson(mean: f64, random: &mut Random) -> f64 {
    let uniform = |random: &mut Random| (f64::from(random.bits()) + 0.5) / (1_u64 << 32) as f64;
    if mean < 10.0 {
        let limit = (-mean).exp();
        let (mut number, mut product) = (0.0, uniform(random));
        while product > limit {
            number += 1.0;
            product *= uniform(random);
        }
        return number;
    }
    let b = 0.931 + 2.53 * mean.sqrt();
    let a = -0.059 + 0.02483 * b;
    let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
    let v_r = 0.9277 - 3.6224 / (b - 2.0);
    loop {
        let u = uniform(random) - 0.5;
        let v = uniform(random);
        let us = 0.5 - u.abs();
        let k = ((2.0 * a / us + b) * u + mean + 0.43).floor();
        if us >= 0.07 && v <= v_r {
            return k;
        }
        if k < 0.0 || us < 0.013 && v > us {
            continue;
        }
        let left = (v * inverse_alpha / (a / (us * us) + b)).ln();
        if left <= k * mean.ln() - mean - ln_factorial(k) {
            return k;
        }
    }
}

/// ln k!: by its factors where they are few, else by Stirling's series.
fn ln_factorial(k: f64) -> f64 {
    if k < 16.0 {
        return (2..=k as u32).map(f64::from).product::<f64>().ln();
    }
    let inverse = 1.0 / k;
    let correction = inverse / 12.0 - inverse.powi(3) / 360.0 + inverse.powi(5) / 1260.0;
    (k + 0.5) * k.ln() - k + 0.5 * std::f64::consts::TAU.ln() + correction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn numbers_are_as_frequent_as_the_distribution_says() {
        for mean in [0.3, 4.0, 9.9, 10.1, 25.0] {
            let mut random = Random::new(2, 0, 0, Purpose::Poisson);
            let n = 200_000;
            let mut counts = vec![0_u32; 100];
            (0..n).for_each(|_| counts[poisson(mean, &mut random) as usize] += 1);
            let mut probability = (-mean).exp();
            for (k, &count) in counts.iter().enumerate() {
                let expected = probability * f64::from(n);
                // Five standard deviations.
                let bound = 5.0 * expected.sqrt() + 2.0;
                assert!(
                    (f64::from(count) - expected).abs() < bound,
                    "{k} of {mean}: {count} {expected}"
                );
                probability *= mean / (k + 1) as f64;
            }
        }
    }

    #[test]
    fn factorials_are_known() {
        let exact = |k: u32| (1..=k).map(|i| f64::from(i).ln()).sum::<f64>();
        for k in [0, 1, 2, 15, 16, 17, 100] {
            assert!(
                (ln_factorial(f64::from(k)) - exact(k)).abs() < 1e-9 * exact(k).max(1.0),
                "{k}"
            );
        }
    }

    #[test]
    fn darkness_has_no_particles() {
        let mut values = [-0.5, -0.75];
        count(&mut values, 10.0, &mut Random::new(0, 0, 0, Purpose::Poisson));
        assert_eq!(values, [-0.5, -0.75]);
    }
}
