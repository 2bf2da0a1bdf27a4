//! The whole job in one go, with nothing but the toolchain: an embedded registry, a key that is made for it, a sample
//! image. Prints what a job's log and summary would show.
//!
//! ```sh
//! cargo run --example quickstart
//! ```
#![expect(clippy::expect_used, clippy::print_stdout, reason = "an example is read, and prints")]

#[path = "../tests/integration/support/image.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod image;
#[path = "../tests/integration/support/registry.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod registry;

use std::path::Path;
use std::process::ExitCode;

use registry::{ReferrersApi, TestRegistry};
use touchmark::ci::Environment;
use touchmark::commands;
use touchmark::error::ExitStatus;

fn main() -> ExitCode {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let registry = TestRegistry::start(ReferrersApi::Supported);
    image::multi_platform_layout(folder.path());
    let environment = job(folder.path(), &registry.host());
    let key = folder.path().join("cosign").display().to_string();

    println!("$ touchmark generate-key-pair");
    let steps: [&[&str]; 2] = [&["generate-key-pair", "--output-key-prefix", &key], &["publish"]];
    for words in steps {
        if run(words, &environment) != ExitStatus::Done {
            return ExitCode::FAILURE;
        }
    }

    let image = format!("{}/acme/app:v1", registry.host());
    println!("\n$ touchmark verify --key cosign.pub {image}");
    let public = format!("{key}.pub");
    if run(&["verify", "--key", &public, &image], &environment) != ExitStatus::Done {
        return ExitCode::FAILURE;
    }
    let summary = std::fs::read_to_string(folder.path().join("summary.md")).expect("the summary was written");
    println!("\nThe job summary:\n\n{summary}");
    ExitCode::SUCCESS
}

/// Describes a GitHub job with the step's inputs, as the runner would.
fn job(folder: &Path, registry: &str) -> Environment {
    let path = |name: &str| folder.join(name).display().to_string();
    Environment::from([
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SHA", "1f2d3c4b5a69788796a5b4c3d2e1f00112233445"),
        ("GITHUB_RUN_ID", "42"),
        ("GITHUB_RUN_ATTEMPT", "1"),
        ("GITHUB_REPOSITORY", "acme/app"),
        ("GITHUB_STEP_SUMMARY", &path("summary.md")),
        ("COSIGN_PASSWORD", "a password for a day"),
        ("INPUT_IMAGE", &format!("{registry}/acme/app:v1")),
        ("INPUT_SOURCE", &format!("oci:{}", folder.display())),
        ("INPUT_KEY", &path("cosign.key")),
    ])
}

fn run(words: &[&str], environment: &Environment) -> ExitStatus {
    let words = std::iter::once("touchmark").chain(words.iter().copied()).map(Into::into).collect();
    commands::run(words, environment)
}
