//! Finds every signature of an image, in every store.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::Reason;
use super::candidate::{Candidate, Content, Store};
use crate::oci::{Descriptor, Digest, Manifest, PinnedReference};
use crate::registry::{Registry, RegistryError};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";
const SIGN_V1: &str = "https://sigstore.dev/cosign/sign/v1";
const EXPERIMENTAL: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

/// cosign's limit for one attachment.
const MAX_ATTACHMENT: u64 = 128 << 20;
/// A signature is a kilobyte or two; with a certificate chain and a log entry, some more.
const MAX_PAYLOAD: u64 = 1 << 20;
/// How many are fetched at a time.
const WIDTH: usize = 8;

/// Returns the signatures at the `.sig` tag.
pub(super) async fn legacy(registry: &Registry, image: &PinnedReference) -> Result<Vec<Candidate>, RegistryError> {
    let digest = image.digest();
    let tag = format!("{}-{}.sig", digest.algorithm().name(), digest.hex());
    match registry.find_manifest(image.repository(), &tag).await? {
        Some(manifest) => payloads(registry, image, &manifest, Store::Legacy).await,
        None => Ok(Vec::new()),
    }
}

/// Returns the signatures among the referrers. Lists are often wrong about types, so every referrer is opened.
pub(super) async fn referrers(registry: &Registry, image: &PinnedReference) -> Result<Vec<Candidate>, RegistryError> {
    let referrers = registry.referrers(image).await?;
    let opened = referrers.manifests.iter().map(|listed| open(registry, image, listed));
    let found: Vec<Vec<Candidate>> = futures_util::stream::iter(opened).buffered(WIDTH).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn open(
    registry: &Registry,
    image: &PinnedReference,
    listed: &Descriptor,
) -> Result<Vec<Candidate>, RegistryError> {
    let found = registry.find_manifest(image.repository(), &listed.digest.to_string()).await;
    let manifest = match found {
        Ok(Some(manifest)) => manifest,
        // Listed, and gone; or not a manifest that is accepted, so not a signature that is.
        Ok(None) | Err(RegistryError::Manifest { .. } | RegistryError::TooLarge { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let Some(parsed) = manifest.as_image() else { return Ok(Vec::new()) };
    if parsed.subject.as_ref().is_none_or(|subject| &subject.digest != image.digest()) {
        return Ok(Vec::new());
    }
    if parsed.config.media_type == EXPERIMENTAL {
        return payloads(registry, image, &manifest, Store::LegacyReferrer).await;
    }
    let is_signature = parsed.annotations.get(PREDICATE_TYPE).is_none_or(|predicate| predicate == SIGN_V1);
    let Some(layer) = parsed.layers.first().filter(|layer| is_signature && layer.media_type.starts_with(BUNDLE)) else {
        return Ok(Vec::new());
    };
    let content = match fetch(registry, image, layer, MAX_ATTACHMENT).await? {
        Ok(bytes) => Content::Bundle(bytes),
        Err(reason) => Content::Broken(reason),
    };
    Ok(vec![Candidate { store: Store::Bundle, manifest: manifest.digest().clone(), content }])
}

/// Returns the payloads in the layers of a manifest.
async fn payloads(
    registry: &Registry,
    image: &PinnedReference,
    manifest: &Manifest,
    store: Store,
) -> Result<Vec<Candidate>, RegistryError> {
    let layers = manifest.as_image().map(|parsed| parsed.layers.as_slice()).unwrap_or_default();
    let layers = layers.iter().filter(|layer| layer.media_type == SIMPLE_SIGNING);
    let contents = layers.map(|layer| payload(registry, image, layer));
    let contents: Vec<Content> = futures_util::stream::iter(contents).buffered(WIDTH).try_collect().await?;
    let digest: &Digest = manifest.digest();
    Ok(contents.into_iter().map(|content| Candidate { store, manifest: digest.clone(), content }).collect())
}

async fn payload(registry: &Registry, image: &PinnedReference, layer: &Descriptor) -> Result<Content, RegistryError> {
    let Some(encoded) = layer.annotations.get(SIGNATURE).filter(|text| !text.is_empty()) else {
        return Ok(Content::Broken(Reason::malformed("it has no signature annotation")));
    };
    // cosign stores what it was given, line breaks included.
    let Ok(signature) = BASE64_STANDARD.decode(encoded.replace(['\n', '\r'], "")) else {
        return Ok(Content::Broken(Reason::malformed("its signature is not base64")));
    };
    let evidence = layer.annotations.contains_key(LOG_ENTRY) || layer.annotations.contains_key(TIMESTAMP);
    Ok(match fetch(registry, image, layer, MAX_PAYLOAD).await? {
        Ok(payload) => Content::Payload { payload, signature, evidence },
        Err(reason) => Content::Broken(reason),
    })
}

/// Fetches a blob. What the registry serves instead is a reason to refuse the signature, not to give up on all of them.
async fn fetch(
    registry: &Registry,
    image: &PinnedReference,
    blob: &Descriptor,
    limit: u64,
) -> Result<Result<Vec<u8>, Reason>, RegistryError> {
    match registry.blob(image.repository(), blob, limit).await {
        Ok(bytes) => Ok(Ok(bytes)),
        Err(error @ (RegistryError::Digest { .. } | RegistryError::TooLarge { .. })) => {
            Ok(Err(Reason::malformed(&error)))
        }
        Err(error) => Err(error),
    }
}
