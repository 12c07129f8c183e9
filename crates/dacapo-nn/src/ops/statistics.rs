//! Sums over long runs of f32 in a fixed order: sixteen lanes within short blocks, f64 over the blocks.

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

/// Sum of squared distances from `mean`.
#[inline(always)]
pub(super) fn squared_deviation(x: &[f32], mean: f32) -> f64 {
    sum_by(x, x, |x, _| (x - mean) * (x - mean))
}

/// Sum of gradient times distance from `mean`.
#[inline(always)]
pub(super) fn gradient_dot_deviation(gradient: &[f32], x: &[f32], mean: f32) -> f64 {
    sum_by(gradient, x, |g, x| g * (x - mean))
}

/// Mean, and sum of squared distances from it, in one pass: those of short blocks, joined (Chan, Golub & LeVeque 1983).
pub(super) fn mean_and_squares(set: InstructionSet, x: &[f32]) -> (f64, f64) {
    let mut found = (0.0, 0.0);
    set.run_loop(MeanAndSquares { x, found: &mut found });
    found
}

struct MeanAndSquares<'a> {
    x: &'a [f32],
    found: &'a mut (f64, f64),
}

impl Loop for MeanAndSquares<'_> {
    #[inline(always)]
    fn run(self) {
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for block in self.x.chunks(BLOCK) {
            let here = block.len() as f64;
            let block_mean = sum(block) / here;
            let apart = block_mean - f64::from(block_mean as f32);
            let block_squares = squared_deviation(block, block_mean as f32) - here * apart * apart;
            let (delta, both) = (block_mean - mean, count + here);
            mean += delta * here / both;
            squares += block_squares + delta * delta * count * here / both;
            count = both;
        }
        *self.found = (mean, squares);
    }
}

/// Sums of the gradient and of gradient times distance from `mean`, after [`mask`] with `output` if there is one.
pub(super) fn gradient_sums(
    set: InstructionSet,
    gradient: &mut [f32],
    output: Option<&[f32]>,
    x: &[f32],
    mean: f32,
) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    set.run_loop(GradientSums {
        gradient,
        output,
        x,
        mean,
        sums: &mut sums,
    });
    sums
}

struct GradientSums<'a> {
    gradient: &'a mut [f32],
    output: Option<&'a [f32]>,
    x: &'a [f32],
    mean: f32,
    sums: &'a mut (f64, f64),
}

impl Loop for GradientSums<'_> {
    #[inline(always)]
    fn run(self) {
        let pairs = self.gradient.chunks_mut(BLOCK).zip(self.x.chunks(BLOCK));
        for (block, (gradient, x)) in pairs.enumerate() {
            if let Some(output) = self.output {
                mask(gradient, &output[block * BLOCK..][..gradient.len()]);
            }
            self.sums.0 += sum(gradient);
            self.sums.1 += gradient_dot_deviation(gradient, x, self.mean);
        }
    }
}

/// y = x * scale + shift, negative values cut off with `relu`.
pub(super) fn affine(x: &[f32], y: &mut [f32], scale: f32, shift: f32, relu: bool) {
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    for (y, &x) in y.iter_mut().zip(x) {
        let value = x * scale + shift;
        *y = if value < floor { floor } else { value };
    }
}

/// Zeroes the gradient where a ReLU cut the output off.
#[inline(always)]
pub(super) fn mask(gradient: &mut [f32], output: &[f32]) {
    gradient
        .iter_mut()
        .zip(output)
        .for_each(|(g, &y)| *g = if y > 0.0 { *g } else { 0.0 });
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
        let plain: f64 = x.iter().map(|&x| f64::from(x - 0.5).powi(2)).sum();
        assert!((squared_deviation(&x, 0.5) - plain).abs() < 1e-6 * plain);
    }

    #[test]
    fn one_pass_finds_what_two_do() {
        for set in InstructionSet::available() {
            for (len, offset) in [(1, 3.0), (4096, 0.0), (10_007, 1000.0)] {
                let x: Vec<f32> = (0..len).map(|i| offset + (i * 37 % 101) as f32 / 16.0).collect();
                let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / len as f64;
                let squares: f64 = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
                let found = mean_and_squares(set, &x);
                assert!((found.0 - mean).abs() <= 1e-6 * mean.abs(), "{found:?} {mean}");
                assert!((found.1 - squares).abs() <= 1e-5 * squares, "{found:?} {squares}");

                let output: Vec<f32> = (0..len).map(|i| (i % 3) as f32 - 1.0).collect();
                let (mut gradient, mut masked) = (x.clone(), x.clone());
                mask(&mut masked, &output);
                let expected = (sum(&masked), gradient_dot_deviation(&masked, &output, 0.5));
                let found = gradient_sums(set, &mut gradient, Some(&output), &output, 0.5);
                assert_eq!((found, gradient), (expected, masked));
            }
        }
    }
}
