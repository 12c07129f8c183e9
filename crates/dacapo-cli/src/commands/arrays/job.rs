//! A long job over arrays: a bar, and Ctrl-C to stop it where it is safe.

use std::ops::ControlFlow;

use crate::bar::{Bar, Counted};
use crate::context::Context;
use crate::interrupt::Interrupt;

/// How far a job is, and whether it is to go on.
pub struct Job {
    bar: Bar,
    interrupt: Interrupt,
}

impl Job {
    /// Over so many bytes or things.
    pub fn new(context: &Context, doing: &str, counted: Counted, total: u64) -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: Interrupt::listen(&context.printer)?,
            bar: Bar::new(&context.printer, doing, counted, total),
        })
    }

    /// So much more is done. Whether to go on.
    pub fn tick(&self, more: u64) -> bool {
        self.bar.advance(more);
        !self.interrupt.asked()
    }

    /// So many of all parts are done; says whether to go on.
    pub fn on_part(&self, done: usize, total: usize) -> ControlFlow<()> {
        self.bar.at_of(done as u64, total as u64);
        if self.interrupt.asked() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}
