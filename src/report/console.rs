//! The job's log: what people read, on stderr; what programs read, on stdout.

use std::error::Error as StdError;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use super::escaping;
use crate::ci::Platform;
use crate::secret::Secret;

/// Writes to the job's log. Clones write to the same one.
#[derive(Clone, Debug)]
pub struct Console {
    platform: Platform,
    /// Held while a line is written, so that a progress bar and a line do not mix.
    turn: Arc<Mutex<()>>,
}

impl Console {
    /// Takes the platform, whose commands are used.
    pub fn new(platform: Platform) -> Self {
        Self { platform, turn: Arc::default() }
    }

    /// Returns whether a person is looking.
    pub fn is_terminal(&self) -> bool {
        self.platform == Platform::None && std::io::stderr().is_terminal()
    }

    /// Writes a line for people. Nothing in it can become a command of the platform.
    pub fn line(&self, text: &str) {
        self.write(&format!("{}\n", escaping::log(text)));
    }

    /// Writes a warning, as an annotation where the platform has them.
    pub fn warning(&self, text: &str) {
        if self.platform.speaks_github() {
            self.write(&format!("::warning title=touchmark::{}\n", escaping::command_data(&escaping::log(text))));
        } else {
            self.line(&format!("warning: {text}"));
        }
    }

    /// Writes an error with its causes and what to do about it.
    pub fn error(&self, error: &dyn StdError, hint: Option<&str>) {
        let lines = describe(error, hint);
        for line in &lines {
            self.line(line);
        }
        if self.platform.speaks_github() {
            let text = escaping::log(&lines.join("\n"));
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            self.write(&format!("::error title=touchmark::{}\n", escaping::command_data(text)));
        }
    }

    /// Makes the platform hide a secret wherever it would be shown from now on.
    pub fn mask(&self, secret: &Secret) {
        if !self.platform.speaks_github() {
            return;
        }
        for line in secret.expose().lines().map(str::trim).filter(|line| line.len() >= 4) {
            self.write(&format!("::add-mask::{}\n", escaping::command_data(line)));
        }
    }

    /// Writes data to stdout, as it is.
    pub fn data(&self, text: &str) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = std::io::stdout().lock();
        // Whoever reads it may have stopped reading; that is no failure of ours.
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }

    fn write(&self, text: &str) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        drop(std::io::stderr().lock().write_all(text.as_bytes()));
    }
}

/// Returns the lines that describe an error: what, why, what to type.
pub fn describe(error: &dyn StdError, hint: Option<&str>) -> Vec<String> {
    let mut lines = vec![format!("error: {error}")];
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // A transparent error says what its source says.
        if text != told {
            lines.push(format!("  caused by: {text}"));
        }
        told = text;
        source = cause.source();
    }
    lines.extend(hint.map(|hint| format!("  hint: {hint}")));
    lines
}
