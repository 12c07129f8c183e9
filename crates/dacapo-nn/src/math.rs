//! exp and log1p for loops over many values: plain arithmetic that compilers turn into vector code, with the
//! same bits on every machine, which a system's math library does not promise.

/// e^x for x ≤ 0, within 2e-7 of it relatively; e^-87 for all that is smaller. NaN stays NaN.
///
/// Cody & Waite's reduction: x = n ln 2 + r, a polynomial for e^r, and n put into the exponent.
#[inline(always)]
pub(crate) fn exp_negative(x: f32) -> f32 {
    /// Adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    // ln 2 in two parts, the first of which times n is exact.
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    // Taylor's series: on |r| <= ln 2 / 2 the first term left out is below 6e-9.
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + c;
    }
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    p * scale
}

/// ln(1 + e) for e in 0..=1, within 2e-7 of it: the series of 2 artanh(e / (2 + e)).
#[inline(always)]
pub(crate) fn ln_1p_unit(e: f32) -> f32 {
    let s = e / (2.0 + e);
    let s2 = s * s;
    let mut p = 1.0 / 15.0;
    for c in [1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 0.2, 1.0 / 3.0, 1.0] {
        p = p * s2 + c;
    }
    2.0 * s * p
}

/// 1 / (1 + e^-x), without overflow. NaN stays NaN.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let e = exp_negative(-x.abs());
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agree_with_f64() {
        for i in 0..=8_700_000 {
            let x = i as f32 * -1e-5;
            let exact = f64::from(x).exp();
            assert!(
                (f64::from(exp_negative(x)) - exact).abs() <= 2e-7 * exact,
                "exp {x}"
            );
        }
        for i in 0..=1_000_000 {
            let e = i as f32 * 1e-6;
            assert!(
                (f64::from(ln_1p_unit(e)) - f64::from(e).ln_1p()).abs() <= 2e-7,
                "ln_1p {e}"
            );
        }
    }

    #[test]
    fn the_sigmoid_never_overflows() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
        assert!((0.0..1e-37).contains(&sigmoid(f32::NEG_INFINITY)));
        assert!(sigmoid(f32::NAN).is_nan() && exp_negative(f32::NAN).is_nan());
    }
}
