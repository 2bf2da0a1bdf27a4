//! Order of work: one file for each command. The only room that sees every other.

mod environment;
mod keys;
mod publish;
mod sign;
mod signing;
mod triangulate;
mod verify;

use std::ffi::OsString;

use crate::ci::{Environment, Job};
use crate::cli::{self, Command, Invocation, SecretInputs};
use crate::error::{Error, ExitStatus};
use crate::plan::Plan;
use crate::report::{Console, Report};

/// Runs the command that the words and the environment ask for, and returns the exit status of the process.
pub fn run(words: Vec<OsString>, environment: &Environment) -> ExitStatus {
    let console = Console::new(Job::detect(environment).platform);
    let invocation = match cli::parse(words, environment) {
        Ok(invocation) => invocation,
        Err(error) => {
            if let Some(text) = error.display() {
                console.data(&text);
                return ExitStatus::Done;
            }
            return fail(&console, &error.into());
        }
    };
    invocation.secrets.iter().for_each(|secret| console.mask(secret));
    invocation.warnings.iter().for_each(|warning| console.warning(warning));
    start_diagnostics(&invocation, environment);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            console.error(&error, None);
            return ExitStatus::Bug;
        }
    };
    runtime.block_on(dispatch(invocation, environment, &console))
}

async fn dispatch(invocation: Invocation, environment: &Environment, console: &Console) -> ExitStatus {
    let secrets = invocation.secrets;
    let outcome = match invocation.cli.command {
        Command::Publish(args) => match Plan::resolve(&args, &secrets, environment) {
            Ok(plan) if args.dry_run => {
                console.data(&(serde_json::to_string_pretty(&plan).unwrap_or_default() + "\n"));
                Ok(())
            }
            Ok(plan) => return run_publish(&plan, console).await,
            Err(error) => Err(error.into()),
        },
        Command::Sign(args) => sign::sign(&args, &secrets, environment, console).await,
        Command::Verify(args) => verify::verify(&args, &secrets, environment, console).await,
        Command::GenerateKeyPair(args) => keys::generate(&args, &secrets, environment, console),
        Command::PublicKey(args) => keys::public_key(&args, &secrets, environment, console),
        Command::Triangulate(args) => triangulate::triangulate(&args, &secrets, environment, console).await,
        Command::Env(args) => {
            environment::list(&args, environment, console);
            Ok(())
        }
        Command::Version => {
            console.data(&format!("touchmark {}\n", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
    };
    outcome.map_or_else(|error| fail(console, &error), |()| ExitStatus::Done)
}

/// Publishes, and reports whatever came of it.
async fn run_publish(plan: &Plan, console: &Console) -> ExitStatus {
    let mut report = Report::new(plan.report.clone(), console.clone());
    let outcome = publish::execute(plan, &mut report).await;
    match outcome.and_then(|()| report.publish().map_err(Error::from)) {
        Ok(()) => ExitStatus::Done,
        Err(error) => {
            report.publish_failure(&error);
            error.exit_status()
        }
    }
}

fn fail(console: &Console, error: &Error) -> ExitStatus {
    console.error(error, error.hint().as_deref());
    error.exit_status()
}

/// Diagnostics are for us: off unless asked for, by flag or by the platform's own debug switch.
fn start_diagnostics(invocation: &Invocation, environment: &Environment) {
    let debug = environment.is_true("RUNNER_DEBUG") || environment.is_true("CI_DEBUG_TRACE");
    if !invocation.cli.verbose && !debug {
        return;
    }
    let started = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new("touchmark=debug"))
        .with_writer(|| Harmless(std::io::stderr()))
        .with_ansi(false)
        .try_init();
    if let Err(error) = started {
        tracing::debug!(%error, "diagnostics were started before");
    }
}

/// Takes the power from what looks like a command of the platform.
struct Harmless(std::io::Stderr);

impl std::io::Write for Harmless {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = crate::report::escaping::log(&String::from_utf8_lossy(bytes));
        self.0.write_all(text.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Asks for the password of a key at the terminal, if the key needs one, none was given, and there is somebody to ask.
///
/// In a CI job nobody is asked: the signer says what to set.
fn with_password(
    signer: crate::sign::SignerSpec,
    secrets: &SecretInputs,
    console: &Console,
) -> crate::sign::SignerSpec {
    if secrets.key_password.is_some() || !console.is_terminal() || !signer.lacks_password() {
        return signer;
    }
    match rpassword::prompt_password("Password of the private key: ") {
        Ok(password) => signer.with_password(crate::secret::Secret::new(password)),
        Err(error) => {
            tracing::debug!(%error, "nobody answered");
            signer
        }
    }
}
