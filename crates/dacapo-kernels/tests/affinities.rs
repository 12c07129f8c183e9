//! Affinities of labels: beside their definition, in any memory order, and for labels of any size.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use common::{Noise, on_threads};
use dacapo_kernels::*;
use ndarray::{Array3, Array4, ArrayView3, s};

/// Voxel by voxel: simple, slow, correct.
fn naive(labels: ArrayView3<u64>, offsets: &[Offset], background: Background) -> Array4<u8> {
    let (depth, height, width) = labels.dim();
    Array4::from_shape_fn((offsets.len(), depth, height, width), |(channel, z, y, x)| {
        let [dz, dy, dx] = offsets[channel];
        let along = |at: usize, step: i64| usize::try_from((at as i64).saturating_add(step)).ok();
        let other = || labels.get([along(z, dz)?, along(y, dy)?, along(x, dx)?]);
        u8::from(other().is_some_and(|&other| background.links(labels[[z, y, x]], other)))
    })
}

#[test]
fn they_are_their_definition_whatever_the_labels_and_their_layout() {
    let offsets = [
        [-1, 0, 0],
        [0, -1, 0],
        [0, 0, -1],
        [0, 0, 3],
        [2, -3, 1],
        [0, 9, 0],
        [0, 0, 17],
        [i64::MIN, 0, 1],
        [0, i64::MAX, 0],
    ];
    let mut noise = Noise(1);
    // The largest that are narrowed, and some that differ only in what would be lost.
    for names in [
        [0, 1, u64::from(u32::MAX)],
        [0, 1, 1 << 32],
        [0, 1, (1 << 32) + 1],
    ] {
        for shape in [
            (4, 5, 37),
            (1, 20, 21),
            (9, 1, 18),
            (3, 7, 1),
            (1, 1, 1),
            (0, 3, 4),
            (2, 3, 0),
        ] {
            let labels = Array3::from_shape_simple_fn(shape, || names[noise.below(3) as usize]);
            let reversed = labels.t().to_owned();
            let mut spread = Array3::from_elem((2 * shape.0, 2 * shape.1, 3 * shape.2), 1);
            spread.slice_mut(s![..;2, ..;2, ..;3]).assign(&labels);
            for background in [Background::Nothing, Background::Object] {
                let expected = naive(labels.view(), &offsets, background);
                for view in [labels.view(), reversed.t(), spread.slice(s![..;2, ..;2, ..;3])] {
                    for threads in [1, 3] {
                        let found = on_threads(threads, || affinities(view, &offsets, background).unwrap());
                        assert_eq!(found, expected, "{shape:?}, {names:?}, {background:?}");
                    }
                }
                let turned = labels.slice(s![..;-1, .., ..;-2]);
                assert_eq!(
                    affinities(turned, &offsets, background).unwrap(),
                    naive(turned, &offsets, background)
                );
            }
        }
    }
}
