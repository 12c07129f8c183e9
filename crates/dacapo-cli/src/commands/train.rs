//! `dacapo train`: begin a run, or go on with it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use dacapo::{
    LocalStore, Observer, RunConfig, Sampler, TrainOptions, TrainOutcome, check, load_config, load_run, train,
};

use crate::commands::show;
use crate::context::{Context, quoted};
use crate::figures::preview;
use crate::report::INTERRUPTED;

/// Train a run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dacapo train my.yaml                begin the run that the config describes, or go on with it
  dacapo train my-run                 go on with a run by its name
  dacapo train my.yaml --as-new two   the same config as a run of its own
  dacapo train my.yaml --preview 5    look at the first 5 batches, and train nothing

Ctrl-C finishes the step and writes a checkpoint. After a crash or a kill, training goes on from the last \
checkpoint; its losses are those of a run that never stopped.")]
pub struct Train {
    /// A run config (YAML or TOML), or the name of a run.
    #[arg(value_name = "CONFIG|RUN")]
    run: String,
    /// Train under this name, as a run of its own.
    #[arg(long, value_name = "NAME")]
    as_new: Option<String>,
    /// Write the first N batches as pictures instead: raw, labels, targets and weights. No run is made.
    #[arg(long, value_name = "N", conflicts_with = "as_new", value_parser = clap::value_parser!(u64).range(1..))]
    preview: Option<u64>,
    /// Where pictures go.
    #[arg(long, value_name = "DIR", requires = "preview", default_value = "preview")]
    out: PathBuf,
}

impl Train {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let config = find(&self.run, &context.store)?;
        if let Some(count) = self.preview {
            return previews(context, &config, count, &self.out);
        }
        let options = TrainOptions { as_new: self.as_new };
        let run = options.as_new.clone().unwrap_or_else(|| config.name.clone());
        let progress = context.progress("predicting")?;
        let code = self::train_run(context, &config, &options, progress.as_ref());
        progress.finish();
        let code = code?;
        if code == ExitCode::SUCCESS {
            show::scores(context, &run)?;
            context.printer.note(format!(
                "\nnext: {}",
                context.command(&format!("show {}", quoted(&run)))
            ));
        }
        Ok(code)
    }
}

/// Writes the batches of the first steps as pictures, and prints their names.
fn previews(context: &Context, config: &RunConfig, count: u64, out: &Path) -> anyhow::Result<ExitCode> {
    let plan = check(config, context.store.access())?;
    let sampler = Sampler::new(&plan);
    std::fs::create_dir_all(out)?;
    let voxel_size = plan
        .train
        .first()
        .map(|dataset| dataset.raw.spec().voxel_size.to_f64());
    let mut files = Vec::new();
    for iteration in 1..=count {
        let batch = sampler.batch(iteration)?;
        let path = out.join(format!("{iteration:04}.png"));
        preview(
            &path,
            &batch,
            &plan.shapes,
            voxel_size.as_deref().unwrap_or_default(),
        )?;
        files.push(path.display().to_string());
        if !context.printer.json {
            context.printer.line(path.display().to_string())?;
        }
    }
    if context.printer.json {
        context.printer.value(&serde_json::json!(files))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Trains, and says how to go on if it was interrupted.
pub fn train_run(
    context: &Context,
    config: &RunConfig,
    options: &TrainOptions,
    observer: &dyn Observer,
) -> anyhow::Result<ExitCode> {
    let run = options.as_new.as_deref().unwrap_or(&config.name);
    match train(&context.store, config, &*context.engine()?, observer, options)? {
        TrainOutcome::Finished { .. } => Ok(ExitCode::SUCCESS),
        TrainOutcome::Interrupted { iteration } => {
            let next = context.command(&format!("train {}", quoted(run)));
            context
                .printer
                .warn(format!("stopped after iteration {iteration}; to go on: {next}"));
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// The config in a file, or that of a run.
fn find(text: &str, store: &LocalStore) -> anyhow::Result<RunConfig> {
    let path = Path::new(text);
    let looks_like_file = path.is_file()
        || text.contains('/')
        || path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "toml");
    if looks_like_file {
        Ok(load_config(path, &std::env::current_dir()?)?)
    } else {
        Ok(load_run(store, text)?)
    }
}
