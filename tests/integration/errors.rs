//! What a person reads when something is wrong: one error, its causes, what to type.

use crate::support::Stage;
use crate::support::registry::ReferrersApi;
use crate::support::tool::{Output, Tool};

fn shown(output: &Output, stage: Option<&Stage>) -> String {
    let text = output.to_string();
    stage.map_or(text.clone(), |stage| text.replace(&stage.registry.host(), "[host]"))
}

#[test]
fn a_missing_image() {
    let output = Tool::new().args(["publish"]).run();

    insta::assert_snapshot!(shown(&output, None), @r"
    exit code: 2
    error: input `image` is required
      hint: write the repository and a tag, for example `image: ghcr.io/acme/app:1.2.3`
    ");
}

#[test]
fn an_image_without_a_host() {
    let output = Tool::new().args(["--image", "app", "--source", "image/", "--key", "cosign.key"]).run();

    insta::assert_snapshot!(shown(&output, None), @r"
    exit code: 2
    error: input `image` is not a repository: `app`
      caused by: reference has no registry host
      hint: write the registry host too, for example `ghcr.io/acme/app`
    ");
}

#[test]
fn an_unknown_source() {
    let output = Tool::new().args(["--image", "ghcr.io/acme/app:v1", "--source", "zip:x", "--key", "k"]).run();

    insta::assert_snapshot!(shown(&output, None), @r"
    exit code: 2
    error: input `source` cannot be read
      caused by: `zip:x` is not a source
      hint: a source is one of `oci:DIR[:REF]` (`oci:image/`), `oci-archive:FILE[:REF]` (`oci-archive:image.tar`), `docker-archive:FILE[:NAME]` (`docker-archive:image.tar`), `docker-daemon:NAME` (`docker-daemon:app:latest`), `registry:REF` (`registry:ghcr.io/acme/app:1`)
    ");
}

#[test]
fn an_absent_layout() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    let image = stage.reference(":v1");
    let words = ["publish", "--image", &image, "--source", "oci:nothing", "--key", "cosign.key"];

    let output = stage.tool.args(words).run();

    insta::assert_snapshot!(shown(&output, Some(&stage)), @r#"
    exit code: 20
    error: there is no `nothing`
      hint: name an existing path; in a container it must be mounted, for example `-v "$PWD:$PWD" -w "$PWD"`
      state: nothing that a tag points at was changed
    "#);
}

#[test]
fn a_wrong_password() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    stage.tool.env("COSIGN_PASSWORD", "wrong");

    let output = stage.publish(&[]);

    insta::assert_snapshot!(shown(&output, Some(&stage)), @r"
    exit code: 2
    error: the password does not open the key `cosign.key`
      hint: check `key-password` (or COSIGN_PASSWORD) for another password or a newline at its end
      state: nothing that a tag points at was changed
    ");
    assert_eq!(stage.registry.log(), Vec::<String>::new());
}

#[test]
fn no_password_in_a_job() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    let mut tool = Tool::new();
    std::fs::copy(stage.tool.path("cosign.key"), tool.path("cosign.key")).unwrap();
    let image = stage.reference(":v1");
    let words = ["publish", "--image", &image, "--source", "oci:image", "--key", "cosign.key"];

    let output = tool.args(words).env("CI", "true").run();

    insta::assert_snapshot!(shown(&output, Some(&stage)), @r"
    exit code: 2
    error: the key `cosign.key` is encrypted, and no password was given
      hint: set `key-password` (or COSIGN_PASSWORD), which may be empty for a key with an empty password
      state: nothing that a tag points at was changed
    ");
    stage.tool.args([]);
}

#[test]
fn no_password_for_a_new_key() {
    let output = Tool::new().args(["generate-key-pair"]).run();

    insta::assert_snapshot!(shown(&output, None), @r"
    exit code: 2
    error: no password was given for the new key, and nobody can be asked
      hint: set COSIGN_PASSWORD, which may be empty
    ");
}

#[test]
fn a_registry_that_denies() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    stage.registry.deny_writes();

    let output = stage.publish(&[]);

    insta::assert_snapshot!(shown(&output, Some(&stage)), @r"
    exit code: 21
    error: access to `[host]/acme/app` was denied
      caused by: POST /v2/acme/app/blobs/uploads/: 403 DENIED: by the test registry
      hint: set the inputs `username` and `password` for `[host]`, or let `docker login [host]` run before and pass its directory as `DOCKER_CONFIG`
      state: nothing that a tag points at was changed
    ");
}

#[test]
fn a_registry_that_wants_a_login() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    stage.registry.require_login("ann", "hunter2");

    let denied = stage.publish(&[]);
    stage.tool.env("TOUCHMARK_USERNAME", "ann").env("TOUCHMARK_PASSWORD", "hunter2");
    let accepted = stage.publish(&[]);

    insta::assert_snapshot!(shown(&denied, Some(&stage)), @r"
    exit code: 21
    error: `[host]` wants a login, and no credentials for it were found
      caused by: HEAD /v2/acme/app/manifests/sha256:7c4a9113f57bf2eccdd7b18c25ef1156568f865dcd06ea1dbeecb9a01e29a431: 401
      hint: set the inputs `username` and `password` for `[host]`, or let `docker login [host]` run before and pass its directory as `DOCKER_CONFIG`
      state: nothing that a tag points at was changed
    ");
    assert_eq!(accepted.code, Some(0), "{accepted}");
    assert!(!accepted.to_string().contains("hunter2"));
}

#[test]
fn outputs_that_cannot_be_written() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    stage.tool.env("GITHUB_ACTIONS", "true").env("GITHUB_OUTPUT", "/nowhere/outputs");

    let output = stage.publish(&["--annotations", "sha=abc", "--output-file", "result.json"]);

    let text = shown(&output, Some(&stage));
    assert_eq!(output.code, Some(30), "{text}");
    assert!(
        text.contains("error: the outputs could not be written\n  caused by: cannot write `/nowhere/outputs`"),
        "{text}"
    );
    assert!(text.contains("hint: mount the folder"), "{text}");
    assert!(text.contains("is published; tags that were moved: v1"), "{text}");
    let result: serde_json::Value = serde_json::from_str(&stage.tool.read("result.json")).unwrap();
    assert_eq!((result["status"].as_str(), result["stage"].as_str()), (Some("failed"), Some("tagged")));
}

#[test]
fn no_space_for_outputs() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    stage.tool.env("GITHUB_ACTIONS", "true").env("GITHUB_OUTPUT", "/dev/full");

    let output = stage.publish(&[]);

    assert_eq!(output.code, Some(30), "{output}");
    assert!(output.stderr.contains("hint: free some space"), "{output}");
}

#[test]
fn an_unreachable_registry() {
    let stage = Stage::new(ReferrersApi::Supported);
    let host = stage.registry.host();
    let Stage { registry, mut tool, .. } = stage;
    drop(registry);
    let image = format!("{host}/acme/app:v1");
    let words = ["publish", "--image", &image, "--source", "oci:image", "--key", "cosign.key", "--retry-for", "0s"];

    let output = tool.args(words).run();

    assert_eq!(output.code, Some(21), "{output}");
    assert!(output.stderr.contains("no answer from"), "{output}");
}

#[test]
fn what_a_registry_says_cannot_become_a_command() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    stage.tool.env("GITHUB_ACTIONS", "true");
    let evil = "::set-output name=x::y";

    let output = stage.publish(&["--annotations", &format!("k={evil}\n{evil}"), "--format", "sideways"]);

    assert_eq!(output.code, Some(2), "{output}");
    let commands: Vec<_> = output.stderr.lines().filter(|line| line.trim_start().starts_with("::")).collect();
    assert!(
        commands.iter().all(|line| line.starts_with("::add-mask::") || line.starts_with("::error title=touchmark::")),
        "{output}"
    );
}
