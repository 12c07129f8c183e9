//! Runs on voxels of every kind: each trains a few steps, validates, and everything that it keeps lies where it belongs
//! in the world. A marker is put somewhere and looked for.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod common;

use std::path::Path;

use common::run;
use dacapo::config::Format;
use dacapo::{LocalStore, RunConfig, parse_config};
use dacapo_array::storage::Access;
use dacapo_array::{
    ArrayAddress, ArrayRead, ArrayReadExt, ArraySpec, ArrayWrite, Coordinate, CreateOptions, NdData, Roi,
    ZarrArray,
};
use dacapo_store::{ArrayStore, StatsStore};
use ndarray::{ArrayD, IxDyn};
use serde_json::{Value, json};

/// Voxels of one kind, and a network for them.
struct Case {
    /// Size of a voxel of raw.
    raw: &'static str,
    /// Size of a voxel of labels: raw's divided by `finer`.
    finer: usize,
    /// Voxels of raw from the world's origin to the first, along each axis.
    begin: i64,
    /// Voxels of raw along each axis.
    shape: Vec<usize>,
    channels: usize,
    /// The raw voxels that are bright in what is validated on, from its first; so is the object there.
    marker: Vec<(usize, usize)>,
    network: Value,
    /// How far from a voxel of raw a prediction can depend on it, in voxels of raw.
    reach: Vec<i64>,
}

impl Case {
    /// Isotropic voxels, a small valid network that pools once.
    fn volume(raw: &'static str, begin: i64) -> Self {
        Self {
            raw,
            finer: 1,
            begin,
            shape: vec![24, 28, 34],
            channels: 1,
            marker: vec![(11, 13), (13, 15), (18, 20)],
            network: json!({
                "kind": "unet", "input_shape": [28, 28, 28], "num_fmaps": 4, "fmap_inc_factor": 2,
                "downsample_factors": [[2, 2, 2]]
            }),
            reach: vec![9; 3],
        }
    }

    fn size(&self) -> Coordinate {
        serde_json::from_str(self.raw).unwrap()
    }

    fn dims(&self) -> usize {
        self.shape.len()
    }

    fn begin(&self) -> Coordinate {
        Coordinate::from_voxels(&vec![self.begin; self.dims()], &self.size())
    }

    /// A box of raw voxels of what is validated on, in world units.
    fn place(&self, voxels: &[(i64, i64)]) -> Roi {
        let begin: Vec<i64> = voxels.iter().map(|v| v.0).collect();
        let shape: Vec<usize> = voxels.iter().map(|v| (v.1 - v.0) as usize).collect();
        Roi::from_voxels(&begin, &shape, &self.size()).shift(&self.begin())
    }

    fn marker(&self) -> Roi {
        let voxels: Vec<(i64, i64)> = self.marker.iter().map(|&(a, b)| (a as i64, b as i64)).collect();
        self.place(&voxels)
    }

    /// The arrays of the case in `dir`: texture and cells to train on; to validate on all is grey but the marker,
    /// which is bright in the last channel.
    fn write(&self, dir: &Path) {
        let write = |name: &str, size: &Coordinate, channels: Vec<usize>, data: NdData| {
            let voxels = &data.shape()[channels.len()..];
            let roi = Roi::from_voxels(&vec![0; voxels.len()], voxels, size).shift(&self.begin());
            let spec = ArraySpec::new(roi.clone(), size.clone(), data.dtype()).with_channels(channels);
            let address: ArrayAddress = format!("{}/data.zarr/{name}", dir.display()).parse().unwrap();
            let array =
                ZarrArray::create(&address, &Access::default(), &spec, &CreateOptions::default()).unwrap();
            array.write(&roi, &data).unwrap();
        };
        let is_marked = |index: &[usize], factor: usize| {
            index
                .iter()
                .zip(&self.marker)
                .all(|(&i, &(a, b))| (a..b).contains(&(i / factor)))
        };
        for channel in 0..self.channels {
            let texture = |i: IxDyn| {
                let hash = ndarray::Dimension::slice(&i)
                    .iter()
                    .fold(channel + 7, |hash, &n| (hash * 31 + n) * 17 % 1009);
                (hash % 200) as u8 + 20
            };
            write(
                &format!("train/raw{channel}"),
                &self.size(),
                vec![],
                NdData::U8(ArrayD::from_shape_fn(IxDyn(&self.shape), texture)),
            );
            let last = channel + 1 == self.channels;
            let bright = |i: IxDyn| {
                if last && is_marked(ndarray::Dimension::slice(&i), 1) {
                    250
                } else {
                    100
                }
            };
            write(
                &format!("test/raw{channel}"),
                &self.size(),
                vec![],
                NdData::U8(ArrayD::from_shape_fn(IxDyn(&self.shape), bright)),
            );
        }
        let size = &self.size() / &Coordinate::splat(self.dims(), self.finer as i64);
        let shape: Vec<usize> = self.shape.iter().map(|n| n * self.finer).collect();
        let cells = |i: IxDyn| {
            ndarray::Dimension::slice(&i)
                .iter()
                .fold(1, |id, &n| id * 10 + (n / (6 * self.finer)) as u64)
        };
        write(
            "train/labels",
            &size,
            vec![],
            NdData::U64(ArrayD::from_shape_fn(IxDyn(&shape), cells)),
        );
        let object = |i: IxDyn| {
            if is_marked(ndarray::Dimension::slice(&i), self.finer) {
                2
            } else {
                1
            }
        };
        write(
            "test/labels",
            &size,
            vec![],
            NdData::U64(ArrayD::from_shape_fn(IxDyn(&shape), object)),
        );
    }

    fn config(&self, dir: &Path) -> RunConfig {
        let path = |group: &str, name: &str| format!("{}/data.zarr/{group}/{name}", dir.display());
        let dataset = |group: &str| {
            let raw: Vec<String> = (0..self.channels)
                .map(|c| path(group, &format!("raw{c}")))
                .collect();
            let raw = if self.channels == 1 {
                json!(raw[0])
            } else {
                json!({ "concat": raw })
            };
            json!([{ "name": group, "raw": raw, "labels": path(group, "labels") }])
        };
        let neighborhood: Vec<Vec<i64>> = (0..self.dims())
            .map(|axis| (0..self.dims()).map(|a| -i64::from(a == axis)).collect())
            .collect();
        let config = json!({
            "name": "case",
            "num_iterations": 3,
            "data": { "train": dataset("train"), "validate": dataset("test") },
            "task": { "kind": "affinities", "neighborhood": neighborhood, "store_prediction_as": "f32" },
            "architecture": self.network,
            "trainer": {
                "snapshot_interval": 3,
                "augment": {
                    "flips": false, "transposes": false, "intensity_scale": [1.0, 1.0], "intensity_shift": [0.0, 0.0],
                    "noise": 0.0
                }
            },
            "validation": { "interval": 3 }
        });
        parse_config(&config.to_string(), Format::Yaml, Path::new("case.yaml")).unwrap()
    }

    /// Trains, validates, and looks for everything where it belongs.
    fn check(&self) {
        let dir = tempfile::tempdir().unwrap();
        self.write(dir.path());
        let store = LocalStore::new(dir.path().join("runs"));
        let config = self.config(dir.path());
        run(&store, &config, &()).unwrap();
        let scores = store.stats.scores("case").unwrap();
        assert!(scores.iter().any(|score| score.scores["voi"].is_some()));

        // What it was validated on.
        let whole = self.place(&self.shape.iter().map(|&n| (0, n as i64)).collect::<Vec<_>>());
        let (raw, gt) = store
            .arrays
            .validation_input_arrays("case", Some("test"))
            .unwrap();
        let (raw, gt) = (store.arrays.open(&raw).unwrap(), store.arrays.open(&gt).unwrap());
        assert_eq!((&raw.spec().roi, &gt.spec().roi), (&whole, &whole));
        assert_eq!(place_of(&raw, |v| v == 250.0), Some(self.marker()));
        assert_eq!(place_of(&gt, |v| v == 2.0), Some(self.marker()));

        // What it predicted: as everywhere else where it cannot see the marker, and different where it can.
        let identifier = store
            .arrays
            .validation_prediction_array("case", 3, "test")
            .unwrap();
        let prediction = store.arrays.open(&identifier).unwrap();
        assert_eq!(prediction.spec().roi, whole);
        let factors: Vec<i64> = config
            .architecture
            .unet()
            .output_scale()
            .iter()
            .map(|&n| n as i64)
            .collect();
        assert_eq!(
            prediction.spec().voxel_size,
            &self.size() / &Coordinate::new(factors)
        );
        let values: ArrayD<f32> = prediction.read_all().unwrap().cast().unwrap();
        let channels = prediction.spec().channels[0];
        assert_eq!(channels, self.dims());
        let mut seen = Roi::new(whole.offset.clone(), Coordinate::splat(self.dims(), 0));
        for channel in 0..channels {
            let values = values.index_axis(ndarray::Axis(0), channel);
            let far = values[IxDyn(&vec![0; self.dims()])];
            let differs = values.iter().map(|v| (v - far).abs()).fold(0.0, f32::max);
            assert!(
                differs > 1e-4,
                "channel {channel} does not see the marker: {differs}"
            );
            let differs = values.mapv(|v| (v - far).abs() > 1e-6 + 1e-3 * differs);
            seen = seen.union(&box_of(&differs, prediction.spec()).unwrap());
        }
        let reach = Coordinate::from_voxels(&self.reach, &self.size());
        let reached = self.marker().grow(&reach, &reach);
        assert!(reached.contains(&seen), "{seen} reaches past {reached}");
        assert!(
            seen.contains(&self.marker()),
            "{seen} is not around {}",
            self.marker()
        );
        // By less than a voxel: it reaches as far on one side of the marker as on the other.
        let off = &seen.center() - &self.marker().center();
        let voxel = &prediction.spec().voxel_size;
        assert!(
            off.iter()
                .zip(voxel)
                .all(|(off, voxel)| *off < *voxel && -*off < *voxel),
            "{seen} is off by {off}"
        );

        // Outputs lie where predictions do.
        let best = store
            .arrays
            .best_validation_array("case", "voi", Some("test"))
            .unwrap();
        let best = store.arrays.open(&best).unwrap();
        assert_eq!(
            (&best.spec().roi, &best.spec().voxel_size),
            (&whole, &prediction.spec().voxel_size)
        );

        // What it was trained on is what is there.
        let container = store.arrays.snapshot_container("case").unwrap();
        let snapshot = |name: &str| {
            let array = container.array_identifier(&format!("3/volumes/{name}")).unwrap();
            store.arrays.open(&array).unwrap()
        };
        let source = |name: &str| {
            let path = format!("{}/data.zarr/train/{name}", dir.path().display());
            dacapo_array::open_array(&path.parse().unwrap(), &Access::default()).unwrap()
        };
        let shown: ArrayD<f32> = snapshot("raw").read_all().unwrap().cast().unwrap();
        let inside = snapshot("raw").spec().roi.intersect(&source("raw0").spec().roi);
        let last = source(&format!("raw{}", self.channels - 1));
        let expected: ArrayD<f32> = last.read(&inside).unwrap().cast().unwrap();
        let found = snapshot("raw").read(&inside).unwrap().cast::<f32>().unwrap();
        assert!(shown.len() >= found.len());
        let found: Vec<f32> = found.iter().copied().skip(found.len() - expected.len()).collect();
        assert!(
            found
                .iter()
                .zip(&expected)
                .all(|(a, b)| ((a + 0.5) * 255.0 - b).abs() < 1e-3)
        );
        let gt = snapshot("gt");
        let labels = source("labels");
        let mut begin = gt.spec().roi.begin().clone();
        let step = &gt.spec().voxel_size / &Coordinate::splat(self.dims(), 2);
        // The label at the middle of its first voxel.
        begin = begin + &step;
        let at = (&begin - labels.spec().roi.begin()).floor_div(&labels.spec().voxel_size);
        let labels: ArrayD<u64> = labels.read_all().unwrap().cast().unwrap();
        let at: Vec<usize> = at.iter().map(|&n| n as usize).collect();
        let first = gt
            .read_all()
            .unwrap()
            .cast::<u64>()
            .unwrap()
            .iter()
            .next()
            .copied();
        assert_eq!(first, Some(labels[IxDyn(&at)]));
    }
}

/// The smallest box of an array, in world units, that has all voxels that are meant, in any channel.
fn place_of(array: &dyn ArrayRead, is_meant: impl Fn(f64) -> bool) -> Option<Roi> {
    let spec = array.spec();
    let values: ArrayD<f64> = array.read_all().unwrap().cast().unwrap();
    let mut meant = values.mapv(is_meant);
    for _ in &spec.channels {
        meant = meant.map_axis(ndarray::Axis(0), |lane| lane.iter().any(|&m| m));
    }
    box_of(&meant, spec)
}

fn box_of(meant: &ArrayD<bool>, spec: &ArraySpec) -> Option<Roi> {
    let mut bounds: Option<(Vec<usize>, Vec<usize>)> = None;
    for (index, _) in meant.indexed_iter().filter(|(_, meant)| **meant) {
        let at = ndarray::Dimension::slice(&index);
        let (low, high) = bounds.get_or_insert_with(|| (at.to_vec(), at.to_vec()));
        for axis in 0..at.len() {
            low[axis] = low[axis].min(at[axis]);
            high[axis] = high[axis].max(at[axis]);
        }
    }
    let (low, high) = bounds?;
    let begin: Vec<i64> = low.iter().map(|&n| n as i64).collect();
    let shape: Vec<usize> = low.iter().zip(&high).map(|(low, high)| high - low + 1).collect();
    Some(Roi::from_voxels(&begin, &shape, &spec.voxel_size).shift(spec.roi.begin()))
}

#[test]
fn raw_at_8_nm_with_labels_at_4_nm() {
    let mut case = Case::volume("[8, 8, 8]", 3);
    case.finer = 2;
    case.network["upsample_factors"] = json!([[2, 2, 2]]);
    case.reach = vec![10; 3];
    case.check();
    // Predicted at the voxel size of raw, from the same labels.
    let mut case = Case::volume("[8, 8, 8]", -5);
    case.finer = 2;
    case.check();
}

#[test]
fn images_of_two_axes() {
    Case {
        shape: vec![40, 44],
        marker: vec![(19, 21), (24, 26)],
        network: json!({
            "kind": "unet", "input_shape": [28, 28], "num_fmaps": 4, "fmap_inc_factor": 2, "downsample_factors": [[2, 2]]
        }),
        reach: vec![9; 2],
        ..Case::volume("[0.25, 0.25]", 1001)
    }
    .check();
}

#[test]
fn sections_of_40_by_4_by_4_nm_with_flat_kernels() {
    let flat = json!([[1, 3, 3], [1, 3, 3]]);
    Case {
        shape: vec![7, 40, 44],
        marker: vec![(3, 4), (19, 21), (24, 26)],
        network: json!({
            "kind": "unet", "input_shape": [3, 28, 28], "num_fmaps": 4, "fmap_inc_factor": 2,
            "downsample_factors": [[1, 2, 2]], "kernel_size_down": [flat, flat], "kernel_size_up": [flat]
        }),
        // A section knows nothing of the next.
        reach: vec![0, 9, 9],
        ..Case::volume("[40, 4, 4]", 11)
    }
    .check();
}

#[test]
fn raw_of_several_channels() {
    let mut case = Case::volume("[8, 8, 8]", 2);
    case.channels = 3;
    case.network["fmaps_in"] = json!(3);
    case.check();
}

#[test]
fn voxels_of_4_6_nm_far_from_the_origin() {
    Case::volume("[4.6, 4.6, 4.6]", 1_000_003).check();
}
