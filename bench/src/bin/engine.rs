//! Times training steps and forward passes of the CPU engine: `engine NETWORK THREADS REPETITIONS [INSTRUCTIONS]`,
//! by default with the best instructions that the CPU has. Prints one JSON object; `run.py` sets it beside PyTorch's.
//! `engine NETWORK onnx FILE` writes the network instead, for onnxruntime.

use std::time::Instant;

use dacapo::nn::{Batch, CpuEngine, Engine, InstructionSet, NetworkSpec, Tensor, export_onnx};
use dacapo_bench::{Measured, cpu_seconds, memory, network};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, threads, repetitions, instructions @ ..] = &arguments[..] else {
        eprintln!("usage: engine NETWORK THREADS REPETITIONS [INSTRUCTIONS]");
        std::process::exit(2);
    };
    let set = match instructions.first() {
        None => InstructionSet::detect(),
        Some(name) => *InstructionSet::available()
            .iter()
            .find(|set| set.name() == name)
            .expect("instructions that this CPU has"),
    };
    let Measured {
        architecture,
        channels,
        batch,
    } = network(name).expect("a network that network() knows");
    if threads == "onnx" {
        let shape = architecture.input_shape.clone();
        let spec = NetworkSpec::new(architecture, channels);
        let network = CpuEngine::new(None).unwrap().build(&spec).unwrap();
        let model = export_onnx(&spec, &network.export().unwrap(), &shape, &Default::default()).unwrap();
        std::fs::write(repetitions, model).unwrap();
        return;
    }
    let (threads, repetitions): (usize, usize) = (threads.parse().unwrap(), repetitions.parse().unwrap());
    let input = architecture.input_shape.clone();
    let output = architecture.output_shape(&input).unwrap();
    let engine = CpuEngine::with_instructions(Some(threads), set).unwrap();
    let mut network = engine.build(&NetworkSpec::new(architecture, channels)).unwrap();
    let tensor = |channels: usize, spatial: &[usize]| {
        let shape = [&[batch, channels], spatial].concat();
        let value = |i: usize| (i * 7919 % 1000) as f32 / 1000.0 - 0.5;
        Tensor::from_vec(&shape, (0..shape.iter().product()).map(value).collect()).unwrap()
    };
    let mut target = tensor(channels, &output);
    let mut weight = target.clone();
    target.data.iter_mut().for_each(|t| *t = f32::from(*t > 0.0));
    weight.data.fill(1.0);
    let data = Batch {
        input: tensor(1, &input),
        target,
        weight,
    };
    let mut predicted = Tensor::default();

    let before = memory("VmRSS");
    network.forward(&data.input, &mut predicted).unwrap();
    let forward_memory = memory("VmHWM") - before;
    network.train_step(&data, 1e-3).unwrap();
    let step_memory = memory("VmHWM") - before;
    let time = |work: &mut dyn FnMut()| {
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        (0..repetitions).for_each(|_| work());
        let n = repetitions as f64;
        (wall.elapsed().as_secs_f64() / n, (cpu_seconds() - cpu) / n)
    };
    let step = time(&mut || {
        network.train_step(&data, 1e-3).unwrap();
    });
    let forward = time(&mut || network.forward(&data.input, &mut predicted).unwrap());
    println!(
        "{}",
        serde_json::json!({
            "step_wall": step.0, "step_cpu": step.1, "forward_wall": forward.0, "forward_cpu": forward.1,
            "step_memory": step_memory, "forward_memory": forward_memory,
        })
    );
}
