//! The result document, and every output of the step, which are projections of it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::oci::{Platform, Repository, Tag};
use crate::verify::Store;

/// What was done, as `result.json` says it. The schema is `schema/result.schema.json`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ResultDocument {
    /// The version of the schema.
    pub schema_version: u32,
    /// Whether everything was done.
    pub status: Status,
    /// How far it got.
    pub stage: Stage,
    /// The repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<Repository>,
    /// The digest of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The image with its digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The media type of its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The tags that point at it now.
    pub tags: Vec<Tag>,
    /// The digest for each platform.
    pub platforms: BTreeMap<String, String>,
    /// What the push took, if anything was pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<crate::registry::PushStatistics>,
    /// Every signature.
    pub signatures: Vec<SignatureEntry>,
    /// Who signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<SignerEntry>,
    /// Signed annotations.
    pub annotations: BTreeMap<String, String>,
    /// What was verified, as a consumer would.
    pub verified: Vec<VerifiedEntry>,
    /// Commands that verify the image.
    pub verify_commands: Vec<String>,
    /// What went wrong, if anything did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorEntry>,
}

/// Whether everything was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It was.
    Done,
    /// It was not.
    Failed,
}

/// The last stage that was finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Nothing was changed.
    Planned,
    /// The image is in the registry, under its digest.
    Pushed,
    /// The image is signed.
    Signed,
    /// What the registry serves was verified.
    Verified,
    /// The tags point at the image.
    Tagged,
}

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SignatureEntry {
    /// The digest of the image or platform image that it is over.
    pub subject: String,
    /// How it is stored: `legacy` or `bundle`.
    pub format: &'static str,
    /// The digest of the manifest that holds it.
    pub digest: String,
    /// Whether it was added by this run.
    pub added: bool,
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SignerEntry {
    /// The algorithm of the key.
    pub algorithm: String,
    /// The key, as bundles name it.
    pub key_hint: String,
    /// The key itself.
    pub public_key: String,
}

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct VerifiedEntry {
    /// The digest of the image or platform image.
    pub subject: String,
    /// Where the signatures were found that satisfy the policy.
    pub stores: Vec<Store>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ErrorEntry {
    /// The exit status of the process.
    pub exit_status: u8,
    /// The error and its causes.
    pub messages: Vec<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ResultDocument {
    pub(super) fn new() -> Self {
        Self {
            schema_version: 1,
            status: Status::Failed,
            stage: Stage::Planned,
            repository: None,
            digest: None,
            image: None,
            media_type: None,
            tags: Vec::new(),
            platforms: BTreeMap::new(),
            push: None,
            signatures: Vec::new(),
            signer: None,
            annotations: BTreeMap::new(),
            verified: Vec::new(),
            verify_commands: Vec::new(),
            error: None,
        }
    }

    /// Returns every output, by name. `result` is where this document was written.
    pub fn outputs(&self, result: Option<&str>) -> Vec<(&'static str, String)> {
        let lines = |items: Vec<String>| items.join("\n");
        let signatures = self.signatures.iter().map(|signature| signature.digest.clone()).collect();
        let platforms = serde_json::to_string(&self.platforms).unwrap_or_default();
        vec![
            ("digest", self.digest.clone().unwrap_or_default()),
            ("image", self.image.clone().unwrap_or_default()),
            ("tags", lines(self.tags.iter().map(Tag::to_string).collect())),
            ("platforms", platforms),
            ("signature-digests", lines(signatures)),
            ("attestation-digests", String::new()),
            ("log-indexes", String::new()),
            ("certificate-identity", String::new()),
            ("certificate-issuer", String::new()),
            ("verify-command", self.verify_commands.first().cloned().unwrap_or_default()),
            ("bundle-paths", String::new()),
            ("result", result.unwrap_or_default().to_owned()),
        ]
    }
}

/// Returns the name of a platform, for people and as a key.
pub(super) fn platform_name(platform: Option<&Platform>) -> String {
    platform.map_or_else(|| "unknown".to_owned(), Platform::to_string)
}
