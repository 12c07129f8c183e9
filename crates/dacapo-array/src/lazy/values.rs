//! Numbers of any type as floats, as ids, and added: what the values of lazy arrays are computed with.

use crate::Element;

/// A value that can be computed with.
pub(super) trait Number: Element {
    /// The nearest float.
    fn to_f64(self) -> f64;

    /// The nearest value to a float: integers rounded, ties to the even one; the type's end where it is past it.
    fn nearest(value: f64) -> Self;

    /// The number of an object: nothing for negative ones, and for floats.
    fn id(self) -> Option<u64>;

    /// The sum, if the type has it.
    fn add(self, other: Self) -> Option<Self>;
}

macro_rules! integers {
    ($($T:ty),*) => {$(
        impl Number for $T {
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn nearest(value: f64) -> Self {
                value.round_ties_even() as Self
            }
            fn id(self) -> Option<u64> {
                self.try_into().ok()
            }
            fn add(self, other: Self) -> Option<Self> {
                self.checked_add(other)
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! floats {
    ($($T:ty),*) => {$(
        impl Number for $T {
            fn to_f64(self) -> f64 {
                self.into()
            }
            fn nearest(value: f64) -> Self {
                value as Self
            }
            fn id(self) -> Option<u64> {
                None
            }
            fn add(self, other: Self) -> Option<Self> {
                Some(self + other)
            }
        }
    )*};
}
floats!(f32, f64);

impl Number for bool {
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
    fn nearest(value: f64) -> Self {
        value >= 0.5
    }
    fn id(self) -> Option<u64> {
        Some(self.into())
    }
    fn add(self, other: Self) -> Option<Self> {
        (!(self && other)).then_some(self || other)
    }
}
