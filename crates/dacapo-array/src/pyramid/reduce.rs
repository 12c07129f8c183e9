//! Making one voxel of several: their mean, or the value that most of them have.

use ndarray::{ArrayD, IxDyn};

use crate::dtype::with_data;
use crate::{Element, Error, NdData, Result};

/// What voxels become one by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// Their mean, for images; of integers rounded to the nearest, half to even. Of booleans the mode.
    Mean,
    /// The most frequent, for labels; of several, the smallest. 0 is a value like others.
    Mode,
}

impl Reduce {
    /// Reduces an array by a factor along each axis; at the far borders of what is there.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not as many factors as axes.
    pub(crate) fn apply(self, data: &NdData, factors: &[usize]) -> Result<NdData> {
        if factors.len() != data.shape().len() || factors.contains(&0) {
            return Err(Error::Shape {
                reason: format!("factors {factors:?} for {:?} values", data.shape()),
            });
        }
        with_data!(data, array => Ok(Element::wrap(reduce(array, factors, |values| match self {
            Self::Mean => Reducible::mean(values),
            Self::Mode => Reducible::mode(values),
        }))))
    }
}

fn reduce<T: Element>(array: &ArrayD<T>, factors: &[usize], f: impl Fn(&mut [T]) -> T) -> ArrayD<T> {
    let array = array.as_standard_layout();
    let values = array.as_slice().unwrap_or_default();
    let shape = array.shape();
    let axes = shape.len();
    let out: Vec<usize> = shape
        .iter()
        .zip(factors)
        .map(|(n, factor)| n.div_ceil(*factor))
        .collect();
    let count: usize = out.iter().product();
    let mut result = Vec::with_capacity(count);
    if count == 0 || axes == 0 {
        return ArrayD::from_elem(IxDyn(&out), T::default());
    }
    let mut window = Vec::new();
    let mut rows: Vec<usize> = Vec::new();
    for row in 0..count / out[axes - 1] {
        // Where the rows begin of which a row of the result is made.
        let mut rest = row;
        let mut index = vec![0; axes - 1];
        for axis in (0..axes - 1).rev() {
            index[axis] = rest % out[axis];
            rest /= out[axis];
        }
        rows.clear();
        rows.push(0);
        for axis in 0..axes - 1 {
            let first = index[axis] * factors[axis];
            let last = shape[axis].min(first + factors[axis]);
            rows = rows
                .iter()
                .flat_map(|row| (first..last).map(move |i| row * shape[axis] + i))
                .collect();
        }
        let (length, factor) = (shape[axes - 1], factors[axes - 1]);
        for x in 0..out[axes - 1] {
            let (first, last) = (x * factor, length.min((x + 1) * factor));
            window.clear();
            rows.iter()
                .for_each(|row| window.extend_from_slice(&values[row * length + first..row * length + last]));
            result.push(f(&mut window));
        }
    }
    ArrayD::from_shape_fn(IxDyn(&out), |i| {
        let flat = (0..axes).fold(0, |flat, axis| flat * out[axis] + i[axis]);
        result[flat]
    })
}

/// Values of which there is a mean and a most frequent.
trait Reducible: Element {
    fn mean(values: &mut [Self]) -> Self;
    fn mode(values: &mut [Self]) -> Self;
}

/// The value that most have, the smallest of several.
fn mode<T: Element>(values: &mut [T], compare: impl Fn(&T, &T) -> std::cmp::Ordering) -> T {
    let Some(&first) = values.first() else {
        return T::default();
    };
    if values.iter().all(|value| *value == first) {
        return first;
    }
    values.sort_unstable_by(compare);
    let (mut best, mut most) = (values[0], 0);
    let mut begin = 0;
    for end in 1..=values.len() {
        if end == values.len() || values[end] != values[begin] {
            if end - begin > most {
                (best, most) = (values[begin], end - begin);
            }
            begin = end;
        }
    }
    best
}

macro_rules! integers {
    ($($T:ty),*) => {$(
        impl Reducible for $T {
            fn mean(values: &mut [Self]) -> Self {
                let count = values.len().max(1) as i128;
                let sum: i128 = values.iter().map(|&value| i128::from(value)).sum();
                let (low, rest) = (sum.div_euclid(count), sum.rem_euclid(count));
                let up = 2 * rest > count || (2 * rest == count && low % 2 != 0);
                // A mean lies between values of the type.
                (low + i128::from(up)) as Self
            }
            fn mode(values: &mut [Self]) -> Self {
                mode(values, Ord::cmp)
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! floats {
    ($($T:ty),*) => {$(
        impl Reducible for $T {
            fn mean(values: &mut [Self]) -> Self {
                let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
                (sum / values.len().max(1) as f64) as Self
            }
            fn mode(values: &mut [Self]) -> Self {
                mode(values, Self::total_cmp)
            }
        }
    )*};
}
floats!(f32, f64);

impl Reducible for bool {
    fn mean(values: &mut [Self]) -> Self {
        Self::mode(values)
    }
    fn mode(values: &mut [Self]) -> Self {
        mode(values, Ord::cmp)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, array};
    use proptest::prelude::*;

    use super::*;

    /// Simple, slow, correct: counts of values in a window.
    fn naive_mode(values: &[u64]) -> u64 {
        let count = |v: u64| values.iter().filter(|&&other| other == v).count();
        let most = values.iter().map(|&v| count(v)).max().unwrap();
        values
            .iter()
            .copied()
            .filter(|&v| count(v) == most)
            .min()
            .unwrap()
    }

    proptest! {
        #[test]
        fn windows_are_reduced_by_themselves(
            (shape, factors, values) in (1usize..5, 1usize..6, 1usize..7).prop_flat_map(|(z, y, x)| {
                (Just([z, y, x]), [1usize..4, 1..4, 1..4], proptest::collection::vec(0u64..4, z * y * x))
            })
        ) {
            let array = Array::from_shape_vec(shape, values).unwrap();
            let data = NdData::U64(array.clone().into_dyn());
            let modes = Reduce::Mode.apply(&data, &factors).unwrap().into_typed::<u64>().unwrap();
            let image = NdData::F64(array.mapv(|v| v as f64).into_dyn());
            let means = Reduce::Mean.apply(&image, &factors).unwrap().into_typed::<f64>().unwrap();
            let rounded = Reduce::Mean.apply(&data, &factors).unwrap().into_typed::<u64>().unwrap();
            prop_assert_eq!(modes.shape(), [0, 1, 2].map(|a| shape[a].div_ceil(factors[a])));
            for (index, &mode) in modes.indexed_iter() {
                let window: Vec<u64> = array
                    .indexed_iter()
                    .filter(|((z, y, x), _)| {
                        [*z / factors[0], *y / factors[1], *x / factors[2]] == [index[0], index[1], index[2]]
                    })
                    .map(|(_, &v)| v)
                    .collect();
                prop_assert_eq!(mode, naive_mode(&window));
                let mean = window.iter().sum::<u64>() as f64 / window.len() as f64;
                prop_assert_eq!(means[&index], mean);
                prop_assert_eq!(rounded[&index] as f64, mean.round_ties_even());
            }
        }
    }

    #[test]
    fn extremes_neither_overflow_nor_lose() {
        let mean = |data: NdData| Reduce::Mean.apply(&data, &[2]).unwrap();
        assert_eq!(
            mean(NdData::U64(array![u64::MAX, u64::MAX].into_dyn())),
            NdData::U64(array![u64::MAX].into_dyn())
        );
        assert_eq!(
            mean(NdData::I64(array![i64::MIN, i64::MIN].into_dyn())),
            NdData::I64(array![i64::MIN].into_dyn())
        );
        assert_eq!(
            mean(NdData::I8(array![-1, -2, -3, -4, 5].into_dyn())),
            NdData::I8(array![-2, -4, 5].into_dyn())
        );
        assert_eq!(
            mean(NdData::U8(array![255, 254].into_dyn())),
            NdData::U8(array![254].into_dyn())
        );
        assert_eq!(
            mean(NdData::Bool(array![true, false].into_dyn())),
            NdData::Bool(array![false].into_dyn())
        );
        let empty = NdData::U8(ArrayD::zeros(vec![0, 3]));
        assert_eq!(Reduce::Mode.apply(&empty, &[2, 2]).unwrap().shape(), [0, 2]);
        assert!(Reduce::Mean.apply(&empty, &[2]).is_err());
    }
}
