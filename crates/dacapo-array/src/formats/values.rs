//! Values as the bytes that files have, and back.

use ndarray::{ArrayD, IxDyn};

use crate::dtype::{with_data, with_dtype};
use crate::{DType, Element, Error, NdData, Result};

/// Which byte of a value comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    /// That of this machine.
    pub(super) const NATIVE: Self = if cfg!(target_endian = "little") {
        Self::Little
    } else {
        Self::Big
    };
}

/// A value of a file.
trait Raw: Element {
    fn decode(bytes: &[u8], order: Order) -> Vec<Self>;
    fn encode(self, order: Order, to: &mut Vec<u8>);
}

macro_rules! raw {
    ($($T:ty),*) => {$(
        impl Raw for $T {
            fn decode(bytes: &[u8], order: Order) -> Vec<Self> {
                let (values, _) = bytes.as_chunks::<{ size_of::<$T>() }>();
                match order {
                    Order::Little => values.iter().map(|bytes| <$T>::from_le_bytes(*bytes)).collect(),
                    Order::Big => values.iter().map(|bytes| <$T>::from_be_bytes(*bytes)).collect(),
                }
            }
            fn encode(self, order: Order, to: &mut Vec<u8>) {
                match order {
                    Order::Little => to.extend(self.to_le_bytes()),
                    Order::Big => to.extend(self.to_be_bytes()),
                }
            }
        }
    )*};
}
raw!(u8, u16, u32, u64, i8, i16, i32, i64, f32, f64);

impl Raw for bool {
    fn decode(bytes: &[u8], _: Order) -> Vec<Self> {
        bytes.iter().map(|&byte| byte != 0).collect()
    }
    fn encode(self, _: Order, to: &mut Vec<u8>) {
        to.push(u8::from(self));
    }
}

/// An array of row-major bytes.
///
/// # Errors
/// [`Error::Shape`] if there are not as many bytes as the shape needs.
pub(super) fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8], order: Order) -> Result<NdData> {
    with_dtype!(dtype, T => {
        let array = ArrayD::from_shape_vec(IxDyn(shape), T::decode(bytes, order));
        array.map(T::wrap).map_err(|_| Error::Shape {
            reason: format!("{} bytes for {shape:?} values of {dtype}", bytes.len()),
        })
    })
}

/// The values in row-major order, as bytes.
pub(super) fn to_bytes(data: &NdData, order: Order) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(data.shape().iter().product::<usize>() * data.dtype().size());
    with_data!(data, array => array.iter().for_each(|value| value.encode(order, &mut bytes)));
    bytes
}

/// The array with its axes in this order; the values stay where they are.
pub(super) fn permuted(data: NdData, axes: &[usize]) -> NdData {
    with_data!(data, array => Element::wrap(array.permuted_axes(axes)))
}

/// The array with its axes the other way round; the values stay where they are.
pub(super) fn reversed(data: NdData) -> NdData {
    with_data!(data, array => Element::wrap(array.reversed_axes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_round_in_either_order() {
        for dtype in DType::ALL {
            let bytes: Vec<u8> = (0..6 * dtype.size()).map(|i| i as u8).collect();
            for order in [Order::Little, Order::Big] {
                let data = from_bytes(dtype, &[2, 3], &bytes, order).unwrap();
                if dtype != DType::Bool {
                    assert_eq!(to_bytes(&data, order), bytes, "{dtype}");
                }
                let turned = reversed(data.clone());
                assert_eq!(turned.shape(), [3, 2]);
                assert_eq!(
                    from_bytes(dtype, &[3, 2], &to_bytes(&turned, order), order).unwrap(),
                    turned
                );
                assert_eq!(permuted(turned, &[1, 0]), data);
            }
            assert!(from_bytes(dtype, &[2, 4], &bytes, Order::Little).is_err());
        }
    }
}
