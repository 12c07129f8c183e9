//! The mutex watershed: beside mwatershed (`data/make_segmentation.py`), beside a naive reference that has its order of
//! ties, and what must not matter.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use common::{Fixture, Noise, on_threads, same_partition};
use dacapo_kernels::*;
use ndarray::{Array3, Array4, ArrayView3, ArrayView4, Ix1, Ix2, Ix4, s};
use proptest::prelude::*;

const OFFSETS: [Offset; 7] = [
    [-1, 0, 0],
    [0, -1, 0],
    [0, 0, -1],
    [-3, 0, 0],
    [0, 2, -5],
    [1, -1, 4],
    [-20, 0, 0],
];
const STRIDES: [[usize; 3]; 7] = [[1; 3], [1; 3], [1; 3], [2, 1, 1], [1, 2, 3], [3, 3, 1], [1; 3]];

/// Sorts all edges and asks every pair that was ever parted: simple, slow, correct.
fn naive(
    affinities: ArrayView4<f32>,
    biases: &[f32],
    groups: &[usize],
    strides: Option<&[[usize; 3]]>,
    mask: Option<ArrayView3<bool>>,
) -> Array3<u64> {
    let (_, depth, height, width) = affinities.dim();
    let mut edges = Vec::new();
    for ((c, z, y, x), &affinity) in affinities.indexed_iter() {
        let p = [z, y, x];
        let q: [usize; 3] = std::array::from_fn(|a| p[a].wrapping_add_signed(OFFSETS[c][a] as isize));
        let inside = q[0] < depth && q[1] < height && q[2] < width;
        let stride = strides.map_or([1; 3], |strides| strides[c]);
        let on_grid = (0..3).all(|a| p[a] % stride[a] == 0);
        if inside && on_grid && !affinity.is_nan() && mask.is_none_or(|mask| mask[p] && mask[q]) {
            let place = (c * depth + z) * height * width + y * width + x;
            edges.push((affinity - biases[groups[c]], groups[c], affinity, place, p, q));
        }
    }
    edges.retain(|edge| edge.0 != 0.0);
    edges.sort_by(|a, b| {
        let by_size = b.0.abs().total_cmp(&a.0.abs());
        let by_kind = (a.0 < 0.0).cmp(&(b.0 < 0.0)).then(a.1.cmp(&b.1));
        let by_place = a.2.total_cmp(&b.2).then(a.3.cmp(&b.3));
        by_size
            .then(by_kind)
            .then(if a.0 > 0.0 { by_place.reverse() } else { by_place })
    });
    let mut segments = Array3::from_shape_fn((depth, height, width), |(z, y, x)| {
        1 + (z * height + y) * width + x
    });
    let mut foreground = Array3::from_elem(segments.raw_dim(), false);
    let mut parted: Vec<([usize; 3], [usize; 3])> = Vec::new();
    for (weight, _, _, _, p, q) in edges {
        let (a, b) = (segments[p], segments[q]);
        if weight > 0.0 {
            (foreground[p], foreground[q]) = (true, true);
            let apart =
                |&(p, q): &([usize; 3], [usize; 3])| [(a, b), (b, a)].contains(&(segments[p], segments[q]));
            if a != b && !parted.iter().any(apart) {
                segments.mapv_inplace(|segment| if segment == b { a } else { segment });
            }
        } else if a != b {
            parted.push((p, q));
        }
    }
    let named = ndarray::Zip::from(&segments)
        .and(&foreground)
        .map_collect(|&s, &f| if f { s as u64 } else { 0 });
    relabel_sequential(named.view()).0
}

/// Affinities of blocky objects, with noise of so many steps.
fn noisy(shape: [usize; 3], steps: u64, noise: &mut Noise) -> Array4<u8> {
    let [depth, height, width] = shape;
    let labels = Array3::from_shape_fn(shape, |(z, y, x)| (1 + z / 3 + 3 * (y / 4) + 9 * (x / 5)) as u64);
    let ideal = affinities(labels.view(), &OFFSETS, Background::Nothing).unwrap();
    let mut values = Array4::zeros((OFFSETS.len(), depth, height, width));
    values.zip_mut_with(&ideal, |value, &linked| {
        let random = noise.below(steps) * 255 / (steps - 1).max(1);
        *value = ((u64::from(linked) * 255 * 2 + random * 3) / 5) as u8;
    });
    values
}

#[test]
fn they_are_those_of_mwatershed() {
    let mut peers = Fixture::open("segmentation");
    let affinities: Array4<f32> = peers.read::<f32, Ix4>("affinities");
    let offsets: Vec<Offset> = peers
        .read::<i64, Ix2>("offsets")
        .outer_iter()
        .map(|o| [o[0], o[1], o[2]])
        .collect();
    let strides: Vec<[usize; 3]> = peers
        .read::<u64, Ix2>("strides")
        .outer_iter()
        .map(|o| [o[0], o[1], o[2]].map(|n| n as usize))
        .collect();
    let biases = peers.read::<f32, Ix2>("biases");
    let mut counts = Vec::new();
    for (index, bias) in biases.outer_iter().enumerate() {
        for (key, strides) in [("", None), (".strided", Some(&strides[..]))] {
            let found = mutex_watershed(affinities.view(), &offsets, &bias.to_vec(), strides, None).unwrap();
            let expected: Array3<u64> = peers.volume(&format!("mutex.{index}{key}"));
            assert!(same_partition(found.view(), expected.view()), "{index}{key}");
            counts.push(found.iter().max().copied().unwrap());
        }
    }
    assert!(counts.iter().all(|&count| count > 5), "{counts:?}");
}

#[test]
fn they_are_their_definition_ties_strides_and_masks_too() {
    let mut noise = Noise(1);
    for shape in [[4, 7, 6], [1, 9, 11], [5, 1, 8], [2, 3, 1], [1, 1, 1]] {
        // Few steps make many ties.
        for steps in [2, 5, 256] {
            let bytes = noisy(shape, steps, &mut noise);
            let floats = bytes.mapv(|value| f32::from(value) / 255.0);
            let mask = Array3::from_shape_simple_fn(shape, || noise.unit() < 0.9);
            for (biases, groups) in [
                (vec![0.5], [0; 7]),
                (vec![0.3, 0.7], [0, 0, 0, 1, 1, 1, 1]),
                (vec![0.4, 0.5, 0.6], [2, 0, 1, 0, 1, 2, 0]),
            ] {
                for (strides, mask) in [
                    (None, None),
                    (Some(&STRIDES[..]), None),
                    (Some(&STRIDES[..]), Some(mask.view())),
                ] {
                    let expected = naive(floats.view(), &biases, &groups, strides, mask);
                    let of_floats = MutexEdges::new(floats.view(), &OFFSETS, &groups, strides, mask).unwrap();
                    let of_bytes = MutexEdges::new(bytes.view(), &OFFSETS, &groups, strides, mask).unwrap();
                    let what = format!("{shape:?}, {steps} steps, {biases:?}");
                    assert_eq!(of_floats.segment(&biases).unwrap(), expected, "{what}, floats");
                    assert_eq!(of_bytes.segment(&biases).unwrap(), expected, "{what}, bytes");
                    let each: Vec<f32> = groups.iter().map(|&group| biases[group]).collect();
                    let found = mutex_watershed(bytes.view(), &OFFSETS, &each, strides, mask).unwrap();
                    // Groups are made in another order here.
                    let mut order: Vec<f32> = each.clone();
                    order.dedup();
                    if order == biases {
                        assert_eq!(found, expected, "{what}, alone");
                    }
                }
            }
        }
    }
}

#[test]
fn nan_and_infinity_are_defined_and_memory_order_does_not_matter() {
    let mut noise = Noise(2);
    let shape = [4, 6, 7];
    let mut floats = noisy(shape, 256, &mut noise).mapv(|value| f32::from(value) / 255.0);
    for value in &mut floats {
        match noise.below(12) {
            0 => *value = f32::NAN,
            1 => *value = -f32::NAN,
            2 => *value = f32::INFINITY,
            3 => *value = -3.5,
            _ => {}
        }
    }
    let expected = naive(floats.view(), &[0.45], &[0; 7], None, None);
    let found = mutex_watershed(floats.view(), &OFFSETS, &[0.45; 7], None, None).unwrap();
    assert_eq!(found, expected);
    let turned = floats.view().reversed_axes().to_owned();
    let fortran = turned.view().reversed_axes();
    assert_eq!(
        mutex_watershed(fortran, &OFFSETS, &[0.45; 7], None, None).unwrap(),
        expected
    );
    let nan = Array4::from_elem((7, 4, 6, 7), f32::NAN);
    assert_eq!(
        mutex_watershed(nan.view(), &OFFSETS, &[0.5; 7], None, None)
            .unwrap()
            .sum(),
        0
    );
}

#[test]
fn a_grid_of_biases_shares_the_sort_and_threads_change_nothing() {
    let mut noise = Noise(3);
    let bytes = noisy([12, 30, 31], 256, &mut noise);
    let floats = bytes.mapv(|value| f32::from(value) / 255.0);
    let groups = [0, 0, 0, 1, 1, 1, 1];
    let everything = || {
        let edges = MutexEdges::new(floats.view(), &OFFSETS, &groups, None, None).unwrap();
        let of_bytes = MutexEdges::new(bytes.view(), &OFFSETS, &groups, None, None).unwrap();
        let mut grid = Vec::new();
        for short in [0.3, 0.5, 0.7] {
            for long in [0.2, 0.5, 0.8] {
                let segments = edges.segment(&[short, long]).unwrap();
                assert!(of_bytes.segment(&[short, long]).unwrap() == segments);
                let separate: Vec<f32> = groups.iter().map(|&group| [short, long][group]).collect();
                if short != long {
                    assert!(
                        mutex_watershed(floats.view(), &OFFSETS, &separate, None, None).unwrap() == segments
                    );
                }
                grid.push(segments);
            }
        }
        grid
    };
    let one = on_threads(1, everything);
    for threads in [2, 3] {
        assert!(on_threads(threads, everything) == one, "{threads} threads");
    }
}

#[test]
fn nothing_everything_and_what_means_nothing() {
    let empty = Array4::<u8>::zeros((7, 0, 3, 4));
    assert!(
        mutex_watershed(empty.view(), &OFFSETS, &[0.5; 7], None, None)
            .unwrap()
            .is_empty()
    );
    let ones = Array4::from_elem((7, 3, 4, 5), 255u8);
    let segments = mutex_watershed(ones.view(), &OFFSETS, &[0.5; 7], None, None).unwrap();
    assert!(segments.iter().all(|&segment| segment == 1));
    // At the bias is neither above nor below.
    for low in [0.0, 0.5] {
        let floats = Array4::from_elem((7, 3, 4, 5), low);
        let segments = mutex_watershed(floats.view(), &OFFSETS, &[0.5; 7], None, None).unwrap();
        assert_eq!(segments.sum(), 0, "all background");
    }
    let error = |strides: &[[usize; 3]]| {
        mutex_watershed(ones.view(), &OFFSETS, &[0.5; 7], Some(strides), None)
            .unwrap_err()
            .to_string()
    };
    assert!(error(&[[1; 3]; 6]).contains("6 strides"));
    assert!(error(&[[1, 0, 1]; 7]).contains("a stride is 0"));
    let edges = MutexEdges::new(ones.view(), &OFFSETS, &[0, 0, 0, 2, 1, 1, 1], None, None).unwrap();
    assert!(edges.segment(&[0.5, 0.5]).is_err());
    assert!(edges.segment(&[0.5, f32::INFINITY, 0.5]).is_err());
    assert!(edges.segment(&[0.5; 4]).is_ok());
    let mask = Array3::from_elem((3, 4, 4), true);
    assert!(mutex_watershed(ones.view(), &OFFSETS, &[0.5; 7], None, Some(mask.view())).is_err());
    assert!(mutex_watershed(ones.view(), &OFFSETS[..6], &[0.5; 7], None, None).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Turning the volume and its offsets over turns the segments over, where no two magnitudes are equal.
    #[test]
    fn flips_do_not_matter(seed in 0u64..1 << 48, bias in 0.2f32..0.8) {
        let mut noise = Noise(seed);
        let shape = (7, 3, 5, 6);
        let mut ranks: Vec<u64> = (0..630).collect();
        ranks.sort_by_cached_key(|_| noise.bits());
        let values = Array4::from_shape_vec(shape, ranks).unwrap().mapv(|rank| rank as f32 / 630.0);
        let distinct = |bias: f32| {
            let mut all: Vec<u32> = values.iter().map(|value| (value - bias).abs().to_bits()).collect();
            all.sort_unstable();
            all.windows(2).all(|pair| pair[0] != pair[1])
        };
        prop_assume!(distinct(bias));
        let found = mutex_watershed(values.view(), &OFFSETS, &[bias; 7], None, None).unwrap();
        let flipped = values.slice(s![.., ..;-1, ..;-1, ..;-1]);
        let opposite = OFFSETS.map(|offset| offset.map(|n| -n));
        let back = mutex_watershed(flipped, &opposite, &[bias; 7], None, None).unwrap();
        prop_assert!(same_partition(back.slice(s![..;-1, ..;-1, ..;-1]), found.view()));
        prop_assert_eq!(relabel_sequential(found.view()).0, found);
    }
}

#[test]
fn the_fixtures_have_no_ties() {
    let mut peers = Fixture::open("segmentation");
    let affinities: Array4<f32> = peers.read::<f32, Ix4>("affinities");
    let biases = peers.read::<f32, Ix2>("biases");
    for bias in biases.outer_iter() {
        let bias: ndarray::ArrayView<f32, Ix1> = bias;
        let mut all = Vec::new();
        for (channel, bias) in affinities.outer_iter().zip(bias) {
            all.extend(channel.iter().map(|value| (value - bias).abs().to_bits()));
        }
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
