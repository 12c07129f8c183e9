//! The counter-based random generator: numbers that are a function of where they are asked for. No state is
//! kept, nothing of the system is drawn.

use crate::elementary;

/// Numbers determined by (seed, iteration, sample, purpose) alone, so that any batch can be made again, in
/// any order, on any thread.
///
/// Philox 4×32 with ten rounds: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
///
/// ```
/// use dacapo::random::{Purpose, Random};
/// let draw = |iteration| Random::new(7, iteration, 0, Purpose::Crop).unit();
/// assert_eq!(draw(3), draw(3));
/// assert_ne!(draw(3), draw(4));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Random {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

/// What numbers are for: each purpose has a sequence of its own, so that drawing more for one of them does
/// not move another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Which dataset a sample comes from, and where its crop lies.
    Crop = 0,
    /// How a crop is turned and its intensities are changed.
    Augment = 1,
    /// The noise added to each voxel.
    Noise = 2,
    /// Made-up volumes.
    Synthetic = 3,
    /// How a crop is deformed.
    Elastic = 4,
    /// The particles counted in each voxel.
    Poisson = 5,
    /// What happens to single sections.
    Sections = 6,
    /// How sections are folded.
    Folds = 7,
}

impl Random {
    /// The sequence of `purpose` for one sample of one iteration.
    pub fn new(seed: u64, iteration: u64, sample: u32, purpose: Purpose) -> Self {
        Self {
            key: halves(seed),
            // The first word counts blocks. Purpose and sample share the second.
            counter: [
                0,
                (sample << 3) | purpose as u32,
                halves(iteration)[0],
                halves(iteration)[1],
            ],
            block: [0; 4],
            used: 4,
        }
    }

    /// The same sequence from a later place: `block` counts groups of four 32-bit numbers.
    pub fn jump(mut self, block: u32) -> Self {
        self.counter[0] = block;
        self.used = 4;
        self
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// A fair coin.
    pub fn coin(&mut self) -> bool {
        self.bits() >> 31 == 1
    }

    /// Uniform in [0, 1), with 53 bits.
    pub fn unit(&mut self) -> f64 {
        let bits = (u64::from(self.bits()) << 32) | u64::from(self.bits());
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, [low, high]: [f32; 2]) -> f32 {
        low + (high - low) * self.unit() as f32
    }

    /// Uniform over 0, …, n − 1 (0 for n = 0). The bias of at most n / 2⁶⁴ has no meaning for voxel counts.
    pub fn below(&mut self, n: u64) -> u64 {
        let bits = (u64::from(self.bits()) << 32) | u64::from(self.bits());
        ((u128::from(bits) * u128::from(n)) >> 64) as u64
    }

    /// Uniform in [low, high) by logarithm; both above 0.
    pub fn between_evenly(&mut self, [low, high]: [f64; 2]) -> f64 {
        low * (high / low).powf(self.unit())
    }

    /// True so often.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Two independent normal numbers of mean 0 and deviation 1 (Box and Muller, 1958).
    pub fn normal_pair(&mut self) -> [f32; 2] {
        // In (0, 1], so that the logarithm is finite.
        let u = (f64::from(self.bits()) + 1.0) / (1u64 << 32) as f64;
        let angle = std::f64::consts::TAU * f64::from(self.bits()) / (1u64 << 32) as f64;
        let radius = (-2.0 * u.ln()).sqrt();
        [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
    }

    /// Fills `out` with independent normal numbers of mean 0 and deviation 1, beginning with a fresh group of four:
    /// as [`Random::normal_pair`] makes them, several times as fast, to 6 digits.
    pub fn normals(&mut self, out: &mut [f32]) {
        const LANES: usize = 16;
        self.used = 4;
        for out in out.chunks_mut(4 * LANES) {
            let first = self.counter[0];
            let mut counters = [[0; LANES]; 4];
            for (word, counters) in counters.iter_mut().enumerate() {
                counters.fill(self.counter[word]);
            }
            for (lane, word) in counters[0].iter_mut().enumerate() {
                *word = first.wrapping_add(lane as u32);
            }
            let words = philox_lanes(counters, self.key);
            let mut normal = [[0.0; LANES]; 4];
            for pair in 0..2 {
                for lane in 0..LANES {
                    // The top 24 bits, which a float holds; in (0, 1], so that the logarithm is finite.
                    const UNIT: f32 = 1.0 / (1 << 24) as f32;
                    let u = ((words[2 * pair][lane] >> 8) as i32 + 1) as f32 * UNIT;
                    let turn = (words[2 * pair + 1][lane] >> 8) as i32 as f32 * UNIT;
                    let radius = (-2.0 * elementary::ln(u)).sqrt();
                    let (sine, cosine) = elementary::sine_cosine(turn);
                    normal[2 * pair][lane] = radius * cosine;
                    normal[2 * pair + 1][lane] = radius * sine;
                }
            }
            for (i, out) in out.iter_mut().enumerate() {
                *out = normal[i % 4][i / 4];
            }
            self.counter[0] = first.wrapping_add(out.len().div_ceil(4) as u32);
        }
    }
}

/// [`philox`] of several counters at once, in a form that compilers turn into vector instructions.
fn philox_lanes<const N: usize>(mut counter: [[u32; N]; 4], mut key: [u32; 2]) -> [[u32; N]; 4] {
    for _ in 0..10 {
        #[allow(clippy::needless_range_loop, reason = "four arrays are gone through together")]
        for lane in 0..N {
            let product0 = 0xD251_1F53 * u64::from(counter[0][lane]);
            let product1 = 0xCD9E_8D57 * u64::from(counter[2][lane]);
            counter[0][lane] = (product1 >> 32) as u32 ^ counter[1][lane] ^ key[0];
            counter[2][lane] = (product0 >> 32) as u32 ^ counter[3][lane] ^ key[1];
            counter[1][lane] = product1 as u32;
            counter[3][lane] = product0 as u32;
        }
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [low0, high0] = halves(0xD251_1F53 * u64::from(counter[0]));
        let [low1, high1] = halves(0xCD9E_8D57 * u64::from(counter[2]));
        counter = [
            high1 ^ counter[1] ^ key[0],
            low1,
            high0 ^ counter[3] ^ key[1],
            low0,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that come with the authors' Random123 library.
    #[test]
    fn philox_gives_the_known_answers() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([!0; 4], [!0; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn every_coordinate_of_the_counter_matters() {
        let first = |seed, iteration, sample, purpose| Random::new(seed, iteration, sample, purpose).bits();
        let mut seen = vec![
            first(0, 0, 0, Purpose::Crop),
            first(1, 0, 0, Purpose::Crop),
            first(0, 1, 0, Purpose::Crop),
            first(0, 1 << 32, 0, Purpose::Crop),
            first(0, 0, 1, Purpose::Crop),
            first(0, 0, 0, Purpose::Noise),
        ];
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn many_normal_numbers_are_those_that_come_in_pairs() {
        for length in [1, 5, 64, 333] {
            let mut random = Random::new(3, 9, 2, Purpose::Noise).jump(7);
            let mut pairs = random.clone();
            let mut many = vec![0.0; length];
            random.normals(&mut many);
            for (i, &found) in many.iter().enumerate() {
                let expected = if i % 2 == 0 {
                    pairs.normal_pair()
                } else {
                    [f32::NAN; 2]
                };
                let bound = |n: f32| 2e-5 * n.abs().max(1.0);
                if i % 2 == 0 {
                    assert!(
                        (found - expected[0]).abs() < bound(expected[0]),
                        "{i}: {found} {expected:?}"
                    );
                    if let Some(&second) = many.get(i + 1) {
                        assert!(
                            (second - expected[1]).abs() < bound(expected[1]),
                            "{i}: {second} {expected:?}"
                        );
                    }
                }
            }
        }
        let mut random = Random::new(5, 0, 0, Purpose::Noise);
        let mut many = vec![0.0; 200_000];
        random.normals(&mut many);
        let n = many.len() as f64;
        let moment = |power: i32| many.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / n;
        assert!(moment(1).abs() < 0.01 && (moment(2) - 1.0).abs() < 0.01);
        assert!(moment(3).abs() < 0.03 && (moment(4) - 3.0).abs() < 0.1);
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut random = Random::new(3, 0, 0, Purpose::Noise);
        let n = 100_000_i64;
        let normal: Vec<f64> = (0..n / 2)
            .flat_map(|_| random.normal_pair())
            .map(f64::from)
            .collect();
        let mean = normal.iter().sum::<f64>() / n as f64;
        let variance = normal.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        assert!(
            mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02,
            "{mean} {variance}"
        );
        let mut counts = [0_i64; 5];
        (0..n).for_each(|_| counts[random.below(5) as usize] += 1_i64);
        assert!(counts.iter().all(|&c| (c - n / 5).abs() < 600), "{counts:?}");
        assert!((0..n).all(|_| (0.0..1.0).contains(&random.unit())));
    }
}
