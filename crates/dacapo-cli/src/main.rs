//! The `dacapo` command. Everything that it does is the library's; here is how it is asked for and shown.

mod bar;
mod cli;
mod commands;
mod context;
mod credentials;
mod figures;
mod interrupt;
mod placing;
mod prediction;
mod printer;
mod progress;
mod report;
mod typed;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: dacapo::array::HugePages = dacapo::array::HugePages;

fn main() -> ExitCode {
    cli::run()
}
