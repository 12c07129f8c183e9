//! A bar for work that goes through an array part by part, and Ctrl-C to stop it.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use dacapo::array::ArraySpec;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::context::Context;
use crate::interrupt::Interrupt;
use crate::printer::Printer;

/// Where no bar is visible, a line is printed so often.
const LINE_INTERVAL: Duration = Duration::from_secs(15);

/// Shows how many parts are done.
pub struct Parts {
    printer: Printer,
    interrupt: Interrupt,
    bar: ProgressBar,
    doing: String,
    last_line: Instant,
}

impl Parts {
    /// A bar that says what is being done.
    pub fn new(context: &Context, doing: impl Into<String>) -> anyhow::Result<Self> {
        let printer = context.printer.clone();
        let bar = printer.bars.add(ProgressBar::new(0));
        let style = ProgressStyle::with_template("  {msg:<28} [{bar:30}] {percent}%, {eta} left");
        // A template that does not parse shows a plain bar instead.
        bar.set_style(
            style
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> "),
        );
        let doing = doing.into();
        bar.set_message(doing.clone());
        Ok(Self {
            interrupt: Interrupt::listen(&printer)?,
            printer,
            bar,
            doing,
            last_line: Instant::now(),
        })
    }

    /// Hears of a part; says whether to go on.
    pub fn on_part(&mut self, done: usize, total: usize) -> ControlFlow<()> {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        if !self.printer.has_bars() && self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            let percent = 100 * done / total.max(1);
            self.printer.note(format!("{}: {percent}%", self.doing));
        }
        if self.interrupt.asked() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// An array in a line: `uint8 [170, 250, 250] at [0:1700, …], voxels of (10, 10, 10) nm`.
pub fn line(spec: &ArraySpec) -> String {
    let mut units = spec.units.clone();
    units.dedup();
    let units = if units == [""] {
        String::new()
    } else {
        format!(" {}", units.join(", "))
    };
    format!(
        "{} {:?} at {}, voxels of {}{units}",
        spec.dtype,
        spec.shape(),
        spec.roi,
        spec.voxel_size
    )
}

/// The same for programs.
pub fn value(spec: &ArraySpec) -> Value {
    json!({
        "dtype": spec.dtype.name(),
        "shape": spec.shape(),
        "voxel_size": spec.voxel_size,
        "offset": spec.roi.offset,
        "units": spec.units,
        "axis_names": spec.axis_names,
    })
}
