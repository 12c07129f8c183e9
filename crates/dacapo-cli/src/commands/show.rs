//! `dacapo show`: the scores of a run, its curves, and pictures of what it predicts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use dacapo::array::{ArrayRead, NdData};
use dacapo::store::{ArrayStore, LocalArrayIdentifier, RunName, StatsStore, ValidationScore};
use dacapo::{Best, latest_scores, load_run, summary};
use ndarray::{Array2, Array3, ArrayD, Axis};

use crate::commands::validate::number;
use crate::context::Context;
use crate::figures::{Panel, Row, Series, draw, montage, sparkline};
use crate::printer::{bytes, counted_by, table};

/// Show a run: scores and a small curve here, curves and pictures to files.
#[derive(Debug, Args)]
pub struct Show {
    /// The run's name.
    run: String,
    /// Directory for curves.svg and a montage of each validation dataset [default: figures in the
    /// run's own, or RUN-figures here where that is in an object store].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Characters of a curve in the terminal.
const WIDTH: usize = 60;

impl Show {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        // A run that is not there is told before a directory is made for it.
        let run = summary(&context.store, &self.run)?;
        let out = match self.out {
            Some(out) => out,
            None => match context.store.run_dir(&self.run)?.join("figures").path() {
                Some(path) => path.to_owned(),
                // Pictures are for people here, not for an object store.
                None => PathBuf::from(format!("{}-figures", RunName::new(&self.run)?.component())),
            },
        };
        let files = figures(context, &self.run, &out)?;
        if context.printer.json {
            context.printer.value(&serde_json::json!({
                "summary": run,
                "scores": Scored::load(context, &self.run)?.best,
                "files": files,
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        context.printer.line(format!(
            "{}: {}, {}/{} iterations, {}",
            run.name,
            run.state,
            run.iterations,
            run.total,
            bytes(run.bytes)
        ))?;
        scores(context, &self.run)?;
        for file in files {
            context.printer.line(file.display().to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The newest scores, by dataset, iteration and parameters.
fn newest(context: &Context, run: &str) -> anyhow::Result<BTreeMap<(String, u64, String), ValidationScore>> {
    let scores = context.store.stats.scores(run)?;
    Ok(latest_scores(scores)
        .into_iter()
        .map(|s| ((s.dataset.clone(), s.iteration, s.parameters.clone()), s))
        .collect())
}

/// Of each dataset and iteration, the score that is best by the criterion that decides.
struct Scored {
    criterion: String,
    best: Vec<ValidationScore>,
}

impl Scored {
    /// The names of the scores to be seen at a glance: the criterion, and what it is made of.
    fn names(&self) -> Vec<&str> {
        let all = self
            .best
            .first()
            .into_iter()
            .flat_map(|score| score.scores.keys());
        all.map(String::as_str)
            .filter(|name| name.starts_with(&self.criterion))
            .collect()
    }

    fn load(context: &Context, run: &str) -> anyhow::Result<Self> {
        let config = load_run(&context.store, run)?;
        let task = config.task.build(config.architecture.unet().dims())?;
        let criterion = match &config.validation.criterion {
            Some(name) => task
                .criteria()
                .iter()
                .find(|c| c.name == name.as_str())
                .unwrap_or(task.default_criterion()),
            None => task.default_criterion(),
        };
        let value = |score: &ValidationScore| score.scores.get(&*criterion.name).copied().flatten();
        let mut best: BTreeMap<(String, u64), ValidationScore> = BTreeMap::new();
        for ((dataset, iteration, _), score) in newest(context, run)? {
            let Some(new) = value(&score) else { continue };
            let old = best.get(&(dataset.clone(), iteration)).and_then(value);
            let is_better = |old| {
                if criterion.higher_is_better {
                    new > old
                } else {
                    new < old
                }
            };
            if old.is_none_or(is_better) {
                best.insert((dataset, iteration), score);
            }
        }
        Ok(Self {
            criterion: criterion.name.to_string(),
            best: best.into_values().collect(),
        })
    }
}

/// Prints the curve of the loss, and the best scores of each validation.
pub fn scores(context: &Context, run: &str) -> anyhow::Result<()> {
    let losses: Vec<f64> = context
        .store
        .stats
        .training(run)?
        .iter()
        .map(|stat| stat.loss)
        .collect();
    if let (Some(first), Some(last)) = (losses.first(), losses.last()) {
        context
            .printer
            .line(format!("loss {first:.4} {} {last:.4}", sparkline(&losses, WIDTH)))?;
    }
    let scored = Scored::load(context, run)?;
    if scored.best.is_empty() {
        return Ok(());
    }
    let names = scored.names();
    let overall = dacapo::best(&context.store, run)?;
    let mut rows = table(
        ["dataset", "iteration", "best parameters"]
            .into_iter()
            .chain(names.iter().copied()),
    );
    for score in &scored.best {
        let is_best = |b: &Best| {
            b.dataset == score.dataset && b.iteration == score.iteration && b.parameters == score.parameters
        };
        let mark = if overall.iter().any(is_best) { " *" } else { "" };
        let head = [
            score.dataset.clone(),
            score.iteration.to_string(),
            format!(
                "{}{mark}{}",
                score.parameters,
                counted_by(score.counted_by.as_deref())
            ),
        ];
        rows.add_row(
            head.into_iter().chain(
                names
                    .iter()
                    .map(|n| number(score.scores.get(*n).copied().flatten())),
            ),
        );
    }
    context.printer.line(rows.to_string())
}

/// Writes the run's curves, and a montage of each validation dataset; returns the files.
pub fn figures(context: &Context, run: &str, out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(out)?;
    let scored = Scored::load(context, run)?;
    let mut files = Vec::new();
    let training = context.store.stats.training(run)?;
    if !training.is_empty() {
        let path = out.join("curves.svg");
        draw(
            &path,
            &panels(
                &training
                    .iter()
                    .map(|s| (s.iteration as f64, s.loss))
                    .collect::<Vec<_>>(),
                &scored,
            ),
        )?;
        files.push(path);
    }
    let config = load_run(&context.store, run)?;
    let task = config.task.build(config.architecture.unet().dims())?;
    let default = &task.default_criterion().name;
    let criterion = config.validation.criterion.as_deref().unwrap_or(default);
    for dataset in &config.data.validate {
        let of_dataset: Vec<&ValidationScore> =
            scored.best.iter().filter(|s| s.dataset == dataset.name).collect();
        let overall = dacapo::best(&context.store, run)?;
        let decided = overall
            .iter()
            .find(|b| b.dataset == dataset.name && b.criterion == criterion);
        let chosen = decided.and_then(|b| of_dataset.iter().find(|s| s.iteration == b.iteration));
        let (Some(first), Some(last)) = (of_dataset.first(), chosen) else {
            continue;
        };
        let shown: Vec<&ValidationScore> = if first.iteration == last.iteration {
            vec![last]
        } else {
            vec![first, last]
        };
        let path = out.join(format!("{}.png", file_name(&dataset.name)));
        if picture(context, run, &shown, &path)? {
            files.push(path);
        }
    }
    Ok(files)
}

/// A dataset's name as that of a file.
pub fn file_name(dataset: &str) -> String {
    dataset
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect()
}

fn panels(losses: &[(f64, f64)], scored: &Scored) -> Vec<Panel> {
    // As many points as a screen can show; each the mean of its neighbours.
    let share = losses.len().div_ceil(400).max(1);
    let mean = |chunk: &[(f64, f64)]| {
        let n = chunk.len() as f64;
        (
            chunk.iter().map(|p| p.0).sum::<f64>() / n,
            chunk.iter().map(|p| p.1).sum::<f64>() / n,
        )
    };
    let points = losses.chunks(share).map(mean).collect();
    let loss = Series {
        name: "loss".into(),
        points,
        marked: false,
    };
    let mut panels = vec![Panel {
        title: "training loss".into(),
        x: "iteration",
        series: vec![loss],
    }];
    let best = &scored.best;
    let datasets: std::collections::BTreeSet<&str> = best.iter().map(|s| s.dataset.as_str()).collect();
    for dataset in datasets {
        let of_dataset: Vec<&ValidationScore> = best.iter().filter(|s| s.dataset == dataset).collect();
        let series = scored.names().into_iter().map(|name| Series {
            name: name.to_owned(),
            points: of_dataset
                .iter()
                .filter_map(|s| Some((s.iteration as f64, s.scores.get(name).copied().flatten()?)))
                .collect(),
            marked: true,
        });
        panels.push(Panel {
            title: format!("validation on {dataset}, best parameters"),
            x: "iteration",
            series: series.collect(),
        });
    }
    panels
}

/// Draws the middle slice of a dataset as it was predicted and segmented at some iterations. False if their
/// arrays were not kept.
fn picture(context: &Context, run: &str, shown: &[&ValidationScore], path: &Path) -> anyhow::Result<bool> {
    let arrays = &context.store.arrays;
    let Some(last) = shown.last() else {
        return Ok(false);
    };
    let (raw, truth) = arrays.validation_input_arrays(run, Some(&last.dataset))?;
    let Some(truth) = slice(arrays, &truth, None)? else {
        return Ok(false);
    };
    // Raw may be larger than what is predicted: the slice is that of the truth.
    let Some(raw) = slice(arrays, &raw, Some(&truth))? else {
        return Ok(false);
    };
    let mut rows = Vec::new();
    for score in shown {
        let prediction = arrays.validation_prediction_array(run, score.iteration, &score.dataset)?;
        let output =
            arrays.validation_output_array(run, score.iteration, &score.parameters, &score.dataset)?;
        let prediction = slice(arrays, &prediction, Some(&truth))?;
        let output = slice(arrays, &output, Some(&truth))?;
        if let (Some(prediction), Some(output)) = (prediction, output) {
            let name = if score.iteration == 0 {
                "untrained".to_owned()
            } else {
                format!("iteration {}", score.iteration)
            };
            let voi = score.scores.get("voi").copied().flatten();
            let caption = voi.map_or(name.clone(), |voi| format!("{name}: VOI {voi:.3} bits"));
            rows.push((caption, prediction.floats(), output.labels()?));
        }
    }
    if rows.is_empty() {
        return Ok(false);
    }
    let raw_values = raw.floats();
    let raw_values = raw_values.index_axis(Axis(0), 0);
    let (black, white) = raw_values
        .iter()
        .fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
    let rows: Vec<Row<'_>> = rows
        .iter()
        .map(|(caption, prediction, labels)| Row {
            caption: caption.clone(),
            prediction: prediction.view(),
            segmentation: labels.view(),
        })
        .collect();
    montage(path, raw_values, [black, white], truth.labels()?.view(), &rows)?;
    Ok(true)
}

/// The middle slice of an array: its channels, y, x; and where it lies.
struct Slice {
    data: NdData,
    roi: dacapo::array::Roi,
}

impl Slice {
    /// Values as (channel, y, x); u8 as 0 to 1.
    fn floats(&self) -> Array3<f32> {
        let scale = if matches!(self.data, NdData::U8(_)) {
            255.0
        } else {
            1.0
        };
        let values: ArrayD<f32> = self
            .data
            .clone()
            .cast()
            .unwrap_or_else(|_| ArrayD::zeros(self.data.shape()));
        let shape = values.shape().to_vec();
        let (height, width) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        let values: Vec<f32> = values.iter().map(|value| value / scale).collect();
        let channels = values.len() / (height * width).max(1);
        Array3::from_shape_vec((channels, height, width), values).unwrap_or_default()
    }

    fn labels(&self) -> anyhow::Result<Array2<u64>> {
        let values: ArrayD<u64> = self.data.clone().cast()?;
        let shape = values.shape().to_vec();
        let size = (shape[shape.len() - 2], shape[shape.len() - 1]);
        Ok(Array2::from_shape_vec(size, values.iter().copied().collect())?)
    }
}

/// The middle slice along z, or the one where another slice lies. None if the array is not there.
fn slice(
    arrays: &impl ArrayStore,
    array: &LocalArrayIdentifier,
    like: Option<&Slice>,
) -> anyhow::Result<Option<Slice>> {
    if !arrays.exists(array)? {
        return Ok(None);
    }
    let array = arrays.open(array)?;
    let spec = array.spec();
    let roi = match like {
        Some(like) => like.roi.clone(),
        None => {
            let mut begin = vec![0; spec.spatial_dims()];
            let shape = spec.shape();
            let mut voxels = shape[spec.channels.len()..].to_vec();
            if let [depth, _, _] = voxels[..] {
                begin[0] = depth as i64 / 2;
                voxels[0] = 1;
            }
            dacapo::array::Roi::from_voxels(&begin, &voxels, &spec.voxel_size).shift(spec.roi.begin())
        }
    };
    // Another voxel size: there is no such slice.
    if spec.window(&roi).is_err() {
        return Ok(None);
    }
    Ok(Some(Slice {
        data: array.read(&roi)?,
        roi,
    }))
}
