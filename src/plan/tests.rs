//! Whole platforms as pairs of variables, and what is made of them.

use super::*;
use crate::cli::{Command, parse};
use crate::registry::Credential;

fn resolve(words: &[&str], environment: &Environment) -> Result<Plan, PlanError> {
    let words = std::iter::once("touchmark").chain(words.iter().copied()).map(Into::into).collect();
    let invocation = parse(words, environment).unwrap();
    match invocation.cli.command {
        Command::Publish(args) => Plan::resolve(&args, &invocation.secrets, environment),
        other => panic!("{other:?}"),
    }
}

const MINIMAL: [&str; 7] =
    ["publish", "--image", "ghcr.io/acme/app:v1", "--source", "oci:image", "--key", "cosign.key"];

#[test]
fn a_github_job_logs_in_with_its_own_token() {
    let environment = Environment::from([
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_ACTOR", "octo"),
        ("GITHUB_SHA", "abc"),
        ("INPUT_IMAGE", "ghcr.io/acme/app:v1"),
        ("INPUT_SOURCE", "oci:image"),
        ("INPUT_KEY", "cosign.key"),
        ("INPUT_TOKEN", "hunter2"),
        ("GITHUB_OUTPUT", "/github/file_commands/output"),
    ]);

    let plan = resolve(&[], &environment).unwrap();

    let expected = Credential::Basic { username: "octo".to_owned(), password: Secret::new("hunter2") };
    assert_eq!(plan.registry.credentials.explicit, [("ghcr.io".to_owned(), expected)]);
    assert_eq!(plan.signing.unwrap().annotations["sha"], "abc");
    assert!(plan.report.github.unwrap().output.is_some());
}

#[test]
fn the_jobs_token_is_for_the_platforms_registry_only() {
    let github = Environment::from([("GITHUB_ACTIONS", "true"), ("INPUT_TOKEN", "hunter2")]);
    let gitlab =
        Environment::from([("GITLAB_CI", "true"), ("CI_REGISTRY", "registry.gitlab.com"), ("CI_JOB_TOKEN", "hunter2")]);
    let elsewhere = ["publish", "--image", "evil.test/a/b:v1", "--source", "oci:i", "--key", "k"];
    let own = ["publish", "--image", "registry.gitlab.com/a/b:v1", "--source", "oci:i", "--key", "k"];

    assert!(resolve(&elsewhere, &github).unwrap().registry.credentials.explicit.is_empty());
    assert!(resolve(&elsewhere, &gitlab).unwrap().registry.credentials.explicit.is_empty());
    assert_eq!(resolve(&own, &gitlab).unwrap().registry.credentials.explicit.len(), 1);
}

#[test]
fn no_secret_is_in_the_printed_plan() {
    let environment = Environment::from([
        ("TOUCHMARK_USERNAME", "ann"),
        ("TOUCHMARK_PASSWORD", "hunter2"),
        ("TOUCHMARK_KEY_PASSWORD", "hunter2"),
        ("TOUCHMARK_REGISTRY_AUTH", "[{registry: x.test, username: bob, password: hunter2}]"),
        ("HTTPS_PROXY", "http://u:hunter2@proxy:1"),
        ("KEY", "hunter2"),
    ]);
    let words = ["publish", "--image", "ghcr.io/acme/app:v1", "--source", "oci:image", "--key", "env://KEY"];

    let plan = resolve(&words, &environment).unwrap();
    let text = format!("{} {plan:?}", serde_json::to_string_pretty(&plan).unwrap());

    assert!(text.contains("bob") && text.contains("env") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_repository_without_a_host_says_what_to_type() {
    let words = ["publish", "--image", "app", "--source", "oci:image", "--key", "k"];

    let error = resolve(&words, &Environment::default()).unwrap_err();

    assert_eq!(error.to_string(), "input `image` is not a repository: `app`");
    assert_eq!(error.hint().unwrap(), "write the registry host too, for example `ghcr.io/acme/app`");
}

#[test]
fn annotations_are_the_jobs_facts_unless_others_are_given() {
    let environment = Environment::from([("GITHUB_ACTIONS", "true"), ("GITHUB_SHA", "abc")]);
    let annotated = |extra: &[&str]| {
        let words: Vec<&str> = MINIMAL.iter().chain(extra).copied().collect();
        resolve(&words, &environment).unwrap().signing.unwrap().annotations
    };

    assert_eq!(annotated(&[]).len(), 1);
    assert_eq!(annotated(&["--annotations", "k=a,b=c"]), [("k".to_owned(), "a,b=c".to_owned())].into());
    assert_eq!(annotated(&["--annotations", "auto", "--annotations", "sha=other"])["sha"], "other");
}

#[test]
fn every_wrong_input_has_an_error_and_a_hint() {
    let table: [(&[&str], &str); 10] = [
        (&["--source", "oci:image"], "input `image` is required"),
        (
            &["--image", "ghcr.io/a/b"],
            "there is neither a `source` to push nor a tag or digest of an image in the registry",
        ),
        (&["--image", "ghcr.io/a/b:v1", "--source", "zip:x"], "input `source` cannot be read"),
        (&["--image", "ghcr.io/a/b:v1", "--source", "oci:x"], "there is no key to sign with"),
        (&["--image", "ghcr.io/a/b:v1", "--sign", "keyless"], "signing without a key is not available in this version"),
        (
            &["--image", "ghcr.io/a/b:v1", "--key", "env://NONE"],
            "the variable `NONE` does not hold a key: it is not set",
        ),
        (&["--image", "ghcr.io/a/b:v1", "--key", "k", "--tags", "a/b"], "input `tags` holds `a/b`"),
        (&["--image", "ghcr.io/a/b:v1", "--key", "k", "--format", "v3"], "input `format` is `v3`"),
        (&["--image", "ghcr.io/a/b:v1", "--key", "k", "--username", "ann"], "there is a `username`, but no `password`"),
        (&["--image", "ghcr.io/a/b:v1", "--key", "k", "--annotations", "x"], "`x` is not an annotation"),
    ];

    for (extra, expected) in table {
        let words: Vec<&str> = std::iter::once("publish").chain(extra.iter().copied()).collect();
        let error = resolve(&words, &Environment::default()).unwrap_err();

        assert_eq!(error.to_string(), expected);
        assert!(error.hint().is_some(), "{expected}");
    }
}

#[test]
fn a_broken_registry_auth_does_not_show_itself() {
    let environment = Environment::from([("TOUCHMARK_REGISTRY_AUTH", "- registry: x\n  pass: hunter2")]);

    let error = resolve(&MINIMAL, &environment).unwrap_err();

    assert!(matches!(error, PlanError::RegistryAuth { .. }));
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
