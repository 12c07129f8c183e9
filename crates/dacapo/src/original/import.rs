//! Run configs of the Python DaCapo as ours, alone: without the records, checkpoints and arrays that [`super::adopt()`]
//! makes a run of.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::config::translate;
use super::{OriginalBase, is_base, names, refuse, weights};
use crate::config::RunConfig;
use crate::{Error, Result};

/// A run config in our words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Imported {
    /// The run's name.
    pub run: String,
    /// What it says, if all that gives it its meaning can be said.
    pub config: Option<RunConfig>,
    /// What of it means nothing here, or something else.
    pub notes: Vec<String>,
    /// Why it cannot become one of ours.
    pub problems: Vec<String>,
}

/// Reads a run config, all those of a base directory, or all that are in a folder. Relative paths in them are looked
/// for from `data`, if it is given; else from where they are and the directories above.
///
/// # Errors
/// [`Error::Original`] if there is no run config, or the file is a part of one; [`Error::Io`].
pub fn import(path: &Path, data: Option<&Path>) -> Result<Vec<Imported>> {
    if !path.is_dir() {
        return Ok(vec![import_file(path, data)?]);
    }
    let base = OriginalBase::find(path, data);
    let folder = match &base {
        Ok(base) => base.root().join("configs/runs"),
        Err(_) => path.to_owned(),
    };
    let mut files = Vec::new();
    for name in names(&folder)? {
        let file = folder.join(&name);
        let is_yaml = file.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if is_yaml && (base.is_ok() || kind(&read(&file)?) == Kind::Run) {
            files.push(file);
        }
    }
    if files.is_empty() {
        return refuse(path, "no run config of the Python DaCapo is in it");
    }
    files.iter().map(|file| import_file(file, data)).collect()
}

fn import_file(path: &Path, data: Option<&Path>) -> Result<Imported> {
    let text = read(path)?;
    match kind(&text) {
        Kind::Run => {}
        Kind::Part(kind) => {
            return refuse(
                path,
                format!(
                    "it is a {kind}, a part of run configs: those are in configs/runs of a base directory"
                ),
            );
        }
        Kind::Other => {
            return refuse(
                path,
                "it is no run config of the Python DaCapo: it has no task_config",
            );
        }
    }
    let run = path
        .file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let absolute = |path: &Path| std::path::absolute(path).map_err(|source| Error::io("find", path, source));
    let folders: Vec<PathBuf> = match data {
        Some(data) => vec![absolute(data)?],
        // From the file to above the base directory that it may be in.
        None => absolute(path)?
            .ancestors()
            .skip(1)
            .take(5)
            .map(Path::to_owned)
            .collect(),
    };
    // Where the run itself is beside its config, a checkpoint says how its learning rate rose.
    let base = path.ancestors().nth(3).filter(|base| is_base(base));
    let warmup = base.and_then(|base| {
        let base = OriginalBase::find(base, data).ok()?;
        let (iteration, checkpoint) = base.checkpoints(&run).ok()?.into_iter().next()?;
        weights::warmup(&checkpoint, iteration)
    });
    let translation = translate(&text, &run, &folders, warmup);
    let has_data = translation.problems.is_empty();
    Ok(Imported {
        run,
        config: translation.config.filter(|_| has_data),
        notes: translation.notes,
        problems: translation.problems,
    })
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::io("read the config", path, source))
}

/// What a YAML file of the original describes.
#[derive(Debug, PartialEq)]
enum Kind {
    Run,
    /// A task, a trainer, …, by its type.
    Part(String),
    Other,
}

fn kind(text: &str) -> Kind {
    let document: Value = serde_saphyr::from_str(text).unwrap_or_default();
    if document.get("task_config").is_some() {
        return Kind::Run;
    }
    let part = document.get("__type__").and_then(Value::as_str);
    part.map_or(Kind::Other, |kind| Kind::Part(kind.to_owned()))
}
