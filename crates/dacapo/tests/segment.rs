//! Segments by blocks beside segments in memory, through arrays that lie somewhere.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::path::Path;

use dacapo::{
    Error, EvaluateRequest, NamedArray, SegmentMethod, SegmentRequest, SweepMethod, SweepRequest, evaluate,
    segment, sweep,
};
use dacapo_array::storage::Access;
use dacapo_array::{
    ArrayAddress, ArrayRead, ArrayReadExt, ArraySpec, Coordinate, MemoryArray, NdData, Roi, ZarrArray,
    ZarrFormat, open_array,
};
use dacapo_kernels::{Background, Connectivity, affinities, connected_components, gaussian};
use dacapo_tasks::{ValueRange, neighborhood_of};
use ndarray::{Array3, Array4, ArrayD, Axis, Ix3};

const OFFSETS: [[i64; 3]; 6] = [
    [-1, 0, 0],
    [0, -1, 0],
    [0, 0, -1],
    [-6, 0, 0],
    [0, -6, 0],
    [0, 0, -6],
];

fn neighborhood() -> Vec<Vec<i64>> {
    OFFSETS.iter().map(|offset| offset.to_vec()).collect()
}

/// The neurons of the fixture.
fn truth() -> Array3<u64> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/fib25_96.zarr");
    let address: ArrayAddress = format!("{}/labels", path.display()).parse().unwrap();
    let labels = open_array(&address, &Access::default())
        .unwrap()
        .read_all()
        .unwrap();
    let labels = labels
        .cast::<u64>()
        .unwrap()
        .into_dimensionality::<Ix3>()
        .unwrap();
    labels.slice(ndarray::s![..64, .., ..]).to_owned()
}

/// What a network might say of them.
fn predicted(truth: &Array3<u64>) -> Array4<f32> {
    let ideal = affinities(truth.view(), &OFFSETS, Background::Nothing).unwrap();
    let mut predicted = ideal.mapv(f32::from);
    let mut state = 7_u64;
    for mut channel in predicted.outer_iter_mut() {
        let noise = channel.mapv(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        });
        let grain = gaussian(noise, 1.0).unwrap();
        let smooth = gaussian(channel.to_owned(), 1.0).unwrap();
        channel.assign(&(8.0 * (smooth - 0.5) + 12.0 * grain).mapv(|logit| 1.0 / (1.0 + (-logit).exp())));
    }
    predicted
}

/// An array that begins at a voxel.
fn array(data: NdData, channels: Option<usize>) -> MemoryArray {
    let voxel_size: Coordinate =
        Coordinate::new(["10", "4.6", "4.6"].map(|n| n.parse::<dacapo_array::Decimal>().unwrap()));
    let shape = &data.shape()[usize::from(channels.is_some())..];
    let roi = Roi::from_voxels(&[3, -2, 7], shape, &voxel_size);
    let spec = ArraySpec::new(roi, voxel_size, data.dtype());
    MemoryArray::new(spec.with_channels(channels.into_iter().collect()), data).unwrap()
}

fn request(method: SegmentMethod, block: Option<usize>) -> SegmentRequest<'static> {
    SegmentRequest {
        method,
        neighborhood: neighborhood(),
        range: ValueRange::UNIT,
        mask: None,
        seeds: None,
        roi: None,
        block,
        memory: None,
        overwrite: true,
        format: ZarrFormat::V3,
    }
}

fn segments(dir: &Path, input: &MemoryArray, request: &SegmentRequest) -> Array3<u64> {
    let output: ArrayAddress = format!("{}/out.zarr/segments", dir.display()).parse().unwrap();
    let done = segment(named("input", input), &output, &Access::default(), request, &()).unwrap();
    let made = ZarrArray::open(&output, &Access::default()).unwrap();
    assert_eq!((&made.spec().roi, made.spec().dtype), (&done.roi, done.dtype));
    made.read_all()
        .unwrap()
        .cast::<u64>()
        .unwrap()
        .into_dimensionality()
        .unwrap()
}

fn named<'a>(name: &'a str, array: &'a MemoryArray) -> NamedArray<'a> {
    NamedArray { name, array }
}

#[test]
fn what_blocks_do_not_change_is_the_same_by_any_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let truth = truth().slice(ndarray::s![..30, ..50, ..50]).to_owned();
    let labels = array(NdData::U64(truth.clone().into_dyn()), None);
    let values = predicted(&truth);
    let bytes = values.mapv(|value| (value * 255.0).round() as u8);
    let input = array(NdData::U8(bytes.clone().into_dyn()), Some(6));
    for block in [None, Some(17), Some(8)] {
        for connectivity in [Connectivity::Faces, Connectivity::Corners] {
            let method = SegmentMethod::Components {
                threshold: None,
                connectivity,
            };
            let found = segments(dir.path(), &labels, &request(method, block));
            let expected: Array3<u64> = connected_components(truth.view(), connectivity).unwrap();
            assert_eq!(found, expected, "{block:?} {connectivity:?}");
        }
        let found = segments(dir.path(), &input, &request(SegmentMethod::Threshold(0.5), block));
        let first = bytes.index_axis(Axis(0), 0);
        assert_eq!(found, first.mapv(|byte| u64::from(byte > 127)));
        let found = segments(dir.path(), &input, &request(SegmentMethod::Argmax, block));
        let most = |(z, y, x)| (0..6).rev().max_by_key(|&c| bytes[[c, z, y, x]]).unwrap() as u64;
        assert_eq!(found, Array3::from_shape_fn(found.raw_dim(), most));
    }
}

#[test]
fn objects_by_blocks_are_nearly_those_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let truth = truth();
    let labels = array(NdData::U64(truth.clone().into_dyn()), None);
    let input = array(NdData::F32(predicted(&truth).into_dyn()), Some(6));
    let score = |segments: &Array3<u64>| {
        let test = array(NdData::U64(segments.clone().into_dyn()), None);
        let request = EvaluateRequest::default();
        let found = evaluate(named("truth", &labels), named("test", &test), &request, &()).unwrap();
        found.scores.voi.unwrap()
    };
    let mutex = SegmentMethod::MutexWatershed {
        bias_short: 0.5,
        bias_long: 0.5,
    };
    for method in [SegmentMethod::Agglomerate(0.6), mutex] {
        let whole = score(&segments(dir.path(), &input, &request(method, None)));
        for block in [32, 50] {
            let found = segments(dir.path(), &input, &request(method, Some(block)));
            let by_blocks = score(&found);
            assert!(
                by_blocks < whole + 0.05,
                "{method:?}, {block}: {by_blocks}, in memory {whole}"
            );
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            let again = pool.install(|| segments(dir.path(), &input, &request(method, Some(block))));
            assert!(again == found, "{method:?}, {block}: the number of threads shows");
        }
    }
}

#[test]
fn seeds_grow_inside_of_the_mask_and_what_cannot_be_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let height = Array4::from_shape_fn((1, 1, 1, 9), |at| -(at.3 as f32 - 4.0).abs());
    let input = array(NdData::F32(height.into_dyn()), Some(1));
    let flat = |values: [u64; 9]| {
        array(
            NdData::U64(ArrayD::from_shape_vec(vec![1, 1, 9], values.to_vec()).unwrap()),
            None,
        )
    };
    let (seeds, mask) = (
        flat([5, 0, 0, 0, 0, 0, 0, 0, 9]),
        flat([1, 1, 1, 1, 1, 0, 1, 1, 1]),
    );
    let request = SegmentRequest {
        seeds: Some(named("seeds", &seeds)),
        mask: Some(named("mask", &mask)),
        ..request(SegmentMethod::Watershed, None)
    };
    let found = segments(dir.path(), &input, &request);
    assert_eq!(found.into_raw_vec_and_offset().0, [5, 5, 5, 5, 5, 0, 9, 9, 9]);

    let output: ArrayAddress = format!("{}/bad.zarr/x", dir.path().display()).parse().unwrap();
    let refuse = |array: &MemoryArray, request: &SegmentRequest| {
        let input = NamedArray { name: "input", array };
        let error = segment(input, &output, &Access::default(), request, &()).unwrap_err();
        assert!(!dir.path().join("bad.zarr").exists(), "{error}");
        error
    };
    let method = SegmentMethod::Agglomerate(0.5);
    let few = refuse(&input, &self::request(method, None));
    assert!(
        few.to_string().contains("affinities in 1 channels, of 6 offsets"),
        "{few}"
    );
    let outside = Roi::new(Coordinate::new([1000, 0, 0]), Coordinate::new([10, 46, 46]));
    let apart = SegmentRequest {
        roi: Some(outside),
        ..self::request(SegmentMethod::Threshold(0.0), None)
    };
    assert!(matches!(refuse(&input, &apart), Error::RoiApart { .. }));
}

#[test]
fn what_takes_too_much_or_means_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output: ArrayAddress = format!("{}/bad.zarr/x", dir.path().display()).parse().unwrap();
    let volume = |value: u8, channels: usize| {
        array(
            NdData::U8(ArrayD::from_elem(vec![channels, 30, 30, 30], value)),
            Some(channels),
        )
    };
    let labels = |value: i32| array(NdData::I32(ArrayD::from_elem(vec![30; 3], value)), None);
    let (six, below, good) = (volume(9, 6), labels(-1), labels(1));
    let refuse = |array: &MemoryArray, request: SegmentRequest| {
        let error = segment(named("P", array), &output, &Access::default(), &request, &()).unwrap_err();
        assert!(!dir.path().join("bad.zarr/x").exists(), "{error}");
        error
    };
    let of = |method, memory| SegmentRequest {
        memory: Some(memory),
        ..request(method, None)
    };
    let agglomerate = SegmentMethod::Agglomerate(0.5);
    // Blocks that see past their neighbours.
    let error = refuse(&six, request(agglomerate, Some(23)));
    assert!(
        matches!(error, Error::SmallBlock { block: 23, least: 24 }),
        "{error}"
    );
    // 27,000 voxels of 6 bytes, 6 floats and more; at once, and in a block with what it sees around.
    for (block, way_out) in [(None, "--block"), (Some(24), "smaller blocks")] {
        let request = SegmentRequest {
            block,
            ..of(agglomerate, 1 << 20)
        };
        let error = refuse(&six, request);
        let Error::TooLarge { needed, free, .. } = error else {
            panic!("{error}");
        };
        assert!(needed > 27_000 * (30 + 16) && free == 1 << 20);
        assert!(error.hint().unwrap().contains(way_out), "{error}");
    }
    let method = SegmentMethod::Threshold(0.5);
    segment(
        named("P", &six),
        &output,
        &Access::default(),
        &of(method, 1 << 23),
        &(),
    )
    .unwrap();
    std::fs::remove_dir_all(dir.path().join("bad.zarr")).unwrap();
    // Thresholds of bytes are those of what they stand for.
    let components = |threshold| SegmentMethod::Components {
        threshold,
        connectivity: Connectivity::Faces,
    };
    for method in [SegmentMethod::Threshold(100.0), components(Some(f32::NAN))] {
        let error = refuse(&six, request(method, None));
        assert!(error.to_string().contains("between 0 and 1"), "{error}");
        assert!(error.hint().unwrap().contains("bytes for 0 to 1"), "{error}");
    }
    // Labels have one channel, and no sign.
    let error = refuse(&six, request(components(None), None));
    assert_eq!(error.to_string(), "P has 6 channels, and labels have one");
    assert!(error.hint().unwrap().contains("--threshold"));
    let seeded = SegmentRequest {
        seeds: Some(named("S", &six)),
        ..request(SegmentMethod::Watershed, None)
    };
    let error = refuse(&six, seeded);
    assert_eq!(error.to_string(), "S has 6 channels, and labels have one");
    let error = refuse(&below, request(components(None), None));
    assert!(
        error
            .to_string()
            .contains("P cannot be read as labels: -1 (int32) is no uint64"),
        "{error}"
    );

    let request = |method, values| SweepRequest {
        method,
        neighborhood: neighborhood(),
        range: ValueRange::UNIT,
        values,
        roi: None,
        memory: Some(1 << 20),
    };
    let all = [
        SweepMethod::Threshold,
        SweepMethod::Components(Connectivity::Faces),
        SweepMethod::Agglomerate,
        SweepMethod::MutexWatershed,
    ];
    for method in all {
        let refuse =
            |truth, values| sweep(named("P", &six), named("L", truth), &request(method, values)).unwrap_err();
        for value in [f32::NAN, -1.0, 2.0] {
            let error = refuse(&good, vec![0.5, value]);
            assert!(error.to_string().contains("between 0 and 1"), "{error}");
        }
        let error = refuse(&six, Vec::new());
        assert_eq!(error.to_string(), "L has 6 channels, and labels have one");
        let error = refuse(&good, Vec::new());
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        assert!(error.hint().unwrap().contains("--roi"), "{error}");
        let enough = SweepRequest {
            memory: None,
            ..request(method, vec![0.5])
        };
        let error = sweep(named("P", &six), named("L", &below), &enough).unwrap_err();
        assert!(
            error.to_string().starts_with("L cannot be read as labels"),
            "{error}"
        );
    }
}

#[test]
fn neighbours_are_named_by_how_many_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let output: ArrayAddress = format!("{}/out.zarr/x", dir.path().display()).parse().unwrap();
    let input = array(NdData::U8(ArrayD::from_elem(vec![3; 3], 1)), None);
    for (connectivity, count) in [
        (Connectivity::Faces, 6),
        (Connectivity::Edges, 18),
        (Connectivity::Corners, 26),
    ] {
        let method = SegmentMethod::Components {
            threshold: None,
            connectivity,
        };
        let request = request(method, None);
        let done = segment(named("input", &input), &output, &Access::default(), &request, &()).unwrap();
        assert_eq!(done.method, format!("components(connectivity={count})"));
    }
}

#[test]
fn predictions_name_their_offsets() {
    let names = ["affinity [-1, 0, 0]", "affinity [0, 3, 0]", "lsd size"].map(str::to_owned);
    assert_eq!(neighborhood_of(&names), Some(vec![vec![-1, 0, 0], vec![0, 3, 0]]));
    assert_eq!(neighborhood_of(&["foreground".to_owned()]), None);
}

#[test]
fn a_sweep_scores_as_if_each_value_were_segmented_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let truth = truth().slice(ndarray::s![..30, ..60, ..60]).to_owned();
    let labels = array(NdData::U64(truth.clone().into_dyn()), None);
    let bytes = predicted(&truth).mapv(|value| (value * 255.0).round() as u8);
    let input = array(NdData::U8(bytes.into_dyn()), Some(6));
    let mutex = |bias| SegmentMethod::MutexWatershed {
        bias_short: bias,
        bias_long: bias,
    };
    let components = |threshold| SegmentMethod::Components {
        threshold: Some(threshold),
        connectivity: Connectivity::Faces,
    };
    let methods: [(SweepMethod, &dyn Fn(f32) -> SegmentMethod); 4] = [
        (SweepMethod::Agglomerate, &SegmentMethod::Agglomerate),
        (SweepMethod::MutexWatershed, &mutex),
        (SweepMethod::Components(Connectivity::Faces), &components),
        (SweepMethod::Threshold, &SegmentMethod::Threshold),
    ];
    for (method, one) in methods {
        let request = SweepRequest {
            method,
            neighborhood: neighborhood(),
            range: ValueRange::UNIT,
            values: vec![0.3, 0.55, 0.9],
            roi: None,
            memory: None,
        };
        let swept = sweep(named("input", &input), named("truth", &labels), &request).unwrap();
        assert_eq!(swept.points.len(), 3);
        let best = swept.best.unwrap();
        for point in &swept.points {
            let found = segments(dir.path(), &input, &self::request(one(point.value), None));
            let score = if method == SweepMethod::Threshold {
                let count = |f: &dyn Fn(bool, bool) -> bool| {
                    let pairs = found.iter().zip(&truth);
                    pairs.filter(|&(&a, &b)| f(a != 0, b != 0)).count() as f64
                };
                2.0 * count(&|a, b| a && b) / (count(&|a, _| a) + count(&|_, b| b))
            } else {
                let test = array(NdData::U64(found.into_dyn()), None);
                let request = EvaluateRequest::default();
                let found = evaluate(named("truth", &labels), named("test", &test), &request, &());
                found.unwrap().scores.voi.unwrap()
            };
            assert_eq!(
                point.scores[swept.criterion],
                Some(score),
                "{method:?} {}",
                point.value
            );
            let of_best = swept.points[best].scores[swept.criterion].unwrap();
            assert!(if swept.higher_is_better {
                score <= of_best
            } else {
                score >= of_best
            });
        }
        let all = sweep(
            named("input", &input),
            named("truth", &labels),
            &SweepRequest {
                values: Vec::new(),
                ..request
            },
        );
        assert!(all.unwrap().points.len() >= 19);
    }
}
