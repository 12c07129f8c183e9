//! Initial weights: Kaiming normal, from a counter-based generator, so that a weight depends on the seed,
//! the tensor's name and its place only.

/// Mixes a 64-bit counter into a 64-bit hash (the finaliser of SplitMix64: Steele, Lea & Flood 2014).
pub(crate) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Uniform in (0, 1].
fn unit(bits: u64) -> f64 {
    ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// Fills `weights` with N(0, 2 / `fan_in`) (He et al. 2015, for layers that a ReLU follows).
pub(crate) fn kaiming_normal(weights: &mut [f32], fan_in: usize, seed: u64, name: &str) {
    let stream = name
        .bytes()
        .fold(mix(seed), |hash, byte| mix(hash ^ u64::from(byte)));
    let deviation = (2.0 / fan_in as f64).sqrt();
    for (i, weight) in weights.iter_mut().enumerate() {
        let counter = stream ^ mix(2 * i as u64);
        // Box & Muller 1958.
        let radius = (-2.0 * unit(mix(counter)).ln()).sqrt();
        let angle = std::f64::consts::TAU * unit(mix(counter.wrapping_add(1)));
        *weight = (deviation * radius * angle.cos()) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_asked_deviation_and_depends_on_seed_and_name() {
        let draw = |seed, name| {
            let mut w = vec![0f32; 20_000];
            kaiming_normal(&mut w, 50, seed, name);
            w
        };
        let w = draw(1, "a");
        let n = w.len() as f64;
        let mean = w.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = w.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.005, "{mean}");
        assert!((variance - 0.04).abs() < 0.002, "{variance}");
        assert_eq!(w, draw(1, "a"));
        assert_ne!(w, draw(2, "a"));
        assert_ne!(w, draw(1, "b"));
    }
}
