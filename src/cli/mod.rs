//! Text in: the command line, and step inputs that become words of it. Nothing is decided here.

mod args;
mod step_inputs;
mod value;

use std::ffi::OsString;

use clap::{CommandFactory as _, Parser as _};

pub use args::{
    Cli, Command, EnvArgs, GenerateKeyPairArgs, PublicKeyArgs, PublishArgs, RegistryArgs, SignArgs, TriangulateArgs,
    VerifyArgs, VerifyOutput,
};
pub use step_inputs::{Input, SecretInputs, inputs};

use crate::ci::Environment;

/// What was asked for, as it was written.
#[derive(Debug)]
pub struct Invocation {
    /// The command with its arguments.
    pub cli: Cli,
    /// Secrets, which are never arguments.
    pub secrets: SecretInputs,
    /// What the user should know about the inputs, one sentence each.
    pub warnings: Vec<String>,
}

/// Reads the command line and the step's inputs.
pub fn parse(words: Vec<OsString>, environment: &Environment) -> Result<Invocation, InputError> {
    let words = step_inputs::without_shell(words, environment);
    let mut words = with_command(words, environment);
    let mut warnings = Vec::new();
    if words.get(1).is_some_and(|word| word == "publish") {
        let found = step_inputs::words(environment, &words[2..])?;
        warnings = found.warnings;
        words.splice(2..2, found.words);
    } else {
        let found = step_inputs::cosign_words(environment, &words);
        words.extend(found);
    }
    let cli = Cli::try_parse_from(words)?;
    Ok(Invocation { cli, secrets: SecretInputs::collect(environment)?, warnings })
}

/// Adds the command that is meant where none is written: `publish` in a CI job or before a flag of its own.
fn with_command(mut words: Vec<OsString>, environment: &Environment) -> Vec<OsString> {
    let first = words.get(1).and_then(|word| word.to_str()).map(str::to_owned);
    let publishes = match first.as_deref() {
        None => step_inputs::has_inputs(environment),
        Some("-h" | "--help" | "-V" | "--version" | "help") => false,
        Some(word) => word.starts_with("--"),
    };
    if publishes {
        words.insert(1, "publish".into());
    } else if first.is_none() {
        words.push("--help".into());
    }
    words
}

/// Returns the definition of the command line, for tests and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The command line or the step's inputs cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// What clap has to say: an error, or help that was asked for.
    #[error("{}", first_line(.0))]
    CommandLine(#[from] clap::Error),
    /// Two variables of one family say different things.
    #[error("`{first}` and `{second}` have different values")]
    Conflict {
        /// One variable.
        first: String,
        /// The other variable.
        second: String,
    },
    /// A list that is no list.
    #[error("`{name}` is not a list: {reason}")]
    List {
        /// The variable.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl InputError {
    /// Returns what to type, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::CommandLine(error) => suggestion(error),
            Self::Conflict { second, .. } => Some(format!("remove `{second}`")),
            Self::List { .. } => Some("write one item a line, or a JSON array".to_owned()),
        }
    }

    /// Returns the text to print as it is, if help or the version was asked for.
    pub fn display(&self) -> Option<String> {
        use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
        match self {
            Self::CommandLine(error)
                if matches!(error.kind(), DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand) =>
            {
                Some(error.to_string())
            }
            _ => None,
        }
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    crate::http::excerpt(line.strip_prefix("error: ").unwrap_or(line)).replace('\'', "`")
}

/// Returns what clap proposes, for example the flag that was probably meant.
fn suggestion(error: &clap::Error) -> Option<String> {
    let text = error.to_string();
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "))?;
    Some(crate::http::excerpt(tip).replace('\'', "`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str], environment: &Environment) -> Result<Invocation, InputError> {
        let words = std::iter::once("touchmark").chain(words.iter().copied()).map(OsString::from).collect();
        parse(words, environment)
    }

    fn publish(words: &[&str], environment: &Environment) -> PublishArgs {
        match parse_words(words, environment).unwrap().cli.command {
            Command::Publish(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn inputs_are_read_in_order_of_precedence() {
        let environment = Environment::from([
            ("PLUGIN_IMAGE", "plugin"),
            ("INPUT_IMAGE", "input"),
            ("INPUT_REGISTRY-CA", "ca.pem"),
            ("INPUT_RETRY_FOR", "1m"),
        ]);

        assert_eq!(publish(&[], &environment).image.as_deref(), Some("input"));
        assert_eq!(publish(&[], &environment.clone().with("TOUCHMARK_IMAGE", "own")).image.as_deref(), Some("own"));
        assert_eq!(publish(&["--image", "flag"], &environment).image.as_deref(), Some("flag"));
        assert_eq!(publish(&[], &environment).registry_ca.unwrap().to_str(), Some("ca.pem"));
        assert_eq!(publish(&[], &environment).retry_for.as_secs(), 60);
    }

    #[test]
    fn lists_are_lines_and_plugins_settings() {
        let lines = Environment::from([("INPUT_IMAGE", "x"), ("INPUT_TAGS", "a\n\n b \r\n")]);
        let commas = Environment::from([("PLUGIN_IMAGE", "x"), ("PLUGIN_TAGS", "a,b")]);
        let map = Environment::from([("PLUGIN_IMAGE", "x"), ("PLUGIN_ANNOTATIONS", r#"{"k":"v,w","n":"1"}"#)]);

        assert_eq!(publish(&[], &lines).tags, ["a", "b"]);
        assert_eq!(publish(&[], &commas).tags, ["a", "b"]);
        assert_eq!(publish(&[], &map).annotations, ["k=v,w", "n=1"]);
    }

    #[test]
    fn an_annotation_may_hold_commas_and_equal_signs() {
        let environment = Environment::from([("INPUT_IMAGE", "x"), ("INPUT_ANNOTATIONS", "auto\nq=a=b,c=d")]);

        assert_eq!(publish(&[], &environment).annotations, ["auto", "q=a=b,c=d"]);
    }

    #[test]
    fn an_unknown_input_is_named_with_the_nearest_one() {
        let environment = Environment::from([("INPUT_IMAGE", "x"), ("INPUT_ANOTATIONS", "auto"), ("INPUT_ARGS", "y")]);

        let invocation = parse_words(&[], &environment).unwrap();

        assert_eq!(invocation.warnings, ["unknown input `anotations`: did you mean `annotations`?"]);
    }

    #[test]
    fn two_spellings_with_two_values_are_a_conflict() {
        let environment =
            Environment::from([("INPUT_IMAGE", "x"), ("INPUT_RETRY-FOR", "1m"), ("INPUT_RETRY_FOR", "2m")]);

        let error = parse_words(&[], &environment).unwrap_err();

        assert_eq!(error.to_string(), "`INPUT_RETRY-FOR` and `INPUT_RETRY_FOR` have different values");
    }

    #[test]
    fn gitlabs_shell_words_are_not_ours() {
        let environment = Environment::from([("GITLAB_CI", "true"), ("TOUCHMARK_IMAGE", "x")]);

        assert_eq!(publish(&["sh", "-c", "if [ -x /bin/bash ]; then"], &environment).image.as_deref(), Some("x"));
    }

    #[test]
    fn secrets_are_no_flags() {
        for name in ["password", "token", "registry-auth", "key-password"] {
            let error = parse_words(&["publish", &format!("--{name}=hunter2")], &Environment::default()).unwrap_err();

            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }
}
