//! The tile that loses least: F(3, 3), for gradients of few channels, where a direct convolution's sums are short.

use super::tile::{IN, OUT, TAPS, Tile, fma, pairs, scaled};
use crate::simd::Vector;

const A: f32 = 2.0 / 5.0;
const B: f32 = 5.0 / 4.0;
const A2: f32 = A * A;
const B2: f32 = B * B;
/// a² b² and a² + b²
const A2_B2: f32 = 1.0 / 4.0;
const A2_PLUS_B2: f32 = 689.0 / 400.0;
/// 1 / (2 a (a² − b²)) and 1 / (2 b (b² − a²)): the derivative of (x² − a²) (x² − b²) at a, b, and minus that at −a, −b.
const SCALE_A: f64 = -500.0 / 561.0;
const SCALE_B: f64 = 160.0 / 561.0;

/// F(3, 3) on the points ±a, ±b, ∞. The positions are in that order.
pub(super) struct F3;

impl Tile for F3 {
    const OUT: usize = 3;
    const IN: usize = 5;
    const TAPS: usize = 3;

    #[inline(always)]
    fn input<V: Vector>(d: [V; IN]) -> [V; IN] {
        let odd_a = fma(-B2, d[1], d[3]);
        let even_a = fma(-B2, d[0], d[2]);
        let odd_b = fma(-A2, d[1], d[3]);
        let even_b = fma(-A2, d[0], d[2]);
        [
            fma(A, even_a, odd_a),
            fma(-A, even_a, odd_a),
            fma(B, even_b, odd_b),
            fma(-B, even_b, odd_b),
            fma(-A2_PLUS_B2, d[2], fma(A2_B2, d[0], d[4])),
            d[5],
        ]
    }

    #[inline(always)]
    fn input_adjoint<V: Vector>(m: [V; IN]) -> [V; IN] {
        let [sum_a, difference_a, sum_b, difference_b] = pairs(&m, 0);
        [
            fma(
                A2_B2,
                m[4],
                fma(-A * B2, difference_a, scaled(-B * A2, difference_b)),
            ),
            fma(-B2, sum_a, scaled(-A2, sum_b)),
            fma(-A2_PLUS_B2, m[4], fma(A, difference_a, scaled(B, difference_b))),
            sum_a.add(sum_b),
            m[4],
            m[5],
        ]
    }

    #[inline(always)]
    fn output<V: Vector>(m: [V; IN]) -> [V; OUT] {
        let [sum_a, difference_a, sum_b, difference_b] = pairs(&m, 0);
        [
            sum_a.add(sum_b),
            fma(B, difference_b, scaled(A, difference_a)),
            fma(B2, sum_b, fma(A2, sum_a, m[4])),
            m[5],
        ]
    }

    #[inline(always)]
    fn output_adjoint<V: Vector>(y: [V; OUT]) -> [V; IN] {
        let even_a = fma(A2, y[2], y[0]);
        let even_b = fma(B2, y[2], y[0]);
        [
            fma(A, y[1], even_a),
            fma(-A, y[1], even_a),
            fma(B, y[1], even_b),
            fma(-B, y[1], even_b),
            y[2],
            y[3],
        ]
    }

    #[inline(always)]
    fn weights(w: [f64; TAPS]) -> [f64; IN] {
        const A: f64 = 2.0 / 5.0;
        const B: f64 = 5.0 / 4.0;
        let (even_a, odd_a) = (SCALE_A * (w[0] + A * A * w[2]), SCALE_A * A * w[1]);
        let (even_b, odd_b) = (SCALE_B * (w[0] + B * B * w[2]), SCALE_B * B * w[1]);
        [
            odd_a + even_a,
            odd_a - even_a,
            odd_b + even_b,
            odd_b - even_b,
            w[2],
            0.0,
        ]
    }

    #[inline(always)]
    fn weights_adjoint<V: Vector>(u: [V; IN]) -> [V; TAPS] {
        let (scale_a, scale_b) = (SCALE_A as f32, SCALE_B as f32);
        let [sum_a, difference_a, sum_b, difference_b] = pairs(&u, 0);
        [
            fma(scale_b, difference_b, scaled(scale_a, difference_a)),
            fma(B * scale_b, sum_b, scaled(A * scale_a, sum_a)),
            fma(B2 * scale_b, difference_b, fma(A2 * scale_a, difference_a, u[4])),
        ]
    }
}
