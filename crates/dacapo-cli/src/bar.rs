//! How far a long job is: a bar with rate and time left or, where the printer shows none, a line now and then.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::printer::Printer;

/// Where no bar is visible, a line is printed so often.
const LINE_INTERVAL: Duration = Duration::from_secs(15);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Bytes, with their rate.
    Bytes,
    /// Iterations, with their rate.
    Iterations,
    /// Blocks of an array.
    Blocks,
    /// Things of which each is worth naming.
    Things,
    /// Parts of which nobody knows what they are: as a share of all.
    Parts,
}

impl Counted {
    fn template(self) -> &'static str {
        match self {
            Self::Bytes => "  {msg:<28} [{bar:30}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
            Self::Iterations => "  {msg:<28} [{bar:30}] {pos}/{len}, {per_sec}, {eta} left",
            Self::Blocks => "  {msg:<28} [{bar:30}] {pos}/{len} blocks, {eta} left",
            Self::Things => "  {msg:<28} [{bar:30}] {pos}/{len}, {eta} left",
            Self::Parts => "  {msg:<28} [{bar:30}] {percent}%, {eta} left",
        }
    }
}

/// How far one job is. Dropped, it leaves nothing on the terminal.
#[derive(Debug)]
pub struct Bar {
    printer: Printer,
    bar: ProgressBar,
    counted: Counted,
    last_line: Mutex<Instant>,
}

impl Bar {
    /// A job of `total`, and what is being done.
    pub fn new(printer: &Printer, doing: impl Into<String>, counted: Counted, total: u64) -> Self {
        let bar = printer.bars.add(ProgressBar::new(total));
        // A template that does not parse shows a plain bar instead.
        let style =
            ProgressStyle::with_template(counted.template()).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(doing.into());
        Self {
            printer: printer.clone(),
            bar,
            counted,
            last_line: Mutex::new(Instant::now()),
        }
    }

    /// It does something else now.
    pub fn doing(&self, doing: impl Into<String>) {
        self.bar.set_message(doing.into());
    }

    /// So much more is done.
    pub fn advance(&self, more: u64) {
        self.bar.inc(more);
        self.line();
    }

    /// So much is done.
    pub fn at(&self, done: u64) {
        self.bar.set_position(done);
        self.line();
    }

    /// So much is done of another total.
    pub fn at_of(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.at(done);
    }

    /// The time until now says nothing about the time left.
    pub fn forget_rate(&self) {
        self.bar.reset_eta();
    }

    fn line(&self) {
        if self.printer.has_bars() {
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() < LINE_INTERVAL {
            return;
        }
        *last = Instant::now();
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let much = match self.counted {
            Counted::Bytes | Counted::Parts => format!("{}%", 100 * done / total.max(1)),
            Counted::Iterations | Counted::Blocks | Counted::Things => format!("{done}/{total}"),
        };
        let (doing, left) = (self.bar.message(), HumanDuration(self.bar.eta()));
        self.printer.note(format!("{doing}: {much}, {left} left"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
