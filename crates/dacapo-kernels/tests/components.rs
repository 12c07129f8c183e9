//! Connected components: beside cc3d (`data/make_peers.py`), beside a naive reference, and what must not matter.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use common::{Fixture, Noise, noisy, on_threads, same_partition};
use dacapo_kernels::*;
use ndarray::{Array3, ArrayView3, Axis, s};

const ALL: [Connectivity; 3] = [Connectivity::Faces, Connectivity::Edges, Connectivity::Corners];

fn components<T: Label>(labels: ArrayView3<T>, connectivity: Connectivity) -> Array3<u64> {
    connected_components(labels, connectivity).unwrap()
}

/// Floods each region from its first voxel: simple, slow, correct.
fn naive<T: Label>(labels: ArrayView3<T>, connectivity: Connectivity) -> Array3<u64> {
    let most = match connectivity {
        Connectivity::Faces => 1,
        Connectivity::Edges => 2,
        Connectivity::Corners => 3,
    };
    let mut numbers = Array3::zeros(labels.raw_dim());
    let mut count = 0;
    for (first, &label) in labels.indexed_iter() {
        if label == T::BACKGROUND || numbers[first] != 0 {
            continue;
        }
        count += 1;
        numbers[first] = count;
        let mut open = vec![first];
        while let Some((z, y, x)) = open.pop() {
            for step in 0..27isize {
                let [dz, dy, dx] = [step / 9 - 1, step / 3 % 3 - 1, step % 3 - 1];
                let at = (
                    z.wrapping_add_signed(dz),
                    y.wrapping_add_signed(dy),
                    x.wrapping_add_signed(dx),
                );
                let near = dz.abs() + dy.abs() + dx.abs() <= most;
                if near && labels.get(at) == Some(&label) && numbers[at] == 0 {
                    numbers[at] = count;
                    open.push(at);
                }
            }
        }
    }
    numbers
}

#[test]
fn they_are_those_of_cc3d_number_by_number() {
    let mut peers = Fixture::open("components");
    for name in [
        "sparse", "dense", "blocks", "full", "image", "plate", "line", "column",
    ] {
        let labels: Array3<u64> = peers.volume(name);
        for neighbors in [6, 18, 26] {
            let found = components(labels.view(), Connectivity::from_neighbors(neighbors).unwrap());
            let expected: Array3<u64> = peers.volume(&format!("{name}.{neighbors}"));
            assert_eq!(found, expected, "{name}, {neighbors}");
        }
    }
    let image: Array3<u64> = peers.volume("image");
    for neighbors in [4, 8] {
        let found = components(image.view(), Connectivity::from_neighbors(neighbors).unwrap());
        assert_eq!(
            found,
            peers.volume::<u64>(&format!("image.{neighbors}")),
            "{neighbors}"
        );
    }
}

#[test]
fn they_are_their_definition_for_every_type_of_label_and_memory_order() {
    fn check<T: Label>(labels: &Array3<T>, what: &str) {
        for connectivity in ALL {
            let expected = naive(labels.view(), connectivity);
            assert_eq!(
                components(labels.view(), connectivity),
                expected,
                "{what}, {connectivity:?}"
            );
            // The same voxels, slowest axis last, and one in two of them.
            let turned = labels.view().reversed_axes();
            let turned_back = turned.to_owned();
            let fortran = turned_back.view().reversed_axes();
            assert_eq!(
                components(fortran, connectivity),
                expected,
                "{what}, {connectivity:?}"
            );
            assert_eq!(components(turned, connectivity), naive(turned, connectivity));
            let sparse = labels.slice(s![..;2, ..;-1, ..;2]);
            assert_eq!(components(sparse, connectivity), naive(sparse, connectivity));
        }
    }
    let mut noise = Noise(1);
    for shape in [
        (6, 7, 8),
        (1, 11, 9),
        (9, 1, 10),
        (7, 8, 1),
        (1, 1, 12),
        (1, 1, 1),
        (2, 3, 64),
        (3, 2, 65),
        (1, 3, 130),
    ] {
        for smooth in [0.0, 0.7] {
            let labels = noisy(shape, 4, smooth, &mut noise);
            check(&labels.mapv(|l| l > 1), "bool");
            check(&labels.mapv(|l| (l * 85) as u8), "u8");
            check(&labels.mapv(|l| (l * 20_000) as u16), "u16");
            check(&labels.mapv(|l| (l as u32) << 30), "u32");
            check(&labels.mapv(|l| l << 62), "u64");
            check(&labels.mapv(|l| l as i8 - 2), "i8");
            check(&labels.mapv(|l| l as i16 - 2), "i16");
            check(&labels.mapv(|l| l as i32 - 2), "i32");
            check(&labels.mapv(|l| (l as i64 - 2) << 61), "i64");
        }
    }
}

#[test]
fn the_number_of_threads_and_the_slabs_change_nothing() {
    let mut noise = Noise(2);
    // Several slabs, which begin within a plane, and planes much smaller than one.
    for shape in [
        (3, 300, 1000),
        (40, 120, 150),
        (1, 900, 900),
        (300, 3, 1000),
        (2, 2, 300_000),
    ] {
        for (kinds, smooth) in [(2, 0.0), (3, 0.8)] {
            let labels = noisy(shape, kinds, smooth, &mut noise);
            for connectivity in [Connectivity::Faces, Connectivity::Corners] {
                let all = |threads| on_threads(threads, || components(labels.view(), connectivity));
                let expected = naive(labels.view(), connectivity);
                assert!(
                    all(1) == expected && all(5) == expected,
                    "{shape:?}, {connectivity:?}"
                );
            }
        }
    }
}

#[test]
fn a_volume_that_is_given_is_written_over_in_any_layout() {
    let mut noise = Noise(4);
    for shape in [
        (6, 7, 8),
        (1, 9, 70),
        (5, 1, 33),
        (3, 4, 1),
        (2, 60, 300),
        (0, 3, 4),
    ] {
        for (kinds, smooth) in [(1, 0.0), (3, 0.0), (4, 0.9)] {
            let labels = noisy(shape, kinds, smooth, &mut noise);
            for connectivity in ALL {
                let expected = naive(labels.view(), connectivity);
                let most = expected.iter().max().map_or(0, |&count| count as u32);
                let mut standard = Array3::from_elem(shape, 77u64);
                let mut turned = Array3::from_elem((shape.2, shape.1, shape.0), 77u64);
                let mut sparse = Array3::from_elem((shape.0, shape.1 * 2, shape.2), 77u64);
                let views = [
                    standard.view_mut(),
                    turned.view_mut().reversed_axes(),
                    sparse.slice_mut(s![.., ..;2, ..]),
                ];
                for mut numbers in views {
                    let count =
                        connected_components_into(labels.view(), connectivity, numbers.view_mut()).unwrap();
                    assert_eq!((numbers.view(), count), (expected.view(), most), "{shape:?}");
                }
                assert!(sparse.slice(s![.., 1..;2, ..]).iter().all(|&number| number == 77));
            }
        }
    }
    let (labels, mut numbers) = (Array3::<u8>::ones((2, 3, 4)), Array3::<u32>::zeros((2, 4, 3)));
    let error =
        connected_components_into(labels.view(), Connectivity::Faces, numbers.view_mut()).unwrap_err();
    assert!(error.to_string().contains("volume of numbers"), "{error}");
}

#[test]
fn names_and_flips_change_no_region() {
    let mut noise = Noise(3);
    let labels = noisy((9, 13, 17), 5, 0.6, &mut noise);
    let names = [0, u64::MAX, 1 << 63, 1, 7];
    for connectivity in ALL {
        let expected = components(labels.view(), connectivity);
        let renamed = labels.mapv(|label| names[label as usize]);
        assert_eq!(components(renamed.view(), connectivity), expected);
        for axis in 0..3 {
            let mut flipped = labels.view();
            flipped.invert_axis(Axis(axis));
            let mut back = components(flipped, connectivity);
            back.invert_axis(Axis(axis));
            assert!(
                same_partition(back.view(), expected.view()),
                "{connectivity:?}, {axis}"
            );
        }
        // Regions of regions are themselves.
        assert_eq!(components(expected.view(), connectivity), expected);
    }
}

#[test]
fn nothing_and_everything() {
    for shape in [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)] {
        let empty = Array3::<u64>::ones(shape);
        assert_eq!(components(empty.view(), Connectivity::Edges).dim(), shape);
    }
    let all = Array3::<u8>::ones((4, 5, 6));
    for connectivity in ALL {
        assert!(
            components(all.view(), connectivity)
                .iter()
                .all(|&number| number == 1)
        );
        assert!(
            components((&all - 1).view(), connectivity)
                .iter()
                .all(|&number| number == 0)
        );
        let one = Array3::from_elem((1, 1, 1), 1u64 << 63);
        assert_eq!(components(one.view(), connectivity)[[0, 0, 0]], 1);
    }
    let error = Connectivity::from_neighbors(7).unwrap_err().to_string();
    assert!(error.contains('7') && error.contains("26"), "{error}");
}
