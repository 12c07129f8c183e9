//! Logarithm, exponential, sine and cosine of 32-bit floats as polynomials: the same bits on every machine, and
//! in a form that compilers turn into vector instructions. Those of the standard library are calls, one value each.

use std::f32::consts::{FRAC_1_SQRT_2, LN_2, TAU};

/// Natural logarithm of a positive, normal number, to 7 digits.
///
/// With x = m 2ᵉ and s = (m - 1) / (m + 1), ln m = 2 (s + s³/3 + s⁵/5 + …), where |s| < 0.172.
#[inline]
pub(crate) fn ln(x: f32) -> f32 {
    // Moves the mantissa's range from 1…2 to √½…√2.
    let bits = x.to_bits().wrapping_sub(FRAC_1_SQRT_2.to_bits());
    let exponent = (bits as i32) >> 23;
    let mantissa = f32::from_bits((bits & 0x007F_FFFF).wrapping_add(FRAC_1_SQRT_2.to_bits()));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let q = s * s;
    let series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0))));
    exponent as f32 * LN_2 + 2.0 * s * series
}

/// Added to a number of less than 2²² it leaves no bits for a fraction: the sum is the nearest whole number, and its
/// lowest bits are that number as an integer. Compilers have vector instructions for this, but none for a cast that
/// saturates.
const ROUND: f32 = 12_582_912.0;

/// The nearest whole number to one of less than 2²², as a float and as an integer.
#[inline]
pub(crate) fn nearest(x: f32) -> (f32, i32) {
    let sum = x + ROUND;
    (sum - ROUND, sum.to_bits().wrapping_sub(ROUND.to_bits()) as i32)
}

/// 2ˣ for -126 ≤ x ≤ 126, to 6 digits: the series of e to the fraction times ln 2.
#[inline]
pub(crate) fn exp2(x: f32) -> f32 {
    let (whole, exponent) = nearest(x.clamp(-126.0, 126.0));
    let r = (x - whole) * LN_2;
    let series = 1.0
        + r * (1.0
            + r * (1.0 / 2.0
                + r * (1.0 / 6.0
                    + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0)))))));
    f32::from_bits(((exponent + 127) << 23) as u32) * series
}

/// x to a power, for x ≥ 0; 0 stays 0.
#[inline]
pub(crate) fn power(x: f32, exponent: f32) -> f32 {
    let log = ln(x.max(f32::MIN_POSITIVE)) * std::f32::consts::LOG2_E;
    let power = exp2((log * exponent).clamp(-126.0, 126.0));
    if x > 0.0 { power } else { 0.0 }
}

/// Sine and cosine of a whole number of turns plus `turn`, which lies in 0…1; to 6 digits.
#[inline]
pub(crate) fn sine_cosine(turn: f32) -> (f32, f32) {
    let (quarters, quarter) = nearest(4.0 * turn);
    let a = (turn - 0.25 * quarters) * TAU;
    let q = a * a;
    let sine = a * (1.0 - q * (1.0 / 6.0 - q * (1.0 / 120.0 - q * (1.0 / 5040.0 - q * (1.0 / 362_880.0)))));
    let cosine = 1.0 - q * (1.0 / 2.0 - q * (1.0 / 24.0 - q * (1.0 / 720.0 - q * (1.0 / 40_320.0))));
    let (s, c) = if quarter & 1 == 1 {
        (cosine, sine)
    } else {
        (sine, cosine)
    };
    let sign = |negative: bool, x: f32| if negative { -x } else { x };
    (sign(quarter & 2 != 0, s), sign((quarter + 1) & 2 != 0, c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_near_those_of_the_standard_library() {
        for i in 0..=100_000 {
            let t = i as f32 / 100_000.0;
            let (sine, cosine) = sine_cosine(t);
            let angle = std::f64::consts::TAU * f64::from(t);
            assert!(
                (f64::from(sine) - angle.sin()).abs() < 2e-6,
                "sine at {t}: {sine}"
            );
            assert!(
                (f64::from(cosine) - angle.cos()).abs() < 2e-6,
                "cosine at {t}: {cosine}"
            );
            for x in [t + 1e-7, 1e-30 * (t + 0.1), 1e30 * (t + 0.1)] {
                let expected = f64::from(x).ln();
                assert!(
                    (f64::from(ln(x)) - expected).abs() < 1e-6 * expected.abs().max(1.0),
                    "ln {x}"
                );
            }
            let x = 40.0 * t - 20.0;
            let expected = f64::from(x).exp2();
            assert!((f64::from(exp2(x)) / expected - 1.0).abs() < 2e-6, "2^{x}");
            let expected = f64::from(t).powf(0.7);
            assert!((f64::from(power(t, 0.7)) - expected).abs() < 4e-6, "{t}^0.7");
        }
        assert_eq!((power(0.0, 2.0), power(1.0, 3.0)), (0.0, 1.0));
    }
}
