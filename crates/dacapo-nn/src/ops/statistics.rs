//! What normalisations compute over long runs of f32. Sums have a fixed order: sixteen lanes within short blocks, f64 over
//! the blocks. What is done twice to a value is done while its block is in the cache.

use crate::simd::{InstructionSet, Loop};

const BLOCK: usize = 1 << 12;
const LANES: usize = 16;

/// Sum of `f` over pairs of values. `f` runs in f32, lanes side by side.
#[inline(always)]
fn sum_by(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f64 {
    let mut total = 0.0;
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        let mut lanes = [0f32; LANES];
        let (whole_a, rest_a) = a.as_chunks::<LANES>();
        let (whole_b, rest_b) = b.as_chunks::<LANES>();
        for (a, b) in whole_a.iter().zip(whole_b) {
            for lane in 0..LANES {
                lanes[lane] += f(a[lane], b[lane]);
            }
        }
        for (lane, (&a, &b)) in lanes.iter_mut().zip(rest_a.iter().zip(rest_b)) {
            *lane += f(a, b);
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    total
}

/// Sum of values.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f64 {
    sum_by(x, x, |x, _| x)
}

/// Mean of some values, and sum of their squared distances from it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Spread {
    count: f64,
    pub(super) mean: f64,
    squares: f64,
}

impl Spread {
    /// Of a run.
    pub(super) fn of(set: InstructionSet, x: &[f32]) -> Self {
        let mut spread = Self::default();
        set.run_loop(SpreadOf {
            x,
            spread: &mut spread,
        });
        spread
    }

    /// Of all values of both (Chan, Golub & LeVeque 1983).
    pub(super) fn with(self, other: Self) -> Self {
        let count = self.count + other.count;
        if count == 0.0 {
            return self;
        }
        let (apart, share) = (other.mean - self.mean, other.count / count);
        Self {
            count,
            mean: self.mean + apart * share,
            squares: self.squares + other.squares + apart * apart * self.count * share,
        }
    }

    /// Mean squared distance from the mean.
    pub(super) fn variance(self) -> f64 {
        self.squares / self.count
    }
}

struct SpreadOf<'a> {
    x: &'a [f32],
    spread: &'a mut Spread,
}

impl Loop for SpreadOf<'_> {
    #[inline(always)]
    fn run(self) {
        for block in self.x.chunks(BLOCK) {
            let count = block.len() as f64;
            let mean = sum(block) / count;
            // From a place near the mean, so that f32 does; then from the mean itself.
            let near = mean as f32;
            let off = mean - f64::from(near);
            let squares = sum_by(block, block, |x, _| (x - near) * (x - near)) - count * off * off;
            *self.spread = self.spread.with(Spread { count, mean, squares });
        }
    }
}

/// The sum of a gradient behind a ReLU (with the ReLU's output, where there is one), and of it times the distance from
/// `mean`. The gradient is zeroed where the ReLU cut the output off.
pub(super) fn gradient_sums(
    set: InstructionSet,
    gradient: &mut [f32],
    relu: Option<&[f32]>,
    x: &[f32],
    mean: f32,
) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    set.run_loop(GradientSums {
        gradient,
        relu,
        x,
        mean,
        sums: &mut sums,
    });
    sums
}

struct GradientSums<'a> {
    gradient: &'a mut [f32],
    relu: Option<&'a [f32]>,
    x: &'a [f32],
    mean: f32,
    sums: &'a mut (f64, f64),
}

impl Loop for GradientSums<'_> {
    #[inline(always)]
    fn run(self) {
        for (i, gradient) in self.gradient.chunks_mut(BLOCK).enumerate() {
            let at = i * BLOCK..i * BLOCK + gradient.len();
            if let Some(output) = self.relu {
                let pairs = gradient.iter_mut().zip(&output[at.clone()]);
                pairs.for_each(|(g, &y)| *g = if y > 0.0 { *g } else { 0.0 });
            }
            let mean = self.mean;
            self.sums.0 += sum(gradient);
            self.sums.1 += sum_by(gradient, &self.x[at], |g, x| g * (x - mean));
        }
    }
}

/// y = x * scale + shift, negative values cut off with `relu`.
pub(super) fn affine(set: InstructionSet, x: &[f32], y: &mut [f32], scale: f32, shift: f32, relu: bool) {
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    set.run_loop(Affine {
        x,
        y,
        scale,
        shift,
        floor,
    });
}

struct Affine<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    scale: f32,
    shift: f32,
    floor: f32,
}

impl Loop for Affine<'_> {
    #[inline(always)]
    fn run(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            let value = x * self.scale + self.shift;
            *y = if value < self.floor { self.floor } else { value };
        }
    }
}

/// gradient = gradient * factor + x * x_factor + constant.
pub(super) fn blend(
    set: InstructionSet,
    gradient: &mut [f32],
    factor: f32,
    x: &[f32],
    x_factor: f32,
    constant: f32,
) {
    set.run_loop(Blend {
        gradient,
        factor,
        x,
        x_factor,
        constant,
    });
}

struct Blend<'a> {
    gradient: &'a mut [f32],
    factor: f32,
    x: &'a [f32],
    x_factor: f32,
    constant: f32,
}

impl Loop for Blend<'_> {
    #[inline(always)]
    fn run(self) {
        for (g, x) in self.gradient.iter_mut().zip(self.x) {
            *g = *g * self.factor + x * self.x_factor + self.constant;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_a_plain_loop() {
        let x: Vec<f32> = (0..10_007)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 16.0)
            .collect();
        let plain: f64 = x.iter().map(|&x| f64::from(x)).sum();
        assert!((sum(&x) - plain).abs() < 1e-6 * plain.abs().max(1.0));
    }

    #[test]
    fn spreads_are_those_of_a_plain_loop() {
        for set in InstructionSet::available() {
            for (len, offset) in [(1, 0.0), (10_007, 3.0), (4096, -1000.0)] {
                let x: Vec<f32> = (0..len)
                    .map(|i| ((i * 37 % 101) as f32 - 50.0) / 16.0 + offset)
                    .collect();
                let values = || x.iter().map(|&x| f64::from(x));
                let mean = values().sum::<f64>() / len as f64;
                let variance = values().map(|x| (x - mean).powi(2)).sum::<f64>() / len as f64;
                let (first, rest) = x.split_at(len / 3);
                for spread in [
                    Spread::of(set, &x),
                    Spread::of(set, first).with(Spread::of(set, rest)),
                ] {
                    assert!((spread.mean - mean).abs() < 1e-6 * mean.abs().max(1.0));
                    assert!(
                        (spread.variance() - variance).abs() <= 1e-5 * variance,
                        "{spread:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn gradients_behind_a_relu_are_summed() {
        let value = |i: usize, salt: usize| ((i * salt % 101) as f32 - 50.0) / 16.0;
        let len = 5000;
        let [gradient, x, output] =
            [37, 53, 71].map(|salt| -> Vec<f32> { (0..len).map(|i| value(i, salt)).collect() });
        for set in InstructionSet::available() {
            let mut masked = gradient.clone();
            let found = gradient_sums(set, &mut masked, Some(&output), &x, 0.5);
            let (mut plain, mut dot) = (0.0, 0.0);
            for i in 0..len {
                let g = if output[i] > 0.0 { gradient[i] } else { 0.0 };
                assert_eq!(masked[i], g);
                plain += f64::from(g);
                dot += f64::from(g) * f64::from(x[i] - 0.5);
            }
            assert!(
                (found.0 - plain).abs() < 1e-4 && (found.1 - dot).abs() < 1e-2,
                "{found:?}"
            );
        }
    }
}
