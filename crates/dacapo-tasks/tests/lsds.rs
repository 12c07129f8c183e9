//! Shape descriptors in the affinities task: targets and weights beside those of DaCapo and lsds, and segments that
//! do not depend on them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs::File;

use dacapo_tasks::*;
use ndarray::{Array, Array3, Array4, Axis, Dimension, Ix2, Ix3, Ix4, concatenate, s};
use ndarray_npy::{NpzReader, ReadableElement};

fn read<T: ReadableElement, D: Dimension>(name: &str) -> Array<T, D> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/lsds.npz");
    NpzReader::new(File::open(path).unwrap())
        .unwrap()
        .by_name(name)
        .unwrap()
}

fn config(text: &str) -> TaskConfig {
    serde_json::from_str(text).unwrap()
}

/// Targets of a volume around which there is background.
fn targets(task: &dyn Task, labels: &Array3<u64>, voxel_size: [f64; 3]) -> Targets {
    let (before, after) = task.label_context(voxel_size);
    let grown = [0, 1, 2].map(|a: usize| before[a] + labels.shape()[a] + after[a]);
    let mut all = Array3::zeros(grown);
    let end = [0, 1, 2].map(|a: usize| before[a] + labels.shape()[a]);
    all.slice_mut(s![before[0]..end[0], before[1]..end[1], before[2]..end[2]])
        .assign(labels);
    let known = Array3::from_elem(grown, true);
    task.targets(Annotation {
        labels: all.view(),
        known: known.view(),
        voxel_size,
    })
    .unwrap()
}

#[test]
fn descriptors_are_those_of_lsds() {
    let volume: Array3<u64> = read::<_, Ix3>("labels");
    let image = read::<u64, Ix2>("labels2d").insert_axis(Axis(0));
    let near = "[[1,0,0],[0,1,0],[0,0,1]]";
    let cube = [4.0; 3];
    for (case, labels, neighborhood, lsds, voxel_size, background) in [
        ("lsd_nv2", &volume, near, r#"{"num_voxels": 2}"#, cube, false),
        ("lsd_nv10", &volume, near, r#"{"num_voxels": 10}"#, cube, false),
        (
            "lsd_nv2_down2",
            &volume,
            near,
            r#"{"num_voxels": 2, "downsample": 2}"#,
            cube,
            false,
        ),
        (
            "lsd_aniso",
            &volume,
            near,
            r#"{"num_voxels": 2}"#,
            [8.0, 4.0, 4.0],
            false,
        ),
        (
            "lsd2d",
            &image,
            "[[1,0],[0,1]]",
            r#"{"num_voxels": 3}"#,
            [1.0, 4.0, 4.0],
            false,
        ),
    ] {
        let dims = if case == "lsd2d" { 2 } else { 3 };
        let task = config(&format!(
            r#"{{"kind": "affinities", "neighborhood": {neighborhood}, "lsds": {lsds}, "background_as_object": {background}}}"#
        ))
        .build(dims)
        .unwrap();
        let affinities = dims;
        let found = targets(&*task, labels, voxel_size);
        let window = s![.., .., 4..20, 8..16];
        let target = found.target.slice(window);
        let expected = read::<u16, Ix4>(&format!("{case}.target")).mapv(|value| f32::from(value) / 65535.0);
        assert_eq!(target.shape(), expected.shape(), "{case}");
        let (size, variances) = (expected.shape()[0] - 1, affinities + dims..affinities + 2 * dims);
        let mut compared = 0;
        for ((c, z, y, x), &value) in expected.indexed_iter() {
            let of = |c: usize| expected[[c, z, y, x]];
            // lsds takes variances of world positions in 32 bits: where an object is thin, correlations are noise. An
            // object that it loses by downsampling has the size 1.
            let is_thin = variances.clone().any(|c| of(c) < 2e-2);
            let is_correlation = (variances.end..size).contains(&c);
            let is_lost = of(size) == 1.0 && target[[size, z, y, x]] == 0.0;
            if is_thin && is_correlation || is_lost && c >= affinities {
                continue;
            }
            compared += 1;
            let ours = target[[c, z, y, x]];
            assert!(
                (ours - value).abs() < 2e-4,
                "{case}: {ours} instead of {value} at {:?}",
                (c, z, y, x)
            );
        }
        assert!(
            compared > expected.len() * 3 / 4,
            "{case}: {compared} of {}",
            expected.len()
        );
        let weight = read::<f32, Ix3>(&format!("{case}.weight"));
        for channel in found.weight.slice(window).outer_iter().skip(affinities) {
            let worst = (&channel - &weight)
                .mapv(f32::abs)
                .fold(0.0, |a: f32, b| a.max(*b));
            assert!(worst < 1e-5, "{case}: {worst}");
        }
    }
}

#[test]
fn background_as_an_object_is_described_too() {
    let volume: Array3<u64> = read::<_, Ix3>("labels");
    let task = config(
        r#"{"kind": "affinities", "neighborhood": [[0,0,1]], "lsds": {"num_voxels": 2}, "background_as_object": true}"#,
    )
    .build(3)
    .unwrap();
    let found = targets(&*task, &volume, [4.0; 3]).target;
    let expected = read::<u16, Ix4>("lsd_bg_as_object.target").mapv(|value| f32::from(value) / 65535.0);
    // Around DaCapo's volume is nothing, around ours background: they agree away from its end, and in size.
    let (ours, theirs) = (
        found.slice(s![1.., 7..17, 7..17, 8..16]),
        expected.slice(s![3.., 7..17, 3..13, ..]),
    );
    for c in [0, 1, 2, 9] {
        let worst = (&ours.index_axis(Axis(0), c) - &theirs.index_axis(Axis(0), c)).mapv(f32::abs);
        let worst = worst.fold(0.0, |a: f32, b| a.max(*b));
        assert!(worst < 2e-4, "{c}: {worst}");
    }
}

#[test]
fn segments_are_made_of_affinities_alone() {
    let labels: Array3<u64> = read::<_, Ix3>("labels");
    let plain = config(r#"{"kind": "affinities", "neighborhood": [[1,0,0],[0,1,0],[0,0,1]]}"#)
        .build(3)
        .unwrap();
    let with = config(
        r#"{"kind": "affinities", "neighborhood": [[1,0,0],[0,1,0],[0,0,1]], "lsds": {"loss_weight": 2}}"#,
    )
    .build(3)
    .unwrap();
    let head = with.head();
    assert_eq!((head.channels(), head.groups.len()), (13, 2));
    assert_eq!(
        head.channel_names()[3..6],
        ["lsd offset z", "lsd offset y", "lsd offset x"]
    );
    assert_eq!(
        head.channel_names()[9..],
        [
            "lsd correlation zy",
            "lsd correlation zx",
            "lsd correlation yx",
            "lsd size"
        ]
    );
    let losses: Vec<_> = head
        .groups
        .iter()
        .flat_map(|group| group.losses.clone())
        .collect();
    assert_eq!(
        losses,
        [(LossKind::BceWithLogits, 1.0), (LossKind::MseOfSigmoid, 2.0)]
    );
    let affinities = targets(&*plain, &labels, [1.0; 3]).target;
    let noise = Array4::from_shape_fn((10, 24, 24, 24), |(c, z, y, x)| {
        ((c * 7 + z * 5 + y * 3 + x) % 11) as f32 / 11.0
    });
    let both = concatenate![Axis(0), affinities, noise];
    let mut segments = Vec::new();
    plain
        .sweep(affinities.view(), None, &mut |_, found| {
            segments.push(std::mem::take(found));
            Ok(())
        })
        .unwrap();
    let mut next = segments.iter();
    with.sweep(both.view(), None, &mut |set, found| {
        assert_eq!(Some(&*found), next.next());
        assert_eq!(*found, with.segment(both.view(), None, set)?);
        Ok(())
    })
    .unwrap();
    assert!(with.sweep(affinities.view(), None, &mut |_, _| Ok(())).is_err());
}
