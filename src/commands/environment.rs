//! `env`: every variable that is read, secrets masked.

use crate::ci::Environment;
use crate::cli::{EnvArgs, inputs};
use crate::report::Console;

/// Variables beside the inputs, with what they are for.
const OTHERS: [(&str, &str); 18] = [
    ("COSIGN_PASSWORD", "Password of the private key."),
    ("GITHUB_TOKEN", "Login for ghcr.io in a GitHub job."),
    ("GITHUB_ACTOR", "Name to log in to ghcr.io with."),
    ("GITHUB_OUTPUT", "File that receives the outputs."),
    ("GITHUB_STEP_SUMMARY", "File that receives the job summary."),
    ("GITHUB_ARTIFACTS", "File that receives the image as an artifact of the job."),
    ("CI_REGISTRY", "GitLab's registry."),
    ("CI_REGISTRY_USER", "Name to log in to GitLab's registry with."),
    ("CI_REGISTRY_PASSWORD", "Password to log in to GitLab's registry with."),
    ("CI_JOB_TOKEN", "Login for GitLab's registry, if there is no user and password."),
    ("DOCKER_CONFIG", "Folder of docker's config.json."),
    ("REGISTRY_AUTH_FILE", "podman's auth.json."),
    ("DOCKER_HOST", "The engine's socket, for `docker-daemon:`."),
    ("HTTP_PROXY", "Proxy for plain HTTP."),
    ("HTTPS_PROXY", "Proxy for HTTPS."),
    ("ALL_PROXY", "Proxy for both."),
    ("NO_PROXY", "Hosts that are reached directly."),
    ("RUNNER_DEBUG", "Say what is done in detail."),
];

pub(super) fn list(args: &EnvArgs, environment: &Environment, console: &Console) {
    let mut text = String::new();
    for input in inputs() {
        let name = format!("TOUCHMARK_{}", input.name.to_ascii_uppercase().replace('-', "_"));
        text.push_str(&entry(&name, &input.help, args, environment));
    }
    for (name, help) in OTHERS {
        text.push_str(&entry(name, help, args, environment));
    }
    console.data(&text);
}

fn entry(name: &str, help: &str, args: &EnvArgs, environment: &Environment) -> String {
    let hidden = ["PASSWORD", "TOKEN", "AUTH", "PROXY"].iter().any(|part| name.contains(part)) && name != "NO_PROXY";
    let value = match environment.get(name) {
        Some(_) if hidden => "******",
        Some(value) => value,
        None => "",
    };
    let description = if args.show_descriptions { format!("# {name} {help}\n") } else { String::new() };
    format!("{description}{name}={}\n", crate::http::excerpt(value))
}
