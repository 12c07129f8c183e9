//! Sums over long runs of f32 in a fixed order: sixteen lanes within short blocks, f64 over the blocks.

const BLOCK: usize = 1 << 12;
const LANES: usize = 16;

/// Sum of `f` over pairs of values. `f` runs in f32, lanes side by side.
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
pub(crate) fn sum(x: &[f32]) -> f64 {
    sum_by(x, x, |x, _| x)
}

/// Sum of squared distances from `mean`.
pub(super) fn squared_deviation(x: &[f32], mean: f32) -> f64 {
    sum_by(x, x, |x, _| (x - mean) * (x - mean))
}

/// Sum of gradient times distance from `mean`.
pub(super) fn gradient_dot_deviation(gradient: &[f32], x: &[f32], mean: f32) -> f64 {
    sum_by(gradient, x, |g, x| g * (x - mean))
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
}
