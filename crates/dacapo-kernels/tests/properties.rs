//! What holds for any input: beside naive references, at any number of threads, with any names of labels; and
//! input that means nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use std::collections::HashMap;

use common::{Noise, on_threads, same_partition};
use dacapo_kernels::*;
use ndarray::{Array3, Array4, ArrayView3, Axis, array};

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

/// Sorts all edges and asks every pair that was ever parted: simple, slow, correct.
fn mutex_watershed_naive(affinities: &Array4<f32>, offsets: &[Offset], bias: &[f32]) -> Array3<u64> {
    let (_, depth, height, width) = affinities.dim();
    let mut edges = Vec::new();
    for ((c, z, y, x), &affinity) in affinities.indexed_iter() {
        let q = [
            z as i64 + offsets[c][0],
            y as i64 + offsets[c][1],
            x as i64 + offsets[c][2],
        ];
        let q: Option<Vec<usize>> = q.iter().map(|&n| usize::try_from(n).ok()).collect();
        if let Some([qz, qy, qx]) = q.as_deref()
            && *qz < depth
            && *qy < height
            && *qx < width
        {
            edges.push((affinity - bias[c], [z, y, x], [*qz, *qy, *qx]));
        }
    }
    edges.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
    let mut segments = Array3::from_shape_fn((depth, height, width), |(z, y, x)| {
        1 + (z * height + y) * width + x
    });
    let mut foreground = Array3::from_elem(segments.raw_dim(), false);
    let mut parted: Vec<([usize; 3], [usize; 3])> = Vec::new();
    for (weight, p, q) in edges {
        let (a, b) = (segments[p], segments[q]);
        if weight > 0.0 {
            (foreground[p], foreground[q]) = (true, true);
            let apart =
                |&(p, q): &([usize; 3], [usize; 3])| [(a, b), (b, a)].contains(&(segments[p], segments[q]));
            if a != b && !parted.iter().any(apart) {
                segments.mapv_inplace(|segment| if segment == b { a } else { segment });
            }
        } else if weight < 0.0 && a != b {
            parted.push((p, q));
        }
    }
    ndarray::Zip::from(&segments)
        .and(&foreground)
        .map_collect(|&s, &f| if f { s as u64 } else { 0 })
}

#[test]
fn mutex_watershed_is_its_definition() {
    let mut noise = Noise(1);
    for (shape, amount) in [
        ((4, 7, 6), 0.9),
        ((1, 9, 11), 0.7),
        ((5, 1, 8), 1.0),
        ((1, 1, 1), 0.5),
    ] {
        let truth = cells(shape, 5, &mut noise);
        let predicted = noisy(truth.view(), &OFFSETS, amount, &mut noise);
        for bias in [[0.5; 9], [0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.7, 0.7, 0.7]] {
            let found = mutex_watershed(predicted.view(), &OFFSETS, &bias, None).unwrap();
            let expected = mutex_watershed_naive(&predicted, &OFFSETS, &bias);
            assert!(
                same_partition(found.view(), expected.view()),
                "{shape:?} {bias:?}"
            );
        }
    }
}

/// The best pair, looked for anew before each merge.
fn agglomerate_naive(contacts: &[Contact], threshold: f64) -> HashMap<u64, u64> {
    let mut segment: HashMap<u64, u64> = contacts.iter().flat_map(|c| [(c.a, c.a), (c.b, c.b)]).collect();
    loop {
        let mut joint: HashMap<(u64, u64), (f64, u64)> = HashMap::new();
        for contact in contacts {
            let (a, b) = (segment[&contact.a], segment[&contact.b]);
            if a != b {
                let entry = joint.entry((a.min(b), a.max(b))).or_default();
                *entry = (entry.0 + contact.sum, entry.1 + contact.count);
            }
        }
        let best = joint
            .iter()
            .max_by(|a, b| (a.1.0 / a.1.1 as f64).total_cmp(&(b.1.0 / b.1.1 as f64)));
        match best {
            Some((&(a, b), &(sum, count))) if sum / count as f64 >= threshold => {
                segment
                    .values_mut()
                    .filter(|segment| **segment == b)
                    .for_each(|segment| *segment = a);
            }
            _ => return segment,
        }
    }
}

#[test]
fn one_history_holds_every_threshold() {
    let mut noise = Noise(2);
    let fragments = cells((10, 24, 24), 60, &mut noise);
    let predicted = noisy((&fragments / 7).view(), &OFFSETS[..6], 0.8, &mut noise);
    let touching = contacts(fragments.view(), predicted.view(), &OFFSETS[..6]).unwrap();
    let history = agglomerate(fragments.view(), predicted.view(), &OFFSETS[..6]).unwrap();
    assert_eq!(history.merges().len(), 59);
    for threshold in [0.0, 0.3, 0.45, 0.5, 0.55, 0.7, 1.1] {
        let naive = agglomerate_naive(&touching, threshold);
        let segments = history.segment(fragments.view(), threshold);
        assert_eq!(
            segments,
            fragments.mapv(|fragment| naive[&fragment]),
            "{threshold}"
        );
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let mut noise = Noise(3);
    let truth = cells((20, 40, 40), 30, &mut noise);
    let predicted = noisy(truth.view(), &OFFSETS, 0.7, &mut noise);
    let short = predicted.slice(ndarray::s![..6, .., .., ..]);
    let everything = || {
        let fragments = fragments(short, &OFFSETS[..6], None, &FragmentParameters::default()).unwrap();
        let history = agglomerate(fragments.view(), short, &OFFSETS[..6]).unwrap();
        let segments = mutex_watershed(predicted.view(), &OFFSETS, &[0.5; 9], None).unwrap();
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
    let segments = mutex_watershed(ideal.view(), &OFFSETS, &[0.5; 9], None).unwrap();
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
    let history = agglomerate(fragments.view(), short, &OFFSETS[..6]).unwrap();
    let sums = [0.6, 0.7, 0.8].map(|threshold| {
        let segments = history.segment(fragments.view(), threshold);
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
            contacts(labels.view(), predicted.view(), &both),
            contacts(labels.view(), alone, &[near]),
            "{beyond:?}"
        );
        assert_eq!(
            mutex_watershed(predicted.view(), &both, &[0.5; 2], None),
            mutex_watershed(alone, &[near], &[0.5], None),
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
    let segments = mutex_watershed(predicted.view(), &offset, &[0.5], None).unwrap();
    assert_eq!(segments.sum(), 0, "NaN joins nothing");
    assert_eq!(
        fragments(predicted.view(), &offset, None, &FragmentParameters::default())
            .unwrap()
            .sum(),
        0
    );
    assert_eq!(
        contacts(
            relabel_sequential(volume.view()).0.view(),
            predicted.view(),
            &offset
        ),
        Ok(vec![])
    );
    assert!(mutex_watershed(predicted.view(), &offset, &[f32::NAN], None).is_err());
    assert!(mutex_watershed(predicted.view(), &offset, &[0.5, 0.5], None).is_err());
    assert!(mutex_watershed(predicted.view(), &[[0, 0, 1], [0, 1, 0]], &[0.5], None).is_err());
    let small = Array3::from_elem((2, 3, 3), true);
    assert!(mutex_watershed(predicted.view(), &offset, &[0.5], Some(small.view())).is_err());
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
    assert_eq!(
        ContingencyTable::new((&volume - 1).view(), volume.view())
            .unwrap()
            .voi(),
        None
    );
    assert!(gaussian(array![[[1.0]]], -1.0).is_err());
    assert!(
        Clip::new(0.0, 0.9).is_err() && Clip::new(0.5, 0.4).is_err() && Clip::new(f64::NAN, 1.0).is_err()
    );
    let empty = Array4::<f32>::zeros((1, 0, 3, 4));
    assert!(
        mutex_watershed(empty.view(), &offset, &[0.5], None)
            .unwrap()
            .is_empty()
    );
    assert!(
        fragments(empty.view(), &offset, None, &FragmentParameters::default())
            .unwrap()
            .is_empty()
    );
}
