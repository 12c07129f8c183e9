//! Batches a second of the training sampler, with all that a config asks for: `sampler CONFIG BATCHES WORKERS`.

use std::path::Path;
use std::time::Instant;

use dacapo::{Plan, Sampler, load_config, with_batches};
use dacapo_bench::cpu_seconds;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, config, batches, workers] = &arguments[..] else {
        eprintln!("usage: sampler CONFIG BATCHES WORKERS");
        std::process::exit(2);
    };
    let (batches, workers): (u64, usize) = (batches.parse().unwrap(), workers.parse().unwrap());
    let config = load_config(Path::new(config), &std::env::current_dir().unwrap()).unwrap();
    let plan = Plan::open(&config, &dacapo::array::storage::Access::default()).unwrap();
    let sampler = Sampler::new(&plan);
    // The first batches read the data.
    (1..4).for_each(|i| drop(sampler.batch(i).unwrap()));
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let voxels = with_batches(&sampler, 4, 4 + batches, workers, |made| {
        let mut voxels = 0;
        for batch in made {
            voxels += batch?.tensors.input.data.len();
        }
        Ok(voxels)
    })
    .unwrap();
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!(
        "{}",
        serde_json::json!({
            "batches_per_second": batches as f64 / wall,
            "cpu_ms_per_batch": 1000.0 * cpu / batches as f64,
            "cpu_ns_per_voxel": 1e9 * cpu / voxels as f64,
        })
    );
}
