//! Times distances: `kernels_distance CASE FILE Z Y X THREADS`, with FILE labels as raw u64. Prints one JSON object;
//! `kernels_distance.py` sets it beside edt's and SciPy's.
//!
//! Cases: `labels`, `mask` (what is not at a border between labels), `far` (a mask of all labels: hardly any background
//! in dense segmentations), `anisotropic` (labels, 4 × 1 × 1), `border` (labels), `signed` (to the faces between labels).

use std::time::Instant;

use dacapo_bench::{cpu_seconds, memory};
use dacapo_kernels::{DistanceOptions, distance_transform, signed_distance};
use ndarray::{Array3, Axis, Slice, Zip};

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
    let labels = bytes
        .chunks_exact(8)
        .map(|b| u64::from_le_bytes(b.try_into().unwrap()));
    let labels = Array3::from_shape_vec(shape, labels.collect()).unwrap();
    drop(bytes);
    let mask = match case.as_str() {
        "far" => labels.mapv(|label| label != 0),
        _ => inside(&labels),
    };
    let mut options = DistanceOptions::default();
    if case == "anisotropic" {
        options.spacing = [4.0, 1.0, 1.0];
    }
    options.border = [case == "border"; 3];
    // From here on the peak is that of the kernel.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = memory("VmRSS");
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let found = match case.as_str() {
        "mask" | "far" => distance_transform(mask.view(), &options),
        "signed" => signed_distance(labels.view(), options.spacing),
        _ => distance_transform(labels.view(), &options),
    };
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let memory = (memory("VmHWM") - before).max(0.0);
    std::hint::black_box(found.unwrap());
    println!(
        "{}",
        serde_json::json!({"wall": wall, "cpu": cpu, "memory": memory})
    );
}

/// Voxels whose next ones along each axis have the same label.
fn inside(labels: &Array3<u64>) -> Array3<bool> {
    let mut inside = labels.mapv(|label| label != 0);
    for axis in 0..3 {
        let count = labels.shape()[axis] - 1;
        let (p, q) = (Slice::from(..count), Slice::from(1..));
        Zip::from(inside.slice_axis_mut(Axis(axis), p))
            .and(labels.slice_axis(Axis(axis), p))
            .and(labels.slice_axis(Axis(axis), q))
            .for_each(|inside, p, q| *inside &= p == q);
    }
    inside
}
