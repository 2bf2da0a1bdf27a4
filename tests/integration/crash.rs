//! The process is killed at every request of a publish: the tag never names an unsigned image, and a re-run completes.

use std::process::Child;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::support::registry::{Moment, ReferrersApi};
use crate::support::{Stage, image};

fn sweep(referrers: ReferrersApi, moment: Moment) {
    let mut stage = Stage::with_plain_key(referrers, image::multi_platform_layout);
    let golden = stage.publish(&[]);
    let requests = stage.registry.log().len();
    assert_eq!(golden.code, Some(0), "{golden}");
    assert!(requests > 15, "{requests}");

    for position in 0..requests {
        let mut stage = Stage::with_plain_key(referrers, image::multi_platform_layout);
        let words = ["publish", "--image", &stage.reference(":v1"), "--source", "oci:image", "--key", "cosign.key"]
            .map(str::to_owned);
        stage.tool.args(words.iter().map(String::as_str));
        let reached = stage.registry.hold(position, moment);

        let mut child = stage.tool.spawn();
        let request = wait(&reached, &mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        stage.registry.release();
        // Requests run side by side, so a run may have a few less than the golden one.
        let Some(request) = request else { continue };

        if stage.registry.tag("acme/app", "v1").is_some() {
            let verified = stage.verify(&[]);
            assert_eq!(verified.code, Some(0), "tagged but not signed, after {request}: {verified}");
        }
        let again = stage.publish(&[]);
        let verified = stage.verify(&[]);
        assert_eq!((again.code, verified.code), (Some(0), Some(0)), "after {request}: {again}{verified}");
        assert_eq!(stage.registry.tag("acme/app", "v1").as_ref(), Some(&stage.digest), "after {request}");
    }
}

/// Waits for the request that is held. None: the run ended without it.
fn wait(reached: &Receiver<String>, child: &mut Child) -> Option<String> {
    loop {
        match reached.recv_timeout(Duration::from_millis(20)) {
            Ok(request) => return Some(request),
            Err(_) if child.try_wait().unwrap().is_some() => return None,
            Err(_) => {}
        }
    }
}

#[test]
fn killed_before_any_request_with_a_referrers_api() {
    sweep(ReferrersApi::Supported, Moment::Before);
}

#[test]
fn killed_after_any_request_with_a_referrers_api() {
    sweep(ReferrersApi::Supported, Moment::After);
}

#[test]
fn killed_before_any_request_without_a_referrers_api() {
    sweep(ReferrersApi::Unsupported, Moment::Before);
}

#[test]
fn killed_after_any_request_without_a_referrers_api() {
    sweep(ReferrersApi::Unsupported, Moment::After);
}
