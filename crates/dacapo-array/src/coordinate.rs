//! Points and sizes in space: a decimal number for each axis.

use std::fmt;
use std::ops::{Add, Div, Index, Mul, Sub};

use serde::{Deserialize, Serialize};

use crate::Decimal;

/// A position or a size: one exact number an axis, slowest axis first (z, y, x), in world units unless said
/// otherwise. Arithmetic is by element.
///
/// ```
/// use dacapo_array::Coordinate;
/// let voxel_size = Coordinate::new([40, 4, 4]);
/// let size = Coordinate::from_voxels(&[2, 10, 10], &voxel_size);
/// assert_eq!(size.to_string(), "(80, 40, 40)");
/// assert_eq!(size.exact_div(&voxel_size), Some(vec![2, 10, 10]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Coordinate(Vec<Decimal>);

impl Coordinate {
    /// From one number an axis.
    pub fn new<N: Into<Decimal>>(values: impl IntoIterator<Item = N>) -> Self {
        Self(values.into_iter().map(Into::into).collect())
    }

    /// The same number along each of `dims` axes.
    pub fn splat(dims: usize, value: impl Into<Decimal>) -> Self {
        Self(vec![value.into(); dims])
    }

    /// `voxels` along each axis, times the voxel size.
    pub fn from_voxels(voxels: &[i64], voxel_size: &Coordinate) -> Self {
        Self(
            voxels
                .iter()
                .zip(&voxel_size.0)
                .map(|(&n, &size)| Decimal::from(n) * size)
                .collect(),
        )
    }

    /// Number of axes.
    pub fn dims(&self) -> usize {
        self.0.len()
    }

    /// The numbers, in the order of the axes.
    pub fn iter(&self) -> std::slice::Iter<'_, Decimal> {
        self.0.iter()
    }

    /// Whether each number is that of `other` times an integer.
    pub fn is_multiple_of(&self, other: &Coordinate) -> bool {
        self.pairs(other).all(|(a, b)| a.is_multiple_of(b))
    }

    /// [`Decimal::floor_div`] along each axis.
    pub fn floor_div(&self, divisor: &Coordinate) -> Vec<i64> {
        self.pairs(divisor).map(|(a, b)| a.floor_div(b)).collect()
    }

    /// [`Decimal::ceil_div`] along each axis.
    pub fn ceil_div(&self, divisor: &Coordinate) -> Vec<i64> {
        self.pairs(divisor).map(|(a, b)| a.ceil_div(b)).collect()
    }

    /// [`Decimal::round_div`] along each axis.
    pub fn round_div(&self, divisor: &Coordinate) -> Vec<i64> {
        self.pairs(divisor).map(|(a, b)| a.round_div(b)).collect()
    }

    /// The integers that times `divisor` are this, if there are such.
    pub fn exact_div(&self, divisor: &Coordinate) -> Option<Vec<i64>> {
        self.is_multiple_of(divisor).then(|| self.floor_div(divisor))
    }

    /// The numbers as floats.
    pub fn to_f64(&self) -> Vec<f64> {
        self.0.iter().map(|value| value.to_f64()).collect()
    }

    fn pairs<'a>(&'a self, other: &'a Coordinate) -> impl Iterator<Item = (Decimal, Decimal)> + 'a {
        debug_assert_eq!(self.dims(), other.dims(), "axes of {self} and {other}");
        self.0.iter().copied().zip(other.0.iter().copied())
    }

    pub(crate) fn zip_with(&self, other: &Coordinate, f: impl Fn(Decimal, Decimal) -> Decimal) -> Coordinate {
        Self(self.pairs(other).map(|(a, b)| f(a, b)).collect())
    }
}

impl Index<usize> for Coordinate {
    type Output = Decimal;
    fn index(&self, axis: usize) -> &Decimal {
        &self.0[axis]
    }
}

impl<'a> IntoIterator for &'a Coordinate {
    type Item = &'a Decimal;
    type IntoIter = std::slice::Iter<'a, Decimal>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (axis, value) in self.0.iter().enumerate() {
            write!(f, "{}{value}", if axis == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

macro_rules! by_element {
    ($($op:ident $method:ident),*) => {$(
        impl $op<&Coordinate> for &Coordinate {
            type Output = Coordinate;
            fn $method(self, other: &Coordinate) -> Coordinate {
                self.zip_with(other, $op::$method)
            }
        }
        impl $op<Coordinate> for &Coordinate {
            type Output = Coordinate;
            fn $method(self, other: Coordinate) -> Coordinate {
                self.zip_with(&other, $op::$method)
            }
        }
        impl $op<&Coordinate> for Coordinate {
            type Output = Coordinate;
            fn $method(self, other: &Coordinate) -> Coordinate {
                self.zip_with(other, $op::$method)
            }
        }
        impl $op<Coordinate> for Coordinate {
            type Output = Coordinate;
            fn $method(self, other: Coordinate) -> Coordinate {
                self.zip_with(&other, $op::$method)
            }
        }
    )*};
}
by_element!(Add add, Sub sub, Mul mul, Div div);
