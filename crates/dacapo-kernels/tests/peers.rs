//! Kernels beside SciPy, scikit-image, and DaCapo's mutex watershed and VOI (see `data/make.py`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use common::{Fixture, same_partition};
use dacapo_kernels::*;
use ndarray::{Array3, Array4, Ix4};

fn assert_close(found: &Array3<f32>, expected: &Array3<f64>, what: &str) {
    let worst = found
        .iter()
        .zip(expected)
        .map(|(&a, &b)| (f64::from(a) - b).abs())
        .fold(0.0, f64::max);
    assert!(worst < 1e-5, "{what}: {worst}");
}

#[test]
fn filters_are_those_of_scipy() {
    let mut peers = Fixture::open("peers");
    let noise: Array3<f32> = peers.volume("noise");
    for sigma in ["0.7", "1.0", "2.5"] {
        let smooth = gaussian(noise.clone(), sigma.parse().unwrap()).unwrap();
        assert_close(&smooth, &peers.volume(&format!("gaussian{sigma}")), sigma);
    }
    assert_eq!(maximum(noise, 2), peers.volume::<f32>("maximum"));
}

#[test]
fn components_are_those_of_scipy() {
    let mut peers = Fixture::open("peers");
    let classes: Array3<u64> = peers.volume("classes");
    for (connectivity, number) in [
        (Connectivity::Faces, 1),
        (Connectivity::Edges, 2),
        (Connectivity::Corners, 3),
    ] {
        let components = connected_components(classes.view(), connectivity).unwrap();
        let expected: Array3<u64> = peers.volume(&format!("components{number}"));
        assert!(
            same_partition(components.view(), expected.view()),
            "{connectivity:?}"
        );
        assert_eq!(relabel_sequential(components.view()).0, components);
    }
}

#[test]
fn watersheds_are_those_of_scikit_image() {
    let mut peers = Fixture::open("peers");
    let (height, seeds, mask): (Array3<f32>, Array3<u64>, Array3<bool>) = (
        peers.volume("height"),
        peers.volume("seeds"),
        peers.volume("mask"),
    );
    let all = watershed(height.view(), seeds.view(), None, Connectivity::Faces).unwrap();
    assert_eq!(all, peers.volume::<u64>("watershed"));
    let masked = watershed(
        height.view(),
        seeds.view(),
        Some(mask.view()),
        Connectivity::Faces,
    )
    .unwrap();
    assert_eq!(masked, peers.volume::<u64>("watershed_masked"));
}

#[test]
fn mutex_watersheds_are_those_of_dacapo() {
    let offsets = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
    for case in ["ws3", "ws3_dense"] {
        let mut golden = Fixture::open(case);
        let affinities: Array4<f32> = golden.read::<f32, Ix4>("affinities");
        let edges = MutexEdges::new(affinities.view(), &offsets, &[0, 0, 0], None, None).unwrap();
        for bias in ["0.1", "0.25", "0.5", "0.75", "0.9"] {
            let expected: Array3<u64> = golden.volume(&format!("bias{bias}"));
            let segments = edges.segment(&[bias.parse().unwrap()]).unwrap();
            assert!(
                same_partition(segments.view(), expected.view()),
                "{case}, bias {bias}"
            );
        }
    }
}

#[test]
fn voi_is_that_of_dacapo() {
    // Its InstanceEvaluator counts truth 0 as an object.
    let mut golden = Fixture::open("labels_24");
    let (blobs, other): (Array3<u64>, Array3<u64>) = (golden.volume("labels"), golden.volume("labels_other"));
    let dense: Array3<u64> = golden.volume("labels_dense");
    let one = Array3::from_elem(blobs.raw_dim(), 1);
    let mut voxel = 0;
    let each = Array3::from_shape_simple_fn(blobs.raw_dim(), || {
        voxel += 1;
        voxel
    });
    let cases = [
        (&blobs, &other, 0.5355826476140529, 0.4157033087979817),
        (&blobs, &blobs, 0.0, 0.0),
        (&dense, &blobs, 0.9252037647235969, 2.740539222203494),
        (&blobs, &one, 0.0, 0.9552808309890772),
        (&blobs, &(&one - 1), 0.0, 0.9552808309890772),
        (&blobs, &each, 12.799606671174388, 0.0),
    ];
    for (truth, segments, split, merge) in cases {
        let voi = ContingencyTable::new(truth.view(), segments.view())
            .unwrap()
            .voi()
            .unwrap();
        assert!(
            (voi.split - split).abs() < 1e-9 && (voi.merge - merge).abs() < 1e-9,
            "{voi:?}, {split}, {merge}"
        );
    }
}
