//! `dacapo arrays cp`: copy arrays, containers and runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use dacapo::array::ArrayAddress;
use dacapo::store::copy::{copy_size, placed};
use dacapo::store::{Error, RunLease, copy_array, copy_dir};

use super::bar::Bar;
use super::select::{identifier, ours, plural};
use crate::context::Context;
use crate::printer::bytes;

/// Copy an array, a container or a run as it is.
#[derive(Debug, Args)]
#[command(after_help = "\
The copy appears in one step when it is whole; every object of it was read back and compared. Interrupted, it is kept
aside under an unfinished name, and the same command goes on with it.

Examples:
  dacapo arrays cp my-run/validation.zarr/1000/crop2/prediction out.zarr/prediction
  dacapo arrays cp data/volume.zarr /scratch/volume.zarr            a container
  dacapo arrays cp my-run /archive/                                 a run, into a folder")]
pub struct Cp {
    /// An array (container.zarr/dataset), a container, or a run: a path, or one below the base directory.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Where the copy is to be; what it is called is taken from the source if this ends in `/`.
    #[arg(value_name = "TARGET")]
    target: String,
    /// Replace an array that is there.
    #[arg(long)]
    overwrite: bool,
}

impl Cp {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let text = self.source.trim_end_matches('/');
        let copied = if text.rsplit_once(".zarr/").is_some() {
            self.array(context, text)?
        } else {
            if self.overwrite {
                bail!(
                    "--overwrite is for arrays: remove {} yourself, if it is in the way",
                    self.target
                );
            }
            self.dir(context, text)?
        };
        if context.printer.json {
            context.printer.value(&copied)?;
            return Ok(ExitCode::SUCCESS);
        }
        for link in &copied.links {
            context
                .printer
                .warn(format!("{link} is a symbolic link and was not copied"));
        }
        let resumed = if copied.resumed > 0 {
            format!(", {} of them from before", copied.resumed)
        } else {
            String::new()
        };
        let objects = plural(copied.objects as usize, "object");
        context.printer.line(format!(
            "{}: {objects}{resumed}, {}",
            self.target,
            bytes(copied.bytes)
        ))?;
        Ok(ExitCode::SUCCESS)
    }

    fn array(&self, context: &Context, text: &str) -> anyhow::Result<dacapo::store::Copied> {
        let from = identifier(context, text)?.address();
        let target = self.named(from.dataset.rsplit('/').next().unwrap_or_default());
        let to: ArrayAddress = target.parse()?;
        let (storage, key) = placed(&from.container, &from.dataset).map_err(ours)?;
        let bar = Bar::bytes(context, "copying", copy_size(&storage, &key).map_err(ours)?)?;
        Ok(copy_array(&from, &to, self.overwrite, &|more| bar.tick(more)).map_err(ours)?)
    }

    fn dir(&self, context: &Context, text: &str) -> anyhow::Result<dacapo::store::Copied> {
        let as_given = PathBuf::from(text);
        let from = if as_given.exists() {
            as_given
        } else {
            context.store.base().join(text)
        };
        let is_container = text.ends_with(".zarr");
        let is_run = from.join("run.yaml").is_file() || has_container(&from);
        if !is_container && !is_run {
            bail!("{text} is no array, container or run");
        }
        if let (false, Some(base), Some(name)) = (is_container, from.parent(), from.file_name()) {
            let run = name.to_string_lossy().into_owned();
            if let Ok(Some(holder)) = RunLease::holder(base, &run) {
                return Err(ours(Error::Held { run, holder }).into());
            }
        }
        let name = from
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let target = PathBuf::from(self.named(name));
        if is_container != (target.extension().is_some_and(|extension| extension == "zarr")) {
            bail!(
                "a container is copied to one, whose name ends in .zarr, and a run to a folder: {} is the wrong place",
                target.display()
            );
        }
        if target.exists() {
            let hint = if target.is_dir() && !is_container {
                format!("; write {}/ to copy into it", target.display())
            } else {
                String::new()
            };
            bail!("{} is there already{hint}", target.display());
        }
        let (storage, key) = placed(&from, "").map_err(ours)?;
        let bar = Bar::bytes(context, "copying", copy_size(&storage, &key).map_err(ours)?)?;
        Ok(copy_dir(&from, &target, &|more| bar.tick(more)).map_err(ours)?)
    }

    /// The target, called like the source if it is only a folder.
    fn named(&self, name: &str) -> String {
        if self.target.ends_with('/') {
            format!("{}{name}", self.target)
        } else {
            self.target.clone()
        }
    }
}

fn has_container(dir: &Path) -> bool {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .into_iter()
        .any(|entry| entry.file_name().as_encoded_bytes().ends_with(b".zarr"))
}
