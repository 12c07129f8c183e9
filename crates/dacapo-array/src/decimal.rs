//! Exact decimal numbers: what world positions and voxel sizes are counted in.

use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result};

/// A number with nine decimals, exact under addition, subtraction and comparison: 4.6 nm a million times is
/// 4,600,000 nm and lies on the grid.
///
/// Products and quotients are rounded to nine decimals, half away from zero; they are exact wherever the
/// result has so few. Written as an integer where it is one, else as the shortest decimal number.
///
/// ```
/// use dacapo_array::Decimal;
/// let voxel: Decimal = "4.6".parse()?;
/// assert_eq!(voxel * Decimal::from(1_000_000), Decimal::from(4_600_000));
/// assert_eq!(voxel.to_string(), "4.6");
/// # Ok::<(), dacapo_array::Error>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(i128);

/// Units of a [`Decimal`] in 1.
const ONE: i128 = 1_000_000_000;
/// Digits after the point.
const PLACES: usize = 9;
/// Magnitudes stay below this, so that products fit into 128 bits.
const LIMIT: i128 = 1_000_000_000_000_000_000 * ONE;

impl Decimal {
    /// 0.
    pub const ZERO: Self = Self(0);
    /// 1.
    pub const ONE: Self = Self(ONE);

    /// The nearest `f64`.
    pub fn to_f64(self) -> f64 {
        let whole = self.0 / ONE;
        if whole * ONE == self.0 {
            return whole as f64;
        }
        // The shortest text names the nearest f64, which a division in f64 could miss.
        self.to_string().parse().unwrap_or(self.0 as f64 / ONE as f64)
    }

    /// The integer that this is, if it is one.
    pub fn to_integer(self) -> Option<i64> {
        (self.0 % ONE == 0)
            .then(|| i64::try_from(self.0 / ONE).ok())
            .flatten()
    }

    /// Whether it is `other` times an integer; of 0 only 0 is.
    pub fn is_multiple_of(self, other: Self) -> bool {
        if other.0 == 0 {
            self.0 == 0
        } else {
            self.0 % other.0 == 0
        }
    }

    /// The largest integer that times `divisor` is not above this, for a positive divisor; 0 for others.
    pub fn floor_div(self, divisor: Self) -> i64 {
        if divisor.0 <= 0 {
            0
        } else {
            saturate(self.0.div_euclid(divisor.0))
        }
    }

    /// The smallest integer that times `divisor` is not below this, for a positive divisor; 0 for others.
    pub fn ceil_div(self, divisor: Self) -> i64 {
        if divisor.0 <= 0 {
            0
        } else {
            saturate(-(-self.0).div_euclid(divisor.0))
        }
    }

    /// The integer that times `divisor` is nearest to this (of two, the larger), for a positive divisor.
    pub fn round_div(self, divisor: Self) -> i64 {
        if divisor.0 <= 0 {
            return 0;
        }
        saturate((2 * self.0 + divisor.0).div_euclid(2 * divisor.0))
    }

    /// Whether it is above 0.
    pub fn is_positive(self) -> bool {
        self.0 > 0
    }
}

fn saturate(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

/// `n / d` rounded to the nearest integer, half away from zero.
fn divide(n: i128, d: i128) -> i128 {
    let (quotient, rest) = (n / d, n % d);
    if 2 * rest.abs() >= d.abs() {
        quotient + n.signum() * d.signum()
    } else {
        quotient
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self(i128::from(value) * ONE)
    }
}

impl From<i32> for Decimal {
    fn from(value: i32) -> Self {
        Self::from(i64::from(value))
    }
}

impl From<u32> for Decimal {
    fn from(value: u32) -> Self {
        Self::from(i64::from(value))
    }
}

impl From<&Decimal> for Decimal {
    fn from(value: &Decimal) -> Self {
        *value
    }
}

impl TryFrom<f64> for Decimal {
    type Error = Error;

    /// The decimal number that the float is written as: 4.6 is 4.6, not 4.5999999999999996447.
    fn try_from(value: f64) -> Result<Self> {
        value.to_string().parse()
    }
}

impl FromStr for Decimal {
    type Err = Error;

    /// Digits with a sign, a point and an exponent as floats have them. Decimals past the ninth are rounded
    /// off, unless that would change the number by more than a millionth of it.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |reason| Error::Number {
            text: text.to_owned(),
            reason,
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (
                mantissa,
                exponent.parse::<i32>().map_err(|_| refuse("it is no number"))?,
            ),
            None => (text, 0),
        };
        let (negative, digits) = match mantissa.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        if all.is_empty() || !all.iter().all(u8::is_ascii_digit) {
            return Err(refuse("it is no number"));
        }
        // The value is 0.all × 10^point.
        let leading = all.iter().take_while(|&&digit| digit == b'0').count();
        let significant = &all[leading..];
        if significant.is_empty() {
            return Ok(Self::ZERO);
        }
        let point = i64::from(exponent) + whole.len() as i64 - leading as i64;
        if point > 18 {
            return Err(refuse("it is too large"));
        }
        let kept = point + PLACES as i64;
        let digit = |place: i64| {
            usize::try_from(place)
                .ok()
                .and_then(|place| significant.get(place))
                .map_or(0, |d| i128::from(d - b'0'))
        };
        let mut units = (0..kept).fold(0, |units, place| units * 10 + digit(place));
        units += i128::from(digit(kept) >= 5);
        // Seven digits kept leave an error of at most a millionth.
        let exact = significant.len() as i64 <= kept;
        if !exact && kept < 7 {
            return Err(refuse("it has more than nine decimals"));
        }
        Ok(Self(if negative { -units } else { units }))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.0.unsigned_abs();
        let (whole, rest) = (units / ONE as u128, units % ONE as u128);
        let sign = if self.0 < 0 { "-" } else { "" };
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{rest:09}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Add for Decimal {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0).clamp(-LIMIT, LIMIT))
    }
}

impl Sub for Decimal {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).clamp(-LIMIT, LIMIT))
    }
}

impl Neg for Decimal {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Mul for Decimal {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        // Whole parts and fractions apart: their products fit where that of the units would not.
        let (whole, rest) = (other.0 / ONE, other.0 % ONE);
        let product = self
            .0
            .saturating_mul(whole)
            .saturating_add(divide(self.0.saturating_mul(rest), ONE));
        Self(product.clamp(-LIMIT, LIMIT))
    }
}

impl Div for Decimal {
    type Output = Self;

    /// # Panics
    /// On division by 0.
    fn div(self, other: Self) -> Self {
        Self(divide(self.0.saturating_mul(ONE), other.0).clamp(-LIMIT, LIMIT))
    }
}

impl Sum for Decimal {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl PartialEq<i64> for Decimal {
    fn eq(&self, other: &i64) -> bool {
        *self == Self::from(*other)
    }
}

impl PartialOrd<i64> for Decimal {
    fn partial_cmp(&self, other: &i64) -> Option<Ordering> {
        self.partial_cmp(&Self::from(*other))
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.to_integer() {
            Some(integer) => serializer.serialize_i64(integer),
            None => serializer.serialize_f64(self.to_f64()),
        }
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number with at most nine decimals")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> std::result::Result<Decimal, E> {
                Ok(value.into())
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> std::result::Result<Decimal, E> {
                i64::try_from(value).map(Decimal::from).map_err(E::custom)
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> std::result::Result<Decimal, E> {
                Decimal::try_from(value).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn text_goes_round() {
        for text in [
            "0",
            "4.6",
            "-0.000000001",
            "123456789.987654321",
            "-17",
            "100000000000000000",
        ] {
            assert_eq!(decimal(text).to_string(), text);
        }
        assert_eq!(decimal("4.60e1").to_string(), "46");
        assert_eq!(decimal("4600E-3").to_string(), "4.6");
        assert_eq!(decimal("0.0046000000000000001").to_string(), "0.0046");
        assert_eq!(decimal("+.5").to_string(), "0.5");
    }

    #[test]
    fn what_is_no_number_or_loses_too_much_is_refused() {
        for text in ["", "-", "nan", "1.2.3", "1e", "inf", "0x10", "4.6e-9", "1e19"] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
        assert!(Decimal::try_from(f64::NAN).is_err());
        assert!(Decimal::try_from(1e300).is_err());
    }

    #[test]
    fn there_is_no_drift() {
        let voxel = Decimal::try_from(4.6).unwrap();
        let sum: Decimal = std::iter::repeat_n(voxel, 1_000_000).sum();
        assert_eq!(sum, Decimal::from(4_600_000));
        assert!(sum.is_multiple_of(voxel));
        assert_eq!(sum.floor_div(voxel), 1_000_000);
        assert_eq!((sum - decimal("0.000000001")).floor_div(voxel), 999_999);
    }

    #[test]
    fn json_has_integers_where_they_are_whole() {
        let text = serde_json::to_string(&[decimal("8"), decimal("4.6"), decimal("-0.5")]).unwrap();
        assert_eq!(text, "[8,4.6,-0.5]");
        let back: Vec<Decimal> = serde_json::from_str("[8.0,4.6,-5e-1]").unwrap();
        assert_eq!(back, [decimal("8"), decimal("4.6"), decimal("-0.5")]);
    }

    proptest! {
        #[test]
        fn divisions_by_a_voxel_size_agree(n in -1_000_000_000i64..1_000_000_000, size in 1i64..100_000_000) {
            let (n, size) = (Decimal(i128::from(n) * 1_000), Decimal(i128::from(size) * 1_000));
            let (floor, ceil, round) = (n.floor_div(size), n.ceil_div(size), n.round_div(size));
            prop_assert!(size * Decimal::from(floor) <= n && n < size * Decimal::from(floor + 1));
            prop_assert!(size * Decimal::from(ceil - 1) < n && n <= size * Decimal::from(ceil));
            prop_assert!(round == floor || round == ceil);
            prop_assert_eq!(n.is_multiple_of(size), floor == ceil);
        }

        #[test]
        fn floats_with_few_digits_are_what_they_are_written_as(units in -10_000_000_000i64..10_000_000_000) {
            let value = Decimal(i128::from(units));
            prop_assert_eq!(Decimal::try_from(value.to_f64()).unwrap(), value);
        }
    }
}
