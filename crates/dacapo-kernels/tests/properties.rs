//! What holds for any input: beside naive references, at any number of threads, with any names of labels; and
//! input that means nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use common::{Noise, on_threads};
use dacapo_kernels::*;
use ndarray::{Array3, Array4, ArrayView3, ArrayView4, Axis, array};

const OFFSETS: [Offset; 9] = [
    [-1, 0, 0],
    [0, -1, 0],
    [0, 0, -1],
    [-3, 0, 0],
    [0, -3, 0],
    [0, 0, -3],
    [0, 2, -5],
    [1, -1, 4],
    [-20, 0, 0],
];

/// Cells around random points, without background.
fn cells(shape: (usize, usize, usize), count: u64, noise: &mut Noise) -> Array3<u64> {
    let centres: Vec<[f32; 3]> = (0..count)
        .map(|_| {
            [
                noise.unit() * shape.0 as f32,
                noise.unit() * shape.1 as f32,
                noise.unit() * shape.2 as f32,
            ]
        })
        .collect();
    Array3::from_shape_fn(shape, |(z, y, x)| {
        let p = [z as f32, y as f32, x as f32];
        let distance = |c: &[f32; 3]| (0..3).map(|a| (p[a] - c[a]).powi(2)).sum::<f32>();
        let nearest =
            (0..centres.len()).min_by(|&a, &b| distance(&centres[a]).total_cmp(&distance(&centres[b])));
        nearest.unwrap() as u64 + 1
    })
}

fn noisy(labels: ArrayView3<u64>, offsets: &[Offset], amount: f32, noise: &mut Noise) -> Array4<f32> {
    let ideal = affinities(labels, offsets, Background::Nothing).unwrap();
    ideal.mapv(|linked| (1.0 - amount) * f32::from(linked) + amount * noise.unit())
}

fn mean_history(fragments: ArrayView3<u64>, affinities: ArrayView4<f32>, offsets: &[Offset]) -> MergeHistory {
    let graph = ContactGraph::new(fragments, affinities, offsets).unwrap();
    MergeHistory::new(&graph, MeanAffinity::mean, MergeLimits::default()).unwrap()
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let mut noise = Noise(3);
    let truth = cells((20, 40, 40), 30, &mut noise);
    let predicted = noisy(truth.view(), &OFFSETS, 0.7, &mut noise);
    let short = predicted.slice(ndarray::s![..6, .., .., ..]);
    let everything = || {
        let fragments = fragments(short, &OFFSETS[..6], None, &FragmentParameters::default()).unwrap();
        let history = mean_history(fragments.view(), short, &OFFSETS[..6]);
        let segments = mutex_watershed(predicted.view(), &OFFSETS, &[0.5; 9], None, None).unwrap();
        let voi = ContingencyTable::new(truth.view(), segments.view())
            .unwrap()
            .voi();
        (fragments, history, segments, voi)
    };
    assert_eq!(on_threads(1, everything), on_threads(5, everything));
}

#[test]
fn names_and_memory_order_do_not_matter() {
    let mut noise = Noise(4);
    let labels = cells((6, 12, 12), 8, &mut noise) % 5;
    let names = [0, u64::MAX, 1 << 63, 7, 1];
    let renamed = labels.mapv(|label| names[label as usize]);
    let links = |labels: &Array3<u64>| affinities(labels.view(), &OFFSETS, Background::Nothing).unwrap();
    assert_eq!(links(&labels), links(&renamed));
    let components =
        |labels: ArrayView3<u64>| connected_components::<_, u64>(labels, Connectivity::Faces).unwrap();
    assert_eq!(components(labels.view()), components(renamed.view()));
    assert_eq!(
        relabel_sequential(labels.view()).0,
        relabel_sequential(renamed.view()).0
    );
    let voi = ContingencyTable::new(labels.view(), renamed.view())
        .unwrap()
        .voi()
        .unwrap();
    assert_eq!((voi.split, voi.merge), (0.0, 0.0));

    let turned = labels.view().permuted_axes([2, 1, 0]);
    assert_eq!(components(turned), components(turned.as_standard_layout().view()));
    let (renumbered, originals) = relabel_sequential(turned);
    assert_eq!(renumbered.mapv(|number| originals[number as usize]), turned);
}

#[test]
fn ideal_affinities_give_the_objects_back() {
    let truth = cells((16, 40, 40), 9, &mut Noise(5));
    let ideal = affinities(truth.view(), &OFFSETS, Background::Nothing)
        .unwrap()
        .mapv(f32::from);
    let segments = mutex_watershed(ideal.view(), &OFFSETS, &[0.5; 9], None, None).unwrap();
    let voi = ContingencyTable::new(truth.view(), segments.view())
        .unwrap()
        .voi()
        .unwrap();
    assert!(voi.sum() < 0.01, "{voi:?}");
    let short = ideal.slice(ndarray::s![..6, .., .., ..]);
    let fragments = fragments(short, &OFFSETS[..6], None, &FragmentParameters::default()).unwrap();
    assert!(
        fragments.iter().all(|&fragment| fragment > 0),
        "every voxel is in a fragment"
    );
    // A boundary's own voxels are inside of nothing: fragments end a little beside it.
    let history = mean_history(fragments.view(), short, &OFFSETS[..6]);
    let sums = [0.6, 0.7, 0.8].map(|threshold| {
        let segments = history.segment(fragments.view(), threshold).unwrap();
        let table = ContingencyTable::new(truth.view(), segments.view()).unwrap();
        table.voi().unwrap().sum()
    });
    assert!(sums.iter().any(|&sum| sum < 0.6), "{sums:?}");
}

#[test]
fn offsets_beyond_the_volume_link_nothing() {
    let near = [0, 0, -1];
    for (shape, beyond) in [
        ((3, 4, 6), [0, 0, 99]),
        ((5, 1, 8), [0, 3, 0]),
        ((5, 1, 8), [0, -3, 0]),
        ((3, 4, 6), [99, 0, 0]),
        ((3, 4, 6), [i64::MIN, 0, 0]),
        ((3, 4, 6), [0, i64::MAX, i64::MIN]),
    ] {
        let mut noise = Noise(6);
        let labels = cells(shape, 4, &mut noise);
        let predicted = noisy(labels.view(), &[near, beyond], 0.4, &mut noise);
        let (both, alone) = ([near, beyond], predicted.slice(ndarray::s![..1, .., .., ..]));
        let links = affinities(labels.view(), &both, Background::Object).unwrap();
        assert_eq!(links.index_axis(Axis(0), 1).sum(), 0, "{beyond:?}");
        assert_eq!(
            ContactGraph::<MeanAffinity>::new(labels.view(), predicted.view(), &both),
            ContactGraph::new(labels.view(), alone, &[near]),
            "{beyond:?}"
        );
        assert_eq!(
            mutex_watershed(predicted.view(), &both, &[0.5; 2], None, None),
            mutex_watershed(alone, &[near], &[0.5], None, None),
            "{beyond:?}"
        );
        let parameters = FragmentParameters::default();
        assert_eq!(
            fragments(predicted.view(), &both, None, &parameters),
            fragments(alone, &[near], None, &parameters),
            "{beyond:?}"
        );
    }
}

#[test]
fn input_that_means_nothing_is_refused_or_defined() {
    let volume = Array3::<u64>::ones((2, 3, 4));
    let predicted = Array4::<f32>::from_elem((1, 2, 3, 4), f32::NAN);
    let offset = [[0, 0, 1]];
    assert_eq!(
        affinities(volume.view(), &[], Background::Object),
        Err(Error::NoOffsets)
    );
    assert!(affinities(volume.view(), &[[0, 0, 0]], Background::Object).is_err());
    assert_eq!(
        affinities(volume.view(), &[[0, 0, 99]], Background::Object)
            .unwrap()
            .sum(),
        0
    );
    let segments = mutex_watershed(predicted.view(), &offset, &[0.5], None, None).unwrap();
    assert_eq!(segments.sum(), 0, "NaN joins nothing");
    assert_eq!(
        fragments(predicted.view(), &offset, None, &FragmentParameters::default())
            .unwrap()
            .sum(),
        0
    );
    let graph = ContactGraph::<MeanAffinity>::new(volume.view(), predicted.view(), &offset);
    assert_eq!(graph.unwrap().contacts(), [], "NaN is no link");
    assert!(mutex_watershed(predicted.view(), &offset, &[f32::NAN], None, None).is_err());
    assert!(mutex_watershed(predicted.view(), &offset, &[0.5, 0.5], None, None).is_err());
    assert!(mutex_watershed(predicted.view(), &[[0, 0, 1], [0, 1, 0]], &[0.5], None, None).is_err());
    let small = Array3::from_elem((2, 3, 3), true);
    assert!(mutex_watershed(predicted.view(), &offset, &[0.5], None, Some(small.view())).is_err());
    assert!(
        fragments(
            predicted.view(),
            &offset,
            Some(small.view()),
            &FragmentParameters::default()
        )
        .is_err()
    );
    let wrong = volume.index_axis(Axis(0), 0).insert_axis(Axis(0));
    assert!(ContingencyTable::new(volume.view(), wrong).is_err());
    assert!(gaussian(array![[[1.0]]], -1.0).is_err());
    assert!(
        Clip::new(0.0, 0.9).is_err() && Clip::new(0.5, 0.4).is_err() && Clip::new(f64::NAN, 1.0).is_err()
    );
    let empty = Array4::<f32>::zeros((1, 0, 3, 4));
    assert!(
        mutex_watershed(empty.view(), &offset, &[0.5], None, None)
            .unwrap()
            .is_empty()
    );
    assert!(
        fragments(empty.view(), &offset, None, &FragmentParameters::default())
            .unwrap()
            .is_empty()
    );
}
