//! The binary: captures the arguments and the environment, runs the command, maps the exit status.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use touchmark::ci::Environment;
use touchmark::commands;
use touchmark::error::ExitStatus;

fn main() -> ExitCode {
    let environment = Environment::capture();
    let words: Vec<_> = std::env::args_os().collect();
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| commands::run(words, &environment)));
    ExitCode::from(outcome.unwrap_or(ExitStatus::Bug).code())
}
