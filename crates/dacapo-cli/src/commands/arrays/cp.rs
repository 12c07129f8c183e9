//! `dacapo arrays cp`: copy arrays, containers and runs.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use dacapo::LocalStore;
use dacapo::array::ArrayAddress;
use dacapo::array::storage::{Location, Storage};
use dacapo::store::copy::{copy_size, placed};
use dacapo::store::{Copied, CopyOptions, Error, copy_array, copy_dir};

use super::job::Job;
use super::select::{array, is_there, plural};
use crate::bar::Counted;
use crate::context::Context;
use crate::printer::bytes;
use crate::report::misused;

/// Copy an array, a container or a run as it is.
#[derive(Debug, Args)]
#[command(after_help = "\
The copy appears in one step when it is whole; every object of it was read back and compared. Interrupted, it is kept \
aside under an unfinished name, and the same command goes on with it. What does not decode, or has lost chunks, is not \
copied, unless --damaged asks for it.

Examples:
  dacapo arrays cp my-run/validation.zarr/1000/crop2/prediction out.zarr/prediction
  dacapo arrays cp data/volume.zarr /scratch/volume.zarr            a container
  dacapo arrays cp my-run /archive/                                 a run, into a folder")]
pub struct Cp {
    /// An array (container.zarr/dataset), a container, or a run: a path, else one below the base
    /// directory.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Where the copy is to be; what it is called is taken from the source if this ends in `/`.
    #[arg(value_name = "TARGET")]
    target: String,
    /// Replace an array that is there.
    #[arg(long)]
    overwrite: bool,
    /// Copy what is damaged too, as it is.
    #[arg(long)]
    damaged: bool,
}

impl Cp {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let text = self.source.trim_end_matches('/');
        let (target, copied) = if text.rsplit_once(".zarr/").is_some() {
            self.array(context, text)?
        } else {
            if self.overwrite {
                misused!(
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
        context
            .printer
            .line(format!("{target}: {objects}{resumed}, {}", bytes(copied.bytes)))?;
        Ok(ExitCode::SUCCESS)
    }

    fn array(&self, context: &Context, text: &str) -> anyhow::Result<(String, Copied)> {
        let access = context.store.access();
        let from = array(context, text)?.address();
        let target = self.named(from.dataset.rsplit('/').next().unwrap_or_default());
        let to: ArrayAddress = target.parse()?;
        let (storage, key) = placed(&from.location(), access)?;
        let size = copy_size(&*storage, &key)?;
        let job = Job::new(context, "copying", Counted::Bytes, size)?;
        let copied = copy_array(&from, &to, access, self.options(), &|more| job.tick(more))?;
        Ok((target, copied))
    }

    fn dir(&self, context: &Context, text: &str) -> anyhow::Result<(String, Copied)> {
        let access = context.store.access();
        let as_given: Location = text.parse()?;
        let is_relative = as_given.path().is_some_and(Path::is_relative);
        let from = if is_relative && !is_there(context, &as_given)? {
            context.store.base().join(text)
        } else {
            as_given
        };
        let is_container = text.ends_with(".zarr");
        let name = from.name().unwrap_or_default().to_owned();
        let (storage, key) = placed(&from, access)?;
        if !is_there(context, &from)? || !is_container && !is_run(&*storage, &key)? {
            let below = if is_relative {
                format!(", neither here nor in {}", context.store.base())
            } else {
                String::new()
            };
            bail!("{text} is no array, container or run{below}");
        }
        if let (false, Some(base)) = (is_container, from.parent()) {
            let store = LocalStore::open(&base, access)?;
            if let Ok(Some(holder)) = store.holder(&name) {
                return Err(Error::Held { run: name, holder }.into());
            }
        }
        let target: Location = self.named(&name).parse()?;
        if is_container != target.name().is_some_and(|name| name.ends_with(".zarr")) {
            misused!(
                "a container is copied to one, whose name ends in .zarr, and a run to a folder: {target} is the \
                 wrong place"
            );
        }
        if is_there(context, &target)? {
            let hint = if is_container {
                String::new()
            } else {
                format!("; write {target}/ to copy into it")
            };
            bail!("{target} is there already{hint}");
        }
        let size = copy_size(&*storage, &key)?;
        let job = Job::new(context, "copying", Counted::Bytes, size)?;
        let copied = copy_dir(&from, &target, access, self.options(), &|more| job.tick(more))?;
        Ok((target.to_string(), copied))
    }

    fn options(&self) -> CopyOptions {
        CopyOptions {
            replace: self.overwrite,
            damaged: self.damaged,
        }
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

/// Whether a run, or something that has containers as one does, is at a key.
fn is_run(storage: &dyn Storage, key: &str) -> anyhow::Result<bool> {
    let entries = storage.list(key)?;
    Ok(entries
        .iter()
        .any(|entry| entry.name == "run.yaml" || entry.name.ends_with(".zarr")))
}
