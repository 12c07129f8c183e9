//! Times distances: `kernels_distance CASE FILE Z Y X THREADS`, with FILE labels as raw u64. Prints one JSON object;
//! `kernels_distance.py` sets it beside edt's and SciPy's.
//!
//! Cases: `labels`, `mask`, `anisotropic` (labels, 4 × 1 × 1), `border` (labels), `signed` (to the faces between
//! labels).

use std::time::Instant;

use dacapo_bench::{cpu_seconds, memory};
use dacapo_kernels::{DistanceOptions, distance_transform, signed_distance};
use ndarray::Array3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, case, file, z, y, x, threads] = &arguments[..] else {
        eprintln!("usage: kernels_distance CASE FILE Z Y X THREADS");
        std::process::exit(2);
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.parse().unwrap())
        .build_global()
        .unwrap();
    let shape: [usize; 3] = [z, y, x].map(|n| n.parse().unwrap());
    let bytes = std::fs::read(file).unwrap();
    let labels = bytes.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap()));
    let labels = Array3::from_shape_vec(shape, labels.collect()).unwrap();
    drop(bytes);
    let mask = labels.mapv(|label| label != 0);
    let mut options = DistanceOptions::default();
    if case == "anisotropic" {
        options.spacing = [4.0, 1.0, 1.0];
    }
    options.border = [case == "border"; 3];
    let before = memory("VmRSS");
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let found = match case.as_str() {
        "mask" => distance_transform(mask.view(), &options),
        "signed" => signed_distance(labels.view(), options.spacing),
        _ => distance_transform(labels.view(), &options),
    };
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let memory = memory("VmHWM") - before;
    std::hint::black_box(found.unwrap());
    println!("{}", serde_json::json!({"wall": wall, "cpu": cpu, "memory": memory}));
}
