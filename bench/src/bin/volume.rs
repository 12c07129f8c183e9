//! Predicts a volume out of the store and into it: `volume NETWORK THREADS LENGTH DIR [GIGABYTES]`, with pieces as large
//! as is best within so much memory. What is predicted, by a network that was trained for a step, are made-up cells of
//! `LENGTH`³ voxels. Prints one JSON object; `torch_volume.py` predicts the same pieces.

use std::path::Path;
use std::time::Instant;

use dacapo::config::Format;
use dacapo::nn::CpuEngine;
use dacapo::{
    IterationChoice, LocalStore, PIECE_MEMORY, PredictRequest, Tiling, TrainOptions, parse_config, predict,
    train,
};
use dacapo_bench::{Measured, cpu_seconds, memory, network};
use serde_json::json;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, threads, length, dir, gigabytes @ ..] = &arguments[..] else {
        eprintln!("usage: volume NETWORK THREADS LENGTH DIR [GIGABYTES]");
        std::process::exit(2);
    };
    let (threads, length): (usize, usize) = (threads.parse().unwrap(), length.parse().unwrap());
    let bytes = gigabytes
        .first()
        .map(|number| number.parse::<f64>().unwrap() * 1e9);
    let bytes = bytes.map_or(PIECE_MEMORY, |bytes| bytes as u64);
    let Measured {
        architecture,
        channels,
        ..
    } = network(name).expect("a network that network() knows");
    let cells = format!("{dir}/cells-{length}.zarr");
    let (raw, labels) = (format!("{cells}/raw"), format!("{cells}/labels"));
    let offsets: Vec<[usize; 3]> = (1..=channels).map(|step| [0, 0, step]).collect();
    let mut unet = serde_json::to_value(&architecture).unwrap();
    unet["kind"] = "unet".into();
    let config = json!({
        "name": format!("{name}-{length}"), "num_iterations": 1, "architecture": unet,
        "task": {"kind": "affinities", "neighborhood": offsets},
        "data": {
            "synthetic": {
                "container": cells, "shape": [length, length, length], "voxel_size": [8, 8, 8], "cell_diameter": 160, "seed": 1
            },
            "train": [{"name": "cells", "raw": raw, "labels": labels}],
        },
    });
    let config = parse_config(&config.to_string(), Format::Yaml, Path::new("config")).unwrap();
    let store = LocalStore::new(Path::new(dir).join("runs"));
    let engine = CpuEngine::new(Some(threads)).unwrap();
    train(&store, &config, &engine, &(), &TrainOptions::default()).unwrap();

    let request = PredictRequest {
        input: raw.into(),
        output: format!("{dir}/predicted.zarr/{name}").parse().unwrap(),
        iteration: IterationChoice::Latest,
        roi: None,
        overwrite: true,
        memory: bytes,
        format: dacapo::array::ZarrFormat::V3,
    };
    let tiling = Tiling::fitted(&config, &config.network().unwrap(), &[length; 3], &engine, bytes).unwrap();
    let before = memory("VmRSS");
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    predict(&store, &config.name, &request, &engine, &()).unwrap();
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let voxels = length.pow(3) as f64;
    println!(
        "{}",
        json!({
            "wall": wall, "cpu": cpu, "memory": memory("VmHWM") - before, "voxels_per_second": voxels / wall,
            "input": tiling.input_shape(), "written": tiling.write_shape(),
        })
    );
}
