//! Values of each number type as those of each other: whether a type has a value, and which it is.

/// Takes values of type `S`. Both functions are so plain that compilers make vectors of them.
pub trait Convert<S>: Sized {
    /// Whether this type has the value without loss; for floats: of floats whether the nearest is finite.
    fn fits(value: S) -> bool;

    /// The value, where it fits.
    fn convert(value: S) -> Self;
}

/// Takes values of every type.
pub trait FromAll:
    Convert<bool>
    + Convert<u8>
    + Convert<u16>
    + Convert<u32>
    + Convert<u64>
    + Convert<i8>
    + Convert<i16>
    + Convert<i32>
    + Convert<i64>
    + Convert<f32>
    + Convert<f64>
{
}

/// Runs a macro of the same name, for each of the given types, with all integer types.
macro_rules! of_integers {
    ($make:ident: $($T:ty),*) => {
        $($make!($T: u8, u16, u32, u64, i8, i16, i32, i64);)*
    };
}

macro_rules! integers_from_integers {
    ($T:ty: $($S:ty),*) => {$(
        impl Convert<$S> for $T {
            fn fits(value: $S) -> bool {
                <$T>::try_from(value).is_ok()
            }
            fn convert(value: $S) -> Self {
                value as $T
            }
        }
    )*};
}
of_integers!(integers_from_integers: u8, u16, u32, u64, i8, i16, i32, i64);

/// Whether the largest value of an integer type is one of a float type.
macro_rules! is_exact {
    ($S:ty, $T:ty) => {
        const { <$S>::MAX as $T as i128 == <$S>::MAX as i128 }
    };
}

macro_rules! floats_from_integers {
    ($T:ty: $($S:ty),*) => {$(
        impl Convert<$S> for $T {
            fn fits(value: $S) -> bool {
                // Where the largest integer is a float, all are; else the float next to it is one more, which no
                // integer is.
                let float = value as $T;
                is_exact!($S, $T) || (float < <$S>::MAX as $T && float as $S == value)
            }
            fn convert(value: $S) -> Self {
                value as $T
            }
        }
    )*};
}

of_integers!(floats_from_integers: f32, f64);

macro_rules! integers_from_floats {
    ($S:ty: $($T:ty),*) => {$(
        impl Convert<$S> for $T {
            fn fits(value: $S) -> bool {
                (is_exact!($T, $S) || value < <$T>::MAX as $S) && value as $T as $S == value
            }
            fn convert(value: $S) -> Self {
                value as $T
            }
        }
    )*};
}
of_integers!(integers_from_floats: f32, f64);

macro_rules! with_booleans {
    ($zero:literal, $one:literal: $($T:ty),*) => {$(
        impl Convert<$T> for bool {
            fn fits(value: $T) -> bool {
                (value == $zero) | (value == $one)
            }
            fn convert(value: $T) -> Self {
                value == $one
            }
        }
        impl Convert<bool> for $T {
            fn fits(_: bool) -> bool {
                true
            }
            fn convert(value: bool) -> Self {
                if value { $one } else { $zero }
            }
        }
    )*};
}
with_booleans!(0, 1: u8, u16, u32, u64, i8, i16, i32, i64);
with_booleans!(0.0, 1.0: f32, f64);

macro_rules! always {
    ($($S:ty, $T:ty);*) => {$(
        impl Convert<$S> for $T {
            fn fits(_: $S) -> bool {
                true
            }
            fn convert(value: $S) -> Self {
                value.into()
            }
        }
    )*};
}
always!(bool, bool; f32, f32; f64, f64; f32, f64);

impl Convert<f64> for f32 {
    fn fits(value: f64) -> bool {
        (value as f32).is_finite() | !value.is_finite()
    }
    fn convert(value: f64) -> Self {
        value as f32
    }
}

macro_rules! from_all {
    ($($T:ty),*) => {
        $(impl FromAll for $T {})*
    };
}
from_all!(bool, u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);
