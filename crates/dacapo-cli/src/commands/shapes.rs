//! `dacapo config shapes`: what a network can be given, what that costs, and what fits here.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use dacapo::load_config;
use serde::Serialize;

use crate::context::Context;
use crate::printer::{bytes, table};

/// List the shapes that a config's network takes: output, context, memory.
#[derive(Debug, Args)]
#[command(after_help = "\
Memory is an estimate of what training and prediction take at their fullest, in bytes; data, caches and the program \
itself come on top. Proposals leave a fifth of the memory that is free now.")]
pub struct Shapes {
    /// A run config, YAML or TOML. Its data need not be there.
    config: PathBuf,
    /// Crops in one batch [default: the config's].
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// The longest input axis to list, in voxels [default: twice the config's].
    #[arg(long, value_name = "VOXELS")]
    most: Option<usize>,
}

/// Lines of the table, about.
const LINES: usize = 24;
/// Share of the free memory that a proposal may take.
const SHARE: f64 = 0.8;

#[derive(Debug, Serialize)]
struct Report {
    parameters: usize,
    batch: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_available: Option<u64>,
    configured: Shape,
    #[serde(skip_serializing_if = "Option::is_none")]
    proposed_to_train: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proposed_to_predict: Option<Vec<usize>>,
    shapes: Vec<Shape>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Shape {
    input: Vec<usize>,
    output: Vec<usize>,
    /// Voxels of the input on each side that are not predicted; half ones where they do not divide.
    context: Vec<f64>,
    memory_training: u64,
    memory_prediction: u64,
}

impl Shapes {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let config = load_config(&self.config, &std::env::current_dir()?)?;
        let spec = config.network()?;
        let unet = &spec.architecture;
        let engine = context.engine()?;
        let batch = self.batch.unwrap_or(config.trainer.batch_size).max(1);
        let scale = unet.output_scale();
        let shape = |input: Vec<usize>, output: Vec<usize>| -> anyhow::Result<Shape> {
            let sides = input.iter().zip(output.iter().zip(&scale));
            Ok(Shape {
                context: sides
                    .map(|(n, (m, s))| (*n as f64 - *m as f64 / *s as f64) / 2.0)
                    .collect(),
                memory_training: engine.memory(&spec, &input, batch)?.training,
                memory_prediction: engine.memory(&spec, &input, 1)?.prediction,
                input,
                output,
            })
        };
        let longest = unet.input_shape.iter().copied().max().unwrap_or(1);
        let all = unet.shapes(self.most.unwrap_or(2 * longest))?;
        let all: Vec<Shape> = all
            .into_iter()
            .map(|(i, o)| shape(i, o))
            .collect::<Result<_, _>>()?;
        let available = engine.free_memory();
        let fits = |memory: fn(&Shape) -> u64| {
            let room = available? as f64 * SHARE;
            let largest = all.iter().rfind(|shape| (memory(shape) as f64) < room);
            largest.map(|shape| shape.input.clone())
        };
        let report = Report {
            parameters: unet.parameters(spec.out_channels())?,
            batch,
            memory_available: available,
            configured: shape(unet.input_shape.clone(), unet.output_shape(&unet.input_shape)?)?,
            proposed_to_train: fits(|shape| shape.memory_training),
            proposed_to_predict: fits(|shape| shape.memory_prediction),
            shapes: all,
        };
        if context.printer.json {
            context.printer.value(&report)?;
        } else {
            print(&report, context)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(report: &Report, context: &Context) -> anyhow::Result<()> {
    let printer = &context.printer;
    let configured = &report.configured;
    printer.line(format!(
        "{} parameters; {:?} voxels in, {:?} out: {} to train with a batch of {}, {} to predict",
        report.parameters,
        configured.input,
        configured.output,
        bytes(configured.memory_training),
        report.batch,
        bytes(configured.memory_prediction)
    ))?;
    let mut rows = table(["input", "output", "context", "to train", "to predict"]);
    let step = report.shapes.len().div_ceil(LINES).max(1);
    // The largest is always among them.
    let first = report.shapes.len().saturating_sub(1) % step;
    let shown = report.shapes.iter().skip(first).step_by(step);
    for shape in shown {
        rows.add_row([
            format!("{:?}", shape.input),
            format!("{:?}", shape.output),
            format!("{:?}", shape.context),
            bytes(shape.memory_training),
            bytes(shape.memory_prediction),
        ]);
    }
    printer.line(rows.to_string())?;
    if let Some(available) = report.memory_available {
        let none = || "none of these".to_owned();
        let shape =
            |shape: &Option<Vec<usize>>| shape.as_ref().map_or_else(none, |shape| format!("{shape:?}"));
        printer.line(format!(
            "{} are free here: the largest of these to train is {}, to predict {}",
            bytes(available),
            shape(&report.proposed_to_train),
            shape(&report.proposed_to_predict)
        ))?;
    }
    Ok(())
}
