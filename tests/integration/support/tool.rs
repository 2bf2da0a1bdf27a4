//! Runs the real binary, in an empty environment and a folder of its own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The binary, and where it runs.
pub(crate) struct Tool {
    folder: TempDir,
    words: Vec<String>,
    variables: Vec<(String, String)>,
}

/// What a run left behind.
pub(crate) struct Output {
    /// The exit status; none if it was killed.
    pub(crate) code: Option<i32>,
    /// What it printed for programs.
    pub(crate) stdout: String,
    /// What it printed for people.
    pub(crate) stderr: String,
}

impl Tool {
    /// Starts with no arguments, no variables and an empty folder.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder can be made"), words: Vec::new(), variables: Vec::new() }
    }

    /// Returns the folder that it runs in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns a path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Reads a file in the folder; empty if it is not there.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Sets the arguments.
    pub(crate) fn args<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) -> &mut Self {
        self.words = words.into_iter().map(str::to_owned).collect();
        self
    }

    /// Sets a variable.
    pub(crate) fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(&self) -> Output {
        let output = self.command().output().expect("the binary runs");
        Output {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts it, for somebody who wants to end it.
    pub(crate) fn spawn(&self) -> Child {
        self.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_touchmark"));
        command.env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.args(&self.words).current_dir(self.folder()).stdin(Stdio::null());
        command
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => writeln!(f, "exit code: {code}")?,
            None => writeln!(f, "killed")?,
        }
        f.write_str(&self.stdout)?;
        f.write_str(&self.stderr)
    }
}
