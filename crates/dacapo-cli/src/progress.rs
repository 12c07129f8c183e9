//! Bars with rate and time left for training, validation and everything that is done block by block.

use std::sync::{Mutex, PoisonError};

use dacapo::{Event, Observer};

use crate::bar::{Bar, Counted};
use crate::interrupt::Interrupt;
use crate::printer::Printer;

/// Weight of the newest loss in what is shown.
const SMOOTHING: f64 = 0.05;

/// Shows events, and passes on that the user wants to stop.
pub struct Progress {
    printer: Printer,
    interrupt: Interrupt,
    /// What is done with blocks outside of a validation.
    doing: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    training: Option<Bar>,
    blocks: Option<Bar>,
    loss: Option<f64>,
    /// What is being validated.
    validating: Option<String>,
}

impl Progress {
    /// Bars on the printer's terminal.
    pub fn new(printer: Printer, interrupt: Interrupt, doing: &'static str) -> Self {
        Self {
            printer,
            interrupt,
            doing,
            state: Mutex::default(),
        }
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.training, state.blocks) = (None, None);
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
                let bar = Bar::new(&self.printer, "training", Counted::Iterations, *total);
                bar.at(*iteration);
                bar.forget_rate();
                state.training = Some(bar);
            }
            Event::Step { iteration, loss, .. } => {
                let smooth = state.loss.map_or(*loss, |old| old + SMOOTHING * (loss - old));
                state.loss = Some(smooth);
                if let Some(bar) = &state.training {
                    bar.doing(format!("training, loss {smooth:.4}"));
                    bar.at(*iteration);
                }
            }
            Event::ValidationStarted { iteration, dataset } => {
                state.validating = Some(format!("validating {dataset} at {iteration}"));
            }
            Event::PredictionStarted { blocks } => {
                let doing = state.validating.as_deref().unwrap_or(self.doing).to_owned();
                state.blocks = Some(Bar::new(&self.printer, doing, Counted::Blocks, *blocks as u64));
            }
            Event::Block { done, total } => {
                if let Some(bar) = &state.blocks {
                    if let Some(validating) = state.validating.as_ref().filter(|_| done == total) {
                        bar.doing(format!("{validating}: segmenting"));
                    }
                    bar.at(*done as u64);
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
                state.blocks = None;
                let result = match best {
                    Some((parameters, score)) => format!("{criterion} {score:.4} by {parameters}"),
                    None => format!("no {criterion}"),
                };
                let mark = if *is_best { ", the best so far" } else { "" };
                self.printer.note(format!(
                    "iteration {iteration}, {dataset}: {result}{mark} ({seconds:.1} s)"
                ));
                state.validating = None;
                if let Some(bar) = &state.training {
                    bar.forget_rate();
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
