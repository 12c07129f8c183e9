//! `dacapo export`: a trained network as a file for other programs.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use dacapo::{ExportFormat, ExportRequest, IterationChoice, export};

use crate::context::Context;
use crate::report::misused;

/// Write a trained network as a file for other programs.
#[derive(Debug, Args)]
#[command(after_help = "\
The name says the format:
  .onnx          network and weights, for onnxruntime and others: `raw` (batch, channels, voxels), of which -0.5 to 0.5
                 is the intensity range, gives `prediction`. The batch may have any size, the voxels are those of
                 --input-shape; what the channels are stands in its metadata
  .safetensors   the weights alone, by the names that PyTorch's modules of the Python DaCapo have

Examples:
  dacapo export my-run -o my.onnx                             the best iteration, the input shape of training
  dacapo export my-run -o big.onnx --input-shape 216,216,216
  dacapo export my-run -o weights.safetensors --iteration latest")]
pub struct Export {
    /// The run.
    run: String,
    /// The file to write: .onnx or .safetensors.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Which checkpoint: a number, best, or latest.
    #[arg(long, default_value_t = IterationChoice::Best, value_name = "N|best|latest")]
    iteration: IterationChoice,
    /// Voxels of the input along each axis, z first [default: those of training].
    #[arg(long, value_name = "Z,Y,X", value_delimiter = ',')]
    input_shape: Option<Vec<usize>>,
    /// Replace a file that is there.
    #[arg(long)]
    overwrite: bool,
}

impl Export {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let format = match self.output.extension().and_then(|e| e.to_str()) {
            Some("onnx") => ExportFormat::Onnx,
            Some("safetensors") => ExportFormat::Safetensors,
            _ => misused!(
                "{}: its name ends neither in .onnx nor in .safetensors",
                self.output.display()
            ),
        };
        if self.output.exists() && !self.overwrite {
            bail!(
                "{} is there already; replace it with --overwrite",
                self.output.display()
            );
        }
        let request = ExportRequest {
            iteration: self.iteration,
            format,
            input_shape: self.input_shape,
        };
        let exported = export(&context.store, &self.run, &request)?;
        // Beside it first, so that a file of this name is whole.
        let mut draft = self.output.clone().into_os_string();
        draft.push(".unfinished");
        std::fs::write(&draft, &exported.bytes)?;
        std::fs::rename(&draft, &self.output)?;
        if context.printer.json {
            context.printer.value(&serde_json::json!({
                "file": self.output.display().to_string(),
                "iteration": exported.iteration,
                "input_shape": exported.input_shape,
                "output_shape": exported.output_shape,
            }))?;
        } else {
            context.printer.line(format!(
                "{}: iteration {}, {:?} voxels in, {:?} out",
                self.output.display(),
                exported.iteration,
                exported.input_shape,
                exported.output_shape
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
