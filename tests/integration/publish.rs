//! The main job, from an image on disk to a tag that points at something signed.

use crate::support::registry::{ReferrersApi, TestRegistry};
use crate::support::{Stage, image};

const BOTH: [ReferrersApi; 2] = [ReferrersApi::Supported, ReferrersApi::Unsupported];

fn manifests(registry: &TestRegistry) -> usize {
    registry.manifests().len()
}

#[test]
fn an_image_is_pushed_signed_verified_and_then_tagged() {
    for referrers in BOTH {
        let mut stage = Stage::new(referrers);

        let output = stage.publish(&["--annotations", "sha=abc"]);

        assert_eq!(output.code, Some(0), "{output}");
        assert_eq!(stage.registry.tag("acme/app", "v1").as_ref(), Some(&stage.digest));
        let verified = stage.verify(&["-a", "sha=abc"]);
        assert_eq!(verified.code, Some(0), "{verified}");
    }
}

#[test]
fn the_tag_is_the_last_thing_that_is_written() {
    let mut stage = Stage::new(ReferrersApi::Unsupported);

    let output = stage.publish(&[]);

    assert_eq!(output.code, Some(0), "{output}");
    let writes: Vec<_> =
        stage.registry.log().into_iter().filter(|line| !line.starts_with("GET") && !line.starts_with("HEAD")).collect();
    assert_eq!(writes.last().map(String::as_str), Some("PUT /v2/acme/app/manifests/v1"));
}

#[test]
fn a_second_run_adds_nothing() {
    for referrers in BOTH {
        let mut stage = Stage::with(referrers, image::multi_platform_layout);
        stage.tool.env("GITHUB_ACTIONS", "true").env("GITHUB_OUTPUT", "outputs").env("GITHUB_SHA", "abc");
        let values = |stage: &Stage| -> Vec<String> {
            let text = stage.tool.read("outputs");
            std::fs::remove_file(stage.tool.path("outputs")).unwrap();
            text.lines().filter(|line| !line.contains("touchmark_")).map(str::to_owned).collect()
        };

        let first = stage.publish(&[]);
        let (before, first_values) = (manifests(&stage.registry), values(&stage));
        stage.registry.clear_log();
        let second = stage.publish(&[]);

        assert_eq!((first.code, second.code), (Some(0), Some(0)), "{first}{second}");
        assert_eq!(manifests(&stage.registry), before);
        assert_eq!(values(&stage), first_values);
        let writes =
            stage.registry.log().into_iter().filter(|line| line.starts_with("PUT") || line.starts_with("POST"));
        assert_eq!(writes.collect::<Vec<_>>(), Vec::<String>::new());
    }
}

#[test]
fn every_platform_of_an_index_is_signed_and_the_attestations_keep_their_bytes() {
    let mut stage = Stage::with(ReferrersApi::Supported, image::multi_platform_layout);

    let output = stage.publish(&[]);

    assert_eq!(output.code, Some(0), "{output}");
    let index = String::from_utf8(stage.registry.manifest(&stage.digest).unwrap()).unwrap();
    assert!(index.contains("attestation-manifest") && index.starts_with("{\n  \"schemaVersion\""), "{index}");
    let parsed: serde_json::Value = serde_json::from_str(&index).unwrap();
    for (position, signed) in [(0, true), (1, true), (2, false)] {
        let digest = parsed["manifests"][position]["digest"].as_str().unwrap();
        let image = format!("{}/acme/app@{digest}", stage.registry.host());
        let verified = stage.tool.args(["verify", "--key", "cosign.pub", &image]).run();

        assert_eq!(verified.code, Some(if signed { 0 } else { 10 }), "{verified}");
    }
}

#[test]
fn without_recursion_only_the_index_is_signed() {
    let mut stage = Stage::with(ReferrersApi::Supported, image::multi_platform_layout);

    let output = stage.publish(&["--recursive=false"]);

    assert_eq!(output.code, Some(0), "{output}");
    assert_eq!(output.stderr.matches("signed ").count(), 1, "{output}");
}

#[test]
fn an_old_docker_archive_is_compressed_the_same_way_each_time() {
    let mut digests = Vec::new();
    for _ in 0..2 {
        let mut stage = Stage::new(ReferrersApi::Supported);
        image::docker_archive(&stage.tool.path("image.tar"));
        let image = stage.reference(":v1");

        let output = stage
            .tool
            .args(["publish", "--image", &image, "--source", "docker-archive:image.tar", "--key", "cosign.key"])
            .run();

        assert_eq!(output.code, Some(0), "{output}");
        digests.push(stage.registry.tag("acme/app", "v1").unwrap());
    }

    assert_eq!(digests[0], digests[1]);
}

#[test]
fn an_image_in_the_registry_is_signed_where_it_is() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    let unsigned = stage.publish(&["--sign", "false"]);
    let image = stage.reference(":v1");

    let output = stage.tool.args(["publish", "--image", &image, "--key", "cosign.key"]).run();

    assert_eq!((unsigned.code, output.code), (Some(0), Some(0)), "{unsigned}{output}");
    assert_eq!(stage.verify(&[]).code, Some(0));
}

#[test]
fn several_tags_move_together() {
    let mut stage = Stage::new(ReferrersApi::Supported);

    let output = stage.publish(&["--tags", "v1.2", "--tags", "latest"]);

    assert_eq!(output.code, Some(0), "{output}");
    for tag in ["v1", "v1.2", "latest"] {
        assert_eq!(stage.registry.tag("acme/app", tag).as_ref(), Some(&stage.digest), "{tag}");
    }
}

#[test]
fn each_format_alone_is_enough_to_verify() {
    for (format, stores) in [("legacy", "legacy signature"), ("bundle", "bundle")] {
        let mut stage = Stage::new(ReferrersApi::Unsupported);

        let output = stage.publish(&["--format", format]);
        let verified = stage.verify(&[]);

        assert_eq!((output.code, verified.code), (Some(0), Some(0)), "{output}{verified}");
        assert_eq!(verified.stderr.matches("Found: ").count(), 1, "{verified}");
        assert!(verified.stderr.contains(&format!("Found: {stores} in")), "{verified}");
    }
}

#[test]
fn outages_are_ridden_out() {
    let mut stage = Stage::new(ReferrersApi::Unsupported);
    for part in ["POST /v2/acme/app/blobs", "PUT /v2/acme/app/manifests/sha256:", ".sig", "manifests/v1"] {
        stage.registry.fail(part, 503, 2);
    }

    let output = stage.publish(&[]);

    assert_eq!(output.code, Some(0), "{output}");
    assert_eq!(stage.registry.tag("acme/app", "v1").as_ref(), Some(&stage.digest));
}

#[test]
fn a_registry_that_stores_something_else_moves_no_tag() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    let good = stage.publish(&["--format", "legacy"]);
    // The payload of the signature is swapped for another of the same length.
    let tag = format!("sha256-{}.sig", &stage.digest["sha256:".len()..]);
    let list = stage.registry.manifest(&stage.registry.tag("acme/app", &tag).unwrap()).unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    let layer = &list["layers"][0];
    let size = usize::try_from(layer["size"].as_u64().unwrap()).unwrap();
    stage.registry.replace_blob(layer["digest"].as_str().unwrap(), &vec![b' '; size]);
    stage.registry.move_tag("acme/app", "v1", "sha256:0");

    let output = stage.publish(&["--format", "legacy"]);

    assert_eq!((good.code, output.code), (Some(0), Some(12)), "{output}");
    assert_eq!(stage.registry.tag("acme/app", "v1").as_deref(), Some("sha256:0"));
}

#[test]
fn a_signature_that_another_signer_took_out_is_added_again() {
    let mut stage = Stage::new(ReferrersApi::Unsupported);
    let first = stage.publish(&[]);
    let fallback = stage.digest.replace(':', "-");
    let (list, image) = (stage.registry.tag("acme/app", &fallback).unwrap(), stage.digest.clone());
    // Somebody who read the list before it held our bundle has written theirs.
    stage.registry.move_tag("acme/app", &fallback, &image);
    stage.registry.move_tag("acme/app", "v1", "sha256:0");

    let output = stage.publish(&[]);

    assert_eq!((first.code, output.code), (Some(0), Some(0)), "{output}");
    assert_ne!(stage.registry.tag("acme/app", &fallback), Some(image));
    assert!(list.starts_with("sha256:") && stage.verify(&[]).stderr.contains("Found: bundle"));
}

#[test]
fn a_layer_that_is_not_what_its_manifest_says_stops_the_job() {
    let mut stage = Stage::new(ReferrersApi::Supported);
    let layer = std::fs::read_dir(stage.tool.path("image/blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let layer = layer.into_iter().find(|path| std::fs::read(path).unwrap().starts_with(&[0x1f, 0x8b])).unwrap();
    let mut bytes = std::fs::read(&layer).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&layer, bytes).unwrap();

    let output = stage.publish(&[]);

    assert_eq!(output.code, Some(20), "{output}");
    assert_eq!(stage.registry.manifests(), Vec::<String>::new());
}

#[test]
fn the_plan_is_printed_and_nothing_is_touched() {
    let mut stage = Stage::new(ReferrersApi::Supported);

    let output = stage.publish(&["--dry-run", "--annotations", "sha=abc"]);

    let plan: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(output.code, Some(0));
    assert_eq!(plan["signing"]["annotations"]["sha"], "abc");
    assert_eq!(stage.registry.log(), Vec::<String>::new());
    assert!(!output.to_string().contains(crate::support::PASSWORD));
}
