//! The command line: what can be typed, and which exit code comes back.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use dacapo::array::storage::Location;
use dacapo::nn::{Device, Precision};

use crate::commands::{
    arrays, bench, config, datasplit, demo, evaluate, export, predict, runs, segment, show, sweep, train,
    validate,
};
use crate::context::Context;
use crate::printer::Printer;
use crate::report;

/// Train a 3D network on a few annotated crops of a huge image, find the iteration and the post-processing
/// that segment best, and apply them to everything.
#[derive(Debug, Parser)]
#[command(name = "dacapo", version, arg_required_else_help = true, after_help = AFTER)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Begin with:
  dacapo demo                       a whole run on made-up data, in a few minutes
  dacapo config check my.yaml       what a config comes to, before anything is written
  dacapo train my.yaml              train, validate, keep the best; Ctrl-C and again to go on

Arrays are named as container.zarr/dataset everywhere; `dacapo arrays` takes a relative path where nothing is for one \
below the base directory. Runs are kept in the base directory: --base, else \
`runs_base_dir` of the options file (DACAPO_OPTIONS_FILE, ./dacapo.yaml, ~/dacapo.yaml or \
~/.config/dacapo/dacapo.yaml), else ./runs. Both may be s3://bucket/… as well; keys come from AWS_… variables \
or ~/.aws, the endpoint from --endpoint or `object_store` of the options file.

Exit codes: 0 done, 1 failed (or damage found), 2 wrong usage or config: something else has to be said, 130 interrupted \
(what was done is kept).";

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Where runs are kept: a directory, or s3://bucket/prefix.
    #[arg(long, global = true, value_name = "DIR|URL")]
    pub base: Option<Location>,
    /// The service that s3:// means, if it is not that of AWS.
    #[arg(long, global = true, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Threads for the network [default: one a core].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// What networks run on: cpu, cuda, cuda:1 … [default: `compute.device` of the options file, else cpu].
    #[arg(long, global = true, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// What networks are computed in on a GPU: f32, bf16, f16 [default: `compute.precision`, else f32].
    #[arg(long, global = true, value_name = "KIND")]
    pub precision: Option<Precision>,
    /// Print results as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no bars and no notes, only results and errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Log what happens to standard error (-v: notes, -vv: details).
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A whole run on made-up data: train, validate, keep, show.
    Demo(demo::Demo),
    /// Train a run: from a config, or a run that was interrupted.
    Train(train::Train),
    /// Validate a checkpoint again: predict, segment with every parameter, score.
    Validate(validate::Validate),
    /// Predict any array with a trained network.
    Predict(predict::Predict),
    /// Make segments of a prediction, in memory or larger than it.
    Segment(segment::Segment),
    /// Score every threshold of a prediction.
    Sweep(sweep::Sweep),
    /// Score a segmentation by the truth, in memory or larger than it.
    Evaluate(evaluate::Evaluate),
    /// Write a trained network as a file for other programs: ONNX, safetensors.
    Export(export::Export),
    /// List the runs: how far they are, their best scores, their size.
    Runs(runs::Runs),
    /// Show a run: scores, curve, and pictures to files.
    Show(show::Show),
    /// The arrays of runs, and those of other programs.
    #[command(subcommand)]
    Arrays(arrays::Arrays),
    /// Check a config, or describe what one can say.
    #[command(subcommand)]
    Config(config::Config),
    /// What is trained and validated on: make it from a table, look at it.
    #[command(subcommand)]
    Datasplit(datasplit::Datasplit),
    /// Measure this machine with a network, in about a minute.
    Bench(bench::Bench),
}

/// Parses the command line, does what it says, and reports what went wrong.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    install_logger(cli.global.verbose);
    let printer = Printer::new(cli.global.json, cli.global.quiet);
    let done = Context::new(&cli.global, printer).and_then(|context| match cli.command {
        Command::Demo(command) => command.run(context),
        Command::Train(command) => command.run(&context),
        Command::Validate(command) => command.run(&context),
        Command::Predict(command) => command.run(&context),
        Command::Segment(command) => command.run(&context),
        Command::Sweep(command) => command.run(&context),
        Command::Evaluate(command) => command.run(&context),
        Command::Export(command) => command.run(&context),
        Command::Runs(command) => command.run(&context),
        Command::Show(command) => command.run(&context),
        Command::Arrays(command) => command.run(&context),
        Command::Config(command) => command.run(&context),
        Command::Datasplit(command) => command.run(&context),
        Command::Bench(command) => command.run(&context),
    });
    done.unwrap_or_else(|error| report::failure(&error))
}

fn install_logger(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .init();
}
