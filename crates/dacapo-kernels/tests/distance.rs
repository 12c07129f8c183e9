//! Distances: beside edt and SciPy (`data/make_peers.py`), beside naive references, and what must not matter.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use common::{Fixture, Noise, assert_close, blocks, on_threads};
use dacapo_kernels::*;
use ndarray::{Array3, ArrayView3, Axis, ShapeBuilder, array, s};

const SPACINGS: [[f64; 3]; 3] = [[1.0, 1.0, 1.0], [4.0, 2.5, 1.0], [0.5, 3.0, 40.0]];

fn options(spacing: [f64; 3], border: bool, squared: bool) -> DistanceOptions {
    DistanceOptions {
        spacing,
        border: [border; 3],
        squared,
    }
}

/// Looks at every other voxel: simple, slow, correct.
fn naive<T: Label>(labels: ArrayView3<T>, options: &DistanceOptions) -> Array3<f32> {
    let shape = [0, 1, 2].map(|a| labels.len_of(Axis(a)));
    Array3::from_shape_fn(labels.raw_dim(), |(z, y, x)| {
        let (label, here) = (labels[[z, y, x]], [z, y, x]);
        if label == T::BACKGROUND {
            return 0.0;
        }
        let mut least = f64::INFINITY;
        for ((z, y, x), &other) in labels.indexed_iter() {
            if other != label {
                let there = [z, y, x];
                let square = |a: usize| (here[a].abs_diff(there[a]) as f64 * options.spacing[a]).powi(2);
                least = least.min(square(0) + square(1) + square(2));
            }
        }
        for a in (0..3).filter(|&a| options.border[a]) {
            let steps = (here[a] + 1).min(shape[a] - here[a]) as f64;
            least = least.min((steps * options.spacing[a]).powi(2));
        }
        (if options.squared { least } else { least.sqrt() }) as f32
    })
}

#[test]
fn they_are_those_of_edt_and_scipy() {
    let mut peers = Fixture::open("distances");
    for name in ["blocks", "full", "image", "plate", "sparse"] {
        let labels: Array3<u64> = peers.volume(name);
        for (index, spacing) in SPACINGS.into_iter().enumerate() {
            for (border, word) in [(false, "open"), (true, "border")] {
                let key = format!("{name}.{index}.{word}");
                let expected = peers.volume::<f32>(&key);
                let found = distance_transform(labels.view(), &options(spacing, border, false)).unwrap();
                assert_close(&found, &expected, &key);
                let key = format!("{key}.squared");
                let expected = peers.volume::<f32>(&key);
                let found = distance_transform(labels.view(), &options(spacing, border, true)).unwrap();
                assert_close(&found, &expected, &key);
            }
            let mask = labels.mapv(|label| label != 0);
            if mask.iter().all(|&set| set) {
                continue;
            }
            for (mask, word) in [(mask.clone(), "scipy"), (mask.mapv(|set| !set), "scipy_outside")] {
                let key = format!("{name}.{index}.{word}");
                let expected = peers.volume::<f64>(&key).mapv(|value| value as f32);
                let found = distance_transform(mask.view(), &options(spacing, false, false)).unwrap();
                assert_close(&found, &expected, &key);
            }
        }
    }
}

#[test]
fn they_are_their_definition_for_any_shape_type_and_layout() {
    let mut noise = Noise(3);
    for shape in [
        [7, 9, 11],
        [1, 12, 20],
        [6, 1, 33],
        [40, 3, 1],
        [1, 1, 30],
        [25, 1, 1],
        [1, 1, 1],
        [3, 18, 70],
    ] {
        let volume = shape.iter().product::<usize>();
        for (spacing, count) in SPACINGS.into_iter().zip([volume / 20, 3, volume / 4]) {
            let labels = blocks(shape, count, 9, &mut noise);
            let flat = DistanceOptions {
                border: [false, true, true],
                ..options(spacing, false, true)
            };
            for options in [
                options(spacing, false, false),
                options(spacing, true, false),
                flat,
            ] {
                let expected = naive(labels.view(), &options);
                let what = format!("{shape:?} {options:?}");
                let found = distance_transform(labels.view(), &options).unwrap();
                assert_close(&found, &expected, &what);
                let mut other_order = Array3::zeros(shape.f());
                other_order.assign(&labels);
                assert_eq!(distance_transform(other_order.view(), &options).unwrap(), found);
                let mut spread = Array3::zeros([shape[0], 2 * shape[1], 3 * shape[2]]);
                spread.slice_mut(s![.., ..;2, ..;3]).assign(&labels);
                let view = spread.slice(s![.., ..;2, ..;3]);
                assert_eq!(distance_transform(view, &options).unwrap(), found);
                // Mirrored in, mirrored out.
                let mirrored = distance_transform(labels.slice(s![..;-1, .., ..;-1]), &options).unwrap();
                assert_close(&mirrored.slice(s![..;-1, .., ..;-1]).to_owned(), &expected, &what);
                let bytes = distance_transform(labels.mapv(|l| l as u8).view(), &options).unwrap();
                let signed = distance_transform(labels.mapv(|l| -(l as i32)).view(), &options).unwrap();
                assert!(bytes == found && signed == found);
                let mask = labels.mapv(|label| label > 1);
                let binary = distance_transform(mask.view(), &options).unwrap();
                assert_close(&binary, &naive(mask.view(), &options), &what);
            }
        }
    }
}

#[test]
fn far_distances_are_exact_on_any_number_of_threads() {
    let mut noise = Noise(5);
    // Further than what is looked at step by step, along each axis, in some lanes and in most.
    for (shape, holes) in [
        ([2, 300, 40], 3),
        ([300, 2, 40], 3),
        ([2, 40, 300], 2),
        ([150, 150, 3], 1),
        ([2, 260, 33], 12),
    ] {
        for spacing in SPACINGS {
            let mut mask = Array3::from_elem(shape, true);
            for _ in 0..holes {
                let at = [0, 1, 2].map(|a| noise.below(shape[a] as u64) as usize);
                mask[at] = false;
            }
            let options = options(spacing, false, false);
            let holes: Vec<_> = mask.indexed_iter().filter(|(_, set)| !**set).collect();
            let expected = Array3::from_shape_fn(shape, |(z, y, x)| {
                let squares = holes.iter().map(|((hz, hy, hx), _)| {
                    let square = |a: usize, b: usize, s: f64| (a.abs_diff(b) as f64 * s).powi(2);
                    square(z, *hz, spacing[0]) + square(y, *hy, spacing[1]) + square(x, *hx, spacing[2])
                });
                squares.fold(f64::INFINITY, f64::min).sqrt() as f32
            });
            let found = on_threads(1, || distance_transform(mask.view(), &options).unwrap());
            assert_close(&found, &expected, &format!("{shape:?} {spacing:?}"));
            for threads in [2, 5] {
                let again = on_threads(threads, || distance_transform(mask.view(), &options).unwrap());
                assert!(again == found, "{threads} threads");
                let signed = |threads| on_threads(threads, || signed_distance(mask.view(), spacing).unwrap());
                assert!(signed(threads) == signed(1), "signed, {threads} threads");
            }
        }
    }
}

#[test]
fn nearly_empty_masks_have_exact_distances() {
    // One hole a plane: along y there is one parabola, along z all are far above 0 and alike, or nearly.
    let shape = [30, 160, 21];
    let holes: [fn(usize) -> (usize, usize); 2] = [|z| (z * z % 3, z % 4), |_| (7, 20)];
    for (spacing, hole) in SPACINGS
        .into_iter()
        .flat_map(|spacing| holes.map(|hole| (spacing, hole)))
    {
        let mask = Array3::from_shape_fn(shape, |(z, y, x)| (y, x) != hole(z));
        let expected = Array3::from_shape_fn(shape, |(z, y, x)| {
            let squares = (0..shape[0]).map(|at| {
                let square = |a: usize, b: usize, axis: usize| (a.abs_diff(b) as f64 * spacing[axis]).powi(2);
                square(z, at, 0) + square(y, hole(at).0, 1) + square(x, hole(at).1, 2)
            });
            squares.fold(f64::INFINITY, f64::min).sqrt() as f32
        });
        let found = distance_transform(mask.view(), &options(spacing, false, false)).unwrap();
        assert_close(&found, &expected, &format!("{spacing:?}"));
    }
}

#[test]
fn a_few_parabolas_are_those_of_many() {
    let mut noise = Noise(7);
    // Along y there are as many parabolas as rows with a hole; so many are looked at from everywhere, or a few more.
    let shape = [2, 150, 37];
    for rows in [0, 1, 2, 11, 12, 13, 14, 40] {
        let mut mask = Array3::from_elem(shape, true);
        let mut holes = Vec::new();
        for row in 0..rows {
            let hole = [0, row * 11 % 150, noise.below(37) as usize];
            mask[hole] = false;
            holes.push(hole);
        }
        let expected = Array3::from_shape_fn(shape, |(z, y, x)| {
            let squares = holes.iter().map(|hole| {
                let at = [z, y, x];
                let steps = at.iter().zip(hole).map(|(a, b)| a.abs_diff(*b).pow(2));
                steps.sum::<usize>() as f32
            });
            squares.fold(f32::INFINITY, f32::min)
        });
        let options = options([1.0; 3], false, true);
        assert_eq!(distance_transform(mask.view(), &options).unwrap(), expected);
        for (turned, expected) in [
            (
                mask.view().permuted_axes([1, 0, 2]),
                expected.view().permuted_axes([1, 0, 2]),
            ),
            (mask.view().reversed_axes(), expected.view().reversed_axes()),
            (
                mask.slice(s![..;-1, ..;-1, ..;-1]),
                expected.slice(s![..;-1, ..;-1, ..;-1]),
            ),
        ] {
            assert_eq!(distance_transform(turned, &options).unwrap(), expected, "{rows}");
        }
    }
}

#[test]
fn without_another_label_distances_are_infinite() {
    let all = Array3::from_elem((2, 3, 80), 7u16);
    let found = distance_transform(all.view(), &DistanceOptions::default()).unwrap();
    assert!(found.iter().all(|&distance| distance == f32::INFINITY));
    let bordered = distance_transform(all.view(), &options([2.0, 9.0, 9.0], true, false)).unwrap();
    assert!(bordered.iter().all(|&distance| distance == 2.0));
    let none = distance_transform(all.mapv(|_| 0u16).view(), &options([1.0; 3], true, false)).unwrap();
    assert!(none.iter().all(|&distance| distance == 0.0));
    let signed = signed_distance(all.view(), [1.0; 3]).unwrap();
    assert!(signed.iter().all(|&distance| distance == f32::INFINITY));
    let signed = signed_distance(all.mapv(|_| false).view(), [1.0; 3]).unwrap();
    assert!(signed.iter().all(|&distance| distance == f32::NEG_INFINITY));
}

#[test]
fn empty_volumes_have_no_distances_and_spacings_have_to_be_sizes() {
    for shape in [[0, 3, 4], [3, 0, 4], [3, 4, 0], [0, 0, 0]] {
        let empty = Array3::<u8>::zeros(shape);
        let found = distance_transform(empty.view(), &DistanceOptions::default()).unwrap();
        assert_eq!(found.shape(), shape);
        assert_eq!(signed_distance(empty.view(), [1.0; 3]).unwrap().shape(), shape);
    }
    let labels = array![[[1u8, 0]]];
    for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-300, 1e300] {
        let error = distance_transform(labels.view(), &options([1.0, wrong, 1.0], false, false));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("spacing") && error.contains(&wrong.to_string()),
            "{error}"
        );
        assert!(signed_distance(labels.view(), [1.0, 1.0, wrong]).is_err());
    }
}

/// Looks at every face: simple, slow, correct.
fn naive_signed(labels: &Array3<u64>, spacing: [f64; 3]) -> Array3<f32> {
    let mut faces = Vec::new();
    for ((z, y, x), &label) in labels.indexed_iter() {
        let here = [z, y, x];
        for axis in 0..3 {
            let mut next = here;
            next[axis] += 1;
            if labels.get(next).is_some_and(|&other| other != label) {
                let mut centre = here.map(|n| n as f64);
                centre[axis] += 0.5;
                faces.push(centre);
            }
        }
    }
    Array3::from_shape_fn(labels.raw_dim(), |(z, y, x)| {
        let here = [z, y, x].map(|n| n as f64);
        let squares = faces
            .iter()
            .map(|face| (0..3).map(|a| ((here[a] - face[a]) * spacing[a]).powi(2)));
        let least = squares.map(Iterator::sum).fold(f64::INFINITY, f64::min).sqrt() as f32;
        if labels[[z, y, x]] == 0 { -least } else { least }
    })
}

#[test]
fn signed_distances_are_to_the_centres_of_faces() {
    let mut noise = Noise(9);
    for shape in [
        [6, 9, 11],
        [1, 12, 20],
        [9, 1, 18],
        [5, 20, 1],
        [1, 1, 90],
        [1, 1, 1],
    ] {
        for (spacing, count) in SPACINGS.into_iter().zip([25, 4, 60]) {
            let labels = blocks(shape, count, 6, &mut noise);
            let expected = naive_signed(&labels, spacing);
            let found = signed_distance(labels.view(), spacing).unwrap();
            assert_close(&found, &expected, &format!("{shape:?} {spacing:?}"));
            assert!(found.iter().all(|&distance| distance != 0.0));
            let mut other_order = Array3::zeros(shape.f());
            other_order.assign(&labels);
            assert_eq!(signed_distance(other_order.view(), spacing).unwrap(), found);
        }
    }
}
