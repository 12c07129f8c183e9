//! `dacapo config`: check one, describe all.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use dacapo::{Plan, check, config_schema, load_config};

use crate::commands::shapes::Shapes;
use crate::context::Context;

/// Check a config, or describe what one can say.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Read a config and everything that it names; print what it comes to. Nothing is written.
    #[command(after_help = "All problems are listed at once, each with the key that it is about.")]
    Check {
        /// A run config, YAML or TOML.
        config: PathBuf,
    },
    /// List the shapes that a config's network takes: output, context, memory.
    Shapes(Shapes),
    /// Print the JSON Schema of run configs, for editors.
    #[command(after_help = "\
In VS Code with the YAML extension:
  dacapo config schema > dacapo.schema.json
and in the first line of the config:
  # yaml-language-server: $schema=dacapo.schema.json")]
    Schema,
}

impl Config {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Check { config } => {
                let config = load_config(&config, &std::env::current_dir()?)?;
                let plan = check(&config, context.store.access())?;
                if context.printer.json {
                    context.printer.value(&describe(&plan))?;
                } else {
                    print(&plan, context)?;
                }
            }
            Self::Shapes(command) => return command.run(context),
            Self::Schema => context.printer.value(&config_schema())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn describe(plan: &Plan) -> serde_json::Value {
    let dataset = |dataset: &dacapo::Dataset| {
        serde_json::json!({
            "name": dataset.name,
            "roi": dataset.roi,
            "voxel_size": dataset.raw.spec().voxel_size,
        })
    };
    serde_json::json!({
        "name": plan.config.name,
        "num_iterations": plan.config.num_iterations,
        "input_shape": plan.shapes.input,
        "output_shape": plan.shapes.output,
        "channels": plan.task.head().channel_names(),
        "train": plan.train.iter().map(dataset).collect::<Vec<_>>(),
        "validate": plan.validate.iter().map(dataset).collect::<Vec<_>>(),
        "parameters": plan.task.parameters().iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn print(plan: &Plan, context: &Context) -> anyhow::Result<()> {
    let printer = &context.printer;
    let head = plan.task.head();
    printer.line(format!("{}: fine", plan.config.name))?;
    printer.line(format!(
        "  network     {:?} voxels in, {:?} out, {} channels",
        plan.shapes.input,
        plan.shapes.output,
        head.channels()
    ))?;
    for (role, datasets) in [("train on", &plan.train), ("validate on", &plan.validate)] {
        for dataset in datasets {
            let size = &dataset.raw.spec().voxel_size;
            printer.line(format!(
                "  {role:<11} {} {} in voxels of {size}",
                dataset.name, dataset.roi
            ))?;
        }
    }
    printer.line(format!(
        "  validation  every {} of {} iterations, {} sets of post-processing parameters",
        plan.config.validation.interval,
        plan.config.num_iterations,
        plan.task.parameters().len()
    ))
}
