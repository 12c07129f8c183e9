//! `dacapo demo`: a whole run on made-up data.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use dacapo::{TrainOptions, load_config};

use crate::commands::{show, train};
use crate::context::{Context, program, quoted};

/// Make a labelled volume of cells, train a small 3D U-Net for affinities on it, validate, keep everything,
/// and show the result.
#[derive(Debug, Args)]
#[command(after_help = "\
The demo is an ordinary run: its config is DIR/demo.yaml, its data DIR/cells.zarr, its runs DIR/runs. Calling \
it again goes on where it stopped, or only shows the result.")]
pub struct Demo {
    /// Where everything goes.
    #[arg(long, default_value = "dacapo-demo")]
    dir: PathBuf,
    /// Training steps.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(2..))]
    iterations: u64,
    /// Edge of the volume, in voxels.
    #[arg(long, default_value_t = 112, value_parser = clap::value_parser!(u64).range(64..=1024))]
    size: u64,
}

/// The run's name.
const RUN: &str = "demo";

impl Demo {
    /// Runs the command.
    pub fn run(self, context: Context) -> anyhow::Result<ExitCode> {
        let context = if context.base_given {
            context
        } else {
            context.with_base(&self.dir.join("runs").as_path().into())?
        };
        let config = self.dir.join("demo.yaml");
        if config.exists() {
            context
                .printer
                .note(format!("going on with {}", config.display()));
        } else if self.dir.exists() && fs::read_dir(&self.dir)?.next().is_some() {
            anyhow::bail!(
                "{} is there and is no demo; name another directory with --dir",
                self.dir.display()
            );
        } else {
            fs::create_dir_all(&self.dir)?;
            fs::write(&config, self.config())?;
        }
        let run_config = load_config(&config, &std::env::current_dir()?)?;
        let progress = context.progress("predicting")?;
        let code = train::train_run(&context, &run_config, &TrainOptions::default(), progress.as_ref());
        progress.finish();
        let code = code?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
        let files = show::figures(&context, RUN, &self.dir)?;
        if context.printer.json {
            context.printer.value(&serde_json::json!({
                "run": RUN,
                "best": dacapo::best(&context.store, RUN)?,
                "files": files,
            }))?;
            return Ok(code);
        }
        self.report(&context, &config, &files)?;
        Ok(code)
    }

    fn report(&self, context: &Context, config: &Path, files: &[PathBuf]) -> anyhow::Result<()> {
        let printer = &context.printer;
        printer.line("")?;
        show::scores(context, RUN)?;
        for best in dacapo::best(&context.store, RUN)? {
            if best.criterion == "voi" {
                printer.line(format!(
                    "\nbest on {}: iteration {} with {}, VOI {:.4} bits",
                    best.dataset, best.iteration, best.parameters, best.score
                ))?;
            }
        }
        printer.line("\npictures:")?;
        for file in files {
            printer.line(format!("  {}", file.display()))?;
        }
        let dir = quoted(&self.dir.to_string_lossy());
        let dacapo = format!(
            "{} --base {}",
            program(),
            quoted(&context.store.base().to_string())
        );
        printer.line(format!(
            "\nnext, try:\n  {dacapo} show {RUN}\n  {dacapo} predict {RUN} --input {dir}/cells.zarr/raw \
             --output {dir}/predicted.zarr/affinities\n  {dacapo} train {} --as-new mine   (after changing it)",
            quoted(&config.to_string_lossy())
        ))
    }

    /// The run's config, as a user would write it.
    fn config(&self) -> String {
        let Self { iterations, size, .. } = self;
        let interval = (iterations / 4).max(1);
        // The volume is cut along z: two thirds to train on, the rest to validate.
        let extent = size * 8;
        let cut = size * 2 / 3 * 8;
        format!(
            "\
# Written by `dacapo demo`; an ordinary run config to look at and to change.
name: {RUN}
seed: 1
num_iterations: {iterations}

data:
  synthetic: # a made-up volume; data of your own needs no such entry
    container: cells.zarr
    shape: [{size}, {size}, {size}]
    voxel_size: [8, 8, 8] # nm
    cell_diameter: 180
    seed: 1
  train:
    - name: front
      raw: cells.zarr/raw
      labels: cells.zarr/labels
      roi: {{offset: [0, 0, 0], shape: [{cut}, {extent}, {extent}]}} # world units: nm
  validate:
    - name: back
      raw: cells.zarr/raw
      labels: cells.zarr/labels
      roi: {{offset: [{cut}, 0, 0], shape: [{rest}, {extent}, {extent}]}}

task:
  kind: affinities # does a voxel belong to the same cell as the one at this offset?
  neighborhood: [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [-5, 0, 0], [0, -5, 0], [0, 0, -5]]

architecture:
  kind: unet
  input_shape: [32, 32, 32]
  num_fmaps: 8
  fmap_inc_factor: 2
  downsample_factors: [[2, 2, 2], [2, 2, 2]]
  padding: same
  norm: group
  residual: true

trainer:
  optimizer: {{kind: adam_w, learning_rate: 3e-3}}
  schedule: {{warmup: 20, decay: cosine}}
  snapshot_interval: {interval}

validation:
  interval: {interval}
  untrained: true # iteration 0 too, to see what training brought
",
            rest = extent - cut,
        )
    }
}
