//! Where output goes: results to standard output, notes and bars to standard error.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Table, presets};
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;

/// Decides what is printed, and how.
#[derive(Debug, Clone)]
pub struct Printer {
    /// Results as JSON.
    pub json: bool,
    quiet: bool,
    /// Bars and notes share the terminal.
    pub bars: MultiProgress,
}

impl Printer {
    /// Bars are drawn only on a terminal.
    pub fn new(json: bool, quiet: bool) -> Self {
        let target = if quiet || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        Self {
            json,
            quiet,
            bars: MultiProgress::with_draw_target(target),
        }
    }

    /// A line of the result.
    pub fn line(&self, text: impl AsRef<str>) -> anyhow::Result<()> {
        self.bars
            .suspend(|| writeln!(io::stdout().lock(), "{}", text.as_ref()))?;
        Ok(())
    }

    /// The result as JSON.
    pub fn value(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(serde_json::to_string_pretty(value)?)
    }

    /// A remark about what is going on. That it cannot be shown stops nothing.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.bars
                .suspend(|| drop(writeln!(io::stderr().lock(), "{}", text.as_ref())));
        }
    }

    /// A remark that is shown even when only errors are.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.bars
            .suspend(|| drop(writeln!(io::stderr().lock(), "warning: {}", text.as_ref())));
    }

    /// Whether bars are visible; where they are not, a line now and then says how far things are.
    pub fn has_bars(&self) -> bool {
        !self.bars.is_hidden()
    }
}

/// A table as Markdown has it: it can be pasted anywhere.
pub fn table<'a>(head: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(head.into_iter().map(str::to_owned).collect::<Vec<_>>());
    table
}

/// Bytes with a unit.
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{n} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// What stands behind a score that another program counted, by its own rules.
pub fn counted_by(program: Option<&str>) -> String {
    program.map_or_else(String::new, |program| format!(" ({program}'s count)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_fitting_unit() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500), "1.5 kB");
        assert_eq!(bytes(2_000_000_000), "2.0 GB");
    }
}
