//! Contingency tables and changes of ids: beside numpy and fastremap (`data/make_segmentation.py`), beside naive
//! references, and what must not matter.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use std::collections::{BTreeMap, HashMap};

use common::{Fixture, Noise, on_threads};
use dacapo_kernels::*;
use ndarray::{Array3, ArrayView3, Axis, s};
use proptest::prelude::*;

const NAMES: [u64; 6] = [0, 1, 7, 1 << 63, u64::MAX, 1 << 32];

/// Labels in runs, with names from `NAMES`.
fn runs(shape: (usize, usize, usize), smooth: f32, noise: &mut Noise) -> Array3<u64> {
    let mut last = 0;
    Array3::from_shape_simple_fn(shape, || {
        if noise.unit() >= smooth {
            last = NAMES[noise.below(6) as usize];
        }
        last
    })
}

/// Voxel by voxel: simple, slow, correct.
fn overlaps_naive(truth: ArrayView3<u64>, segments: ArrayView3<u64>) -> Vec<Overlap> {
    let mut overlaps: BTreeMap<(u64, u64), Overlap> = BTreeMap::new();
    for ((z, y, x), &truth) in truth.indexed_iter() {
        let segment = segments[[z, y, x]];
        let first = [z as u64, y as u64, x as u64];
        let none = Overlap {
            truth,
            segment,
            voxels: 0,
            first,
        };
        overlaps.entry((truth, segment)).or_insert(none).voxels += 1;
    }
    overlaps.into_values().collect()
}

/// H(a | b) in bits, from its definition.
fn entropy_naive(a: ArrayView3<u64>, b: ArrayView3<u64>) -> f64 {
    let (mut both, mut given) = (HashMap::<_, f64>::new(), HashMap::<_, f64>::new());
    for (&a, &b) in a.iter().zip(b) {
        *both.entry((a, b)).or_default() += 1.0;
        *given.entry(b).or_default() += 1.0;
    }
    both.iter()
        .map(|((_, b), n)| -n / a.len() as f64 * (n / given[b]).log2())
        .sum()
}

#[test]
fn tables_are_those_of_numpy() {
    let mut peers = Fixture::open("segmentation");
    let (truth, segments): (Array3<u64>, Array3<u64>) = (peers.volume("truth"), peers.volume("segments"));
    let table = ContingencyTable::new(truth.view(), segments.view()).unwrap();
    let pairs = peers.read::<u64, ndarray::Ix2>("pairs");
    let counts = peers.read::<u64, ndarray::Ix1>("pair_counts");
    let expected: Vec<_> = (0..counts.len())
        .map(|i| (pairs[[0, i]], pairs[[1, i]], counts[i]))
        .collect();
    let found: Vec<_> = table
        .overlaps()
        .iter()
        .map(|o| (o.truth, o.segment, o.voxels))
        .collect();
    assert_eq!(found, expected);
    assert!(found.iter().any(|&(truth, _, _)| truth >= 1 << 63));
}

#[test]
fn ids_are_changed_as_fastremap_does() {
    let mut peers = Fixture::open("segmentation");
    let labels: Array3<u64> = peers.volume("truth");
    let values = peers.read::<u64, ndarray::Ix1>("unique");
    let counts = peers.read::<u64, ndarray::Ix1>("unique_counts");
    let expected: Vec<_> = values.into_iter().zip(counts).collect();
    assert_eq!(unique(labels.view()), expected);
    assert_eq!(
        relabel_sequential(labels.view()).0,
        peers.volume::<u64>("renumbered")
    );
    let mut filtered = labels.clone();
    let gone = size_filter(filtered.view_mut(), 60, 200);
    assert_eq!(filtered, peers.volume::<u64>("filtered"));
    assert_eq!(
        gone,
        expected
            .iter()
            .filter(|(id, n)| *id > 0 && !(60..=200).contains(n))
            .count()
    );
}

#[test]
fn tables_are_their_definition_for_every_memory_order() {
    let mut noise = Noise(1);
    for shape in [(4, 6, 40), (1, 5, 7), (3, 1, 50), (2, 3, 1), (1, 1, 1), (0, 3, 2)] {
        for smooth in [0.0, 0.9] {
            let (truth, segments) = (runs(shape, smooth, &mut noise), runs(shape, smooth, &mut noise));
            let check = |truth: ArrayView3<u64>, segments: ArrayView3<u64>| {
                let table = ContingencyTable::new(truth, segments).unwrap();
                assert_eq!(table.overlaps(), overlaps_naive(truth, segments), "{shape:?}");
            };
            check(truth.view(), segments.view());
            check(truth.view().reversed_axes(), segments.view().reversed_axes());
            check(
                truth.slice(s![.., ..;-1, ..;2]),
                segments.slice(s![.., ..;-1, ..;2]),
            );
        }
    }
    let (truth, segments) = (
        runs((3, 4, 30), 0.8, &mut noise),
        runs((3, 4, 30), 0.8, &mut noise),
    );
    let bytes = truth.mapv(|id| (id % 251) as u8);
    let table = ContingencyTable::new(bytes.view(), segments.view()).unwrap();
    assert_eq!(
        table.overlaps(),
        overlaps_naive(bytes.mapv(u64::from).view(), segments.view())
    );
}

#[test]
fn information_is_its_definition_and_its_shares_add_up() {
    let mut noise = Noise(2);
    for smooth in [0.3, 0.95] {
        let (truth, segments) = (
            runs((6, 20, 30), smooth, &mut noise),
            runs((6, 20, 30), smooth, &mut noise),
        );
        let table = ContingencyTable::new(truth.view(), segments.view()).unwrap();
        let voi = table.voi().unwrap();
        assert!((voi.split - entropy_naive(segments.view(), truth.view())).abs() < 1e-11);
        assert!((voi.merge - entropy_naive(truth.view(), segments.view())).abs() < 1e-11);
        let sum = |shares: Vec<(u64, f64)>| shares.iter().map(|share| share.1).sum::<f64>();
        assert!((sum(table.splits()) - voi.split).abs() < 1e-11);
        assert!((sum(table.merges()) - voi.merge).abs() < 1e-11);
        let same = ContingencyTable::new(truth.view(), truth.view())
            .unwrap()
            .voi()
            .unwrap();
        assert_eq!((same.split, same.merge), (0.0, 0.0));
    }
}

#[test]
fn only_voxels_that_count_are_counted() {
    let mut noise = Noise(3);
    let shape = (5, 9, 33);
    let (truth, segments) = (runs(shape, 0.8, &mut noise), runs(shape, 0.8, &mut noise));
    let counted = Array3::from_shape_simple_fn(shape, || noise.unit() < 0.6);
    let found = ContingencyTable::of_block(
        truth.view(),
        segments.view(),
        Some(counted.view()),
        [7, 0, 1 << 40],
    )
    .unwrap();
    // Where a voxel does not count, it gets a truth that is nowhere else.
    let mut hidden = truth.clone();
    hidden.zip_mut_with(&counted, |truth, &counted| {
        *truth = if counted { *truth } else { 5 }
    });
    let mut expected = overlaps_naive(hidden.view(), segments.view());
    expected.retain(|overlap| overlap.truth != 5);
    for overlap in &mut expected {
        overlap.first = [
            overlap.first[0] + 7,
            overlap.first[1],
            overlap.first[2] + (1 << 40),
        ];
    }
    assert_eq!(found.overlaps(), expected);
}

#[test]
fn the_number_of_threads_changes_no_table_and_no_id() {
    let mut noise = Noise(4);
    // Several pieces.
    let (truth, segments) = (
        runs((9, 300, 301), 0.9, &mut noise),
        runs((9, 300, 301), 0.99, &mut noise),
    );
    let everything = || {
        let table = ContingencyTable::new(truth.view(), segments.view()).unwrap();
        let mut filtered = truth.clone();
        size_filter(filtered.view_mut(), 0, 150_000);
        (
            table.voi(),
            table,
            relabel_sequential(truth.view()),
            unique(truth.view()),
            filtered,
        )
    };
    let one = on_threads(1, everything);
    assert_eq!(one.1.overlaps(), overlaps_naive(truth.view(), segments.view()));
    for threads in [2, 3] {
        assert!(on_threads(threads, everything) == one, "{threads} threads");
    }
}

/// Numbers by first voxels: simple, slow, correct.
fn relabel_naive(labels: ArrayView3<u64>) -> (Array3<u64>, Vec<u64>) {
    let mut originals = vec![0];
    let mut numbers = Array3::zeros(labels.raw_dim());
    for (number, &label) in numbers.iter_mut().zip(labels) {
        let known = originals.iter().position(|&other| other == label);
        *number = known.unwrap_or_else(|| {
            originals.push(label);
            originals.len() - 1
        }) as u64;
    }
    (numbers, originals)
}

#[test]
fn ids_are_changed_by_their_definition_for_every_memory_order() {
    let mut noise = Noise(5);
    // The middle one has many labels, and more than one piece.
    for (shape, kinds) in [
        ((4, 6, 40), 5),
        ((3, 200, 301), 4000),
        ((1, 1, 1), 2),
        ((2, 0, 3), 2),
    ] {
        let labels = Array3::from_shape_simple_fn(shape, || noise.below(kinds) * 3);
        for turned in [false, true] {
            let mut labels = labels.view();
            if turned {
                labels = labels.reversed_axes();
            }
            let expected = relabel_naive(labels);
            assert!(relabel_sequential(labels) == expected, "{shape:?}");
            // In a volume whose memory order is another.
            let mut array = labels
                .reversed_axes()
                .as_standard_layout()
                .into_owned()
                .reversed_axes();
            assert_eq!(relabel_in_place(array.view_mut()), expected.1);
            assert!(array == expected.0, "{shape:?}");
            let table: Vec<u64> = (0..kinds * 3).map(|label| label % 7).collect();
            let mut mapped = labels.to_owned();
            remap_by_table(mapped.view_mut(), &table).unwrap();
            assert!(mapped == labels.mapv(|label| label % 7));
            let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
            labels
                .iter()
                .for_each(|&label| *counts.entry(label).or_default() += 1);
            assert_eq!(unique(labels), counts.into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn maps_say_what_becomes_of_labels_that_they_do_not_list() {
    let labels = ndarray::array![[[0u64, 1 << 63, 5, 5, 6]]];
    let mapped = |unlisted| {
        let mut labels = labels.clone();
        let result = Remap::new([(1 << 63, 4), (5, u64::MAX)], unlisted).apply(labels.view_mut());
        (result, labels)
    };
    let kept = ndarray::array![[[0, 4, u64::MAX, u64::MAX, 6]]];
    assert_eq!(mapped(Unlisted::Keep), (Ok(()), kept.clone()));
    assert_eq!(
        mapped(Unlisted::Zero),
        (Ok(()), kept.mapv(|label| if label == 6 { 0 } else { label }))
    );
    let error = Err(Error::UnknownLabel { label: 0 });
    assert_eq!(
        mapped(Unlisted::Refuse),
        (error, labels.clone()),
        "nothing is changed"
    );

    let mut bytes = labels.mapv(|label| label as u8);
    let before = bytes.clone();
    assert_eq!(
        Remap::new([(5, 256)], Unlisted::Keep).apply(bytes.view_mut()),
        Err(Error::LabelRange { label: 256 })
    );
    assert_eq!(
        remap_by_table(bytes.view_mut(), &[0; 6]),
        Err(Error::UnknownLabel { label: 6 })
    );
    assert_eq!(bytes, before, "nothing is changed");
}

#[test]
fn large_labels_among_small_ones_are_counted_and_mapped_the_same() {
    let mut noise = Noise(6);
    let names = [0, 1, 2, 300, 5000, 65_535, 65_536, 1 << 40, u64::MAX];
    for kinds in [3, 6, 9] {
        // More than one piece, longer than any table, and no multiple of what is done at once.
        let labels = Array3::from_shape_simple_fn((3, 151, 307), || names[noise.below(kinds) as usize]);
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        labels.iter().for_each(|&id| *counts.entry(id).or_default() += 1);
        let expected: Vec<(u64, u64)> = counts.into_iter().collect();
        for threads in [1, 3] {
            assert_eq!(on_threads(threads, || unique(labels.view())), expected);
        }
        assert_eq!(unique(labels.t()), expected);
        // What is refused is the smallest that is not listed, whether in the table or beyond it.
        for missing in 1..=kinds as usize {
            let listed = (names.iter().enumerate()).filter(|&(i, _)| i + 1 != missing);
            let map = Remap::new(listed.map(|(_, &id)| (id, id / 2)), Unlisted::Refuse);
            let mut mapped = labels.clone();
            let label = names[missing - 1];
            let error = map.apply(mapped.view_mut());
            assert_eq!((error, &mapped), (Err(Error::UnknownLabel { label }), &labels));
        }
        let small = names.iter().filter(|&&id| id < 1 << 16).map(|&id| (id, id + 7));
        let mut mapped = labels.clone().reversed_axes();
        let map = Remap::new(small.clone(), Unlisted::Refuse);
        match map.apply(mapped.view_mut()) {
            Ok(()) => assert_eq!(mapped, labels.t().mapv(|id| id + 7)),
            refused => assert!(kinds == 9 && refused == Err(Error::UnknownLabel { label: 1 << 16 })),
        }
        let keep = Remap::new(small, Unlisted::Keep);
        let mut mapped = labels.clone();
        keep.apply(mapped.view_mut()).unwrap();
        assert_eq!(mapped, labels.mapv(|id| if id < 1 << 16 { id + 7 } else { id }));
        let shorts = labels.mapv(|id| (id % 60_000) as u16);
        let mut mapped = shorts.clone();
        let far = Remap::new([(300, 1 << 16)], Unlisted::Keep).apply(mapped.view_mut());
        let label = 1 << 16;
        match kinds {
            3 => assert_eq!(far, Ok(())),
            _ => assert_eq!((far, mapped), (Err(Error::LabelRange { label }), shorts)),
        }
    }
}

#[test]
fn maps_follow_each_other_and_join_what_pairs_link() {
    let join = Remap::joining(&[(9, 4), (1 << 63, u64::MAX), (4, 7), (5, 5), (12, 9)]).unwrap();
    let found = [4, 5, 6, 7, 9, 12, 1 << 63, u64::MAX].map(|id| join.get(id).unwrap());
    assert_eq!(found, [4, 5, 6, 4, 4, 4, 1 << 63, 1 << 63]);
    assert_eq!(Remap::joining(&[]).unwrap().get(3), Some(3));
    for unlisted in [Unlisted::Keep, Unlisted::Zero] {
        let second = Remap::new([(4, 100), (6, 101), (20, 102)], unlisted);
        let both = join.then(&second);
        for id in [0, 4, 5, 6, 7, 9, 12, 20, 33] {
            assert_eq!(both.get(id), second.get(join.get(id).unwrap()), "{id}");
        }
    }
}

#[test]
fn every_value_of_a_byte_has_a_number() {
    let all = Array3::from_shape_fn((1, 16, 32), |(_, y, x)| (255 - (y * 32 + x) % 256) as u8);
    let (numbers, originals) = relabel_sequential(all.view());
    assert_eq!(originals.len(), 256);
    assert!(
        numbers
            .iter()
            .zip(&all)
            .all(|(&number, &label)| originals[usize::from(number)] == label)
    );
}

#[test]
fn nothing_and_everything() {
    let empty = Array3::<u64>::zeros((0, 4, 4));
    let table = ContingencyTable::new(empty.view(), empty.view()).unwrap();
    assert_eq!((table.overlaps().len(), table.total(), table.voi()), (0, 0, None));
    assert_eq!(unique(empty.view()), []);
    assert_eq!(relabel_sequential(empty.view()), (empty.clone(), vec![0]));
    assert_eq!(size_filter(empty.clone().view_mut(), 1, 2), 0);
    assert_eq!(remap_by_table(empty.clone().view_mut(), &[]), Ok(()));
    let mut background = Array3::<u32>::zeros((2, 3, 4));
    assert_eq!(size_filter(background.view_mut(), 100, 100), 0);
    assert_eq!(relabel_in_place(background.view_mut()), [0]);
    let wrong = Array3::<u64>::zeros((2, 3, 5));
    assert!(ContingencyTable::new(background.view(), wrong.view()).is_err());
    let mask = Array3::from_elem((2, 3, 5), true);
    assert!(
        ContingencyTable::of_block(background.view(), background.view(), Some(mask.view()), [0; 3]).is_err()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Tables of blocks, in any order, add up to that of the whole; names and flips change no score.
    #[test]
    fn tables_add_up(seed in 0u64..1 << 48, smooth in 0f32..1.0, cut in [1usize..6, 1..9, 1..12], order in 0usize..8) {
        let mut noise = Noise(seed);
        let shape = (6, 9, 12);
        let (truth, segments) = (runs(shape, smooth, &mut noise), runs(shape, smooth, &mut noise));
        let whole = ContingencyTable::new(truth.view(), segments.view()).unwrap();
        let mut sum = ContingencyTable::default();
        for corner in (0..8).map(|corner| corner ^ order) {
            let range = |axis: usize| {
                let (low, length) = (cut[axis], truth.len_of(Axis(axis)));
                if corner >> axis & 1 == 0 { 0..low } else { low..length }
            };
            let window = s![range(0), range(1), range(2)];
            let origin = [0, 1, 2].map(|axis| range(axis).start as u64);
            let part = ContingencyTable::of_block(truth.slice(window), segments.slice(window), None, origin);
            sum += &part.unwrap();
        }
        prop_assert_eq!(&sum, &whole);

        let renamed = segments.mapv(|id| id.rotate_left(17) ^ 0x5555);
        prop_assert_eq!(ContingencyTable::new(truth.view(), renamed.view()).unwrap().voi(), whole.voi());
        let flip = s![..;-1, .., ..;-1];
        let flipped = ContingencyTable::new(truth.slice(flip), segments.slice(flip)).unwrap();
        prop_assert_eq!(flipped.voi(), whole.voi());
        let back = ContingencyTable::new(segments.view(), truth.view()).unwrap().voi().unwrap();
        let voi = whole.voi().unwrap();
        prop_assert_eq!((back.split, back.merge), (voi.merge, voi.split));
    }
}
