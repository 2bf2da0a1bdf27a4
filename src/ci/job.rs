//! What the platform says of the job that runs: the facts that signatures are annotated with.
//!
//! A platform's word is not proof: earlier steps of the same job can change these variables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Environment;

/// A CI platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// GitHub Actions.
    GitHub,
    /// Forgejo Actions, which speaks GitHub's protocols.
    Forgejo,
    /// Gitea Actions, which speaks GitHub's protocols.
    Gitea,
    /// GitLab CI/CD.
    GitLab,
    /// CircleCI.
    CircleCi,
    /// Buildkite.
    Buildkite,
    /// Azure Pipelines.
    Azure,
    /// Bitbucket Pipelines.
    Bitbucket,
    /// Jenkins.
    Jenkins,
    /// Woodpecker CI.
    Woodpecker,
    /// Drone and Harness.
    Drone,
    /// Codefresh.
    Codefresh,
    /// Semaphore.
    Semaphore,
    /// Another CI that sets `CI`.
    Other,
    /// No CI at all.
    None,
}

impl Platform {
    /// Returns whether the platform reads GitHub's workflow commands and command files.
    pub fn speaks_github(self) -> bool {
        matches!(self, Self::GitHub | Self::Forgejo | Self::Gitea)
    }

    fn detect(environment: &Environment) -> Self {
        let set = |name: &str| environment.get(name).is_some();
        let table = [
            ("FORGEJO_ACTIONS", Self::Forgejo),
            ("GITEA_ACTIONS", Self::Gitea),
            ("GITHUB_ACTIONS", Self::GitHub),
            ("GITLAB_CI", Self::GitLab),
            ("CIRCLECI", Self::CircleCi),
            ("BUILDKITE", Self::Buildkite),
            ("TF_BUILD", Self::Azure),
            ("BITBUCKET_BUILD_NUMBER", Self::Bitbucket),
            ("JENKINS_URL", Self::Jenkins),
            ("DRONE", Self::Drone),
            ("CF_BUILD_ID", Self::Codefresh),
            ("SEMAPHORE", Self::Semaphore),
        ];
        if environment.get("CI") == Some("woodpecker") {
            return Self::Woodpecker;
        }
        let known = table.into_iter().find_map(|(name, platform)| set(name).then_some(platform));
        known.unwrap_or(if set("CI") { Self::Other } else { Self::None })
    }
}

/// The job that runs, as the platform describes it. What the platform does not say is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Job {
    /// The platform.
    pub platform: Platform,
    /// The commit. For a GitHub pull request it is the merge commit that was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// The run or pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// Which attempt at the run this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_attempt: Option<String>,
    /// The git ref.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// The repository of the source code.
    #[serde(rename = "repo", skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The workflow or job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Where a person sees the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl Job {
    /// Reads the facts from the environment.
    pub fn detect(environment: &Environment) -> Self {
        let platform = Platform::detect(environment);
        let facts = match platform {
            Platform::GitHub | Platform::Forgejo | Platform::Gitea => github(environment),
            Platform::GitLab => gitlab(environment),
            Platform::Azure => azure(environment),
            Platform::Semaphore => semaphore(environment),
            _ => from_table(platform, environment),
        };
        Self { platform, ..facts }
    }

    /// Returns the facts as signed annotations: `sha`, `run_id`, `run_attempt`, `ref`, `repo`, `workflow` and `url`.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let facts = [
            ("sha", &self.sha),
            ("run_id", &self.run_id),
            ("run_attempt", &self.run_attempt),
            ("ref", &self.git_ref),
            ("repo", &self.repository),
            ("workflow", &self.workflow),
            ("url", &self.url),
        ];
        facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
    }

    fn nothing() -> Self {
        Self {
            platform: Platform::None,
            sha: None,
            run_id: None,
            run_attempt: None,
            git_ref: None,
            repository: None,
            workflow: None,
            url: None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GitHub {
    sha: Option<String>,
    run_id: Option<String>,
    run_attempt: Option<String>,
    r#ref: Option<String>,
    repository: Option<String>,
    workflow: Option<String>,
    server_url: Option<String>,
}

fn github(environment: &Environment) -> Job {
    let facts: GitHub = prefixed(environment, "GITHUB_");
    let url = match (&facts.server_url, &facts.repository, &facts.run_id, &facts.run_attempt) {
        (Some(server), Some(repository), Some(run), Some(attempt)) => {
            Some(format!("{server}/{repository}/actions/runs/{run}/attempts/{attempt}"))
        }
        _ => None,
    };
    Job {
        sha: facts.sha,
        run_id: facts.run_id,
        run_attempt: facts.run_attempt,
        git_ref: facts.r#ref,
        repository: facts.repository,
        workflow: facts.workflow,
        url,
        ..Job::nothing()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GitLab {
    commit_sha: Option<String>,
    pipeline_id: Option<String>,
    commit_tag: Option<String>,
    commit_ref_name: Option<String>,
    project_path: Option<String>,
    job_name: Option<String>,
    job_url: Option<String>,
}

/// GitLab counts no attempts: a job that is retried is a new job.
fn gitlab(environment: &Environment) -> Job {
    let facts: GitLab = prefixed(environment, "CI_");
    let tag = facts.commit_tag.map(|tag| format!("refs/tags/{tag}"));
    Job {
        sha: facts.commit_sha,
        run_id: facts.pipeline_id,
        git_ref: tag.or(facts.commit_ref_name.map(|branch| format!("refs/heads/{branch}"))),
        repository: facts.project_path,
        workflow: facts.job_name,
        url: facts.job_url,
        ..Job::nothing()
    }
}

fn azure(environment: &Environment) -> Job {
    let get = |name: &str| environment.get(name).map(str::to_owned);
    let url = match (get("SYSTEM_COLLECTIONURI"), get("SYSTEM_TEAMPROJECT"), get("BUILD_BUILDID")) {
        (Some(server), Some(project), Some(id)) => Some(format!("{server}{project}/_build/results?buildId={id}")),
        _ => None,
    };
    Job {
        sha: get("BUILD_SOURCEVERSION"),
        run_id: get("BUILD_BUILDID"),
        run_attempt: get("SYSTEM_JOBATTEMPT"),
        git_ref: get("BUILD_SOURCEBRANCH"),
        repository: get("BUILD_REPOSITORY_NAME"),
        workflow: get("BUILD_DEFINITIONNAME"),
        url,
        ..Job::nothing()
    }
}

fn semaphore(environment: &Environment) -> Job {
    let get = |name: &str| environment.get(name).map(str::to_owned);
    Job {
        sha: get("SEMAPHORE_GIT_SHA"),
        run_id: get("SEMAPHORE_WORKFLOW_ID"),
        git_ref: get("SEMAPHORE_GIT_REF"),
        repository: get("SEMAPHORE_GIT_REPO_SLUG"),
        workflow: get("SEMAPHORE_JOB_NAME"),
        ..Job::nothing()
    }
}

/// Most platforms have a variable for each fact.
fn from_table(platform: Platform, environment: &Environment) -> Job {
    let [sha, run_id, run_attempt, git_ref, repository, workflow, url] =
        names(platform).map(|name| environment.get(name).map(str::to_owned));
    Job { platform, sha, run_id, run_attempt, git_ref, repository, workflow, url }
}

/// Returns the variables' names, in the order of [`Job`]'s fields; an empty name is a fact that is not given.
fn names(platform: Platform) -> [&'static str; 7] {
    match platform {
        Platform::CircleCi => [
            "CIRCLE_SHA1",
            "CIRCLE_WORKFLOW_ID",
            "",
            "CIRCLE_BRANCH",
            "CIRCLE_PROJECT_REPONAME",
            "CIRCLE_JOB",
            "CIRCLE_BUILD_URL",
        ],
        Platform::Buildkite => [
            "BUILDKITE_COMMIT",
            "BUILDKITE_BUILD_ID",
            "BUILDKITE_RETRY_COUNT",
            "BUILDKITE_BRANCH",
            "BUILDKITE_REPO",
            "BUILDKITE_PIPELINE_SLUG",
            "BUILDKITE_BUILD_URL",
        ],
        Platform::Bitbucket => [
            "BITBUCKET_COMMIT",
            "BITBUCKET_BUILD_NUMBER",
            "BITBUCKET_STEP_RUN_NUMBER",
            "BITBUCKET_BRANCH",
            "BITBUCKET_REPO_FULL_NAME",
            "",
            "",
        ],
        Platform::Jenkins => ["GIT_COMMIT", "BUILD_ID", "", "GIT_BRANCH", "GIT_URL", "JOB_NAME", "BUILD_URL"],
        Platform::Woodpecker => [
            "CI_COMMIT_SHA",
            "CI_PIPELINE_NUMBER",
            "CI_PIPELINE_RERUNS",
            "CI_COMMIT_REF",
            "CI_REPO",
            "CI_WORKFLOW_NAME",
            "CI_PIPELINE_URL",
        ],
        Platform::Drone => [
            "DRONE_COMMIT_SHA",
            "DRONE_BUILD_NUMBER",
            "",
            "DRONE_COMMIT_REF",
            "DRONE_REPO",
            "DRONE_STAGE_NAME",
            "DRONE_BUILD_LINK",
        ],
        Platform::Codefresh => {
            ["CF_REVISION", "CF_BUILD_ID", "", "CF_BRANCH", "CF_REPO_NAME", "CF_PIPELINE_NAME", "CF_BUILD_URL"]
        }
        _ => [""; 7],
    }
}

/// Reads the variables that begin with `prefix`. All are optional text, so there is nothing that could not be read.
fn prefixed<T: serde::de::DeserializeOwned + Default>(environment: &Environment, prefix: &str) -> T {
    let filled = environment.iter().filter(|(_, value)| !value.is_empty());
    let owned = filled.map(|(name, value)| (name.to_owned(), value.to_owned()));
    envy::prefixed(prefix).from_iter(owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_github_job_has_every_fact() {
        let environment = Environment::from([
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SHA", "abc"),
            ("GITHUB_RUN_ID", "42"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("GITHUB_REF", "refs/heads/main"),
            ("GITHUB_REPOSITORY", "acme/app"),
            ("GITHUB_WORKFLOW", "release"),
            ("GITHUB_SERVER_URL", "https://github.com"),
        ]);

        let job = Job::detect(&environment);

        assert_eq!(job.platform, Platform::GitHub);
        assert_eq!(job.url.as_deref(), Some("https://github.com/acme/app/actions/runs/42/attempts/2"));
        assert_eq!(
            job.annotations().into_keys().collect::<Vec<_>>(),
            ["ref", "repo", "run_attempt", "run_id", "sha", "url", "workflow"]
        );
    }

    #[test]
    fn a_gitlab_job_has_no_attempt() {
        let environment = Environment::from([
            ("GITLAB_CI", "true"),
            ("CI", "true"),
            ("CI_COMMIT_SHA", "abc"),
            ("CI_PIPELINE_ID", "7"),
            ("CI_COMMIT_REF_NAME", "main"),
            ("CI_COMMIT_TAG", ""),
        ]);

        let job = Job::detect(&environment);

        assert_eq!((job.platform, job.run_attempt.as_deref()), (Platform::GitLab, None));
        assert_eq!(job.git_ref.as_deref(), Some("refs/heads/main"));
    }

    #[test]
    fn other_platforms_are_told_apart() {
        let table = [
            ("FORGEJO_ACTIONS", Platform::Forgejo),
            ("CIRCLECI", Platform::CircleCi),
            ("BUILDKITE", Platform::Buildkite),
            ("TF_BUILD", Platform::Azure),
            ("DRONE", Platform::Drone),
            ("CI", Platform::Other),
            ("HOME", Platform::None),
        ];

        for (name, platform) in table {
            assert_eq!(Job::detect(&Environment::from([(name, "true")])).platform, platform);
        }
        let buildkite = Environment::from([("BUILDKITE", "true"), ("BUILDKITE_COMMIT", "abc")]);
        assert_eq!(Job::detect(&buildkite).sha.as_deref(), Some("abc"));
    }
}
