//! NumPy's scalars and arrays in pickles, as numbers.

use super::Value;

/// An array of numbers, or a scalar: then the shape is empty.
#[derive(Debug, Clone, PartialEq)]
pub struct NumpyArray {
    /// Lengths of its axes.
    pub shape: Vec<usize>,
    /// Values, last axis fastest; whole numbers beyond 2⁵³ are rounded.
    pub values: Vec<f64>,
}

impl NumpyArray {
    /// The NumPy scalar or array that a value is; nothing for everything else, and for arrays of other things
    /// than numbers.
    pub fn of(value: Value<'_>) -> Option<Self> {
        let (module, name) = value.class()?;
        if !["numpy.core.", "numpy._core."]
            .iter()
            .any(|of| module.starts_with(of))
        {
            return None;
        }
        match name {
            "scalar" => {
                let args = value.args()?;
                let values = numbers(args.item(0)?, &args.item(1)?.as_bytes()?)?;
                let shape = Vec::new();
                (values.len() == 1).then_some(Self { shape, values })
            }
            "_reconstruct" => {
                // (version, shape, dtype, whether columns come first, bytes)
                let state = value.state()?;
                let columns_first = state.item(3)?.as_bool()?;
                Self::array(
                    state.item(1)?,
                    state.item(2)?,
                    columns_first,
                    &state.item(4)?.as_bytes()?,
                )
            }
            "_frombuffer" => {
                // (bytes, dtype, shape, order), since protocol 5
                let args = value.args()?;
                let columns_first = args.item(3)?.as_text()? == "F";
                Self::array(
                    args.item(2)?,
                    args.item(1)?,
                    columns_first,
                    &args.item(0)?.as_bytes()?,
                )
            }
            _ => None,
        }
    }

    fn array(shape: Value<'_>, dtype: Value<'_>, columns_first: bool, bytes: &[u8]) -> Option<Self> {
        let length = |length: Value<'_>| usize::try_from(length.as_int()?).ok();
        let shape: Vec<usize> = shape.items()?.map(length).collect::<Option<_>>()?;
        let values = numbers(dtype, bytes)?;
        let len = shape
            .iter()
            .try_fold(1_usize, |n, &length| n.checked_mul(length))?;
        if len != values.len() {
            return None;
        }
        let values = if columns_first {
            from_columns(&shape, &values)
        } else {
            values
        };
        Some(Self { shape, values })
    }
}

/// Values whose first axis goes fastest, with the last one fastest.
fn from_columns(shape: &[usize], values: &[f64]) -> Vec<f64> {
    let place = |mut index: usize| {
        let mut digits = vec![0; shape.len()];
        for (digit, &length) in digits.iter_mut().zip(shape).rev() {
            (*digit, index) = (index % length, index / length);
        }
        digits
            .iter()
            .zip(shape)
            .rev()
            .fold(0, |at, (&digit, &length)| at * length + digit)
    };
    (0..values.len()).map(|index| values[place(index)]).collect()
}

/// The numbers that `bytes` hold. `dtype` is an object `numpy.dtype('f8', …)`, whose state has the byte order.
fn numbers(dtype: Value<'_>, bytes: &[u8]) -> Option<Vec<f64>> {
    if dtype.class()? != ("numpy", "dtype") {
        return None;
    }
    let code = dtype.args()?.item(0)?.as_text()?;
    let order = dtype.state().and_then(|state| state.item(1)?.as_text());
    let big = order == Some(">");
    fn all<const N: usize>(bytes: &[u8], big: bool, one: fn([u8; N]) -> f64) -> Option<Vec<f64>> {
        let (values, []) = bytes.as_chunks::<N>() else {
            return None;
        };
        let turn = |mut value: [u8; N]| {
            if big {
                value.reverse();
            }
            one(value)
        };
        Some(values.iter().copied().map(turn).collect())
    }
    match code {
        "f8" => all(bytes, big, f64::from_le_bytes),
        "f4" => all(bytes, big, |b| f32::from_le_bytes(b).into()),
        "f2" => all(bytes, big, |b| half::f16::from_le_bytes(b).into()),
        "i8" => all(bytes, big, |b| i64::from_le_bytes(b) as f64),
        "u8" => all(bytes, big, |b| u64::from_le_bytes(b) as f64),
        "i4" => all(bytes, big, |b| i32::from_le_bytes(b).into()),
        "u4" => all(bytes, big, |b| u32::from_le_bytes(b).into()),
        "i2" => all(bytes, big, |b| i16::from_le_bytes(b).into()),
        "u2" => all(bytes, big, |b| u16::from_le_bytes(b).into()),
        "i1" => all(bytes, big, |b| i8::from_le_bytes(b).into()),
        "u1" | "b1" => all(bytes, big, |b| u8::from_le_bytes(b).into()),
        _ => None,
    }
}
