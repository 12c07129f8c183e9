//! `dacapo config`: check one, describe all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use dacapo::original::{Imported, import};
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
    /// Turn run configs of the Python DaCapo into ours, and say what cannot be carried over.
    #[command(after_help = "\
Examples:
  dacapo config import old/configs/runs/a.yaml -o a.yaml      one config
  dacapo config import old --data /data -o configs            all of a base directory, a file for each in configs;
                                                              `x.zarr` in them is /data/x.zarr

`dacapo arrays adopt` takes over the runs themselves: losses, scores, checkpoints, arrays.")]
    Import {
        /// A run config in YAML, a base directory of the Python DaCapo, or a folder of run configs.
        #[arg(value_name = "FILE|DIR")]
        from: PathBuf,
        /// Where to write: a file, or, of several configs, a folder [default: standard output].
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// The directory that relative paths in them begin in [default: where they are, or a directory above].
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
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
            Self::Import { from, output, data } => {
                return import_configs(&from, output.as_deref(), data.as_deref(), context);
            }
            Self::Schema => context.printer.value(&config_schema())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Translates, writes, and says of each what it could not carry over.
fn import_configs(
    from: &Path,
    output: Option<&Path>,
    data: Option<&Path>,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let printer = &context.printer;
    let imported = import(from, data)?;
    let mut failed = 0;
    let into_folder = imported.len() > 1 || output.is_some_and(Path::is_dir);
    if let Some(folder) = output.filter(|_| into_folder) {
        fs::create_dir_all(folder)?;
    }
    for Imported {
        run,
        config,
        notes,
        problems,
    } in &imported
    {
        for note in notes {
            printer.warn(format!("{run}: {note}"));
        }
        let Some(config) = config else {
            failed += 1;
            for problem in problems {
                printer.warn(format!("{run} cannot be imported: {problem}"));
            }
            continue;
        };
        match output {
            _ if printer.json => {}
            Some(output) => {
                let path = if into_folder {
                    output.join(format!("{run}.yaml"))
                } else {
                    output.to_owned()
                };
                if path.exists() {
                    bail!("{} is there already", path.display());
                }
                fs::write(&path, config.to_yaml()?)?;
                printer.note(format!("wrote {}", path.display()));
            }
            None => {
                if imported.len() > 1 {
                    printer.line("---")?;
                }
                printer.line(config.to_yaml()?.trim_end())?;
            }
        }
    }
    if printer.json {
        printer.value(&imported)?;
    }
    match failed {
        0 => Ok(ExitCode::SUCCESS),
        n if n == imported.len() => bail!("no config could be imported"),
        n => bail!("{n} of {} configs could not be imported", imported.len()),
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
