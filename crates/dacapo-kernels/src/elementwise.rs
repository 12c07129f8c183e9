//! Functions of each value by itself, several values at once.

use ndarray::{Array, ArrayView, Dimension, Zip};
use rayon::prelude::*;

/// Values that are done at once: a vector of bytes comes out of them.
const LANES: usize = 16;
/// Vectors that are done by one thread at least.
const VECTORS: usize = 1 << 12;

/// What `of` makes of each value. It should have no branch, so that the compiler does several at once: it does so where
/// their number is known, and in a loop of any length only now and then.
pub(crate) fn map<A, B, D>(values: ArrayView<A, D>, of: impl Fn(A) -> B + Sync) -> Array<B, D>
where
    A: Copy + Sync,
    B: Copy + Default + Send,
    D: Dimension,
{
    let Some(slice) = values.as_slice() else {
        return Zip::from(values).par_map_collect(|&value| of(value));
    };
    let (vectors, rest) = slice.as_chunks::<LANES>();
    let mut mapped = Vec::with_capacity(vectors.len() + 1);
    vectors
        .par_iter()
        .with_min_len(VECTORS)
        .map(|vector| {
            let mut mapped = [B::default(); LANES];
            for (mapped, &value) in mapped.iter_mut().zip(vector) {
                *mapped = of(value);
            }
            mapped
        })
        .collect_into_vec(&mut mapped);
    let mut mapped = mapped.into_flattened();
    mapped.extend(rest.iter().map(|&value| of(value)));
    #[allow(clippy::expect_used, reason = "there are as many as before")]
    Array::from_shape_vec(values.raw_dim(), mapped).expect("the same shape")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, s};

    #[test]
    fn every_layout_and_length_is_mapped() {
        for shape in [
            (0, 3, 4),
            (2, 2, 0),
            (1, 1, 1),
            (3, 5, 7),
            (2, 4, 8),
            (3, 300, 301),
        ] {
            let mut number = 0u32;
            let values = Array3::from_shape_simple_fn(shape, || {
                number += 1;
                number
            });
            let of = |value: u32| (value.wrapping_mul(2_654_435_761) >> 24) as u8;
            for view in [values.view(), values.t(), values.slice(s![..;2, ..;-1, ..;3])] {
                assert_eq!(map(view, of), view.mapv(of));
            }
        }
    }
}
