//! Step inputs become words of the command line, so that there is one definition of every input.
//!
//! Precedence: flag, `TOUCHMARK_X`, `INPUT_X` (with a dash or an underscore), `PLUGIN_X`, `COSIGN_X`. Empty is unset.

use std::ffi::OsString;

use clap::{Arg, ArgAction};

use super::InputError;
use crate::ci::Environment;
use crate::secret::Secret;

/// An input of `publish`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its name, as in `action.yml`.
    pub name: String,
    /// What it means.
    pub help: String,
    /// Its default, if it has one.
    pub default: Option<String>,
    /// What kind of value it has.
    pub kind: InputKind,
}

/// What kind of value an input has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// One value.
    Single,
    /// One value a line.
    List,
    /// One value that is never a flag.
    Secret,
}

const SECRETS: [(&str, &str); 4] = [
    ("password", "Password or access token to log in to the registry with."),
    ("token", "The job's token, used for the platform's own registry."),
    ("registry-auth", "Logins for several registries: a YAML list of `registry`, `username` and `password`."),
    ("key-password", "Password of the private key; it may be empty."),
];
/// Inputs that GitHub itself passes to container actions.
const RESERVED: [&str; 4] = ["entrypoint", "args", "pre-entrypoint", "post-entrypoint"];

/// Returns every input: the flags of `publish`, and the secrets.
pub fn inputs() -> Vec<Input> {
    let command = super::command();
    let publish = command.find_subcommand("publish");
    let flags = publish.into_iter().flat_map(clap::Command::get_arguments).filter_map(flag);
    let secret = |(name, help): (&str, &str)| Input {
        name: name.to_owned(),
        help: help.to_owned(),
        default: None,
        kind: InputKind::Secret,
    };
    flags.chain(SECRETS.map(secret)).collect()
}

fn flag(argument: &Arg) -> Option<Input> {
    let name = argument.get_long().filter(|name| !matches!(*name, "help" | "verbose" | "version"))?;
    let default = argument.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
    let kind = if matches!(argument.get_action(), ArgAction::Append) { InputKind::List } else { InputKind::Single };
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    Some(Input { name: name.to_owned(), help, default, kind })
}

/// Secrets that were given as variables. They are never words.
#[derive(Clone, Debug, Default)]
pub struct SecretInputs {
    /// `password`
    pub password: Option<Secret>,
    /// `token`
    pub token: Option<Secret>,
    /// `registry-auth`
    pub registry_auth: Option<Secret>,
    /// `key-password`, or `COSIGN_PASSWORD`, which may be empty.
    pub key_password: Option<Secret>,
}

impl SecretInputs {
    pub(super) fn collect(environment: &Environment) -> Result<Self, InputError> {
        let secret = |name: &str| -> Result<Option<Secret>, InputError> {
            Ok(find(environment, name)?.map(|found| Secret::new(found.value)))
        };
        let cosign = environment.get_even_empty("COSIGN_PASSWORD").map(Secret::new);
        Ok(Self {
            password: secret("password")?,
            token: secret("token")?,
            registry_auth: secret("registry-auth")?,
            key_password: secret("key-password")?.or(cosign),
        })
    }

    /// Returns every secret that there is, to be masked.
    pub fn iter(&self) -> impl Iterator<Item = &Secret> {
        [&self.password, &self.token, &self.registry_auth, &self.key_password].into_iter().flatten()
    }
}

/// What was made of the environment.
pub(super) struct Words {
    pub(super) words: Vec<OsString>,
    pub(super) warnings: Vec<String>,
}

/// Returns the inputs of `publish` as words. An input that is a flag in `given` already is left out.
pub(super) fn words(environment: &Environment, given: &[OsString]) -> Result<Words, InputError> {
    let known = inputs();
    let mut words = Vec::new();
    for input in known.iter().filter(|input| input.kind != InputKind::Secret) {
        if is_given(&input.name, given) {
            continue;
        }
        if let Some(found) = find(environment, &input.name)? {
            let values = if input.kind == InputKind::List { found.list(&input.name)? } else { vec![found.value] };
            words.extend(values.into_iter().map(|value| OsString::from(format!("--{}={value}", input.name))));
        }
    }
    Ok(Words { words, warnings: unknown(environment, &known) })
}

/// Returns cosign's variables as words, for the commands that cosign has too.
pub(super) fn cosign_words(environment: &Environment, given: &[OsString]) -> Vec<OsString> {
    let command = super::command();
    let subcommand = given.get(1).and_then(|word| word.to_str()).and_then(|name| command.find_subcommand(name));
    let mut words = Vec::new();
    for argument in subcommand.into_iter().flat_map(clap::Command::get_arguments) {
        let Some(name) = argument.get_long().filter(|name| !is_given(name, given)) else { continue };
        let Some(value) = environment.get(&format!("COSIGN_{}", upper(name))) else { continue };
        let short_given = argument.get_short().is_some_and(|short| is_short_given(short, given));
        let values = match argument.get_action() {
            _ if short_given => Vec::new(),
            ArgAction::Append => value.split(',').map(str::to_owned).collect(),
            ArgAction::Set => vec![value.to_owned()],
            _ => Vec::new(),
        };
        words.extend(values.into_iter().map(|value| OsString::from(format!("--{name}={value}"))));
    }
    words
}

/// Returns whether any input of `publish` is set.
pub(super) fn has_inputs(environment: &Environment) -> bool {
    ["TOUCHMARK_IMAGE", "INPUT_IMAGE", "PLUGIN_IMAGE", "GITHUB_ACTIONS", "GITLAB_CI"]
        .iter()
        .any(|name| environment.get(name).is_some())
}

/// GitLab's docker executor starts the entrypoint with a script that looks for a shell: it is not for us.
pub(super) fn without_shell(words: Vec<OsString>, environment: &Environment) -> Vec<OsString> {
    let is_shell = words.get(1).is_some_and(|word| word == "sh") && words.get(2).is_some_and(|word| word == "-c");
    if is_shell && environment.get("GITLAB_CI").is_some() {
        return words.into_iter().take(1).collect();
    }
    words
}

struct Found {
    variable: String,
    value: String,
}

impl Found {
    /// Reads a list: one item a line, and for plugins a JSON array, a JSON object, or commas.
    fn list(self, name: &str) -> Result<Vec<String>, InputError> {
        if self.variable.starts_with("PLUGIN_") {
            return self.plugin_list();
        }
        if self.variable.starts_with("COSIGN_") && name == "annotations" {
            return Ok(self.value.split(',').map(str::to_owned).collect());
        }
        let lines = self.value.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(lines.map(str::to_owned).collect())
    }

    fn plugin_list(self) -> Result<Vec<String>, InputError> {
        use serde_json::Value;
        let refuse = |reason: &str| InputError::List { name: self.variable.clone(), reason: reason.to_owned() };
        let text = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
            _ => Err(refuse("an item is neither text nor a number")),
        };
        match self.value.trim_start().chars().next() {
            Some('[') => {
                let items: Vec<Value> = serde_json::from_str(&self.value).map_err(|_| refuse("it is not JSON"))?;
                items.iter().map(text).collect()
            }
            Some('{') => {
                let items: serde_json::Map<String, Value> =
                    serde_json::from_str(&self.value).map_err(|_| refuse("it is not JSON"))?;
                items.iter().map(|(key, value)| Ok(format!("{key}={}", text(value)?))).collect()
            }
            _ => Ok(self.value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()),
        }
    }
}

fn find(environment: &Environment, name: &str) -> Result<Option<Found>, InputError> {
    let (dash, underscore) = (name.to_ascii_uppercase(), upper(name));
    for family in ["TOUCHMARK_", "INPUT_", "PLUGIN_", "COSIGN_"] {
        if family == "COSIGN_" && !matches!(name, "key" | "annotations") {
            continue;
        }
        let mut spellings = vec![format!("{family}{underscore}")];
        if family == "INPUT_" && dash != underscore {
            spellings.insert(0, format!("{family}{dash}"));
        }
        let mut found: Option<Found> = None;
        for variable in spellings {
            let Some(value) = environment.get(&variable) else { continue };
            match &found {
                Some(first) if first.value != value => {
                    return Err(InputError::Conflict { first: first.variable.clone(), second: variable });
                }
                Some(_) => {}
                None => found = Some(Found { variable, value: value.to_owned() }),
            }
        }
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn upper(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

fn is_given(name: &str, words: &[OsString]) -> bool {
    let flag = format!("--{name}");
    words
        .iter()
        .filter_map(|word| word.to_str())
        .any(|word| word.strip_prefix(&flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')))
}

fn is_short_given(short: char, words: &[OsString]) -> bool {
    let flag = format!("-{short}");
    words.iter().filter_map(|word| word.to_str()).any(|word| word.starts_with(&flag) && !word.starts_with("--"))
}

/// Names inputs that nobody declared: `uses: docker://` lets misspelt ones through.
fn unknown(environment: &Environment, known: &[Input]) -> Vec<String> {
    let names =
        environment.iter().filter(|(_, value)| !value.is_empty()).filter_map(|(name, _)| name.strip_prefix("INPUT_"));
    let names = names.map(|name| name.to_ascii_lowercase().replace('_', "-"));
    let strangers =
        names.filter(|name| !known.iter().any(|input| input.name == *name) && !RESERVED.contains(&name.as_str()));
    strangers
        .map(|name| match nearest(&name, known) {
            Some(input) => format!("unknown input `{}`: did you mean `{input}`?", crate::http::excerpt(&name)),
            None => format!("unknown input `{}`", crate::http::excerpt(&name)),
        })
        .collect()
}

fn nearest<'a>(name: &str, known: &'a [Input]) -> Option<&'a str> {
    let (distance, input) = known.iter().map(|input| (distance(name, &input.name), input)).min_by_key(|(d, _)| *d)?;
    (distance <= 3 && distance < input.name.len()).then_some(input.name.as_str())
}

/// The Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
