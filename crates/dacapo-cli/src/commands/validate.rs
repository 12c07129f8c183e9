//! `dacapo validate`: predict, segment and score a checkpoint again.

use std::process::ExitCode;

use clap::Args;
use dacapo::validate;

use crate::context::Context;
use crate::printer::table;

/// Validate a checkpoint of a run on its validation datasets.
#[derive(Debug, Args)]
pub struct Validate {
    /// The run's name.
    run: String,
    /// The checkpoint's iteration [default: the last].
    #[arg(long, value_name = "N")]
    iteration: Option<u64>,
}

impl Validate {
    /// Runs the command.
    pub fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let progress = context.progress("predicting")?;
        let done = validate(
            &context.store,
            &self.run,
            self.iteration,
            &*context.engine()?,
            progress.as_ref(),
        );
        progress.finish();
        let done = done?;
        if context.printer.json {
            let value = |v: &dacapo::DatasetValidation| {
                serde_json::json!({
                    "iteration": v.iteration,
                    "dataset": v.dataset,
                    "best": v.best.as_ref().map(|(parameters, score)| {
                        serde_json::json!({"parameters": parameters, "score": score})
                    }),
                    "scores": v.scores.iter().map(|(parameters, scores)| {
                        serde_json::json!({"parameters": parameters, "scores": scores})
                    }).collect::<Vec<_>>(),
                })
            };
            context
                .printer
                .value(&done.iter().map(value).collect::<Vec<_>>())?;
            return Ok(ExitCode::SUCCESS);
        }
        for validation in &done {
            context.printer.line(format!(
                "{} at iteration {}",
                validation.dataset, validation.iteration
            ))?;
            let names: Vec<&str> = validation
                .scores
                .first()
                .map_or_else(Vec::new, |(_, s)| s.keys().map(String::as_str).collect());
            let mut rows = table(std::iter::once("parameters").chain(names.iter().copied()));
            for (parameters, scores) in &validation.scores {
                let is_best = validation
                    .best
                    .as_ref()
                    .is_some_and(|(best, _)| best == parameters);
                let mark = if is_best { " *" } else { "" };
                let cells = names
                    .iter()
                    .map(|name| number(scores.get(*name).copied().flatten()));
                rows.add_row(std::iter::once(format!("{parameters}{mark}")).chain(cells));
            }
            context.printer.line(rows.to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A score, or a dash where it is not defined.
pub fn number(score: Option<f64>) -> String {
    score.map_or_else(|| "-".to_owned(), |score| format!("{score:.4}"))
}
