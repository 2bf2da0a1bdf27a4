//! What GitHub and GitLab receive.

use crate::support::Stage;
use crate::support::registry::ReferrersApi;

#[test]
fn a_github_step_has_outputs_a_summary_and_an_artifact() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    for (name, value) in [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SHA", "abc"),
        ("GITHUB_RUN_ID", "42"),
        ("GITHUB_RUN_ATTEMPT", "1"),
        ("GITHUB_OUTPUT", "outputs"),
        ("GITHUB_STEP_SUMMARY", "summary.md"),
        ("GITHUB_ARTIFACTS", "artifacts"),
        ("INPUT_TAGS", "v1.2\nlatest"),
        ("INPUT_ANNOTATIONS", "auto\nteam=a|b<c>"),
        ("INPUT_OUTPUT-FILE", "result.json"),
    ] {
        stage.tool.env(name, value);
    }

    let output = stage.publish(&[]);

    assert_eq!(output.code, Some(0), "{output}");
    let (outputs, summary) = (stage.tool.read("outputs"), stage.tool.read("summary.md"));
    for name in ["digest", "image", "tags", "platforms", "signature-digests", "verify-command", "result"] {
        assert!(outputs.contains(&format!("{name}<<touchmark_")), "{name}: {outputs}");
    }
    assert!(outputs.contains("v1\nv1.2\nlatest\n"), "{outputs}");
    assert!(summary.contains("published, signed and verified") && summary.contains(&stage.digest), "{summary}");
    assert!(summary.contains("a&#124;b&lt;c&gt;") && summary.contains("cosign verify --key cosign.pub"), "{summary}");
    assert_eq!(stage.tool.read("artifacts"), format!("oci://{}@{}\n", stage.reference(""), stage.digest));
    let result: serde_json::Value = serde_json::from_str(&stage.tool.read("result.json")).unwrap();
    assert_eq!((result["status"].as_str(), result["digest"].as_str()), (Some("done"), Some(stage.digest.as_str())));
    assert_eq!(result["annotations"]["run_id"], "42");
    let mask = output.stderr.find("::add-mask::correct horse").unwrap();
    assert!(mask < output.stderr.find("pushed ").unwrap());
}

#[test]
fn a_gitlab_job_has_its_reports() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    let folder = stage.tool.folder().to_str().unwrap().to_owned();
    let image = stage.reference(":v1");
    for (name, value) in [
        ("GITLAB_CI", "true"),
        ("CI_PROJECT_DIR", folder.as_str()),
        ("CI_COMMIT_SHA", "abc"),
        ("TOUCHMARK_IMAGE", &image),
        ("TOUCHMARK_SOURCE", "oci:image"),
        ("TOUCHMARK_KEY", "cosign.key"),
    ] {
        stage.tool.env(name, value);
    }

    // What the runner's docker executor passes to an image with an entrypoint.
    let output = stage.tool.args(["sh", "-c", "if [ -x /usr/local/bin/bash ]; then"]).run();

    assert_eq!(output.code, Some(0), "{output}");
    let dotenv = stage.tool.read("touchmark.env");
    assert!(dotenv.contains(&format!("TOUCHMARK_DIGEST={}\n", stage.digest)), "{dotenv}");
    assert!(stage.tool.read("touchmark-annotations.json").contains("external_link"));
    assert!(stage.tool.read("touchmark-result.json").contains("\"status\": \"done\""));
}

#[test]
fn a_failed_run_sets_no_output_and_says_what_exists() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    stage.tool.env("GITHUB_ACTIONS", "true").env("GITHUB_OUTPUT", "outputs").env("INPUT_OUTPUT_FILE", "result.json");
    stage.registry.fail(".sig", 500, 1000);

    let output = stage.publish(&["--retry-for", "0s"]);

    assert_eq!(output.code, Some(21), "{output}");
    assert_eq!(stage.tool.read("outputs"), "");
    assert!(output.stderr.contains("is pushed, not signed; no tag was moved"), "{output}");
    let result: serde_json::Value = serde_json::from_str(&stage.tool.read("result.json")).unwrap();
    assert_eq!((result["status"].as_str(), result["stage"].as_str()), (Some("failed"), Some("pushed")));
    assert_eq!(result["error"]["exit-status"], 21);
    assert_eq!(stage.registry.tag("acme/app", "v1"), None);
}
