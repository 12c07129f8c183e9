//! `dacapo predict`: apply a trained network to an array.

use std::process::ExitCode;

use clap::Args;
use dacapo::array::{ArrayAddress, Roi, ZarrFormat};
use dacapo::{IterationChoice, PIECE_MEMORY, PredictRequest, predict};

use crate::context::Context;
use crate::placing::Placing;
use crate::typed;

/// Predict any array with a trained network, block by block.
#[derive(Debug, Args)]
#[command(after_help = "\
The input is named as raw in a config: container.zarr/dataset, container.n5/dataset, file.h5/dataset, a .tif, .png, .npy, \
or a folder of slices; Zarr and N5 also of s3:// and https://. What its file does not say of its place, options say.

Examples:
  dacapo predict my-run --input big.zarr/raw --output out.zarr/affinities --roi 0:1000,0:2000,0:2000
  dacapo predict my-run --input stack.tif --voxel-size 40,4,4 --units nm --output out.zarr/affinities")]
pub struct Predict {
    /// The run's name.
    run: String,
    /// The raw array.
    #[arg(long, value_name = "ARRAY")]
    input: String,
    #[command(flatten)]
    placing: Placing,
    /// The array to make, as container.zarr/dataset.
    #[arg(long, value_name = "ARRAY")]
    output: ArrayAddress,
    /// Which checkpoint: an iteration, `best` or `latest`.
    #[arg(long, value_name = "N|best|latest", default_value = "best")]
    iteration: IterationChoice,
    /// The part to predict, in world units, as begin:end for each axis [default: all].
    #[arg(long, value_name = "Z:Z,Y:Y,X:X", value_parser = typed::roi, allow_hyphen_values = true)]
    roi: Option<Roi>,
    /// Memory that predicting may take, in GB [default: 1]. Where a network has valid padding and no norm over its input, larger pieces
    /// give the same in less time.
    #[arg(long, value_name = "GB", value_parser = typed::gigabytes)]
    memory: Option<u64>,
    /// Replace the output if it is there.
    #[arg(long)]
    overwrite: bool,
    /// Version of Zarr to write. Version 3 keeps many chunks in a file; some programs read only version 2.
    #[arg(long, value_name = "2|3", default_value = "3", value_parser = typed::format)]
    format: ZarrFormat,
}

impl Predict {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let request = PredictRequest {
            input: self.placing.source(&self.input),
            output: self.output,
            iteration: self.iteration,
            roi: self.roi,
            overwrite: self.overwrite,
            memory: self.memory.unwrap_or(PIECE_MEMORY),
            format: self.format,
        };
        let progress = context.progress("predicting")?;
        let done = predict(
            &context.store,
            &self.run,
            &request,
            &*context.engine()?,
            progress.as_ref(),
        );
        progress.finish();
        let done = done?;
        let output = request.output.to_string();
        if context.printer.json {
            context.printer.value(&serde_json::json!({
                "output": output,
                "iteration": done.iteration,
                "roi": done.roi,
                "shape": done.shape,
            }))?;
        } else {
            context.printer.line(format!(
                "{output}: {:?} at {}, by iteration {}",
                done.shape, done.roi, done.iteration
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
