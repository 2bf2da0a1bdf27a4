//! What the tests run against, and what they run.

pub(crate) mod image;
pub(crate) mod registry;
pub(crate) mod tool;

use std::path::Path;

use registry::{ReferrersApi, TestRegistry};
use tool::Tool;

/// The password of every key that a test makes.
pub(crate) const PASSWORD: &str = "correct horse";

/// A registry, and the binary with a key and an image beside it.
pub(crate) struct Stage {
    /// The registry.
    pub(crate) registry: TestRegistry,
    /// The binary.
    pub(crate) tool: Tool,
    /// The image's digest.
    pub(crate) digest: String,
}

impl Stage {
    /// Sets a stage with an image of one platform.
    pub(crate) fn new(referrers: ReferrersApi) -> Self {
        Self::with(referrers, image::layout)
    }

    /// Sets a stage with whatever image `make` writes to the folder `image`.
    pub(crate) fn with(referrers: ReferrersApi, make: impl FnOnce(&Path) -> String) -> Self {
        let mut tool = Tool::new();
        tool.env("COSIGN_PASSWORD", PASSWORD);
        let key = tool.args(["generate-key-pair"]).run();
        assert_eq!(key.code, Some(0), "{key}");
        Self::around(tool, referrers, make)
    }

    /// The same with a key that is not encrypted, so that a run takes no time for it.
    pub(crate) fn with_plain_key(referrers: ReferrersApi, make: impl FnOnce(&Path) -> String) -> Self {
        let tool = Tool::new();
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cosign/keys/v3");
        for (from, to) in [("plain.pem", "cosign.key"), ("cosign.pub", "cosign.pub")] {
            std::fs::copy(keys.join(from), tool.path(to)).expect("the key is copied");
        }
        Self::around(tool, referrers, make)
    }

    fn around(tool: Tool, referrers: ReferrersApi, make: impl FnOnce(&Path) -> String) -> Self {
        let folder = tool.path("image");
        std::fs::create_dir(&folder).expect("the folder is new");
        let digest = make(&folder);
        Self { registry: TestRegistry::start(referrers), tool, digest }
    }

    /// Returns a reference to the image's repository with `rest` behind it.
    pub(crate) fn reference(&self, rest: &str) -> String {
        format!("{}/acme/app{rest}", self.registry.host())
    }

    /// Publishes the image under the tag `v1`, with further arguments.
    pub(crate) fn publish(&mut self, more: &[&str]) -> tool::Output {
        let image = self.reference(":v1");
        let words = ["publish", "--image", &image, "--source", "oci:image", "--key", "cosign.key"];
        self.tool.args(words.into_iter().chain(more.iter().copied())).run()
    }

    /// Verifies the image under the tag `v1` with the public key, with further arguments.
    pub(crate) fn verify(&mut self, more: &[&str]) -> tool::Output {
        let image = self.reference(":v1");
        let words = ["verify", "--key", "cosign.pub"].into_iter().chain(more.iter().copied());
        self.tool.args(words.chain([image.as_str()])).run()
    }
}
