//! What `verify` prints and exits with.

use crate::support::Stage;
use crate::support::registry::ReferrersApi;

#[test]
fn the_exit_status_says_what_is_wrong_in_every_format() {
    for format in ["legacy", "bundle", "both"] {
        let mut stage = Stage::new(ReferrersApi::Unsupported);
        let published = stage.publish(&["--format", format, "--annotations", "sha=abc"]);
        assert_eq!(published.code, Some(0), "{published}");
        let other = stage.tool.args(["generate-key-pair", "--output-key-prefix", "other"]).run();
        assert_eq!(other.code, Some(0), "{other}");

        assert_eq!(stage.verify(&["-a", "sha=abc"]).code, Some(0), "{format}");
        assert_eq!(stage.verify(&["-a", "sha=abd"]).code, Some(12), "{format}");
        assert_eq!(stage.verify(&["-a", "ref=x"]).code, Some(12), "{format}");
        let image = stage.reference(":v1");
        let wrong_key = stage.tool.args(["verify", "--key", "other.pub", &image]).run();
        assert_eq!(wrong_key.code, Some(12), "{format}");
    }
}

#[test]
fn absent_and_unsigned_are_told_apart() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    let unsigned = stage.publish(&["--sign", "false"]);
    let absent = stage.reference(":v2");

    assert_eq!(unsigned.code, Some(0), "{unsigned}");
    assert_eq!(stage.verify(&[]).code, Some(10));
    assert_eq!(stage.tool.args(["verify", "--key", "cosign.pub", &absent]).run().code, Some(11));
}

#[test]
fn a_store_that_cannot_be_read_is_never_taken_for_an_empty_one() {
    for part in ["/referrers/", ".sig"] {
        let mut stage = Stage::new(ReferrersApi::Supported);
        let unsigned = stage.publish(&["--sign", "false"]);
        assert_eq!(unsigned.code, Some(0), "{unsigned}");
        assert_eq!(stage.verify(&["--retry-for", "0s"]).code, Some(10));

        stage.registry.fail(part, 500, 100);
        let output = stage.verify(&["--retry-for", "0s"]);

        assert_eq!(output.code, Some(25), "{part}: {output}");
    }
}

#[test]
fn signatures_append() {
    let mut stage = Stage::new(ReferrersApi::Unsupported);
    let first = stage.publish(&["--annotations", "by=first"]);
    let image = stage.reference(":v1");
    let key = stage.tool.args(["generate-key-pair", "--output-key-prefix", "other"]).run();
    assert_eq!(key.code, Some(0), "{key}");

    let second = stage.tool.args(["sign", "--key", "other.key", "-a", "by=second", &image]).run();

    assert_eq!((first.code, second.code), (Some(0), Some(0)), "{first}{second}");
    assert_eq!(stage.verify(&["-a", "by=first"]).code, Some(0));
    let other = stage.tool.args(["verify", "--key", "other.pub", "-a", "by=second", &image]).run();
    assert_eq!(other.code, Some(0), "{other}");
    assert_eq!(other.stdout.matches("\"second\"").count(), 2, "{other}");
}

#[test]
fn it_prints_what_cosign_prints() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    let published = stage.publish(&["--format", "legacy", "--annotations", "sha=<a>"]);
    assert_eq!(published.code, Some(0), "{published}");

    let output = stage.verify(&["-a", "sha=<a>"]);

    let (host, digest) = (stage.registry.host(), &stage.digest);
    assert_eq!(
        output.stdout,
        format!(
            "\n[{{\"critical\":{{\"identity\":{{\"docker-reference\":\"{host}/acme/app\"}},\"image\":{{\"docker-manifest-digest\":\"{digest}\"}},\"type\":\"cosign container image signature\"}},\"optional\":{{\"sha\":\"\\u003ca\\u003e\"}}}}]\n"
        )
    );
    assert!(
        output.stderr.starts_with(&format!("\nVerification for {host}/acme/app:v1 --\nThe following checks")),
        "{output}"
    );
}

#[test]
fn it_prints_a_bundle_as_cosign_3_does() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    let published = stage.publish(&["--format", "bundle"]);
    assert_eq!(published.code, Some(0), "{published}");
    let image = stage.reference(":v1");
    let signed = stage.tool.args(["sign", "--key", "cosign.key", "--format", "bundle", "-a", "sha=<a>", &image]).run();
    assert_eq!(signed.code, Some(0), "{signed}");

    let all = stage.verify(&[]);
    let annotated = stage.verify(&["-a", "sha=<a>"]);

    let digest = &stage.digest;
    let item = |optional: &str| {
        format!(
            "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"{image}\"}},\"image\":{{\"docker-manifest-digest\":\"{digest}\"}},\"type\":\"https://sigstore.dev/cosign/sign/v1\"}},\"optional\":{optional}}}"
        )
    };
    assert_eq!(annotated.stdout, format!("\n[{}]\n", item("{\"sha\":\"\\u003ca\\u003e\"}")));
    assert!(all.stdout.contains(&item("{}")), "{all}");
}

/// Publishes with one key, signs with another, both as bundles, and returns the manifests of the bundles with the
/// digests of the bundles themselves.
fn two_bundles(stage: &mut Stage) -> Vec<(String, String)> {
    let published = stage.publish(&["--format", "bundle"]);
    let image = stage.reference(":v1");
    let key = stage.tool.args(["generate-key-pair", "--output-key-prefix", "other"]).run();
    let signed = stage.tool.args(["sign", "--key", "other.key", "--format", "bundle", &image]).run();
    assert_eq!((published.code, key.code, signed.code), (Some(0), Some(0), Some(0)), "{published}{key}{signed}");
    let manifests = stage.registry.manifests().into_iter().filter_map(|digest| {
        let manifest: serde_json::Value = serde_json::from_slice(&stage.registry.manifest(&digest)?).ok()?;
        let bundle = manifest.get("subject").and(manifest["layers"][0]["digest"].as_str())?.to_owned();
        Some((digest, bundle))
    });
    manifests.collect()
}

/// Returns what verifying with either key exits with, in order.
fn codes(stage: &mut Stage) -> Vec<Option<i32>> {
    let image = stage.reference(":v1");
    let mut codes: Vec<_> = ["cosign.pub", "other.pub"]
        .map(|key| stage.tool.args(["verify", "--key", key, "--retry-for", "0s", &image]).run().code)
        .into();
    codes.sort_unstable();
    codes
}

#[test]
fn a_signature_that_cannot_be_read_hides_no_other() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    let bundles = two_bundles(&mut stage);
    assert_eq!((bundles.len(), codes(&mut stage)), (2, vec![Some(0), Some(0)]));

    stage.registry.fail(&bundles[0].1, 500, 100);

    assert_eq!(codes(&mut stage), [Some(0), Some(25)]);
}

#[test]
fn a_signature_that_was_changed_or_is_missing_is_no_outage_and_not_an_absent_one() {
    let mut changed = Stage::new(ReferrersApi::Supported);
    let bundles = two_bundles(&mut changed);
    changed.registry.replace_blob(&bundles[0].1, b"{}");
    let mut missing = Stage::new(ReferrersApi::Supported);
    let manifests = two_bundles(&mut missing);
    assert_eq!(codes(&mut missing), [Some(0), Some(0)]);

    for (manifest, _) in &manifests {
        missing.registry.fail(&format!("/manifests/{manifest}"), 404, 100);
    }

    assert_eq!(codes(&mut changed), [Some(0), Some(12)]);
    assert_eq!(codes(&mut missing), [Some(12), Some(12)]);
}

#[test]
fn a_bundle_that_is_missing_keeps_nobody_from_signing() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    let bundles = two_bundles(&mut stage);
    for (_, bundle) in &bundles {
        stage.registry.fail(&format!("GET /v2/acme/app/blobs/{bundle}"), 404, 100);
    }
    let image = stage.reference(":v1");

    let signed = stage.tool.args(["sign", "--key", "other.key", "--format", "bundle", "-a", "by=third", &image]).run();

    assert_eq!(signed.code, Some(0), "{signed}");
    assert_eq!(codes(&mut stage), [Some(0), Some(12)]);
}
