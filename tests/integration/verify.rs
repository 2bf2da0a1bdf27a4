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
