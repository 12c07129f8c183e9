//! Errors as people read them: one sentence, what to do next, and an exit code.

use std::process::ExitCode;

use dacapo::Error;

/// Interrupted: what was done is kept.
pub const INTERRUPTED: u8 = 130;
/// Wrong usage or config.
const USAGE: u8 = 2;

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
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", sentence(error));
    if let Some(hint) = hint(error) {
        eprintln!("hint: {hint}");
    }
    if error.chain().any(dacapo::is_interruption) {
        return ExitCode::from(INTERRUPTED);
    }
    match error.chain().find_map(|cause| cause.downcast_ref::<Error>()) {
        Some(
            Error::Config { .. }
            | Error::Options { .. }
            | Error::Several { .. }
            | Error::Datasplit { .. }
            | Error::Dataset { .. }
            | Error::NoRun { .. }
            | Error::ConfigChanged { .. },
        ) => ExitCode::from(USAGE),
        _ => ExitCode::FAILURE,
    }
}
