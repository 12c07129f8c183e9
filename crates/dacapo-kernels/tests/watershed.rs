//! The seeded watershed: beside scikit-image (`data/make_segmentation.py`), beside a naive reference that has its order
//! of ties, and what must not matter.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use common::{Fixture, Noise, on_threads};
use dacapo_kernels::*;
use ndarray::{Array3, ArrayView3, Axis, array, s};
use proptest::prelude::*;

const ALL: [Connectivity; 3] = [Connectivity::Faces, Connectivity::Edges, Connectivity::Corners];

/// Looks through all that waits before each step: simple, slow, correct.
fn naive(
    height: ArrayView3<f32>,
    seeds: ArrayView3<u64>,
    mask: Option<ArrayView3<bool>>,
    connectivity: Connectivity,
) -> Array3<u64> {
    let open = |at: (usize, usize, usize)| mask.is_none_or(|mask| mask[at]);
    let most = 1 + ALL.iter().position(|&other| other == connectivity).unwrap();
    let mut steps: Vec<[isize; 3]> = (0..27).map(|n| [n / 9 - 1, n / 3 % 3 - 1, n % 3 - 1]).collect();
    steps.sort_by_key(|step| step.iter().filter(|&&n| n != 0).count());
    let mut labels = Array3::zeros(height.raw_dim());
    let mut waiting: Vec<(usize, usize, usize)> = Vec::new();
    for (at, &seed) in seeds.indexed_iter() {
        if open(at) && seed != 0 {
            labels[at] = seed;
            waiting.push(at);
        }
    }
    while !waiting.is_empty() {
        // NaN is above everything, -0 is 0; the earliest of the lowest.
        let order = |&at: &(usize, usize, usize)| {
            (
                height[at].is_nan(),
                if height[at].is_nan() { 0.0 } else { height[at] },
            )
        };
        let mut next = 0;
        for i in 1..waiting.len() {
            if order(&waiting[i]) < order(&waiting[next]) {
                next = i;
            }
        }
        let (z, y, x) = waiting.remove(next);
        for step in steps
            .iter()
            .filter(|step| (1..=most).contains(&step.iter().filter(|&&n| n != 0).count()))
        {
            let at = (
                z.wrapping_add_signed(step[0]),
                y.wrapping_add_signed(step[1]),
                x.wrapping_add_signed(step[2]),
            );
            if labels.get(at) == Some(&0) && open(at) {
                labels[at] = labels[(z, y, x)];
                waiting.push(at);
            }
        }
    }
    labels
}

/// Seeds at random places, some of several voxels.
fn seeds(shape: (usize, usize, usize), noise: &mut Noise) -> Array3<u64> {
    let names = [0, 1 << 63, u64::MAX, 3, 4];
    let mut last = 0;
    Array3::from_shape_simple_fn(shape, || {
        last = match noise.below(20) {
            0 => names[1 + noise.below(4) as usize],
            1..=4 => last,
            _ => 0,
        };
        last
    })
}

#[test]
fn they_are_those_of_scikit_image() {
    let mut peers = Fixture::open("segmentation");
    let (float, byte): (Array3<f32>, Array3<u8>) = (peers.volume("height"), peers.volume("height_u8"));
    for (index, connectivity) in ALL.into_iter().enumerate() {
        for name in ["height", "height_u8"] {
            let seeds: Array3<u64> = peers.volume(&format!("{name}.seeds"));
            let mask: Array3<bool> = peers.volume(&format!("{name}.mask"));
            for (key, mask) in [("all", None), ("masked", Some(mask.view()))] {
                let found = match name {
                    "height" => watershed(float.view(), seeds.view(), mask, connectivity),
                    _ => watershed(byte.view(), seeds.view(), mask, connectivity),
                };
                let expected: Array3<u64> = peers.volume(&format!("{name}.{}.{key}", index + 1));
                assert_eq!(found.unwrap(), expected, "{name}, {connectivity:?}, {key}");
            }
        }
    }
}

#[test]
fn they_are_their_definition_for_every_type_and_memory_order() {
    let mut noise = Noise(1);
    for shape in [
        (4, 6, 9),
        (1, 9, 10),
        (7, 1, 8),
        (8, 7, 1),
        (1, 1, 30),
        (1, 1, 1),
        (2, 2, 2),
    ] {
        for levels in [1, 3, 40, 256] {
            let bytes = Array3::from_shape_simple_fn(shape, || noise.below(levels) as u8);
            let seeds = seeds(shape, &mut noise);
            let mask = Array3::from_shape_simple_fn(shape, || noise.unit() < 0.8);
            let floats = bytes.mapv(f32::from);
            for (connectivity, mask) in ALL
                .into_iter()
                .flat_map(|connectivity| [(connectivity, None), (connectivity, Some(mask.view()))])
            {
                let what = format!("{shape:?}, {levels} levels, {connectivity:?}, {}", mask.is_some());
                let expected = naive(floats.view(), seeds.view(), mask, connectivity);
                let of_bytes = watershed(bytes.view(), seeds.view(), mask, connectivity).unwrap();
                assert_eq!(of_bytes, expected, "{what}");
                // Any steps between the levels, and negative ones.
                for change in [
                    |h: f32| h,
                    |h: f32| h.mul_add(1e-30, -1e-28),
                    |h: f32| (h - 20.0).powi(3),
                ] {
                    let floats = floats.mapv(change);
                    let found = watershed(floats.view(), seeds.view(), mask, connectivity).unwrap();
                    assert_eq!(found, expected, "{what}");
                }
                let turned = |volume: ArrayView3<u8>| volume.reversed_axes().to_owned();
                let turned = turned(bytes.view());
                let fortran = turned.view().reversed_axes();
                assert_eq!(
                    watershed(fortran, seeds.view(), mask, connectivity).unwrap(),
                    expected,
                    "{what}"
                );
                let window = s![..;-1, ..;2, ..];
                let (h, s) = (floats.slice(window), seeds.slice(window));
                let mask = mask.map(|mask| mask.slice_move(window));
                assert_eq!(
                    watershed(h, s, mask, connectivity).unwrap(),
                    naive(h, s, mask, connectivity),
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn nan_is_flooded_last_and_infinities_are_heights() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let seeds = array![[[1, 0, 0, 0, 0, 2]]];
    let flooded = |height: Array3<f32>| {
        watershed(height.view(), seeds.view(), None, Connectivity::Faces)
            .unwrap()
            .into_raw_vec_and_offset()
            .0
    };
    assert_eq!(
        flooded(array![[[0.0, 1.0, nan, inf, 3.0, 0.0]]]),
        [1, 1, 1, 2, 2, 2]
    );
    assert_eq!(
        flooded(array![[[0.0, nan, -inf, 9.0, 3.0, 0.0]]]),
        [1, 1, 2, 2, 2, 2]
    );
    assert_eq!(
        flooded(array![[[nan, nan, nan, nan, nan, nan]]]),
        [1, 1, 1, 2, 2, 2]
    );
    assert_eq!(
        flooded(array![[[-0.0, 0.0, -0.0, 0.0, -0.0, 0.0]]]),
        [1, 1, 1, 2, 2, 2]
    );
    let mut noise = Noise(2);
    let shape = (4, 7, 8);
    let height = Array3::from_shape_simple_fn(shape, || match noise.below(6) {
        0 => nan,
        1 => -inf,
        2 => inf,
        3 => -nan,
        _ => noise.unit() - 0.5,
    });
    let seeds = crate::seeds(shape, &mut noise);
    for connectivity in ALL {
        let found = watershed(height.view(), seeds.view(), None, connectivity).unwrap();
        assert_eq!(found, naive(height.view(), seeds.view(), None, connectivity));
    }
}

#[test]
fn nothing_and_everything() {
    for shape in [(0, 3, 4), (3, 0, 4), (0, 0, 0)] {
        let (height, seeds) = (Array3::<u8>::zeros(shape), Array3::<u64>::zeros(shape));
        assert!(
            watershed(height.view(), seeds.view(), None, Connectivity::Edges)
                .unwrap()
                .is_empty()
        );
    }
    let height = Array3::<f32>::zeros((3, 4, 5));
    let seeds = Array3::from_elem((3, 4, 5), 1u64 << 63);
    let none = Array3::zeros((3, 4, 5));
    let closed = Array3::from_elem((3, 4, 5), false);
    let flood =
        |seeds: &Array3<u64>, mask| watershed(height.view(), seeds.view(), mask, Connectivity::Corners);
    assert_eq!(flood(&seeds, None).unwrap(), seeds, "all seeds");
    assert_eq!(flood(&none, None).unwrap(), none, "no seeds");
    assert_eq!(flood(&seeds, Some(closed.view())).unwrap(), none, "no voxels");
    let small = closed.slice(s![..2, .., ..]);
    assert!(flood(&seeds, Some(small)).is_err());
    assert!(
        watershed(
            height.view(),
            seeds.slice(s![.., .., ..4]),
            None,
            Connectivity::Faces
        )
        .is_err()
    );
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let mut noise = Noise(3);
    let shape = (12, 40, 40);
    let height = Array3::from_shape_simple_fn(shape, || noise.below(50) as u8);
    let seeds = seeds(shape, &mut noise);
    let flood = || watershed(height.view(), seeds.view(), None, Connectivity::Edges).unwrap();
    let one = on_threads(1, flood);
    assert!([2, 3].map(|threads| on_threads(threads, flood)) == [one.clone(), one]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Where no two heights are equal, flips and names change no flood; and every voxel that a seed reaches is in one.
    #[test]
    fn flips_and_names_do_not_matter(seed in 0u64..1 << 48, axis in 0usize..3, level in 0usize..3) {
        let mut noise = Noise(seed);
        let shape = (4, 5, 7);
        let mut order: Vec<u64> = (0..140).collect();
        order.sort_by_cached_key(|_| noise.bits());
        let height = Array3::from_shape_vec(shape, order).unwrap().mapv(|h| h as f32 - 70.0);
        let mut seeds = Array3::zeros(shape);
        for id in 1..6 {
            seeds[[noise.below(4) as usize, noise.below(5) as usize, noise.below(7) as usize]] = id;
        }
        let found = watershed(height.view(), seeds.view(), None, ALL[level]).unwrap();
        prop_assert!(found.iter().all(|&label| label != 0));
        let (mut flipped, mut flipped_seeds) = (height.view(), seeds.view());
        flipped.invert_axis(Axis(axis));
        flipped_seeds.invert_axis(Axis(axis));
        let mut back = watershed(flipped, flipped_seeds, None, ALL[level]).unwrap();
        back.invert_axis(Axis(axis));
        prop_assert_eq!(&back, &found);
        let rename = |id: u64| if id == 0 { 0 } else { u64::MAX - id };
        let renamed = watershed(height.view(), seeds.mapv(rename).view(), None, ALL[level]).unwrap();
        prop_assert_eq!(renamed, found.mapv(rename));
    }
}
