//! How registries are reached, and with which login.
//!
//! Credentials, in order: the inputs; the job's own token, for the platform's own registry only; the files and helpers
//! of docker and podman. Each is for its own registry and for no other.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::PlanError;
use crate::ci::Environment;
use crate::cli::{PublishArgs, RegistryArgs, SecretInputs};
use crate::http::{HttpSpec, Proxies, excerpt};
use crate::oci::{DefaultRegistry, Reference, Repository};
use crate::registry::{Credential, CredentialsSpec, PlainHttp, RegistrySpec};
use crate::secret::Secret;

/// What was asked for about registries.
pub(super) struct Asked<'a> {
    username: Option<&'a str>,
    secrets: &'a SecretInputs,
    authority: Option<&'a PathBuf>,
    plain_http: PlainHttp,
    retry_for: Duration,
    jobs: u8,
    mount_from: &'a [String],
}

impl<'a> Asked<'a> {
    pub(super) fn by_publish(args: &'a PublishArgs, secrets: &'a SecretInputs) -> Self {
        Self {
            username: args.username.as_deref(),
            secrets,
            authority: args.registry_ca.as_ref(),
            plain_http: if args.insecure { PlainHttp::Allowed } else { PlainHttp::LoopbackOnly },
            retry_for: args.retry_for,
            jobs: args.jobs,
            mount_from: &args.mount_from,
        }
    }

    pub(super) fn by_flags(args: &'a RegistryArgs, secrets: &'a SecretInputs) -> Self {
        let plain = args.allow_http_registry || args.allow_insecure_registry;
        Self {
            username: args.registry_username.as_deref(),
            secrets,
            authority: args.registry_cacert.as_ref(),
            plain_http: if plain { PlainHttp::Allowed } else { PlainHttp::LoopbackOnly },
            retry_for: args.retry_for,
            jobs: 16,
            mount_from: &[],
        }
    }
}

pub(super) fn resolve(
    asked: &Asked<'_>,
    repository: &Repository,
    environment: &Environment,
) -> Result<RegistrySpec, PlanError> {
    let mount_from = asked.mount_from.iter().map(|text| {
        let reference = Reference::parse(text, DefaultRegistry::None);
        let value = excerpt(text);
        reference.map(|found| found.repository().clone()).map_err(|source| PlanError::MountFrom { value, source })
    });
    Ok(RegistrySpec {
        http: HttpSpec {
            certificate_authorities: asked.authority.cloned().into_iter().collect(),
            proxies: proxies(environment),
            retry_for: asked.retry_for,
        },
        plain_http: asked.plain_http,
        credentials: credentials(asked, repository, environment)?,
        jobs: usize::from(asked.jobs),
        mount_from: mount_from.collect::<Result<_, _>>()?,
    })
}

fn proxies(environment: &Environment) -> Proxies {
    let get = |upper: &str, lower: &str| environment.get(lower).or_else(|| environment.get(upper)).map(str::to_owned);
    let all = get("ALL_PROXY", "all_proxy");
    // In a CGI program, HTTP_PROXY would be a request header.
    let plain = environment.get("REQUEST_METHOD").is_none().then(|| get("HTTP_PROXY", "http_proxy")).flatten();
    Proxies {
        http: plain.or_else(|| all.clone()).map(Secret::new),
        https: get("HTTPS_PROXY", "https_proxy").or(all).map(Secret::new),
        no_proxy: get("NO_PROXY", "no_proxy"),
    }
}

fn credentials(
    asked: &Asked<'_>,
    repository: &Repository,
    environment: &Environment,
) -> Result<CredentialsSpec, PlanError> {
    let registry = repository.registry();
    let mut explicit = Vec::new();
    match (asked.username, &asked.secrets.password) {
        (Some(username), Some(password)) => {
            let credential = Credential::Basic { username: username.to_owned(), password: password.clone() };
            explicit.push((registry.to_owned(), credential));
        }
        (Some(_), None) if asked.secrets.token.is_none() => return Err(PlanError::NoPassword),
        _ => {}
    }
    explicit.extend(several(asked.secrets)?);
    explicit.extend(of_the_job(asked, registry, environment));
    Ok(CredentialsSpec {
        explicit,
        config_files: config_files(environment),
        helper_path: environment.get("PATH").map(str::to_owned),
        helper_environment: helper_environment(environment),
    })
}

/// Reads `registry-auth`.
fn several(secrets: &SecretInputs) -> Result<Vec<(String, Credential)>, PlanError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Login {
        registry: String,
        username: String,
        password: String,
    }
    let Some(text) = &secrets.registry_auth else { return Ok(Vec::new()) };
    let logins: Vec<Login> = serde_yaml::from_str(text.expose()).map_err(|error| {
        // The library's message quotes the input, which holds passwords: only the place is told.
        let place = error.location().map(|place| format!("line {}, column {}", place.line(), place.column()));
        PlanError::RegistryAuth { reason: place.unwrap_or_else(|| "at its start".to_owned()) }
    })?;
    let login = |login: Login| {
        let registry = match login.registry.trim_end_matches('/') {
            "docker.io" | "registry-1.docker.io" => "index.docker.io".to_owned(),
            other => other.to_ascii_lowercase(),
        };
        (registry, Credential::Basic { username: login.username, password: Secret::new(login.password) })
    };
    Ok(logins.into_iter().map(login).collect())
}

/// The job's own token, for the registry of its own platform.
fn of_the_job(asked: &Asked<'_>, registry: &str, environment: &Environment) -> Option<(String, Credential)> {
    let basic = |username: &str, password: Secret| {
        Some((registry.to_owned(), Credential::Basic { username: username.to_owned(), password }))
    };
    if environment.get("CI_REGISTRY").is_some_and(|own| own.eq_ignore_ascii_case(registry)) {
        if let (Some(user), Some(password)) =
            (environment.get("CI_REGISTRY_USER"), environment.get("CI_REGISTRY_PASSWORD"))
        {
            return basic(user, Secret::new(password));
        }
        if let Some(token) = environment.get("CI_JOB_TOKEN") {
            return basic("gitlab-ci-token", Secret::new(token));
        }
    }
    let github = environment.get("GITHUB_ACTIONS").is_some();
    let token = asked.secrets.token.clone();
    let token = token.or_else(|| environment.get("GITHUB_TOKEN").filter(|_| github).map(Secret::new))?;
    let own = registry == "ghcr.io" || is_forge(registry, environment);
    let actor = asked.username.or_else(|| environment.get("GITHUB_ACTOR")).unwrap_or("token");
    if own { basic(actor, token) } else { None }
}

/// Returns whether the registry is the Forgejo or Gitea server that runs the job.
fn is_forge(registry: &str, environment: &Environment) -> bool {
    let server = environment.get("GITHUB_SERVER_URL").unwrap_or_default();
    let host = server.split_once("://").map_or(server, |(_, rest)| rest).trim_end_matches('/');
    host != "github.com" && host.eq_ignore_ascii_case(registry)
}

fn config_files(environment: &Environment) -> Vec<PathBuf> {
    let below = |variable: &str, rest: &str| environment.get(variable).map(|folder| PathBuf::from(folder).join(rest));
    [
        environment.get("REGISTRY_AUTH_FILE").map(PathBuf::from),
        below("DOCKER_CONFIG", "config.json"),
        below("HOME", ".docker/config.json"),
        below("XDG_RUNTIME_DIR", "containers/auth.json"),
        below("HOME", ".config/containers/auth.json"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a credential helper needs to find its own configuration. Tokens of the job are not among it.
fn helper_environment(environment: &Environment) -> Vec<(String, String)> {
    const NAMES: [&str; 10] = [
        "HOME",
        "PATH",
        "XDG_CONFIG_HOME",
        "AWS_REGION",
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "CLOUDSDK_CONFIG",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ];
    let pair = |name: &str| Some((name.to_owned(), environment.get(name)?.to_owned()));
    NAMES.into_iter().filter_map(pair).collect()
}
