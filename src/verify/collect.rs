//! Finds every signature of an image, in every store, and puts each before the policy as soon as it is read.

use std::collections::HashSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::{StreamExt as _, stream};
use tokio::sync::Semaphore;

use super::candidate::{Candidate, Content, Store};
use super::{Policy, Reason, VerifiedSignature};
use crate::oci::{Descriptor, Digest, ImageManifest, PinnedReference};
use crate::registry::{Registry, RegistryError};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";
const SIGN_V1: &str = "https://sigstore.dev/cosign/sign/v1";
const EXPERIMENTAL: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

/// cosign's limit for one attachment; here, for all that are in memory at one time.
const MAX_ATTACHMENT: u64 = 128 << 20;
/// A signature is a kilobyte or two; with a certificate chain and a log entry, some more.
const MAX_PAYLOAD: u64 = 1 << 20;
/// Memory is counted in these.
const UNIT: u64 = 1 << 10;
/// How many are fetched at a time.
const WIDTH: usize = 8;

/// What one look gave.
#[derive(Debug)]
pub(super) enum Finding {
    /// A signature that satisfies the policy.
    Accepted(Box<VerifiedSignature>),
    /// One that does not.
    Refused(Reason),
    /// The registry failed: there may be any number of signatures behind it.
    Unread(RegistryError),
}

/// Looks into every store. One signature that cannot be read does not hide the others.
pub(super) async fn collect(registry: &Registry, image: &PinnedReference, policy: &Policy) -> Vec<Finding> {
    let units = usize::try_from(MAX_ATTACHMENT / UNIT).unwrap_or(Semaphore::MAX_PERMITS);
    let search = Search { registry, image, policy, memory: Semaphore::new(units) };
    let (mut findings, referrers) = tokio::join!(search.legacy(), search.referrers());
    findings.extend(referrers);
    findings
}

struct Search<'a> {
    registry: &'a Registry,
    image: &'a PinnedReference,
    policy: &'a Policy,
    /// Bounds what is read and not yet judged.
    memory: Semaphore,
}

impl Search<'_> {
    /// Looks at the `.sig` tag.
    async fn legacy(&self) -> Vec<Finding> {
        let digest = self.image.digest();
        let tag = format!("{}-{}.sig", digest.algorithm().name(), digest.hex());
        // A SHA-512 digest does not fit into a tag, so nobody can have signed there.
        if tag.parse::<crate::oci::Tag>().is_err() {
            return Vec::new();
        }
        let manifest = match self.registry.find_manifest(self.image.repository(), &tag).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Vec::new(),
            Err(error) => return vec![failed(error)],
        };
        match manifest.as_image() {
            Some(parsed) => self.payloads(Store::Legacy, manifest.digest(), parsed).await,
            None => vec![Finding::Refused(Reason::malformed("the `.sig` tag holds no list of signatures"))],
        }
    }

    /// Looks at the referrers. Lists are often wrong about types, so every referrer is opened.
    async fn referrers(&self) -> Vec<Finding> {
        let listed = match self.registry.referrers(self.image).await {
            Ok(referrers) => referrers.manifests,
            Err(error) => return vec![Finding::Unread(error)],
        };
        let mut seen = HashSet::new();
        let digests = listed.into_iter().map(|listed| listed.digest).filter(|digest| seen.insert(digest.clone()));
        let looks = digests.map(|digest| self.referrer(digest));
        let findings: Vec<Vec<_>> = Box::pin(stream::iter(looks).buffered(WIDTH)).collect().await;
        findings.into_iter().flatten().collect()
    }

    async fn referrer(&self, digest: Digest) -> Vec<Finding> {
        let manifest = match self.registry.find_manifest(self.image.repository(), &digest.to_string()).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return vec![Finding::Refused(Reason::Missing)],
            // Not a manifest that is accepted, so not a signature that is.
            Err(RegistryError::Manifest { .. }) => return Vec::new(),
            Err(error) => return vec![failed(error)],
        };
        let Some(parsed) = manifest.as_image() else { return Vec::new() };
        if parsed.subject.as_ref().is_none_or(|subject| &subject.digest != self.image.digest()) {
            return Vec::new();
        }
        if parsed.config.media_type == EXPERIMENTAL {
            return self.payloads(Store::LegacyReferrer, &digest, parsed).await;
        }
        // An attestation may be large, and is no signature: it is not read.
        let may_sign = parsed.annotations.get(PREDICATE_TYPE).is_none_or(|predicate| predicate == SIGN_V1);
        let layer = parsed.layers.first().filter(|layer| may_sign && layer.media_type.starts_with(BUNDLE));
        let Some(layer) = layer else { return Vec::new() };
        let found = self.judge(Store::Bundle, &digest, (layer, MAX_ATTACHMENT), Content::Bundle);
        vec![found.await]
    }

    /// Looks at the payloads in the layers of a manifest.
    async fn payloads(&self, store: Store, manifest: &Digest, parsed: &ImageManifest) -> Vec<Finding> {
        let layers = parsed.layers.iter().filter(|layer| layer.media_type == SIMPLE_SIGNING);
        let looks = layers.map(|layer| self.payload(store, manifest, layer));
        Box::pin(stream::iter(looks).buffered(WIDTH)).collect().await
    }

    async fn payload(&self, store: Store, manifest: &Digest, layer: &Descriptor) -> Finding {
        let Some(encoded) = layer.annotations.get(SIGNATURE).filter(|text| !text.is_empty()) else {
            return Finding::Refused(Reason::malformed("it has no signature annotation"));
        };
        // cosign stores what it was given, line breaks included.
        let Ok(signature) = BASE64_STANDARD.decode(encoded.replace(['\n', '\r'], "")) else {
            return Finding::Refused(Reason::malformed("its signature is not base64"));
        };
        let evidence = layer.annotations.contains_key(LOG_ENTRY) || layer.annotations.contains_key(TIMESTAMP);
        let content = |payload| Content::Payload { payload, signature, evidence };
        self.judge(store, manifest, (layer, MAX_PAYLOAD), content).await
    }

    /// Reads a blob once there is memory for it, and judges it before the memory is given to the next.
    async fn judge(
        &self,
        store: Store,
        manifest: &Digest,
        (blob, limit): (&Descriptor, u64),
        content: impl FnOnce(Vec<u8>) -> Content,
    ) -> Finding {
        // More than the limit is refused before anything is read, and needs no memory.
        let units = if blob.size > limit { 0 } else { blob.size.div_ceil(UNIT) };
        let _memory = self.memory.acquire_many(u32::try_from(units).unwrap_or(u32::MAX)).await;
        let content = match self.registry.blob(self.image.repository(), blob, limit).await {
            Ok(bytes) => content(bytes),
            Err(error) => return failed(error),
        };
        let candidate = Candidate { store, manifest: manifest.clone(), content };
        match candidate.judge(self.image, self.policy) {
            Ok(signature) => Finding::Accepted(Box::new(signature)),
            Err(reason) => Finding::Refused(reason),
        }
    }
}

/// Tells content that is wrong from a registry that does not answer.
///
/// A changed byte must fail the policy, and not look like an outage that a pipeline may forgive.
fn failed(error: RegistryError) -> Finding {
    match &error {
        RegistryError::Manifest { .. } | RegistryError::Digest { .. } | RegistryError::TooLarge { .. } => {
            Finding::Refused(Reason::malformed(&error))
        }
        RegistryError::Status { source, .. } if source.status == 404 => Finding::Refused(Reason::Missing),
        _ => Finding::Unread(error),
    }
}
