//! Kernels beside the programs that do the same, as they are installed: `data/peers.py` says what is asked of them. How
//! they are where no such program is a judge – ties, NaN, what is empty – the other tests say.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use common::{Noise, Peers, assert_close, blocks, noisy, same_partition};
use dacapo_kernels::*;
use ndarray::{Array, Array1, Array2, Array3, Array4, Axis, Ix1, Ix2, Ix4, Zip, arr1, arr2};
use ndarray_npy::{ReadableElement, WritableElement};

const ALL: [Connectivity; 3] = [Connectivity::Faces, Connectivity::Edges, Connectivity::Corners];

/// Names of labels, as far apart as they can be.
const NAMES: [u64; 8] = [0, 1, 2, 1 << 8, 1 << 16, 1 << 32, 1 << 63, u64::MAX];

fn mask(shape: [usize; 3], noise: &mut Noise) -> Array3<bool> {
    Array3::from_shape_simple_fn(shape, || noise.unit() < 0.9)
}

/// Noise that is smooth, from 0 to 1.
fn hills(shape: [usize; 3], noise: &mut Noise) -> Array3<f32> {
    let smooth = gaussian(Array3::from_shape_simple_fn(shape, || noise.unit()), 1.5).unwrap();
    let [least, most] = [f32::min, f32::max].map(|of| smooth.iter().copied().reduce(of).unwrap());
    smooth.mapv(|value| (value - least) / (most - least))
}

/// The places of values in their order: no two are equal.
fn ranks<D: ndarray::Dimension>(values: &Array<f32, D>) -> Array<f32, D> {
    let values_in_order: Vec<f32> = values.iter().copied().collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values_in_order[a].total_cmp(&values_in_order[b]));
    let mut ranks = vec![0.0; values.len()];
    for (rank, place) in order.into_iter().enumerate() {
        ranks[place] = rank as f32;
    }
    Array::from_shape_vec(values.raw_dim(), ranks).unwrap()
}

#[test]
#[ignore = "needs the Python environments in DACAPO_PEERS; .ci/run makes them"]
fn components_are_those_of_cc3d_number_by_number() {
    fn check<T: Label + WritableElement>(question: &str, kinds: u64, of: impl Fn(u64) -> T) {
        let mut noise = Noise(1);
        let mut volumes = Vec::new();
        // The last ones have several slabs.
        for shape in [
            [17, 23, 31],
            [1, 40, 37],
            [29, 1, 33],
            [31, 35, 1],
            [1, 1, 200],
            [1, 1, 1],
            [2, 3, 130],
            [3, 300, 500],
            [90, 80, 70],
        ] {
            let [z, y, x] = shape;
            for smooth in [0.0, 0.5, 0.9] {
                volumes.push(noisy((z, y, x), kinds, smooth, &mut noise));
            }
            let voxels = z * y * x;
            volumes.push(blocks(shape, 1 + voxels / 200, 9, &mut noise).mapv(|label| label.min(kinds - 1)));
        }
        let mut peers = Peers::new(question);
        let volumes = volumes.into_iter().map(|volume| volume.mapv(&of));
        let volumes: Vec<Array3<T>> = volumes
            .enumerate()
            .inspect(|(i, volume)| peers.give(i, volume))
            .map(|(_, volume)| volume)
            .collect();
        let mut found = peers.find("components");
        for (i, volume) in volumes.iter().enumerate() {
            let plane: &[u32] = if volume.len_of(Axis(0)) == 1 { &[4, 8] } else { &[] };
            for &neighbors in [6, 18, 26].iter().chain(plane) {
                let connectivity = Connectivity::from_neighbors(neighbors).unwrap();
                let ours: Array3<u64> = connected_components(volume.view(), connectivity).unwrap();
                let theirs: Array3<u64> = found.volume(&format!("{i}.{neighbors}"));
                assert!(ours == theirs, "{question}, {:?}, {neighbors}", volume.shape());
            }
        }
    }
    check("components-bool", 2, |label| label > 0);
    check("components-u8", 2, |label| label as u8);
    check("components-u16", 4, |label| label as u16 * 20_000);
    check("components-u32", 4, |label| (label as u32) << 30);
    check("components-u64", 4, |label| label << 62);
}

#[test]
#[ignore = "needs the Python environments in DACAPO_PEERS; .ci/run makes them"]
fn distances_are_those_of_edt_and_scipy() {
    let mut noise = Noise(1);
    let volumes = [
        blocks([40, 90, 130], 60, 50, &mut noise),
        blocks([1, 120, 160], 60, 30, &mut noise),
        blocks([70, 1, 90], 60, 30, &mut noise),
        noisy((20, 31, 45), 3, 0.8, &mut noise),
    ];
    let spacings = [[1.0, 1.0, 1.0], [4.0, 2.5, 1.0], [0.5, 3.0, 40.0]];
    let mut peers = Peers::new("distances");
    peers.give("spacings", &arr2(&spacings));
    for (i, volume) in volumes.iter().enumerate() {
        peers.give(i, volume);
    }
    let mut found = peers.find("distances");
    for (i, labels) in volumes.iter().enumerate() {
        for (s, spacing) in spacings.into_iter().enumerate() {
            for (border, squared) in [(false, false), (false, true), (true, false), (true, true)] {
                let options = DistanceOptions {
                    spacing,
                    border: [border; 3],
                    squared,
                };
                let key = format!("{i}.{s}.{border}.{squared}");
                let ours = distance_transform(labels.view(), &options).unwrap();
                assert_close(&ours, &found.volume(&key), &key);
            }
            let options = DistanceOptions {
                spacing,
                ..DistanceOptions::default()
            };
            let ours = distance_transform(labels.mapv(|label| label > 0).view(), &options).unwrap();
            assert_close(&ours, &found.volume(&format!("{i}.{s}.scipy")), "scipy");
            let ours = signed_distance(labels.view(), spacing).unwrap();
            assert_close(&ours, &found.volume(&format!("{i}.{s}.signed")), "signed");
        }
    }
}

#[test]
#[ignore = "needs the Python environments in DACAPO_PEERS; .ci/run makes them"]
fn watersheds_are_those_of_scikit_image_where_no_heights_are_equal() {
    fn check<H: Height + WritableElement>(question: &str, heights: &[Array3<H>]) {
        let mut noise = Noise(3);
        let mut peers = Peers::new(question);
        let mut given = Vec::new();
        for (i, height) in heights.iter().enumerate() {
            let (z, y, x) = height.dim();
            let rare = if height.len() < 500 { 20 } else { 300 };
            let seeds = Array3::from_shape_simple_fn((z, y, x), || match noise.below(rare) {
                0 => NAMES[1 + noise.below(7) as usize] - noise.below(2),
                _ => 0,
            });
            let mask = mask([z, y, x], &mut noise);
            peers.give(i, height);
            peers.give(format!("{i}.seeds"), &seeds);
            peers.give(format!("{i}.mask"), &mask);
            given.push((height, seeds, mask));
        }
        let mut found = peers.find("watersheds");
        for (i, (height, seeds, mask)) in given.iter().enumerate() {
            for (connectivity, number) in ALL.into_iter().zip(1..) {
                for (key, mask) in [("all", None), ("masked", Some(mask.view()))] {
                    let ours = watershed(height.view(), seeds.view(), mask, connectivity).unwrap();
                    let theirs: Array3<u64> = found.volume(&format!("{i}.{number}.{key}"));
                    let what = format!("{question}, {:?}, {connectivity:?}, {key}", height.shape());
                    assert!(ours == theirs, "{what}");
                    assert!(ours.iter().any(|&label| label != 0), "{what}");
                }
            }
        }
    }
    let mut noise = Noise(2);
    // More heights than have a queue each, and fewer.
    let shapes = [
        [40, 50, 60],
        [1, 250, 300],
        [3, 300, 100],
        [20, 40, 50],
        [1, 90, 80],
        [70, 1, 60],
        [80, 70, 1],
    ];
    let heights = shapes.map(|shape| ranks(&hills(shape, &mut noise)));
    check("watersheds-f32", &heights);
    let shapes = [[4, 8, 8], [1, 16, 16], [16, 1, 15], [3, 5, 7]];
    let heights = shapes.map(|shape| ranks(&hills(shape, &mut noise)).mapv(|height| height as u8));
    check("watersheds-u8", &heights);
}

#[test]
#[ignore = "needs the Python environments in DACAPO_PEERS; .ci/run makes them"]
fn mutex_watersheds_are_those_of_mwatershed_where_no_magnitudes_are_equal() {
    let offsets: [Offset; 7] = [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [-2, 0, 0],
        [0, 3, -1],
        [0, 0, -4],
        [2, -2, 3],
    ];
    let strides = [
        [1, 1, 1],
        [1, 1, 1],
        [1, 1, 1],
        [2, 1, 1],
        [1, 3, 1],
        [1, 1, 2],
        [2, 2, 3],
    ];
    fn check<A: Affinity + WritableElement>(
        question: &str,
        all: &[Array4<A>],
        biases: &Array2<f32>,
        [offsets, strides]: [&[Offset]; 2],
    ) -> u64 {
        let mut noise = Noise(5);
        let mut peers = Peers::new(question);
        peers.give("offsets", &arr2(offsets));
        peers.give("strides", &arr2(strides));
        peers.give("biases", biases);
        let mut masks = Vec::new();
        for (i, affinities) in all.iter().enumerate() {
            let (_, z, y, x) = affinities.dim();
            peers.give(i, affinities);
            masks.push(mask([z, y, x], &mut noise));
            peers.give(format!("{i}.mask"), &masks[i]);
        }
        let mut found = peers.find("mutex_watersheds");
        let mut most = 0;
        for (i, (affinities, mask)) in all.iter().zip(&masks).enumerate() {
            let channels = affinities.shape()[0];
            let strides: Vec<[usize; 3]> = strides.iter().map(|s| s.map(|n| n as usize)).collect();
            for (b, bias) in biases.outer_iter().enumerate() {
                let bias = bias.iter().copied().take(channels).collect::<Vec<f32>>();
                for (key, strides, mask) in [
                    ("all", None, None),
                    ("strided", Some(&strides[..channels]), None),
                    ("masked", None, Some(mask.view())),
                ] {
                    let offsets = &offsets[..channels];
                    let ours = mutex_watershed(affinities.view(), offsets, &bias, strides, mask).unwrap();
                    let theirs: Array3<u64> = found.volume(&format!("{i}.{b}.{key}"));
                    let what = format!("{question}, {:?}, {bias:?}, {key}", affinities.shape());
                    assert!(same_partition(ours.view(), theirs.view()), "{what}");
                    most = ours.iter().copied().max().unwrap().max(most);
                }
            }
        }
        most
    }

    let mut noise = Noise(4);
    const STEPS: f32 = (1 << 20) as f32;
    // Affinities are whole steps, each there once, and biases lie between them: no two magnitudes are equal.
    // Mwatershed has no offsets that are longer than the volume.
    let shapes = [
        (7, [16, 30, 40]),
        (7, [2, 90, 100]),
        (3, [1, 90, 100]),
        (7, [24, 3, 60]),
    ];
    let floats = shapes.map(|(channels, shape): (usize, [usize; 3])| {
        let [z, y, x] = shape;
        let labels = blocks(shape, 1 + z * y * x / 150, 12, &mut noise);
        let linked = affinities(labels.view(), &offsets[..channels], Background::Nothing).unwrap();
        let noisy = linked.mapv(|linked| 0.35 * f32::from(linked) + 0.65 * noise.unit());
        let step = (STEPS / noisy.len() as f32).floor() / STEPS;
        ranks(&noisy).mapv(|rank| rank * step)
    });
    let between = |bias: f32, part: f32| ((bias * STEPS).round() + part) / STEPS;
    let biases = Array2::from_shape_fn((3, 7), |(b, channel)| {
        let [short, long] = [[0.4, 0.4], [0.3, 0.5], [0.55, 0.3]][b];
        if channel < 3 {
            between(short, 0.25)
        } else {
            between(long, 0.375)
        }
    });
    let segments = check("mutex-f32", &floats, &biases, [&offsets, &strides]);
    assert!(segments > 20, "{segments}");

    // Of bytes there are 256, so that volumes are small, and many.
    let bytes: Vec<Array4<u8>> = (0..60)
        .map(|i| {
            let shape = [(3, 3, 4, 5), (4, 2, 4, 7), (7, 2, 3, 4)][i % 3];
            let noise = Array4::from_shape_simple_fn(shape, || noise.unit());
            let count = noise.len();
            ranks(&noise).mapv(|rank| (rank as usize * 255 / count) as u8)
        })
        .collect();
    let biases = Array2::from_elem((1, 7), 120.25 / 255.0);
    let segments = check("mutex-u8", &bytes, &biases, [&offsets, &strides]);
    assert!(segments > 3, "{segments}");
}

#[test]
#[ignore = "needs the Python environments in DACAPO_PEERS; .ci/run makes them"]
fn fragments_are_those_of_scipy_and_scikit_image_step_by_step() {
    let mut noise = Noise(6);
    let shape = [24, 50, 60];
    let offsets = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]];
    let labels = Array3::from_shape_fn(shape, |(z, y, x)| {
        (1 + z / 9 + 3 * (y / 11) + 15 * (x / 13)) as u64
    });
    let linked = affinities(labels.view(), &offsets, Background::Nothing).unwrap();
    let values = linked.mapv(|linked| 0.72 * f32::from(linked) + 0.28 * noise.unit());
    let mask = mask(shape, &mut noise);
    let mut peers = Peers::new("fragments");
    peers.give("affinities", &values);
    peers.give("offsets", &arr2(&offsets));
    peers.give("mask", &mask);
    let mut found = peers.find("fragments");
    for (key, mask) in [("all", None), ("masked", Some(mask.view()))] {
        let mut step = |name: &str| found.volume::<f32>(&format!("{key}.{name}"));
        let (boundary, distance, smooth, most) =
            (step("boundary"), step("distance"), step("smooth"), step("most"));
        let inside = boundary.mapv(|value| value < 0.2);
        let ours = distance_transform(inside.view(), &DistanceOptions::default()).unwrap();
        assert_eq!(ours, distance, "{key}");
        assert_close(&gaussian(distance, 1.0).unwrap(), &smooth, key);
        assert_eq!(maximum(smooth.clone(), 2), most, "{key}");
        let peaks = Zip::from(&inside)
            .and(&smooth)
            .and(&most)
            .map_collect(|&inside, smooth, most| inside && smooth == most);
        let seeds: Array3<u64> = connected_components(peaks.view(), Connectivity::Corners).unwrap();
        assert_eq!(seeds, found.volume::<u64>(&format!("{key}.seeds")), "{key}");
        let theirs: Array3<u64> = found.volume(&format!("{key}.fragments"));
        let ours = watershed(boundary.view(), seeds.view(), mask, Connectivity::Faces).unwrap();
        assert_eq!(ours, theirs, "{key}, the flood");
        let ours = fragments(values.view(), &offsets, mask, &FragmentParameters::default()).unwrap();
        assert!(same_partition(ours.view(), theirs.view()), "{key}, all steps");
        assert!(ours.iter().max() > Some(&50), "{key}");
    }
}

#[test]
#[ignore = "needs the Python environments in DACAPO_PEERS; .ci/run makes them"]
fn ids_are_changed_and_counted_as_fastremap_numpy_and_scikit_image_do() {
    const LIMITS: [u64; 2] = [5, 400];
    fn check<T: Id + WritableElement + ReadableElement>(question: &str, of: impl Fn(u64) -> T) {
        let mut noise = Noise(7);
        let shapes = [
            (9, 40, 50),
            (1, 70, 90),
            (33, 1, 40),
            (20, 30, 1),
            (1, 1, 1),
            (64, 64, 80),
        ];
        let mut peers = Peers::new(question);
        peers.give("limits", &arr1(&LIMITS));
        let mut given = Vec::new();
        for (i, shape) in shapes.into_iter().enumerate() {
            let smooth = [0.0, 0.7, 0.95][i % 3];
            let labels = noisy(shape, 300, smooth, &mut noise).mapv(&of);
            let other = noisy(shape, 50, 0.9, &mut noise).mapv(|id| NAMES[id as usize % 8].wrapping_sub(id));
            let ids: Vec<T> = unique(labels.view()).iter().map(|&(id, _)| id).collect();
            // A few of them stay as they are.
            let from: Array1<T> = ids.iter().copied().filter(|_| noise.unit() < 0.9).collect();
            let to: Array1<T> = from.iter().map(|_| of(noise.below(100))).collect();
            peers.give(i, &labels);
            peers.give(format!("{i}.other"), &other);
            peers.give(format!("{i}.from"), &from);
            peers.give(format!("{i}.to"), &to);
            given.push((labels, other, from, to));
        }
        let mut found = peers.find("tables");
        for (i, (labels, other, from, to)) in given.iter().enumerate() {
            let what = format!("{question}, {:?}", labels.shape());
            let ids: Array1<T> = found.read::<T, Ix1>(&format!("{i}.ids"));
            let sizes: Array1<u64> = found.read::<u64, Ix1>(&format!("{i}.sizes"));
            let theirs: Vec<(T, u64)> = ids.into_iter().zip(sizes).collect();
            assert!(unique(labels.view()) == theirs, "{what}, unique");
            let ours = relabel_sequential(labels.view()).0;
            assert!(
                ours == found.volume::<T>(&format!("{i}.renumbered")),
                "{what}, renumbered"
            );
            let mut ours = labels.clone();
            size_filter(ours.view_mut(), LIMITS[0], LIMITS[1]);
            assert!(
                ours == found.volume::<T>(&format!("{i}.filtered")),
                "{what}, filtered"
            );
            let pairs = from.iter().zip(to).map(|(&from, &to)| (from.into(), to.into()));
            let mut ours = labels.clone();
            Remap::new(pairs, Unlisted::Keep).apply(ours.view_mut()).unwrap();
            assert!(
                ours == found.volume::<T>(&format!("{i}.remapped")),
                "{what}, remapped"
            );

            let table = ContingencyTable::new(labels.view(), other.view()).unwrap();
            let pairs: Array2<u64> = found.read::<u64, Ix2>(&format!("{i}.pairs"));
            let counts: Array1<u64> = found.read::<u64, Ix1>(&format!("{i}.counts"));
            let theirs = pairs.axis_iter(Axis(1)).zip(&counts);
            let theirs: Vec<[u64; 3]> = theirs.map(|(pair, &count)| [pair[0], pair[1], count]).collect();
            let ours = table.overlaps().iter();
            let ours: Vec<[u64; 3]> = ours.map(|o| [o.truth, o.segment, o.voxels]).collect();
            assert!(ours == theirs, "{what}, overlaps");
            let theirs: Array1<f64> = found.read::<f64, Ix1>(&format!("{i}.information"));
            let voi = table.voi().unwrap();
            for (ours, theirs) in [voi.split, voi.merge].into_iter().zip(theirs) {
                assert!(
                    (ours - theirs).abs() < 1e-9,
                    "{what}, {ours} instead of {theirs} bits"
                );
            }
        }
    }
    check("tables-u8", |id| id as u8);
    check("tables-u16", |id| (id * 218) as u16);
    check("tables-u32", |id| (id * 14_000_000) as u32);
    check("tables-u64", |id| match id {
        0..8 => NAMES[id as usize],
        _ => id.wrapping_mul(0x9e37_79b9_7f4a_7c15),
    });
}

#[test]
#[ignore = "needs the Python environments in DACAPO_PEERS; .ci/run makes them"]
fn maps_are_those_of_numpy() {
    let mut noise = Noise(8);
    let shapes = [
        (4, 20, 33, 47),
        (1, 5, 6, 7),
        (17, 1, 40, 19),
        (256, 2, 3, 5),
        (3, 9, 1, 70),
    ];
    let volumes = shapes.map(|shape| {
        // Of few values, so that several channels have the largest one; some are beyond what bytes stand for.
        let mut values = Array4::from_shape_simple_fn(shape, || noise.below(40) as f32 / 32.0 - 0.1);
        values
            .iter_mut()
            .step_by(3)
            .for_each(|value| *value = noise.unit());
        values
    });
    let mut peers = Peers::new("maps");
    for (i, values) in volumes.iter().enumerate() {
        peers.give(i, values);
    }
    let mut found = peers.find("maps");
    for (i, values) in volumes.iter().enumerate() {
        let what = format!("{:?}", values.shape());
        assert_eq!(
            argmax(values.view()).unwrap(),
            found.volume::<u8>(&format!("{i}.argmax")),
            "{what}"
        );
        let above = threshold(values.index_axis(Axis(0), 0), 0.25);
        assert_eq!(above, found.volume::<bool>(&format!("{i}.above")), "{what}");
        let bytes = quantise(values.view(), ValueRange::UNIT);
        assert_eq!(
            bytes,
            found.read::<u8, Ix4>(&format!("{i}.bytes")).into_dyn(),
            "{what}"
        );
    }
}

#[test]
#[ignore = "needs the Python environments in DACAPO_PEERS; .ci/run makes them"]
fn agglomerations_are_those_of_waterz() {
    let mut noise = Noise(9);
    let shape = [40, 60, 70];
    let offsets = [[-1, 0, 0], [0, -1, 0], [0, 0, -1]];
    let mut affinities = Array4::zeros((3, shape[0], shape[1], shape[2]));
    for mut channel in affinities.outer_iter_mut() {
        channel.assign(&hills(shape, &mut noise));
    }
    let height = affinities.mean_axis(Axis(0)).unwrap().mapv(|mean| 1.0 - mean);
    let seeds = Array3::from_shape_simple_fn(shape, || noise.unit() < 0.004);
    let seeds: Array3<u64> = connected_components(seeds.view(), Connectivity::Faces).unwrap();
    // What is closed is no fragment.
    let mask = mask(shape, &mut noise);
    let fragments = watershed(
        height.view(),
        seeds.view(),
        Some(mask.view()),
        Connectivity::Faces,
    )
    .unwrap();
    let thresholds: Array1<f64> = (0..35).map(|step| 0.81 - 0.02 * f64::from(step)).collect();
    let shares = [25i64, 50, 75];
    // In the middles of their 256ths, which are our 255ths.
    let levels = affinities.mapv(|value| ((value * 255.0).round() + 0.5) / 256.0);
    let mut peers = Peers::new("agglomerations");
    peers.give("affinities", &affinities);
    peers.give("fragments", &fragments);
    peers.give("thresholds", &thresholds);
    peers.give("shares", &arr1(&shares));
    peers.give("levels", &levels);
    let mut found = peers.find("agglomerations");

    let graph = ContactGraph::<MeanAffinity>::new(fragments.view(), affinities.view(), &offsets).unwrap();
    let history = MergeHistory::new(&graph, MeanAffinity::mean, MergeLimits::default()).unwrap();
    let theirs: Array4<u64> = found.read::<u64, Ix4>("segments");
    let mut counts = Vec::new();
    for (&threshold, theirs) in thresholds.iter().zip(theirs.outer_iter()) {
        let ours = history.segment(fragments.view(), threshold).unwrap();
        assert!(same_partition(ours.view(), theirs), "{threshold}");
        counts.push(unique(ours.view()).len());
    }
    assert!(counts[0] > 300 && counts[counts.len() - 1] < 30, "{counts:?}");
    let theirs: Array1<f64> = found.read::<f64, Ix1>("scores");
    assert!(theirs.len() > 300);
    // Their means are of single precision.
    for (merge, theirs) in history.merges().iter().zip(theirs) {
        assert!((merge.score - theirs).abs() < 1e-4, "{merge:?} at {theirs}");
    }

    let mut theirs = |name: &str| {
        let pairs: Array2<u64> = found.read::<u64, Ix2>(&format!("{name}.pairs"));
        let scores: Array1<f64> = found.read::<f64, Ix1>(&format!("{name}.scores"));
        let pairs = pairs.outer_iter().map(|pair| (pair[0], pair[1]));
        pairs.zip(scores).collect::<Vec<_>>()
    };
    let (pairs, scores): (Vec<_>, Vec<_>) = theirs("mean").into_iter().unzip();
    let ours = graph.contacts().iter().map(|contact| (contact.a, contact.b));
    assert_eq!(ours.collect::<Vec<_>>(), pairs);
    for (contact, score) in graph.contacts().iter().zip(scores) {
        let mean = contact.evidence.mean();
        assert!((mean - score).abs() < 1e-5, "{mean} instead of {score}");
    }
    let graph = ContactGraph::<AffinityHistogram>::new(fragments.view(), levels.view(), &offsets).unwrap();
    for share in shares {
        // Where the share ends between two links, they take the second one.
        let level = |histogram: &AffinityHistogram| histogram.quantile(share as f64 / 100.0 + 1e-9) * 255.0;
        let ours = graph.contacts().iter();
        let ours = ours.map(|contact| ((contact.a, contact.b), level(&contact.evidence).round()));
        let theirs = theirs(&share.to_string()).into_iter();
        let theirs = theirs.map(|(pair, score)| (pair, (score * 256.0 - 0.5).round()));
        assert!(ours.eq(theirs), "{share}");
    }
}
