//! A bar for a long job over arrays, which Ctrl-C stops where it is safe.

use indicatif::{ProgressBar, ProgressStyle};

use crate::context::Context;
use crate::interrupt::Interrupt;

/// How far a job is.
pub struct Bar {
    bar: ProgressBar,
    interrupt: Interrupt,
}

impl Bar {
    /// Over so many bytes.
    pub fn bytes(context: &Context, what: &str, total: u64) -> anyhow::Result<Self> {
        let template = "  {msg:<28} [{bar:30}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
        Self::new(context, what, total, template)
    }

    /// Over so many things.
    pub fn count(context: &Context, what: &str, total: u64) -> anyhow::Result<Self> {
        Self::new(
            context,
            what,
            total,
            "  {msg:<28} [{bar:30}] {pos}/{len}, {eta} left",
        )
    }

    fn new(context: &Context, what: &str, total: u64, template: &str) -> anyhow::Result<Self> {
        let interrupt = Interrupt::listen(&context.printer)?;
        let bar = context.printer.bars.add(ProgressBar::new(total));
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(what.to_owned());
        Ok(Self { bar, interrupt })
    }

    /// So much more is done. Whether to go on.
    pub fn tick(&self, more: u64) -> bool {
        self.bar.inc(more);
        !self.interrupt.asked()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
