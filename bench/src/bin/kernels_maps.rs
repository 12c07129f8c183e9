//! Times work on maps and targets: `kernels_maps CASE FILE Z Y X THREADS`. Prints one JSON object; `kernels_maps.py`
//! sets it beside NumPy's and lsds'.
//!
//! Cases: `argmax` of 4 channels, `threshold` and `quantise` of one, with FILE raw f32 (channels, z, y, x); `lsds`, with
//! a sigma of 10 voxels, with FILE labels as raw u64.

use std::time::Instant;

use dacapo_bench::{cpu_seconds, memory};
use dacapo_kernels::{LsdOptions, ValueRange, argmax, local_shape_descriptors, quantise, threshold};
use ndarray::{Array3, Array4, Axis};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, case, file, z, y, x, threads] = &arguments[..] else {
        eprintln!("usage: kernels_maps CASE FILE Z Y X THREADS");
        std::process::exit(2);
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.parse().unwrap())
        .build_global()
        .unwrap();
    let [z, y, x]: [usize; 3] = [z, y, x].map(|n| n.parse().unwrap());
    let bytes = std::fs::read(file).unwrap();
    let mut work: Box<dyn FnMut() -> usize> = if case == "lsds" {
        let labels = bytes
            .chunks_exact(8)
            .map(|b| u64::from_le_bytes(b.try_into().unwrap()));
        let labels = Array3::from_shape_vec((z, y, x), labels.collect()).unwrap();
        let options = LsdOptions {
            dims: 3,
            spacing: [1.0; 3],
            sigma: 10.0,
            downsample: 1,
        };
        Box::new(move || {
            let found = local_shape_descriptors(labels.view(), [0..z, 0..y, 0..x], &options);
            std::hint::black_box(found.unwrap()).len()
        })
    } else {
        let values = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        let values: Vec<f32> = values.collect();
        let channels = values.len() / (z * y * x);
        let values = Array4::from_shape_vec((channels, z, y, x), values).unwrap();
        let case = case.clone();
        Box::new(move || {
            let first = values.index_axis(Axis(0), 0);
            match case.as_str() {
                "argmax" => std::hint::black_box(argmax(values.view()).unwrap()).len(),
                "threshold" => std::hint::black_box(threshold(first, 0.5)).len(),
                _ => std::hint::black_box(quantise(first, ValueRange::UNIT)).len(),
            }
        })
    };
    // From here on the peak is that of the kernel.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = memory("VmRSS");
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let mut times = 0;
    // The clock of the process ticks a hundred times a second.
    while times == 0 || wall.elapsed().as_secs_f64() < 1.0 {
        work();
        times += 1;
    }
    let each = |seconds: f64| seconds / f64::from(times);
    let (wall, cpu) = (each(wall.elapsed().as_secs_f64()), each(cpu_seconds() - cpu));
    let memory = (memory("VmHWM") - before).max(0.0);
    println!(
        "{}",
        serde_json::json!({"wall": wall, "cpu": cpu, "memory": memory})
    );
}
