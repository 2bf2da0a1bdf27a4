//! The process environment, captured once at the start.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Every variable of the process, and its working directory, as they were at the start.
///
/// It is the only reader of the process environment, so that a test describes a whole platform as pairs. A variable
/// that is set but empty counts as unset, as on GitHub, where an input without a value arrives empty.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    working_directory: PathBuf,
}

impl Environment {
    /// Captures the environment of this process. Variables that are not UTF-8 are left out.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the process environment")]
    pub fn capture() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { variables, working_directory: std::env::current_dir().unwrap_or_default() }
    }

    /// Returns the value of `name`, unless it is unset or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Returns the value of `name` even if it is empty, for the few variables where empty is a value (`COSIGN_PASSWORD`).
    pub fn get_even_empty(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Returns whether `name` says yes: `true`, `1` or `yes`, in any case.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes"))
    }

    /// Returns every variable, sorted by name, the empty ones too.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the working directory.
    pub fn working_directory(&self) -> &std::path::Path {
        &self.working_directory
    }

    /// Returns the environment with `name` set to `value`.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        let variables = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { variables, working_directory: PathBuf::new() }
    }
}

impl std::fmt::Debug for Environment {
    /// Shows names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}
