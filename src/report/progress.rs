//! Progress of a long push: a bar on a terminal, a line every few seconds in a log.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use super::{Console, size};
use crate::registry::Progress;

/// How often a log gets a line.
const LINE: Duration = Duration::from_secs(5);
/// How often a bar moves.
const FRAME: Duration = Duration::from_millis(100);

/// Shows progress until it is dropped.
#[derive(Debug)]
pub struct ProgressDisplay {
    task: JoinHandle<()>,
    bar: Option<ProgressBar>,
}

impl ProgressDisplay {
    /// Starts to show `progress`.
    pub fn start(console: &Console, progress: Arc<Progress>) -> Self {
        if console.is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("pushing [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            let task = tokio::spawn(draw(bar.clone(), progress));
            return Self { task, bar: Some(bar) };
        }
        Self { task: tokio::spawn(log(console.clone(), progress)), bar: None }
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

async fn draw(bar: ProgressBar, progress: Arc<Progress>) {
    loop {
        bar.set_length(progress.total_bytes());
        bar.set_position(progress.sent_bytes());
        tokio::time::sleep(FRAME).await;
    }
}

async fn log(console: Console, progress: Arc<Progress>) {
    loop {
        tokio::time::sleep(LINE).await;
        console.line(&format!(
            "pushing: {} of {}, {} of {} blobs",
            size(progress.sent_bytes()),
            size(progress.total_bytes()),
            progress.finished_blobs(),
            progress.total_blobs()
        ));
    }
}
