//! Times the segmentation kernels: `kernels_segmentation OP DIR THREADS`. Prints one JSON object; `segmentation.py` sets
//! it beside that of `segmentation_peers.py`, which makes the data in DIR.

use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use dacapo::tasks::{
    AffinitiesTaskConfig, Annotation, ClassConfig, ClassWeights, DistanceTaskConfig, HotDistanceTaskConfig,
    InnerDistanceTaskConfig, OneHotTaskConfig, Targets, TaskConfig,
};
use dacapo_bench::{cpu_seconds, memory};
use dacapo_kernels::{affinities as affinities_of, fragments as fragments_of, *};
use ndarray::{Array3, Array4};

const EDGE: usize = 128;
const LARGE: usize = 384;
const CHANNELS: usize = 12;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, op, dir, threads] = &arguments[..] else {
        eprintln!("usage: kernels_segmentation OP DIR THREADS");
        std::process::exit(2);
    };
    let threads = threads.parse().unwrap();
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .unwrap();
    let (run, voxels) = prepare(op, Path::new(dir));
    // From here on the peak is that of the kernel.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = memory("VmRSS");
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    run();
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let memory = (memory("VmHWM") - before).max(0.0);
    println!(
        "{}",
        serde_json::json!({"wall": wall, "cpu": cpu, "voxels": voxels, "memory": memory})
    );
}

fn offsets() -> Vec<Offset> {
    let axis = |n: i64, axis: usize| std::array::from_fn(|a| if a == axis { -n } else { 0 });
    [1, 3, 9, 27]
        .iter()
        .flat_map(|&n| (0..3).map(move |a| axis(n, a)))
        .collect()
}

/// Distances are learned as tanh(d / scale); from so many voxels on they are as good as any larger one.
const SCALE: f64 = 10.0;
const CONTEXT: usize = 12;

fn targets(task: &TaskConfig, labels: &Array3<u64>) -> Targets {
    let known = Array3::from_elem(labels.raw_dim(), true);
    let annotation = Annotation {
        labels: labels.view(),
        known: known.view(),
        voxel_size: [1.0; 3],
    };
    task.build(3).unwrap().targets(annotation).unwrap()
}

/// Clocks tick in hundredths of a second: what is quick is done so many times.
const OFTEN: usize = 50;

fn often<T>(run: impl Fn() -> T) {
    (0..OFTEN).for_each(|_| drop(std::hint::black_box(Box::new(run()))));
}

fn prepare(op: &str, dir: &Path) -> (Box<dyn FnOnce()>, usize) {
    let bytes = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let ids = |name: &str, edge: usize| -> Array3<u64> {
        let values = bytes(name)
            .as_chunks()
            .0
            .iter()
            .map(|&b| u64::from_le_bytes(b))
            .collect();
        Array3::from_shape_vec((edge, edge, edge), values).unwrap()
    };
    let floats = |name: &str| -> Vec<f32> {
        bytes(name)
            .as_chunks()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b))
            .collect()
    };
    let cube = (EDGE, EDGE, EDGE);
    let many = (CHANNELS, EDGE, EDGE, EDGE);
    let affinities = || Array4::from_shape_vec(many, floats("affinities.bin")).unwrap();
    let affinities_u8 = || Array4::from_shape_vec(many, bytes("affinities_u8.bin")).unwrap();
    let inside = || {
        let boundary = if op.ends_with("-predicted") {
            "predicted_u8.bin"
        } else {
            "boundary_u8.bin"
        };
        Array3::from_shape_vec(cube, bytes(boundary))
            .unwrap()
            .mapv(|boundary| 255 - boundary)
    };
    let labels = || ids("labels.bin", EDGE);
    let fragments = || ids("fragments.bin", EDGE);
    let groups: [usize; CHANNELS] = std::array::from_fn(|channel| usize::from(channel >= 6));
    let short = || affinities().slice(ndarray::s![..6, .., .., ..]).to_owned();
    let small = EDGE.pow(3);
    // What is made counts as used.
    macro_rules! timed {
        ($voxels:expr, $run:expr) => {
            (
                Box::new(move || drop(std::hint::black_box(Box::new($run)))),
                $voxels,
            )
        };
    }
    match op {
        "contingency" => {
            let (a, b) = (labels(), fragments());
            let run = move || ContingencyTable::new(a.view(), b.view()).unwrap().voi();
            timed!(OFTEN * small, often(run))
        }
        "contingency-large" => {
            let (a, b) = (ids("labels_large.bin", LARGE), ids("fragments_large.bin", LARGE));
            timed!(
                LARGE.pow(3),
                ContingencyTable::new(a.view(), b.view()).unwrap().voi()
            )
        }
        "relabel" => {
            let mut labels = ids("fragments_large.bin", LARGE);
            timed!(LARGE.pow(3), relabel_in_place(labels.view_mut()))
        }
        "unique" => {
            let labels = ids("fragments_large.bin", LARGE);
            timed!(LARGE.pow(3), unique(labels.view()))
        }
        "remap" => {
            let mut labels = ids("fragments_large.bin", LARGE);
            let pairs: Vec<_> = unique(labels.view())
                .iter()
                .map(|&(id, _)| (id, id % 1000))
                .collect();
            let map = Remap::new(pairs, Unlisted::Refuse);
            timed!(LARGE.pow(3), map.apply(labels.view_mut()).unwrap())
        }
        "components-6" | "components-26" => {
            let labels = ids("labels_large.bin", LARGE);
            let connectivity = Connectivity::from_neighbors(op[11..].parse().unwrap()).unwrap();
            timed!(
                LARGE.pow(3),
                connected_components::<_, u32>(labels.view(), connectivity).unwrap()
            )
        }
        "components-into-6" | "components-into-26" => {
            let labels = ids("labels_large.bin", LARGE);
            let connectivity = Connectivity::from_neighbors(op[16..].parse().unwrap()).unwrap();
            let mut numbers = Array3::from_elem(labels.raw_dim(), 1u32);
            let mut run = move || {
                connected_components_into(labels.view(), connectivity, numbers.view_mut()).unwrap();
                numbers[[0; 3]]
            };
            timed!(LARGE.pow(3), run())
        }
        "affinities" => {
            let labels = labels();
            timed!(
                small,
                affinities_of(labels.view(), &offsets(), Background::Nothing).unwrap()
            )
        }
        "weights" => {
            let labels = labels();
            let task = TaskConfig::Affinities(AffinitiesTaskConfig {
                neighborhood: offsets().iter().map(|offset| offset.to_vec()).collect(),
                ..AffinitiesTaskConfig::default()
            });
            // Targets are of what has all of its neighbours in the labels.
            timed!((EDGE - 27).pow(3), targets(&task, &labels))
        }
        "signed" | "inner" | "hot" => {
            let labels = labels();
            let (instances, scale, mask_distances) = (true, SCALE, false);
            let task = match op {
                "signed" => TaskConfig::Distance(DistanceTaskConfig {
                    instances,
                    scale,
                    mask_distances,
                    ..DistanceTaskConfig::default()
                }),
                "inner" => TaskConfig::InnerDistance(InnerDistanceTaskConfig {
                    instances,
                    scale,
                    mask_distances,
                    ..InnerDistanceTaskConfig::default()
                }),
                _ => TaskConfig::HotDistance(HotDistanceTaskConfig {
                    instances,
                    scale,
                    mask_distances,
                    ..HotDistanceTaskConfig::default()
                }),
            };
            timed!((EDGE - 2 * CONTEXT).pow(3), targets(&task, &labels))
        }
        "one-hot" => {
            let labels = labels().mapv(|label| label % 4);
            let class = |id: u64| ClassConfig {
                name: format!("of_{id}"),
                ids: vec![id],
            };
            let task = TaskConfig::OneHot(OneHotTaskConfig {
                classes: (1..4).map(class).collect(),
                weights: ClassWeights::Uniform,
                ..OneHotTaskConfig::default()
            });
            timed!(OFTEN * small, often(|| targets(&task, &labels)))
        }
        "fragments" => {
            let affinities = affinities().slice(ndarray::s![..3, .., .., ..]).to_owned();
            let parameters = FragmentParameters::default();
            timed!(
                small,
                fragments_of(affinities.view(), &offsets()[..3], None, &parameters).unwrap()
            )
        }
        "watershed-u8-large" | "watershed-f32-large" => {
            let height = Array3::from_shape_vec((LARGE, LARGE, LARGE), floats("boundary_large.bin")).unwrap();
            let bytes = height.mapv(|height| (height * 255.0).round() as u8);
            let seeds = ids("seeds_large.bin", LARGE);
            let is_u8 = op.contains("u8");
            let run = move || match is_u8 {
                true => watershed(bytes.view(), seeds.view(), None, Connectivity::Faces).unwrap(),
                false => watershed(height.view(), seeds.view(), None, Connectivity::Faces).unwrap(),
            };
            timed!(LARGE.pow(3), run())
        }
        "watershed-u8" => {
            let height = Array3::from_shape_vec(cube, bytes("boundary_u8.bin")).unwrap();
            let seeds = ids("seeds.bin", EDGE);
            timed!(
                small,
                watershed(height.view(), seeds.view(), None, Connectivity::Faces).unwrap()
            )
        }
        "watershed-f32" | "watershed-saturated" => {
            let name = if op == "watershed-f32" {
                "boundary.bin"
            } else {
                "saturated.bin"
            };
            let height = Array3::from_shape_vec(cube, floats(name)).unwrap();
            let seeds = ids("seeds.bin", EDGE);
            timed!(
                small,
                watershed(height.view(), seeds.view(), None, Connectivity::Faces).unwrap()
            )
        }
        "mutex-f32" => {
            let affinities = affinities();
            let run =
                move || mutex_watershed(affinities.view(), &offsets(), &[0.5; CHANNELS], None, None).unwrap();
            timed!(small, run())
        }
        "mutex-u8" => {
            let affinities = affinities_u8();
            let run =
                move || mutex_watershed(affinities.view(), &offsets(), &[0.5; CHANNELS], None, None).unwrap();
            timed!(small, run())
        }
        "mutex-sort" => {
            let affinities = affinities();
            timed!(
                small,
                MutexEdges::new(affinities.view(), &offsets(), &groups, None, None).unwrap()
            )
        }
        "mutex-9-biases" => {
            let affinities = affinities();
            let run = move || {
                let edges = MutexEdges::new(affinities.view(), &offsets(), &groups, None, None).unwrap();
                for (short, long) in [0.4, 0.5, 0.6]
                    .iter()
                    .flat_map(|&a| [0.4, 0.5, 0.6].map(|b| (a, b)))
                {
                    std::hint::black_box(edges.segment(&[short, long]).unwrap());
                }
            };
            timed!(small, run())
        }
        "contacts" => {
            let (fragments, affinities) = (fragments(), short());
            let run = move || {
                ContactGraph::<MeanAffinity>::new(fragments.view(), affinities.view(), &offsets()[..6])
            };
            timed!(small, run().unwrap())
        }
        "agglomerate" | "agglomerate-50" => {
            let (fragments, affinities) = (fragments(), short());
            let count = if op.ends_with("50") { 50 } else { 1 };
            let run = move || {
                let graph = ContactGraph::new(fragments.view(), affinities.view(), &offsets()[..6]).unwrap();
                let history = MergeHistory::new(&graph, MeanAffinity::mean, MergeLimits::default()).unwrap();
                for threshold in 0..count {
                    let threshold = if count == 1 {
                        0.5
                    } else {
                        f64::from(threshold) / 50.0
                    };
                    std::hint::black_box(history.segments(threshold).unwrap());
                }
            };
            timed!(small, run())
        }
        "merge" | "merge-50" => {
            let fragments = fragments();
            let volume = Mutex::new(fragments.clone());
            let affinities = affinities().slice(ndarray::s![..3, .., .., ..]).to_owned();
            let thresholds: Vec<f64> = match op {
                "merge" => vec![0.5],
                _ => (1..=50).map(|step| 1.0 - f64::from(step) / 51.0).collect(),
            };
            let run = move || {
                let graph = ContactGraph::new(fragments.view(), affinities.view(), &offsets()[..3]).unwrap();
                let history = MergeHistory::new(&graph, MeanAffinity::mean, MergeLimits::default()).unwrap();
                // In place, as waterz does it.
                let mut segments = volume.lock().unwrap();
                segments.assign(&fragments);
                for &threshold in &thresholds {
                    let merged = history.segments(threshold).unwrap();
                    merged.apply(std::hint::black_box(segments.view_mut())).unwrap();
                }
            };
            match op {
                "merge" => timed!(OFTEN * small, often(run)),
                _ => timed!(small, run()),
            }
        }
        "size-filter" => {
            let mut labels = ids("fragments_large.bin", LARGE);
            timed!(LARGE.pow(3), size_filter(labels.view_mut(), 500, u64::MAX))
        }
        "components-1" | "components-1-predicted" => {
            let (prediction, truth) = (inside(), labels());
            let run = move || {
                let above = prediction.mapv(|value| value > 127);
                let segments: Array3<u64> = connected_components(above.view(), Connectivity::Faces).unwrap();
                let mut table = ContingencyTable::new(truth.view(), segments.view()).unwrap();
                table.retain(|overlap| overlap.truth != 0);
                table.voi()
            };
            timed!(OFTEN * small, often(run))
        }
        "components-50" | "components-50-predicted" => {
            let (prediction, truth) = (inside(), labels());
            let run = move || {
                let thresholds: Vec<u8> = (0..50).map(|i| 5 * i + 2).collect();
                let (rules, faces) = (SweepRules::default(), Connectivity::Faces);
                component_sweep(prediction.view(), truth.view(), &thresholds, faces, rules).unwrap()
            };
            timed!(OFTEN * small, often(run))
        }
        "dice-1" => {
            let (prediction, truth) = (inside(), labels().mapv(|id| id % 2 == 0));
            let run = move || {
                ndarray::Zip::from(std::hint::black_box(&prediction))
                    .and(&truth)
                    .fold([0u64; 3], |[both, predicted, set], &p, &t| {
                        let p = p > 127;
                        [
                            both + u64::from(p && t),
                            predicted + u64::from(p),
                            set + u64::from(t),
                        ]
                    })
            };
            timed!(OFTEN * small, often(run))
        }
        "dice-256" => {
            let (prediction, truth) = (inside(), labels().mapv(|id| id % 2 == 0));
            let run = move || {
                ThresholdCounts::new(prediction.view(), truth.view(), None)
                    .unwrap()
                    .best(Agreement::dice)
            };
            timed!(OFTEN * small, often(run))
        }
        _ => panic!("no operation {op}"),
    }
}
