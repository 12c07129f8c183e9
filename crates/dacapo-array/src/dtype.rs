//! The number types of arrays, and values whose type is known when the program runs.

use std::fmt;

use ndarray::ArrayD;

use crate::convert::{Convert, FromAll};
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
pub trait Element:
    sealed::Sealed + FromAll + Copy + Default + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// The array type that it is.
    const DTYPE: DType;

    #[doc(hidden)]
    fn wrap(data: ArrayD<Self>) -> NdData;

    #[doc(hidden)]
    fn unwrap(data: NdData) -> std::result::Result<ArrayD<Self>, NdData>;
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

macro_rules! elements {
    ($($T:ty, $variant:ident);*) => {$(
        impl sealed::Sealed for $T {}
        impl Element for $T {
            const DTYPE: DType = DType::$variant;
            fn wrap(data: ArrayD<Self>) -> NdData {
                NdData::$variant(data)
            }
            fn unwrap(data: NdData) -> std::result::Result<ArrayD<Self>, NdData> {
                match data { NdData::$variant(data) => Ok(data), other => Err(other) }
            }
        }
    )*};
}
elements!(bool, Bool; u8, U8; u16, U16; u32, U32; u64, U64; i8, I8; i16, I16; i32, I32; i64, I64; f32, F32; f64, F64);

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
        with_data!(data, array => cast(&array))
    }
}

fn cast<S: Element, T: Element + Convert<S>>(array: &ArrayD<S>) -> Result<ArrayD<T>> {
    /// What is looked through before it is converted: so both take several values at a time.
    const BLOCK: usize = 1 << 12;
    let array = array.as_standard_layout();
    let values = array.as_slice().unwrap_or_default();
    let mut converted = Vec::with_capacity(values.len());
    for block in values.chunks(BLOCK) {
        let all_fit = block.iter().fold(true, |fit, &value| fit & T::fits(value));
        if !all_fit {
            let value = block.iter().find(|&&value| !T::fits(value));
            return Err(Error::Cast {
                value: value.map(|value| format!("{value:?}")),
                from: S::DTYPE,
                to: T::DTYPE,
            });
        }
        converted.extend(block.iter().map(|&value| T::convert(value)));
    }
    ArrayD::from_shape_vec(array.raw_dim(), converted).map_err(|source| Error::Shape {
        reason: source.to_string(),
    })
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

    /// The definition, by way of numbers that hold every integer: the value, if the other type has it.
    fn naive(value: &NdData, to: DType) -> Option<String> {
        let (integer, float) = match value {
            NdData::Bool(a) => (Some(i128::from(a[0])), 0.0),
            NdData::U8(a) => (Some(i128::from(a[0])), 0.0),
            NdData::U16(a) => (Some(i128::from(a[0])), 0.0),
            NdData::U32(a) => (Some(i128::from(a[0])), 0.0),
            NdData::U64(a) => (Some(i128::from(a[0])), 0.0),
            NdData::I8(a) => (Some(i128::from(a[0])), 0.0),
            NdData::I16(a) => (Some(i128::from(a[0])), 0.0),
            NdData::I32(a) => (Some(i128::from(a[0])), 0.0),
            NdData::I64(a) => (Some(i128::from(a[0])), 0.0),
            NdData::F32(a) => (None, f64::from(a[0])),
            NdData::F64(a) => (None, a[0]),
        };
        match to {
            DType::F32 => match integer {
                Some(n) => (n as f32 as i128 == n).then(|| format!("{:?}", n as f32)),
                None => {
                    let near = float as f32;
                    (near.is_finite() || !float.is_finite()).then(|| format!("{near:?}"))
                }
            },
            DType::F64 => match integer {
                Some(n) => (n as f64 as i128 == n).then(|| format!("{:?}", n as f64)),
                None => Some(format!("{float:?}")),
            },
            _ => {
                let whole = integer.unwrap_or(float as i128);
                let is_whole = integer.is_some() || whole as f64 == float;
                let (low, high) = match to {
                    DType::Bool => (0, 1),
                    DType::U8 => (0, i128::from(u8::MAX)),
                    DType::U16 => (0, i128::from(u16::MAX)),
                    DType::U32 => (0, i128::from(u32::MAX)),
                    DType::U64 => (0, i128::from(u64::MAX)),
                    DType::I8 => (i128::from(i8::MIN), i128::from(i8::MAX)),
                    DType::I16 => (i128::from(i16::MIN), i128::from(i16::MAX)),
                    DType::I32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
                    _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
                };
                let fits = is_whole && (low..=high).contains(&whole);
                let text = match to {
                    DType::Bool => (whole == 1).to_string(),
                    _ => whole.to_string(),
                };
                fits.then_some(text)
            }
        }
    }

    /// Every value around the ends of every type, as a value of a type that has it.
    fn edges(dtype: DType) -> Vec<NdData> {
        let mut found = Vec::new();
        for power in 0..=64 {
            for near in -2..=2_i128 {
                for sign in [-1, 1] {
                    let n: i128 = sign * ((1 << power) + near);
                    let one = |value: NdData| vec![value];
                    found.extend(match dtype {
                        DType::Bool => one(NdData::Bool(ArrayD::from_elem(vec![1], n % 2 == 0))),
                        DType::U8 => one(NdData::U8(ArrayD::from_elem(vec![1], n as u8))),
                        DType::U16 => one(NdData::U16(ArrayD::from_elem(vec![1], n as u16))),
                        DType::U32 => one(NdData::U32(ArrayD::from_elem(vec![1], n as u32))),
                        DType::U64 => one(NdData::U64(ArrayD::from_elem(vec![1], n as u64))),
                        DType::I8 => one(NdData::I8(ArrayD::from_elem(vec![1], n as i8))),
                        DType::I16 => one(NdData::I16(ArrayD::from_elem(vec![1], n as i16))),
                        DType::I32 => one(NdData::I32(ArrayD::from_elem(vec![1], n as i32))),
                        DType::I64 => one(NdData::I64(ArrayD::from_elem(vec![1], n as i64))),
                        DType::F32 => [0.0, 0.5, 1e-3]
                            .map(|more| NdData::F32(ArrayD::from_elem(vec![1], n as f32 + more)))
                            .into(),
                        DType::F64 => [0.0, 0.5, 1e-3]
                            .map(|more| NdData::F64(ArrayD::from_elem(vec![1], n as f64 + more)))
                            .into(),
                    });
                }
            }
        }
        let odd = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -0.0,
            1e300,
            3.5e38,
            1e-310,
        ];
        match dtype {
            DType::F32 => {
                found.extend(odd.map(|value| NdData::F32(ArrayD::from_elem(vec![1], value as f32))))
            }
            DType::F64 => found.extend(odd.map(|value| NdData::F64(ArrayD::from_elem(vec![1], value)))),
            _ => {}
        }
        found
    }

    #[test]
    fn every_type_is_cast_to_every_other_as_defined() {
        for from in DType::ALL {
            for value in edges(from) {
                for to in DType::ALL.into_iter().filter(|&to| to != from) {
                    let found = with_dtype!(to, T => {
                        value.clone().cast::<T>().map(|array| format!("{:?}", array[0])).ok()
                    });
                    // A zero has no sign among integers, and that of floats stays.
                    assert_eq!(found, naive(&value, to), "{value:?} as {to}");
                }
            }
        }
    }

    #[test]
    fn the_first_value_that_is_lost_is_named_wherever_it_stands() {
        let values = |at: usize| {
            let mut values = vec![7_u64; 10_000];
            values[at] = 300;
            values[9999] = 301;
            NdData::U64(ArrayD::from_shape_vec(vec![100, 100], values).unwrap())
        };
        for at in [0, 4095, 4096, 8191, 9998] {
            let error = values(at).cast::<u8>().unwrap_err().to_string();
            assert_eq!(error, "300 (uint64) is no uint8");
        }
        let turned = NdData::U16(array![[1_u16, 2], [3, 4]].reversed_axes().into_dyn());
        assert_eq!(
            turned.cast::<u32>().unwrap(),
            array![[1_u32, 3], [2, 4]].into_dyn()
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
