//! Ctrl-C: the first asks the work to stop at a good place, the second ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::printer::Printer;
use crate::report::INTERRUPTED;

/// Whether the work was asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens to SIGINT and SIGTERM from now on.
    pub fn listen(printer: &Printer) -> anyhow::Result<Self> {
        let interrupt = Self::default();
        let (flag, printer) = (Arc::clone(&interrupt.0), printer.clone());
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                // Whatever is on disk is whole at any moment.
                std::process::exit(i32::from(INTERRUPTED));
            }
            printer.note("stopping after this step; press Ctrl-C again to stop at once");
        })?;
        Ok(interrupt)
    }

    /// Whether it was asked.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
