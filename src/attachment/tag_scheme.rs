//! The legacy format: layers of one manifest under the tag `sha256-<hex>.sig`, as cosign 2.5 writes it.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{AttachError, Attached, Outcome};
use crate::http::jitter;
use crate::oci::{Descriptor, Digest, Manifest, PinnedReference, Tag, media_type};
use crate::registry::{Look, ManifestTarget, Registry};
use crate::sigstore::{PublicKey, simple_signing};

/// The annotation of a layer that holds its signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The most signatures under one tag: the limit that verifiers set (CVE-2023-46737).
const MAX_LAYERS: usize = 1000;
/// How long to wait, once, where somebody else was seen to write the tag after us: there may be more of them.
const CALM: Duration = Duration::from_millis(300);
/// How often the tag is written before giving up.
const ATTEMPTS: u32 = 10;

const EPOCH: &str = "0001-01-01T00:00:00Z";

/// A signature over a simple signing payload.
#[derive(Clone, Debug)]
pub struct LegacySignature {
    /// The payload.
    pub payload: Vec<u8>,
    /// The signature over it.
    pub signature: Vec<u8>,
}

/// Returns the tag at which the signatures of a manifest are stored.
pub fn signature_tag(digest: &Digest) -> String {
    format!("{}-{}.sig", digest.algorithm().name(), digest.hex())
}

/// Looks for a signature by `key` over exactly `payload`. Costs one request; two bytes of it differ from none.
pub async fn find_legacy(
    registry: &Registry,
    image: &PinnedReference,
    payload: &[u8],
    key: &PublicKey,
) -> Result<Option<PinnedReference>, AttachError> {
    let tag = parsed_tag(image)?;
    let found = read(registry, image, &tag).await?;
    let found = found.filter(|found| found.signatures.has_signature(payload, key));
    Ok(found.map(|found| image.repository().pin(found.digest)))
}

/// Adds a signature to those that the image has. One by `key` over the same payload is kept, and nothing is written.
///
/// Registries have no conditional write. Somebody who has read the tag before our write and writes theirs after it takes
/// our layer out again; so each round ends with another look, after longer than such a round takes us if `look` says so. Whatever was
/// seen under the tag once and is gone is put back: so two who overwrite each other both end up in it, and whoever of
/// several looks last repairs what the others have lost.
pub async fn attach_legacy(
    registry: &Registry,
    image: &PinnedReference,
    signature: &LegacySignature,
    key: &PublicKey,
    look: Look,
) -> Result<Attached, AttachError> {
    if let Some(manifest) = find_legacy(registry, image, &signature.payload, key).await? {
        return Ok(Attached { manifest, outcome: Outcome::AlreadyThere });
    }
    let tag = parsed_tag(image)?;
    registry.push_blob(image.repository(), simple_signing::MEDIA_TYPE, signature.payload.clone()).await?;
    let mut known = vec![Layer::new(signature)];
    let mut peace = Peace::Unknown;
    for writes in 0..=ATTEMPTS {
        let started = Instant::now();
        let (current, digest) = match read(registry, image, &tag).await? {
            Some(found) => (found.signatures, Some(found.digest)),
            None => (SignatureManifest::default(), None),
        };
        let (merged, change) = current.with(&known);
        if let (Change::Nothing, Some(digest)) = (change, digest) {
            if peace.is_broken_by(&digest) {
                known = merged.layers;
                tokio::time::sleep(CALM + jitter(CALM)).await;
                continue;
            }
            return Ok(Attached { manifest: image.repository().pin(digest), outcome: Outcome::Added });
        }
        if writes == ATTEMPTS {
            break;
        }
        if merged.layers.len() > MAX_LAYERS {
            let (count, limit) = (merged.layers.len() - 1, MAX_LAYERS);
            return Err(AttachError::TooMany { tag: tag_name(image), count, limit });
        }
        match write(registry, image, &tag, &merged).await {
            Err(AttachError::Registry(error)) if error.is_collision() => {
                tracing::debug!(%error, %tag, "somebody else writes the tag");
            }
            other => peace = Peace::While(other?),
        }
        known = merged.layers;
        settle(look, writes, started.elapsed()).await;
    }
    Err(AttachError::Contended { tag: tag_name(image), attempts: ATTEMPTS })
}

/// Whether others write the tag too.
enum Peace {
    Unknown,
    /// As long as the tag holds what we wrote.
    While(Digest),
    /// They do, and the tag has been looked at once more because of it.
    Over,
}

impl Peace {
    /// Returns whether this is the first look that shows somebody else's write.
    fn is_broken_by(&mut self, found: &Digest) -> bool {
        let broken = matches!(self, Self::While(ours) if ours != found);
        if broken {
            *self = Self::Over;
        }
        broken
    }
}

struct Found {
    digest: Digest,
    signatures: SignatureManifest,
}

async fn read(registry: &Registry, image: &PinnedReference, tag: &Tag) -> Result<Option<Found>, AttachError> {
    let Some(manifest) = registry.find_manifest(image.repository(), tag.as_str()).await? else { return Ok(None) };
    let signatures = SignatureManifest::read(&manifest)
        .ok_or_else(|| AttachError::NotSignatures { tag: tag_name(image), reason: "it has no layers".to_owned() })?;
    Ok(Some(Found { digest: manifest.digest().clone(), signatures }))
}

async fn write(
    registry: &Registry,
    image: &PinnedReference,
    tag: &Tag,
    signatures: &SignatureManifest,
) -> Result<Digest, AttachError> {
    registry.push_blob(image.repository(), &signatures.config_media_type, signatures.config()).await?;
    let target = ManifestTarget::Tag(tag.clone());
    let bytes = signatures.to_bytes();
    let pushed = registry.push_manifest(image.repository(), &target, &signatures.media_type, &bytes).await?;
    Ok(pushed.digest)
}

/// Waits until a look means something. From the second write on, somebody else is known to be at work, and whoever
/// waits differently long gets through.
async fn settle(look: Look, earlier_writes: u32, round: Duration) {
    if earlier_writes == 0 {
        return look.after(round).await;
    }
    Look::Again.after(round).await;
    tokio::time::sleep(jitter(Duration::from_millis(50) * (1 << earlier_writes.min(5)))).await;
}

fn parsed_tag(image: &PinnedReference) -> Result<Tag, AttachError> {
    signature_tag(image.digest()).parse().map_err(|_| AttachError::NotSignatures {
        tag: tag_name(image),
        reason: "the digest is too long for the name of a tag".to_owned(),
    })
}

fn tag_name(image: &PinnedReference) -> String {
    format!("{}:{}", image.repository(), signature_tag(image.digest()))
}

/// What stands under the tag. Layers of others are kept as they were written.
#[derive(Debug)]
struct SignatureManifest {
    media_type: String,
    config_media_type: String,
    layers: Vec<Layer>,
    annotations: Option<Box<RawValue>>,
    subject: Option<Box<RawValue>>,
    artifact_type: Option<Box<RawValue>>,
}

#[derive(Clone, Debug)]
struct Layer {
    raw: Box<RawValue>,
    descriptor: Descriptor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    Layers,
}

impl Default for SignatureManifest {
    fn default() -> Self {
        Self {
            media_type: media_type::OCI_MANIFEST.to_owned(),
            config_media_type: media_type::OCI_CONFIG.to_owned(),
            layers: Vec::new(),
            annotations: None,
            subject: None,
            artifact_type: None,
        }
    }
}

impl SignatureManifest {
    /// Returns `None` for what is not an image manifest.
    fn read(manifest: &Manifest) -> Option<Self> {
        let image = manifest.as_image()?;
        let wire: WireIn = serde_json::from_slice(manifest.bytes()).ok()?;
        let layers = wire.layers.unwrap_or_default();
        let layers = layers.into_iter().zip(&image.layers);
        Some(Self {
            media_type: manifest.media_type().to_owned(),
            config_media_type: image.config.media_type.clone(),
            layers: layers.map(|(raw, descriptor)| Layer { raw, descriptor: descriptor.clone() }).collect(),
            annotations: wire.annotations,
            subject: wire.subject,
            artifact_type: wire.artifact_type,
        })
    }

    /// Returns the manifest with those of `wanted` added that are not in it.
    fn with(mut self, wanted: &[Layer]) -> (Self, Change) {
        let missing: Vec<_> = wanted.iter().filter(|layer| !self.has(layer)).cloned().collect();
        let change = if missing.is_empty() { Change::Nothing } else { Change::Layers };
        self.layers.extend(missing);
        (self, change)
    }

    fn has(&self, wanted: &Layer) -> bool {
        self.layers
            .iter()
            .any(|layer| layer.descriptor.digest == wanted.descriptor.digest && layer.signature() == wanted.signature())
    }

    fn has_signature(&self, payload: &[u8], key: &PublicKey) -> bool {
        let digest = Digest::of(payload);
        let mut candidates = self.layers.iter().filter(|layer| layer.descriptor.digest == digest);
        candidates.any(|layer| {
            let signature =
                layer.signature().and_then(|text| BASE64_STANDARD.decode(text.replace(['\n', '\r'], "")).ok());
            signature.is_some_and(|signature| key.verify(payload, &signature))
        })
    }

    /// Returns the configuration that belongs to the layers, by cosign's rules: no times, one history entry each.
    ///
    /// It follows from the layers alone, so times that another signer has recorded there are not kept.
    fn config(&self) -> Vec<u8> {
        let config = Config {
            architecture: "",
            created: EPOCH,
            history: self.layers.iter().map(|_| History { created: EPOCH }).collect(),
            os: "",
            rootfs: RootFs {
                kind: "layers",
                diff_ids: self.layers.iter().map(|layer| &layer.descriptor.digest).collect(),
            },
            runtime: Empty {},
        };
        to_json(&config)
    }

    fn to_bytes(&self) -> Vec<u8> {
        to_json(&WireOut {
            schema_version: 2,
            media_type: &self.media_type,
            config: Descriptor::of(&self.config_media_type, &self.config()),
            layers: self.layers.iter().map(|layer| &*layer.raw).collect(),
            annotations: self.annotations.as_deref(),
            subject: self.subject.as_deref(),
            artifact_type: self.artifact_type.as_deref(),
        })
    }
}

impl Layer {
    fn new(signature: &LegacySignature) -> Self {
        Self::from_payload(Descriptor::of(simple_signing::MEDIA_TYPE, &signature.payload), &signature.signature)
    }

    fn from_payload(payload: Descriptor, signature: &[u8]) -> Self {
        let annotations = [(SIGNATURE.to_owned(), BASE64_STANDARD.encode(signature))].into();
        let descriptor = Descriptor { annotations, ..payload };
        #[expect(clippy::expect_used, reason = "a descriptor is strings and a number, which are JSON")]
        let raw = serde_json::value::to_raw_value(&descriptor).expect("a descriptor is JSON");
        Self { raw, descriptor }
    }

    fn signature(&self) -> Option<&String> {
        self.descriptor.annotations.get(SIGNATURE)
    }
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "only strings, numbers and JSON go in, and memory takes them")]
    serde_json::to_vec(value).expect("strings, numbers and JSON are JSON")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireIn {
    #[serde(default)]
    layers: Option<Vec<Box<RawValue>>>,
    #[serde(default)]
    annotations: Option<Box<RawValue>>,
    #[serde(default)]
    subject: Option<Box<RawValue>>,
    #[serde(default)]
    artifact_type: Option<Box<RawValue>>,
}

/// A manifest, in the field order of Go's image-spec types.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireOut<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor,
    layers: Vec<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a RawValue>,
}

/// An image configuration, in the field order of cosign's library.
#[derive(Serialize)]
struct Config<'a> {
    architecture: &'a str,
    created: &'a str,
    history: Vec<History<'a>>,
    os: &'a str,
    rootfs: RootFs<'a>,
    #[serde(rename = "config")]
    runtime: Empty,
}

#[derive(Serialize)]
struct History<'a> {
    created: &'a str,
}

#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    diff_ids: Vec<&'a Digest>,
}

#[derive(Serialize)]
struct Empty {}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: &[u8] = include_bytes!("../../tests/fixtures/cosign/v2_sig_payload.json");
    const MANIFEST: &str = include_str!("../../tests/fixtures/cosign/v2_sig_manifest.json");
    const CONFIG: &str = include_str!("../../tests/fixtures/cosign/v2_sig_config.json");
    const MULTI_MANIFEST: &str = include_str!("../../tests/fixtures/cosign/v2_sig_multi_manifest.json");
    const MULTI3_MANIFEST: &str = include_str!("../../tests/fixtures/cosign/v2_sig_multi3_manifest.json");
    const MULTI3_CONFIG: &str = include_str!("../../tests/fixtures/cosign/v2_sig_multi3_config.json");
    const KEY: &[u8] = include_bytes!("../../tests/fixtures/cosign/keys/v2/cosign.pub");
    const OTHER_KEY: &[u8] = include_bytes!("../../tests/fixtures/cosign/keys/v3/cosign.pub");

    fn read(text: &str) -> SignatureManifest {
        SignatureManifest::read(&Manifest::parse(text.as_bytes().to_vec(), None).unwrap()).unwrap()
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// Returns the layer as this room makes it, from the payload's descriptor and the signature.
    fn layer_of(manifest: &str, position: usize) -> Layer {
        let layer = &read(manifest).layers[position];
        let payload = Descriptor { annotations: std::collections::BTreeMap::new(), ..layer.descriptor.clone() };
        Layer::from_payload(payload, &BASE64_STANDARD.decode(layer.signature().unwrap()).unwrap())
    }

    #[test]
    fn the_first_signature_is_stored_in_the_bytes_of_cosign() {
        let signature = BASE64_STANDARD.decode(read(MANIFEST).layers[0].signature().unwrap()).unwrap();

        let (manifest, change) =
            SignatureManifest::default().with(&[Layer::new(&LegacySignature { payload: PAYLOAD.to_vec(), signature })]);

        assert_eq!(change, Change::Layers);
        assert_eq!(text(&manifest.to_bytes()), MANIFEST);
        assert_eq!(text(&manifest.config()), CONFIG);
    }

    #[test]
    fn a_third_signature_is_appended_in_the_bytes_of_cosign() {
        let third = layer_of(MULTI3_MANIFEST, 2);

        let (manifest, change) = read(MULTI_MANIFEST).with(&[third]);

        assert_eq!(change, Change::Layers);
        assert_eq!(text(&manifest.to_bytes()), MULTI3_MANIFEST);
        assert_eq!(text(&manifest.config()), MULTI3_CONFIG);
    }

    #[test]
    fn what_others_wrote_stays_byte_for_byte() {
        let digest = Digest::of(b"theirs");
        let theirs = format!(
            r#"{{ "digest":"{digest}", "size" : 6,"mediaType":"m","annotations":{{"b":"1","a":"\u0041"}},"x-odd":[1.0,1e5] }}"#
        );
        let before = format!(
            r#"{{"annotations":{{"k": "v"}},"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","size":2,"digest":"{digest}"}},"layers":[{theirs}]}}"#,
            media_type::DOCKER_MANIFEST,
            media_type::DOCKER_CONFIG,
        );

        let (after, _) = read(&before).with(&[layer_of(MANIFEST, 0)]);

        let bytes = text(&after.to_bytes());
        assert!(bytes.contains(&format!(r#""layers":[{theirs},{{"#)), "{bytes}");
        assert!(bytes.ends_with(r#"],"annotations":{"k": "v"}}"#), "{bytes}");
        let manifest = Manifest::parse(bytes.into_bytes(), None).unwrap();
        assert_eq!(manifest.media_type(), media_type::DOCKER_MANIFEST);
        assert_eq!(manifest.as_image().unwrap().config.media_type, media_type::DOCKER_CONFIG);
        assert_eq!(manifest.as_image().unwrap().config.digest, Digest::of(&after.config()));
    }

    #[test]
    fn a_signature_of_the_same_key_over_the_same_payload_is_found() {
        let key = PublicKey::from_pem(KEY).unwrap();
        let other = PublicKey::from_pem(OTHER_KEY).unwrap();
        let broken = MANIFEST.replace("MEYCIQCU9Z", "MEYCIQCU9Y");

        assert!(read(MANIFEST).has_signature(PAYLOAD, &key));
        assert!(!read(MANIFEST).has_signature(PAYLOAD, &other));
        assert!(!read(MANIFEST).has_signature(b"another payload", &key));
        assert!(!read(&broken).has_signature(PAYLOAD, &key));
    }

    #[test]
    fn layers_that_were_overwritten_come_back_once() {
        let (ours, theirs) = (layer_of(MULTI3_MANIFEST, 2), layer_of(MULTI3_MANIFEST, 1));
        let seen = [layer_of(MULTI3_MANIFEST, 0), ours];

        let (merged, change) = SignatureManifest::default().with(&[theirs]).0.with(&seen);
        let (again, unchanged) = read(&text(&merged.to_bytes())).with(&merged.layers);

        assert_eq!((change, unchanged), (Change::Layers, Change::Nothing));
        assert_eq!(again.layers.len(), 3);
    }

    #[test]
    fn an_index_is_no_manifest_of_signatures() {
        let index = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::OCI_INDEX);

        let manifest = Manifest::parse(index.into_bytes(), None).unwrap();

        assert!(SignatureManifest::read(&manifest).is_none());
    }

    #[test]
    fn a_sha512_digest_has_no_legacy_tag() {
        let reference = |digest: String| {
            let text = format!("ghcr.io/acme/app@{digest}");
            crate::oci::Reference::parse(&text, crate::oci::DefaultRegistry::None).unwrap().pinned().unwrap()
        };

        let refused = parsed_tag(&reference(format!("sha512:{}", "a".repeat(128))));
        let tag = parsed_tag(&reference(format!("sha256:{}", "a".repeat(64)))).unwrap();

        assert!(matches!(refused, Err(AttachError::NotSignatures { .. })));
        assert_eq!(tag.as_str(), format!("sha256-{}.sig", "a".repeat(64)));
    }
}
