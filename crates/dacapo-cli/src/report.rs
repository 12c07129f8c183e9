//! Errors as people read them: one sentence, what to do next, and an exit code.

use std::error::Error as StdError;
use std::process::ExitCode;

use dacapo::{Error, array, nn, store, tasks};

/// Interrupted: what was done is kept.
pub const INTERRUPTED: u8 = 130;
/// Wrong usage or config.
const USAGE: u8 = 2;

/// What was typed makes no sense.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Usage {}

/// Returns with a [`Usage`] of this text.
macro_rules! misused {
    ($($text:tt)*) => {
        return Err($crate::report::Usage(format!($($text)*)).into())
    };
}
pub(crate) use misused;

/// An error with its causes, in one sentence.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Many errors say their cause themselves.
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    text
}

/// What a person can do about an error.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(dacapo::hint)
}

/// Prints an error with its causes and its hint to standard error; returns the exit code. Writing into a pipe
/// that nobody reads any more is no failure.
#[allow(clippy::print_stderr, reason = "the one place where errors are shown")]
pub fn failure(error: &anyhow::Error) -> ExitCode {
    if is_unread(error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", sentence(error));
    if let Some(hint) = hint(error) {
        eprintln!("hint: {hint}");
    }
    if error.chain().any(dacapo::is_interruption) {
        return ExitCode::from(INTERRUPTED);
    }
    if error.chain().any(is_usage) {
        ExitCode::from(USAGE)
    } else {
        ExitCode::FAILURE
    }
}

/// The exit code of a command that has found something and shown it: it counts whether or not anybody reads it.
pub fn found(shown: anyhow::Result<()>, code: ExitCode) -> anyhow::Result<ExitCode> {
    match shown {
        Err(error) if !is_unread(&error) => Err(error),
        _ => Ok(code),
    }
}

/// Whether nobody reads any more what is printed.
fn is_unread(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Whether the command line, or the config that it names, cannot mean anything: something else has to be said.
fn is_usage(cause: &(dyn StdError + 'static)) -> bool {
    if let Some(error) = cause.downcast_ref::<Error>() {
        return match error {
            Error::Config { .. }
            | Error::Options { .. }
            | Error::Several { .. }
            | Error::Datasplit { .. }
            | Error::Dataset { .. }
            | Error::Dimensions { .. }
            | Error::Channels { .. }
            | Error::LabelChannels { .. }
            | Error::Labels { .. }
            | Error::EmptyMask { .. }
            | Error::PointOutside { .. }
            | Error::NoOverlap { .. }
            | Error::SmallBlock { .. }
            | Error::RoiApart { .. }
            | Error::VoxelSizes { .. }
            | Error::LabelType { .. }
            | Error::IntensityRange { .. }
            | Error::MixedVoxelSizes { .. }
            | Error::NothingLabelled { .. }
            | Error::AbsentIds { .. }
            | Error::AugmentContext { .. }
            | Error::Criterion { .. }
            | Error::NoRun { .. }
            | Error::ConfigChanged { .. } => true,
            Error::Array(error) => is_usage(error),
            Error::Store(error) => is_usage(error),
            Error::Task(error) => is_usage(error),
            Error::Network(nn::Error::Config { .. } | nn::Error::InputShape { .. }) => true,
            _ => false,
        };
    }
    if let Some(error) = cause.downcast_ref::<store::Error>() {
        return match error {
            store::Error::Name { .. } | store::Error::Identifier { .. } | store::Error::Pattern { .. } => {
                true
            }
            store::Error::Array(error) => is_usage(error),
            _ => false,
        };
    }
    if let Some(error) = cause.downcast_ref::<array::Error>() {
        use array::Error::{Address, Location, Number, Region};
        return matches!(
            error,
            Address { .. } | Location { .. } | Number { .. } | Region { .. }
        );
    }
    if let Some(error) = cause.downcast_ref::<tasks::Error>() {
        use tasks::Error::{Config, Method, OffsetDims, OffsetLength, Parse, Range};
        return matches!(
            error,
            Config { .. }
                | Method { .. }
                | OffsetDims { .. }
                | OffsetLength { .. }
                | Parse { .. }
                | Range { .. }
        );
    }
    cause.is::<Usage>()
}
