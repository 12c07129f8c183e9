//! Bars with rate and time left for training, prediction and validation.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use dacapo::{Event, Observer};
use indicatif::{ProgressBar, ProgressStyle};

use crate::interrupt::Interrupt;
use crate::printer::Printer;

/// Where no bar is visible, a line is printed so often.
const LINE_INTERVAL: Duration = Duration::from_secs(15);
/// Weight of the newest loss in what is shown.
const SMOOTHING: f64 = 0.05;

/// Shows events, and passes on that the user wants to stop.
pub struct Progress {
    printer: Printer,
    interrupt: Interrupt,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    training: Option<ProgressBar>,
    blocks: Option<ProgressBar>,
    loss: Option<f64>,
    last_line: Option<Instant>,
    /// What the bar of blocks says.
    doing: String,
}

fn style(template: &str) -> ProgressStyle {
    // A template that does not parse shows a plain bar instead.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Progress {
    /// Bars on the printer's terminal.
    pub fn new(printer: Printer, interrupt: Interrupt) -> Self {
        Self {
            printer,
            interrupt,
            state: Mutex::default(),
        }
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for bar in [state.training.take(), state.blocks.take()].into_iter().flatten() {
            bar.finish_and_clear();
        }
    }

    fn blocks(&self, state: &mut State, total: usize) -> ProgressBar {
        let bar = self.printer.bars.add(ProgressBar::new(total as u64));
        bar.set_style(style("  {msg:<28} [{bar:30}] {pos}/{len} blocks, {eta} left"));
        bar.set_message(state.doing.clone());
        state.blocks = Some(bar.clone());
        bar
    }
}

impl Observer for Progress {
    fn event(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::SyntheticWritten { container } => {
                self.printer
                    .note(format!("made a labelled volume in {}", container));
            }
            Event::TrainingStarted {
                run,
                iteration,
                total,
                parameters,
            } => {
                let from = if *iteration > 0 {
                    format!(" from iteration {iteration}")
                } else {
                    String::new()
                };
                self.printer.note(format!(
                    "training {run}{from}: {total} iterations, {} weights",
                    thousands(*parameters as u64)
                ));
                let bar = self.printer.bars.add(ProgressBar::new(*total));
                bar.set_style(style("  {msg:<28} [{bar:30}] {pos}/{len}, {per_sec}, {eta} left"));
                bar.set_message("training");
                bar.set_position(*iteration);
                bar.reset_eta();
                state.training = Some(bar);
            }
            Event::Step {
                iteration,
                total,
                loss,
                seconds,
                ..
            } => {
                let smooth = state.loss.map_or(*loss, |old| old + SMOOTHING * (loss - old));
                state.loss = Some(smooth);
                if let Some(bar) = &state.training {
                    bar.set_position(*iteration);
                    bar.set_message(format!("training, loss {smooth:.4}"));
                }
                let due = state.last_line.is_none_or(|last| last.elapsed() >= LINE_INTERVAL);
                if !self.printer.has_bars() && due {
                    state.last_line = Some(Instant::now());
                    let left = Duration::from_secs_f64(seconds * (total - iteration) as f64);
                    self.printer.note(format!(
                        "iteration {iteration}/{total}, loss {smooth:.4}, {:.2} a second, {} left",
                        1.0 / seconds.max(1e-9),
                        indicatif::HumanDuration(left)
                    ));
                }
            }
            Event::ValidationStarted { iteration, dataset } => {
                state.doing = format!("validating {dataset} at {iteration}");
            }
            Event::PredictionStarted { blocks } => {
                if state.doing.is_empty() {
                    state.doing = "predicting".into();
                }
                self.blocks(&mut state, *blocks);
            }
            Event::Block { done, total } => {
                if let Some(bar) = &state.blocks {
                    bar.set_position(*done as u64);
                    if done == total {
                        bar.set_message(format!("{}: segmenting", state.doing));
                    }
                }
            }
            Event::ValidationFinished {
                iteration,
                dataset,
                criterion,
                best,
                is_best,
                seconds,
            } => {
                if let Some(bar) = state.blocks.take() {
                    bar.finish_and_clear();
                }
                let result = match best {
                    Some((parameters, score)) => format!("{criterion} {score:.4} by {parameters}"),
                    None => format!("no {criterion}"),
                };
                let mark = if *is_best { ", the best so far" } else { "" };
                self.printer.note(format!(
                    "iteration {iteration}, {dataset}: {result}{mark} ({seconds:.1} s)"
                ));
                state.doing.clear();
                if let Some(bar) = &state.training {
                    bar.reset_eta();
                }
            }
            Event::Started(started) => self.printer.note(started.to_string()),
            Event::StoppedEarly {
                best,
                criterion,
                validations,
                ..
            } => self.printer.note(format!(
                "no better {criterion} in {validations} validations: iteration {best} is the best"
            )),
            Event::Warning { message } => self.printer.warn(message),
            _ => {}
        }
    }

    fn cancelled(&self) -> bool {
        self.interrupt.asked()
    }
}

/// A number with its thousands apart.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(thousands),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
