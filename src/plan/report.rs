//! What is reported, and where.

use std::path::PathBuf;

use serde::Serialize;

use crate::ci::{Environment, Job, Platform};
use crate::cli::PublishArgs;

/// What is reported, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportPlan {
    /// File that receives the result document.
    pub result: Option<PathBuf>,
    /// Command files of GitHub and those who speak its protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github: Option<GitHubFiles>,
    /// Report files of GitLab.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gitlab: Option<GitLabFiles>,
    /// Whether the job summary is written.
    pub summary: Summary,
}

/// Command files of GitHub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GitHubFiles {
    /// `GITHUB_OUTPUT`
    pub output: Option<PathBuf>,
    /// `GITHUB_STEP_SUMMARY`
    pub summary: Option<PathBuf>,
    /// `GITHUB_ARTIFACTS`
    pub artifacts: Option<PathBuf>,
}

/// Report files of GitLab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GitLabFiles {
    /// The dotenv report.
    pub dotenv: PathBuf,
    /// The annotations report.
    pub annotations: PathBuf,
}

/// Whether the job summary is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Summary {
    /// It is, where the platform has one.
    Written,
    /// It is not.
    Off,
}

impl ReportPlan {
    /// Returns the plan to tell nobody but the log.
    pub fn nothing() -> Self {
        Self { result: None, github: None, gitlab: None, summary: Summary::Off }
    }

    pub(super) fn resolve(args: &PublishArgs, environment: &Environment, job: &Job) -> Self {
        let path = |name: &str| environment.get(name).map(PathBuf::from);
        let github = job.platform.speaks_github().then(|| GitHubFiles {
            output: path("GITHUB_OUTPUT"),
            summary: path("GITHUB_STEP_SUMMARY"),
            artifacts: path("GITHUB_ARTIFACTS"),
        });
        let gitlab = (job.platform == Platform::GitLab).then(|| {
            let folder = path("CI_PROJECT_DIR").unwrap_or_default();
            GitLabFiles { dotenv: folder.join("touchmark.env"), annotations: folder.join("touchmark-annotations.json") }
        });
        // GitLab hands results on as files of the job; elsewhere a document is written where one is asked for.
        let default = gitlab.as_ref().map(|files| files.dotenv.with_file_name("touchmark-result.json"));
        Self {
            result: args.output_file.clone().or(default),
            github,
            gitlab,
            summary: if args.summary { Summary::Written } else { Summary::Off },
        }
    }
}
