//! `dacapo bench`: what this machine does with a network, and how long a volume takes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use dacapo::config::Format;
use dacapo::nn::{Batch, CpuEngine, Device, Engine, LayerProfile, Memory, Network, NetworkSpec, Tensor};
use dacapo::{PIECE_MEMORY, Tiling, load_config, parse_config};
use serde::Serialize;

use crate::context::Context;
use crate::printer::{bytes, table};
use crate::report::misused;
use crate::typed;

/// Measure this machine with a network, in about a minute.
#[derive(Debug, Args)]
#[command(after_help = "\
The peak is what the CPU multiplies at most, without waiting for memory. The share of it that a network reaches counts \
the multiplications that are done, not those that a plain convolution would do. On other devices only time is measured.")]
pub struct Bench {
    /// A run config [default: a U-Net of 92³ voxels, 12/36/108 channels].
    config: Option<PathBuf>,
    /// A volume, in voxels of raw: how long predicting it would take.
    #[arg(long, value_name = "Z,Y,X", value_parser = typed::length, value_delimiter = ',', allow_hyphen_values = true)]
    volume: Vec<usize>,
    /// Show the operations that take the longest in a training step.
    #[arg(long, value_name = "N", default_value_t = 0, num_args = 0..=1, default_missing_value = "20")]
    layers: usize,
    /// Seconds to measure for, about.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
}

/// What is measured without a config.
const DEFAULT: &str =
    "{name: default, num_iterations: 1, task: {kind: affinities}, architecture: {kind: unet},
    data: {train: [{name: none, raw: none.zarr/raw, labels: none.zarr/labels}]}}";
/// Voxels along each axis of a volume that pieces are fitted to without `--volume`.
const LARGE: usize = 1000;
/// Parts of the time in which each part is measured.
const PEAK: f64 = 0.05;
const STEPS: f64 = 0.5;
const PREDICTIONS: f64 = 0.3;
/// Training steps that are looked into.
const PROFILED: usize = 3;

#[derive(Debug, Serialize)]
struct Report {
    device: Device,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_multiplications_per_second: Option<f64>,
    parameters: usize,
    memory: MemoryReport,
    training: Measured,
    prediction: Measured,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<Volume>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Layer>,
}

#[derive(Debug, Serialize)]
struct MemoryReport {
    training: u64,
    prediction: u64,
}

#[derive(Debug, Serialize)]
struct Measured {
    batch: usize,
    input_shape: Vec<usize>,
    output_shape: Vec<usize>,
    /// The median of all.
    seconds: f64,
    repetitions: usize,
    /// Voxels of the output.
    voxels_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    multiplications: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share_of_peak: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Volume {
    shape: Vec<usize>,
    pieces: usize,
    hours: f64,
}

#[derive(Debug, Serialize)]
struct Layer {
    name: String,
    forward_seconds: f64,
    backward_seconds: f64,
    share_of_peak: Option<f64>,
}

/// What is measured.
struct Subject {
    spec: NetworkSpec,
    batch: usize,
    /// Of a prediction.
    block: Vec<usize>,
    /// Voxels of the input that one prediction is worth, along each axis.
    written: Vec<usize>,
}

impl Bench {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        context
            .printer
            .note(format!("measuring, for about {} seconds", self.seconds));
        let report = match context.compute.device {
            Device::Cpu => {
                let engine = context.compute.start_cpu()?;
                self.measure(&engine, Some(&engine), context)?
            }
            _ => self.measure(&*context.engine()?, None, context)?,
        };
        if context.printer.json {
            context.printer.value(&report)?;
        } else {
            print(&report, context)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// `cpu` is the engine as well, where it is ours: it can be looked into.
    fn measure(
        &self,
        engine: &dyn Engine,
        cpu: Option<&CpuEngine>,
        context: &Context,
    ) -> anyhow::Result<Report> {
        let subject = self.subject(engine)?;
        let Subject {
            spec, batch, block, ..
        } = &subject;
        let time = |part: f64| Duration::from_secs_f64(part * f64::from(self.seconds));
        let peak = cpu.map(|cpu| cpu.peak(time(PEAK)));
        let input = spec.architecture.input_shape.clone();
        let Memory { training: memory, .. } = engine.memory(spec, &input, *batch)?;
        let Memory { prediction, .. } = engine.memory(spec, block, 1)?;
        let profile = cpu
            .map(|cpu| cpu.profile(spec, &input, *batch, PROFILED))
            .transpose()?;
        let count =
            |shape: &[usize], batch| cpu.map(|cpu| cpu.multiplications(spec, shape, batch)).transpose();
        let work = |multiplications: Option<u64>| multiplications.zip(peak);
        let mut network = engine.build(spec)?;
        let done = count(&input, *batch)?.map(|ways| ways.iter().sum());
        let training = train(&mut *network, *batch, work(done), time(STEPS))?;
        let done = count(block, 1)?.map(|[forward, _]| forward);
        let predicting = predict(&mut *network, block, work(done), time(PREDICTIONS))?;
        let volume = (!self.volume.is_empty()).then(|| {
            let along = self
                .volume
                .iter()
                .zip(&subject.written)
                .map(|(n, w)| n.div_ceil(*w));
            let pieces: usize = along.product();
            Volume {
                shape: self.volume.clone(),
                pieces,
                hours: pieces as f64 * predicting.seconds / 3600.0,
            }
        });
        Ok(Report {
            device: context.compute.device,
            instructions: cpu.map(|cpu| cpu.instructions().name()),
            threads: cpu.map(CpuEngine::threads),
            peak_multiplications_per_second: peak,
            parameters: spec.architecture.parameters(spec.out_channels())?,
            memory: MemoryReport {
                training: memory,
                prediction,
            },
            training,
            prediction: predicting,
            volume,
            layers: match (profile, peak) {
                (Some(profile), Some(peak)) => slowest(profile, self.layers, peak),
                _ => Vec::new(),
            },
        })
    }

    fn subject(&self, engine: &dyn Engine) -> anyhow::Result<Subject> {
        let config = match &self.config {
            Some(path) => load_config(path, &std::env::current_dir()?)?,
            None => parse_config(DEFAULT, Format::Yaml, Path::new("the default"))?,
        };
        let scale = config.architecture.unet().output_scale();
        let volume = match &self.volume[..] {
            [] => vec![LARGE; scale.len()],
            volume => volume.to_vec(),
        };
        if volume.len() != scale.len() {
            misused!(
                "--volume has {} lengths, and the network has {} axes",
                volume.len(),
                scale.len()
            );
        }
        let whole: Vec<usize> = volume.iter().zip(&scale).map(|(n, s)| n * s).collect();
        let spec = config.network()?;
        let tiling = Tiling::fitted(&config, &spec, &whole, engine, PIECE_MEMORY)?;
        let written = tiling.write_shape();
        Ok(Subject {
            spec,
            batch: config.trainer.batch_size,
            block: tiling.input_shape().to_vec(),
            written: written.iter().zip(&scale).map(|(n, s)| (n / s).max(1)).collect(),
        })
    }
}

fn train(
    network: &mut dyn Network,
    batch: usize,
    work: Option<(u64, f64)>,
    time: Duration,
) -> anyhow::Result<Measured> {
    let spec = network.spec().clone();
    let input = spec.architecture.input_shape.clone();
    let output = network.output_shape(&input)?;
    let shape = |channels: usize, voxels: &[usize]| [&[batch, channels], voxels].concat();
    let mut data = Batch {
        input: values(&shape(spec.architecture.fmaps_in, &input)),
        target: values(&shape(spec.out_channels(), &output)),
        weight: Tensor::zeros(&shape(spec.out_channels(), &output)),
    };
    data.target.data.iter_mut().for_each(|t| *t = f32::from(*t > 0.0));
    data.weight.data.fill(1.0);
    let (seconds, repetitions) = median(time, || Ok(network.train_step(&data, 1e-4).map(drop)?))?;
    Ok(measured(batch, input, output, seconds, repetitions, work))
}

fn predict(
    network: &mut dyn Network,
    block: &[usize],
    work: Option<(u64, f64)>,
    time: Duration,
) -> anyhow::Result<Measured> {
    let input = values(&[&[1, network.spec().architecture.fmaps_in], block].concat());
    let mut predicted = Tensor::default();
    let (seconds, repetitions) = median(time, || Ok(network.forward(&input, &mut predicted)?))?;
    let output = network.output_shape(block)?;
    Ok(measured(1, block.to_vec(), output, seconds, repetitions, work))
}

/// `work`: multiplications, and how many the machine does a second at most.
fn measured(
    batch: usize,
    input_shape: Vec<usize>,
    output_shape: Vec<usize>,
    seconds: f64,
    repetitions: usize,
    work: Option<(u64, f64)>,
) -> Measured {
    let voxels = (batch * output_shape.iter().product::<usize>()) as f64;
    Measured {
        batch,
        input_shape,
        output_shape,
        seconds,
        repetitions,
        voxels_per_second: voxels / seconds,
        multiplications: work.map(|(multiplications, _)| multiplications),
        share_of_peak: work.map(|(multiplications, peak)| multiplications as f64 / seconds / peak),
    }
}

/// Values in -0.5..0.5, the same every time.
fn values(shape: &[usize]) -> Tensor {
    let mut tensor = Tensor::zeros(shape);
    let value = |i: usize| (i * 7919 % 1000) as f32 / 1000.0 - 0.5;
    tensor
        .data
        .iter_mut()
        .enumerate()
        .for_each(|(i, v)| *v = value(i));
    tensor
}

/// The median seconds of what is done again and again for `time`, at least three times and once before, and how often
/// it was done.
fn median(time: Duration, mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<(f64, usize)> {
    work()?;
    let (begin, mut seconds) = (Instant::now(), Vec::new());
    while seconds.len() < 3 || begin.elapsed() < time {
        let start = Instant::now();
        work()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok((seconds[seconds.len() / 2], seconds.len()))
}

fn slowest(mut profile: Vec<LayerProfile>, count: usize, peak: f64) -> Vec<Layer> {
    let seconds = |layer: &LayerProfile| layer.seconds.iter().sum::<f64>();
    profile.sort_by(|a, b| seconds(b).total_cmp(&seconds(a)));
    let layer = |layer: LayerProfile| {
        let done: u64 = layer.multiplications.iter().sum();
        Layer {
            share_of_peak: (done > 0).then(|| done as f64 / seconds(&layer) / peak),
            forward_seconds: layer.seconds[0],
            backward_seconds: layer.seconds[1],
            name: layer.name,
        }
    };
    profile.into_iter().take(count).map(layer).collect()
}

fn print(report: &Report, context: &Context) -> anyhow::Result<()> {
    let printer = &context.printer;
    if let (Some(instructions), Some(threads), Some(peak)) = (
        report.instructions,
        report.threads,
        report.peak_multiplications_per_second,
    ) {
        printer.line(format!(
            "machine   {instructions} on {threads} threads: at most {:.1} G multiplications a second",
            peak * 1e-9
        ))?;
    } else {
        printer.line(format!("machine   {}", report.device))?;
    }
    printer.line(format!(
        "network   {} parameters; {} to train, {} to predict",
        report.parameters,
        bytes(report.memory.training),
        bytes(report.memory.prediction)
    ))?;
    let mut rows = table([
        "",
        "input",
        "output",
        "seconds",
        "voxels/s",
        "G multiplications",
        "of the peak",
    ]);
    for (name, part) in [
        ("training step", &report.training),
        ("prediction", &report.prediction),
    ] {
        rows.add_row([
            match part.batch {
                1 => name.to_owned(),
                batch => format!("{name}, batch {batch}"),
            },
            format!("{:?}", part.input_shape),
            format!("{:?}", part.output_shape),
            format!("{:.4}", part.seconds),
            format!("{:.0}", part.voxels_per_second),
            part.multiplications
                .map_or(String::new(), |done| format!("{:.2}", done as f64 * 1e-9)),
            part.share_of_peak
                .map_or(String::new(), |share| format!("{:.0} %", 100.0 * share)),
        ]);
    }
    printer.line(rows.to_string())?;
    if let Some(volume) = &report.volume {
        printer.line(format!(
            "volume    {:?} voxels: {} pieces, {:.2} hours of prediction, reading and writing not counted",
            volume.shape, volume.pieces, volume.hours
        ))?;
    }
    if !report.layers.is_empty() {
        let mut rows = table(["operation", "forward ms", "backward ms", "of the peak"]);
        for layer in &report.layers {
            rows.add_row([
                layer.name.clone(),
                format!("{:.2}", layer.forward_seconds * 1e3),
                format!("{:.2}", layer.backward_seconds * 1e3),
                layer
                    .share_of_peak
                    .map_or(String::new(), |share| format!("{:.0} %", 100.0 * share)),
            ]);
        }
        printer.line(rows.to_string())?;
    }
    Ok(())
}
