//! The number types of arrays, and values whose type is known when the program runs.

use std::fmt;

use ndarray::ArrayD;

use crate::{Error, Result};

/// The type of an array's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum DType {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
}

impl DType {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Bool,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::F32,
        Self::F64,
    ];

    /// The name that Zarr 3 and NumPy have for it: `uint8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    /// The type of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes of a value.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Whether values are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed: bytemuck::Zeroable {}
}

/// A Rust type that arrays can hold.
pub trait Element: sealed::Sealed + Copy + Default + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The array type that it is.
    const DTYPE: DType;

    /// The value as a wide number: integers exactly, floats as they are.
    #[doc(hidden)]
    fn widen(self) -> Wide;

    /// The value that a wide number is, if this type has it without loss (for f32: nearest, if finite).
    #[doc(hidden)]
    fn narrow(wide: Wide) -> Option<Self>;

    #[doc(hidden)]
    fn wrap(data: ArrayD<Self>) -> NdData;

    #[doc(hidden)]
    fn unwrap(data: NdData) -> std::result::Result<ArrayD<Self>, NdData>;
}

/// Any value of any [`DType`].
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wide {
    Integer(i128),
    Float(f64),
}

/// An n-dimensional array whose type is known at run time, in row-major order.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum NdData {
    Bool(ArrayD<bool>),
    U8(ArrayD<u8>),
    U16(ArrayD<u16>),
    U32(ArrayD<u32>),
    U64(ArrayD<u64>),
    I8(ArrayD<i8>),
    I16(ArrayD<i16>),
    I32(ArrayD<i32>),
    I64(ArrayD<i64>),
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
}

/// Runs an expression with `$T` bound to the Rust type of a [`DType`].
macro_rules! with_dtype {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::Bool => {
                type $T = bool;
                $body
            }
            $crate::DType::U8 => {
                type $T = u8;
                $body
            }
            $crate::DType::U16 => {
                type $T = u16;
                $body
            }
            $crate::DType::U32 => {
                type $T = u32;
                $body
            }
            $crate::DType::U64 => {
                type $T = u64;
                $body
            }
            $crate::DType::I8 => {
                type $T = i8;
                $body
            }
            $crate::DType::I16 => {
                type $T = i16;
                $body
            }
            $crate::DType::I32 => {
                type $T = i32;
                $body
            }
            $crate::DType::I64 => {
                type $T = i64;
                $body
            }
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
        }
    };
}
pub(crate) use with_dtype;

/// Runs an expression with `$array` bound to the typed array of an [`NdData`].
macro_rules! with_data {
    ($data:expr, $array:ident => $body:expr) => {
        match $data {
            $crate::NdData::Bool($array) => $body,
            $crate::NdData::U8($array) => $body,
            $crate::NdData::U16($array) => $body,
            $crate::NdData::U32($array) => $body,
            $crate::NdData::U64($array) => $body,
            $crate::NdData::I8($array) => $body,
            $crate::NdData::I16($array) => $body,
            $crate::NdData::I32($array) => $body,
            $crate::NdData::I64($array) => $body,
            $crate::NdData::F32($array) => $body,
            $crate::NdData::F64($array) => $body,
        }
    };
}
pub(crate) use with_data;

macro_rules! integers {
    ($($T:ty, $variant:ident);*) => {$(
        impl sealed::Sealed for $T {}
        impl Element for $T {
            const DTYPE: DType = DType::$variant;
            fn widen(self) -> Wide {
                Wide::Integer(i128::from(self))
            }
            fn narrow(wide: Wide) -> Option<Self> {
                match wide {
                    Wide::Integer(value) => value.try_into().ok(),
                    Wide::Float(value) => {
                        let integer = value as i128;
                        (integer as f64 == value).then(|| integer.try_into().ok()).flatten()
                    }
                }
            }
            fn wrap(data: ArrayD<Self>) -> NdData {
                NdData::$variant(data)
            }
            fn unwrap(data: NdData) -> std::result::Result<ArrayD<Self>, NdData> {
                match data { NdData::$variant(data) => Ok(data), other => Err(other) }
            }
        }
    )*};
}
integers!(u8, U8; u16, U16; u32, U32; u64, U64; i8, I8; i16, I16; i32, I32; i64, I64);

macro_rules! floats {
    ($($T:ty, $variant:ident);*) => {$(
        impl sealed::Sealed for $T {}
        impl Element for $T {
            const DTYPE: DType = DType::$variant;
            fn widen(self) -> Wide {
                Wide::Float(f64::from(self))
            }
            fn narrow(wide: Wide) -> Option<Self> {
                match wide {
                    Wide::Integer(value) => (value as $T as i128 == value).then_some(value as $T),
                    Wide::Float(value) => {
                        let narrow = value as $T;
                        (narrow.is_finite() || !value.is_finite()).then_some(narrow)
                    }
                }
            }
            fn wrap(data: ArrayD<Self>) -> NdData {
                NdData::$variant(data)
            }
            fn unwrap(data: NdData) -> std::result::Result<ArrayD<Self>, NdData> {
                match data { NdData::$variant(data) => Ok(data), other => Err(other) }
            }
        }
    )*};
}
floats!(f32, F32; f64, F64);

impl sealed::Sealed for bool {}
impl Element for bool {
    const DTYPE: DType = DType::Bool;
    fn widen(self) -> Wide {
        Wide::Integer(i128::from(self))
    }
    fn narrow(wide: Wide) -> Option<Self> {
        u8::narrow(wide)
            .filter(|&value| value < 2)
            .map(|value| value == 1)
    }
    fn wrap(data: ArrayD<Self>) -> NdData {
        NdData::Bool(data)
    }
    fn unwrap(data: NdData) -> std::result::Result<ArrayD<Self>, NdData> {
        match data {
            NdData::Bool(data) => Ok(data),
            other => Err(other),
        }
    }
}

impl NdData {
    /// Lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        with_data!(self, array => array.shape())
    }

    /// Type of the values.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Bool(_) => DType::Bool,
            Self::U8(_) => DType::U8,
            Self::U16(_) => DType::U16,
            Self::U32(_) => DType::U32,
            Self::U64(_) => DType::U64,
            Self::I8(_) => DType::I8,
            Self::I16(_) => DType::I16,
            Self::I32(_) => DType::I32,
            Self::I64(_) => DType::I64,
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
        }
    }

    /// The typed array.
    ///
    /// # Errors
    /// [`Error::Cast`] if the values are of another type.
    pub fn into_typed<T: Element>(self) -> Result<ArrayD<T>> {
        T::unwrap(self).map_err(|data| Error::Cast {
            value: None,
            from: data.dtype(),
            to: T::DTYPE,
        })
    }

    /// The values as another type. Integers and booleans keep their value; floats may lose digits where the
    /// other type is a shorter float.
    ///
    /// # Errors
    /// [`Error::Cast`] with the first value that the other type does not have.
    pub fn cast<T: Element>(self) -> Result<ArrayD<T>> {
        let data = match T::unwrap(self) {
            Ok(data) => return Ok(data),
            Err(data) => data,
        };
        let from = data.dtype();
        with_data!(data, array => {
            let shape = array.raw_dim();
            let values: Result<Vec<T>> = array
                .iter()
                .map(|&value| {
                    let refuse = || Error::Cast { value: Some(format!("{value:?}")), from, to: T::DTYPE };
                    T::narrow(value.widen()).ok_or_else(refuse)
                })
                .collect();
            ArrayD::from_shape_vec(shape, values?).map_err(|source| Error::Shape { reason: source.to_string() })
        })
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn casts_keep_the_values_or_name_the_one_that_is_lost() {
        let data = NdData::I64(array![3i64, 255].into_dyn());
        assert_eq!(data.clone().cast::<u8>().unwrap(), array![3u8, 255].into_dyn());
        assert_eq!(data.cast::<f32>().unwrap(), array![3f32, 255.0].into_dyn());
        let error = NdData::I64(array![3i64, 256].into_dyn())
            .cast::<u8>()
            .unwrap_err();
        assert_eq!(error.to_string(), "256 (int64) is no uint8");
        assert!(NdData::F64(array![0.5].into_dyn()).cast::<u64>().is_err());
        assert!(NdData::F64(array![f64::NAN].into_dyn()).cast::<u64>().is_err());
        assert!(NdData::U64(array![u64::MAX].into_dyn()).cast::<f64>().is_err());
        assert!(NdData::F64(array![1e300].into_dyn()).cast::<f32>().is_err());
        assert!(
            NdData::F64(array![f64::INFINITY].into_dyn())
                .cast::<f32>()
                .unwrap()[0]
                .is_infinite()
        );
    }

    #[test]
    fn names_go_round() {
        for dtype in DType::ALL {
            assert_eq!(DType::from_name(dtype.name()), Some(dtype));
        }
        assert_eq!(DType::from_name("complex64"), None);
    }
}
