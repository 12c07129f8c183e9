//! The one-dimensional transforms. Tiles of several outputs take fewer multiplications than outputs × taps, because
//! a convolution is a product of polynomials and products can be taken at points (A. Lavin, S. Gray, "Fast
//! algorithms for convolutional neural networks", 2015, section 4).
//!
//! [`F4`] is F(4, 3) on the points 0, ±2/3, ±3/2, ∞: 6 multiplications for 4 outputs of 3 taps. These points make
//! a quarter of the rounding error that the usual 0, ±1, ±2, ∞ make, at the same cost: with a·b = 1 the powers in
//! the transforms stay near 1. What products and sums lose becomes 2.18 times as much through the adjoint of its input
//! transform, and no points of F(4, 3) make less of it than 2.178. [`F3`](super::f3::F3) is F(3, 3) on ±2/5, ±5/4, ∞, 5 multiplications
//! for 3 outputs: 1.62 times as much, where 1.618 is the least.

use crate::simd::Vector;

/// Most inputs, outputs and taps of a tile.
pub(super) const IN: usize = 6;
pub(super) const OUT: usize = 4;
pub(super) const TAPS: usize = 3;

/// A tile along one axis, as the matrices A, B and G of `y = Aᵀ[(G w) ⊙ (Bᵀ d)]`. Arrays longer than the tile hold
/// anything behind it.
pub(super) trait Tile: Send + Sync {
    /// Outputs of a tile.
    const OUT: usize;
    /// Inputs of a tile, and its positions in the transformed space.
    const IN: usize;
    /// Taps of the kernel.
    const TAPS: usize;
    /// Inputs that neighbouring tiles share.
    const OVERLAP: usize = Self::IN - Self::OUT;

    /// `Bᵀ d`: inputs to positions.
    fn input<V: Vector>(d: [V; IN]) -> [V; IN];
    /// `B m`: the adjoint of `input`.
    fn input_adjoint<V: Vector>(m: [V; IN]) -> [V; IN];
    /// `Aᵀ m`: positions to outputs.
    fn output<V: Vector>(m: [V; IN]) -> [V; OUT];
    /// `A y`: the adjoint of `output`.
    fn output_adjoint<V: Vector>(y: [V; OUT]) -> [V; IN];
    /// `G w`: weights to positions. In f64, since they are few, and what they lose is lost in every product.
    fn weights(w: [f64; TAPS]) -> [f64; IN];
    /// `Gᵀ u`: the adjoint of `weights`.
    fn weights_adjoint<V: Vector>(u: [V; IN]) -> [V; TAPS];
}

/// An axis along which the kernel has one tap.
pub(super) struct Once;

impl Tile for Once {
    const OUT: usize = 1;
    const IN: usize = 1;
    const TAPS: usize = 1;
    #[inline(always)]
    fn input<V: Vector>(d: [V; IN]) -> [V; IN] {
        d
    }
    #[inline(always)]
    fn input_adjoint<V: Vector>(m: [V; IN]) -> [V; IN] {
        m
    }
    #[inline(always)]
    fn output<V: Vector>(m: [V; IN]) -> [V; OUT] {
        [m[0]; OUT]
    }
    #[inline(always)]
    fn output_adjoint<V: Vector>(y: [V; OUT]) -> [V; IN] {
        [y[0]; IN]
    }
    #[inline(always)]
    fn weights(w: [f64; TAPS]) -> [f64; IN] {
        [w[0]; IN]
    }
    #[inline(always)]
    fn weights_adjoint<V: Vector>(u: [V; IN]) -> [V; TAPS] {
        [u[0]; TAPS]
    }
}

/// F(4, 3) on the points 0, ±a, ±b, ∞. The positions are in that order.
pub(super) struct F4;

const A: f32 = 2.0 / 3.0;
const B: f32 = 3.0 / 2.0;
const A2: f32 = A * A;
const B2: f32 = B * B;
const A2_PLUS_B2: f32 = 97.0 / 36.0;
/// 1 / (2 a² (a² − b²)) and 1 / (2 b² (b² − a²)): the derivative of x (x² − a²) (x² − b²) at ±a, ±b.
const SCALE_A: f32 = -81.0 / 130.0;
const SCALE_B: f32 = 8.0 / 65.0;

/// `factor · v + addend`
#[inline(always)]
pub(super) fn fma<V: Vector>(factor: f32, v: V, addend: V) -> V {
    v.fma(v.like(factor), addend)
}

#[inline(always)]
pub(super) fn scaled<V: Vector>(factor: f32, v: V) -> V {
    v.mul(v.like(factor))
}

/// Sums and differences of the positions ±a and ±b, of which the first is at `start`.
#[inline(always)]
pub(super) fn pairs<V: Vector>(m: &[V; IN], start: usize) -> [V; 4] {
    let [plus_a, minus_a, plus_b, minus_b] = [0, 1, 2, 3].map(|i| m[start + i]);
    [
        plus_a.add(minus_a),
        plus_a.sub(minus_a),
        plus_b.add(minus_b),
        plus_b.sub(minus_b),
    ]
}

impl Tile for F4 {
    const OUT: usize = 4;
    const IN: usize = 6;
    const TAPS: usize = 3;

    #[inline(always)]
    fn input<V: Vector>(d: [V; IN]) -> [V; IN] {
        let even_a = fma(-B2, d[2], d[4]);
        let odd_a = fma(-B2, d[1], d[3]);
        let even_b = fma(-A2, d[2], d[4]);
        let odd_b = fma(-A2, d[1], d[3]);
        [
            fma(-A2_PLUS_B2, d[2], d[0].add(d[4])),
            fma(A, odd_a, even_a),
            fma(-A, odd_a, even_a),
            fma(B, odd_b, even_b),
            fma(-B, odd_b, even_b),
            fma(-A2_PLUS_B2, d[3], d[1].add(d[5])),
        ]
    }

    #[inline(always)]
    fn input_adjoint<V: Vector>(m: [V; IN]) -> [V; IN] {
        let [sum_a, difference_a, sum_b, difference_b] = pairs(&m, 1);
        let zero_a = m[0].add(sum_a);
        [
            m[0],
            fma(-A * B2, difference_a, fma(-B * A2, difference_b, m[5])),
            fma(-B2, zero_a, scaled(-A2, m[0].add(sum_b))),
            fma(-A2_PLUS_B2, m[5], fma(A, difference_a, scaled(B, difference_b))),
            zero_a.add(sum_b),
            m[5],
        ]
    }

    #[inline(always)]
    fn output<V: Vector>(m: [V; IN]) -> [V; OUT] {
        let [sum_a, difference_a, sum_b, difference_b] = pairs(&m, 1);
        [
            m[0].add(sum_a).add(sum_b),
            fma(B, difference_b, scaled(A, difference_a)),
            fma(B2, sum_b, scaled(A2, sum_a)),
            fma(B * B2, difference_b, fma(A * A2, difference_a, m[5])),
        ]
    }

    #[inline(always)]
    fn output_adjoint<V: Vector>(y: [V; OUT]) -> [V; IN] {
        let even_a = fma(A2, y[2], y[0]);
        let odd_a = fma(A2, y[3], y[1]);
        let even_b = fma(B2, y[2], y[0]);
        let odd_b = fma(B2, y[3], y[1]);
        [
            y[0],
            fma(A, odd_a, even_a),
            fma(-A, odd_a, even_a),
            fma(B, odd_b, even_b),
            fma(-B, odd_b, even_b),
            y[3],
        ]
    }

    #[inline(always)]
    fn weights(w: [f64; TAPS]) -> [f64; IN] {
        const A: f64 = 2.0 / 3.0;
        const B: f64 = 3.0 / 2.0;
        const SCALE_A: f64 = -81.0 / 130.0;
        const SCALE_B: f64 = 8.0 / 65.0;
        let (even_a, odd_a) = (SCALE_A * w[0] + SCALE_A * A * A * w[2], SCALE_A * A * w[1]);
        let (even_b, odd_b) = (SCALE_B * w[0] + SCALE_B * B * B * w[2], SCALE_B * B * w[1]);
        [
            w[0],
            even_a + odd_a,
            even_a - odd_a,
            even_b + odd_b,
            even_b - odd_b,
            w[2],
        ]
    }

    #[inline(always)]
    fn weights_adjoint<V: Vector>(u: [V; IN]) -> [V; TAPS] {
        let [sum_a, difference_a, sum_b, difference_b] = pairs(&u, 1);
        [
            fma(SCALE_B, sum_b, fma(SCALE_A, sum_a, u[0])),
            fma(B * SCALE_B, difference_b, scaled(A * SCALE_A, difference_a)),
            fma(B2 * SCALE_B, sum_b, fma(A2 * SCALE_A, sum_a, u[5])),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::winograd::f3::F3;
    use crate::simd::Plain;

    fn vector(value: f32) -> Plain {
        // SAFETY: plain Rust runs everywhere, and the array has the eight elements.
        unsafe { Plain::splat(value) }
    }

    fn first(v: Plain) -> f64 {
        let mut out = [0.0; 8];
        // SAFETY: the array has the eight elements.
        unsafe { v.store(out.as_mut_ptr()) };
        f64::from(out[0])
    }

    /// Each transform as a matrix, column by column.
    fn matrix<const N: usize, const M: usize>(f: impl Fn([Plain; N]) -> [Plain; M]) -> [[f64; N]; M] {
        let mut out = [[0.0; N]; M];
        for column in 0..N {
            let mut unit = [vector(0.0); N];
            unit[column] = vector(1.0);
            for (row, v) in f(unit).into_iter().enumerate() {
                out[row][column] = first(v);
            }
        }
        out
    }

    #[test]
    fn a_tile_is_a_convolution_and_the_adjoints_are_transposed() {
        is_a_convolution::<F4>();
        is_a_convolution::<F3>();
    }

    #[allow(clippy::needless_range_loop, reason = "a product of matrices")]
    fn is_a_convolution<T: Tile>() {
        let input = matrix(T::input::<Plain>);
        let output = matrix(T::output::<Plain>);
        let mut weights = [[0.0; TAPS]; IN];
        for tap in 0..TAPS {
            let mut unit = [0.0; TAPS];
            unit[tap] = 1.0;
            let column = T::weights(unit);
            (0..T::IN).for_each(|p| weights[p][tap] = column[p]);
        }
        for o in 0..T::OUT {
            for t in 0..TAPS {
                for i in 0..T::IN {
                    let found: f64 = (0..T::IN)
                        .map(|p| output[o][p] * weights[p][t] * input[p][i])
                        .sum();
                    let expected = if i == o + t { 1.0 } else { 0.0 };
                    assert!(
                        (found - expected).abs() < 1e-6,
                        "output {o}, tap {t}, input {i}: {found}"
                    );
                }
            }
        }
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        let adjoint = matrix(T::input_adjoint::<Plain>);
        (0..T::IN).for_each(|i| (0..T::IN).for_each(|j| close(adjoint[i][j], input[j][i])));
        let adjoint = matrix(T::output_adjoint::<Plain>);
        (0..T::IN).for_each(|i| (0..T::OUT).for_each(|j| close(adjoint[i][j], output[j][i])));
        let adjoint = matrix(T::weights_adjoint::<Plain>);
        (0..TAPS).for_each(|i| (0..T::IN).for_each(|j| close(adjoint[i][j], weights[j][i])));
    }
}
