//! Legacy storage: each signature is a layer of the manifest at the tag `sha256-<hex>.sig`.
//!
//! Several signers share that manifest, and registries have no conditional write: it is read, appended to, written, and
//! read again after longer than such a round takes, because somebody who has read it before our write may write after it.

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
/// What cosign accepts.
const MAX_LAYERS: usize = 1000;
/// How often the tag is written before giving up.
const ATTEMPTS: u32 = 8;

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
    let list = List::read(registry, image).await?;
    let payload = Signed { payload, key };
    Ok(list.filter(|list| list.holds(&payload)).map(|list| image.repository().pin(list.digest)))
}

/// Adds a signature to those that the image has. One by `key` over the same payload is kept, and nothing is written.
pub async fn attach_legacy(
    registry: &Registry,
    image: &PinnedReference,
    signature: &LegacySignature,
    key: &PublicKey,
    look: Look,
) -> Result<Attached, AttachError> {
    let repository = image.repository();
    let wanted = Signed { payload: &signature.payload, key };
    let mut written = Outcome::AlreadyThere;
    for attempt in 1..=ATTEMPTS {
        let started = Instant::now();
        let list = List::read(registry, image).await?;
        if let Some(list) = list.as_ref().filter(|list| list.holds(&wanted)) {
            return Ok(Attached { manifest: repository.pin(list.digest.clone()), outcome: written });
        }
        if attempt > 1 {
            tokio::time::sleep(jitter(Duration::from_millis(50 << attempt))).await;
        }
        if written == Outcome::AlreadyThere {
            registry.push_blob(repository, simple_signing::MEDIA_TYPE, signature.payload.clone()).await?;
        }
        let layers = list.map(|list| list.layers).unwrap_or_default();
        write(registry, image, layers, signature).await?;
        written = Outcome::Added;
        look.after(started.elapsed()).await;
    }
    match List::read(registry, image).await?.filter(|list| list.holds(&wanted)) {
        Some(list) => Ok(Attached { manifest: repository.pin(list.digest), outcome: written }),
        None => Err(AttachError::Contended { tag: tag_name(image), attempts: ATTEMPTS }),
    }
}

async fn write(
    registry: &Registry,
    image: &PinnedReference,
    mut layers: Vec<Layer>,
    signature: &LegacySignature,
) -> Result<(), AttachError> {
    if layers.len() >= MAX_LAYERS {
        return Err(AttachError::TooMany { tag: tag_name(image), count: layers.len(), limit: MAX_LAYERS });
    }
    layers.push(Layer::new(signature)?);
    let repository = image.repository();
    let config = config(&layers);
    let manifest = manifest(&config, &layers);
    registry.push_blob(repository, media_type::OCI_CONFIG, config).await?;
    let tag: Tag = signature_tag(image.digest())
        .parse()
        .map_err(|_| AttachError::NotSignatures { tag: tag_name(image), reason: "its name is no tag".to_owned() })?;
    registry.push_manifest(repository, &ManifestTarget::Tag(tag), media_type::OCI_MANIFEST, &manifest).await?;
    Ok(())
}

fn tag_name(image: &PinnedReference) -> String {
    format!("{}:{}", image.repository(), signature_tag(image.digest()))
}

/// What a signature is looked for by.
struct Signed<'a> {
    payload: &'a [u8],
    key: &'a PublicKey,
}

/// The signatures that an image has.
struct List {
    digest: Digest,
    layers: Vec<Layer>,
}

impl List {
    async fn read(registry: &Registry, image: &PinnedReference) -> Result<Option<Self>, AttachError> {
        let manifest = registry.find_manifest(image.repository(), &signature_tag(image.digest())).await?;
        manifest.map(|manifest| Self::parse(&manifest, image)).transpose()
    }

    fn parse(manifest: &Manifest, image: &PinnedReference) -> Result<Self, AttachError> {
        #[derive(Deserialize)]
        struct Layers {
            layers: Vec<Box<RawValue>>,
        }
        let refuse = |reason: &str| AttachError::NotSignatures { tag: tag_name(image), reason: reason.to_owned() };
        let parsed: Layers = serde_json::from_slice(manifest.bytes()).map_err(|_| refuse("it has no layers"))?;
        let layers = parsed.layers.into_iter().map(|raw| {
            let descriptor = serde_json::from_str(raw.get()).map_err(|_| refuse("a layer is malformed"))?;
            Ok(Layer { raw, descriptor })
        });
        Ok(Self { digest: manifest.digest().clone(), layers: layers.collect::<Result<_, AttachError>>()? })
    }

    fn holds(&self, signed: &Signed<'_>) -> bool {
        let digest = Digest::of(signed.payload);
        self.layers.iter().filter(|layer| layer.descriptor.digest == digest).any(|layer| {
            let encoded = layer.descriptor.annotations.get(SIGNATURE).map(|text| text.replace('\n', ""));
            let signature = encoded.and_then(|text| BASE64_STANDARD.decode(text).ok());
            signature.is_some_and(|signature| signed.key.verify(signed.payload, &signature))
        })
    }
}

/// A layer, with its descriptor byte for byte as it was written.
struct Layer {
    raw: Box<RawValue>,
    descriptor: Descriptor,
}

impl Layer {
    fn new(signature: &LegacySignature) -> Result<Self, AttachError> {
        let mut descriptor = Descriptor::of(simple_signing::MEDIA_TYPE, &signature.payload);
        descriptor.annotations.insert(SIGNATURE.to_owned(), BASE64_STANDARD.encode(&signature.signature));
        let raw = serde_json::value::to_raw_value(&descriptor).map_err(|_| AttachError::NotSignatures {
            tag: String::new(),
            reason: "a layer is malformed".to_owned(),
        })?;
        Ok(Self { raw, descriptor })
    }
}

/// Returns the configuration as cosign writes it: no platform, no times, the payloads as layers.
fn config(layers: &[Layer]) -> Vec<u8> {
    const EVENT: &str = r#"{"created":"0001-01-01T00:00:00Z"}"#;
    let history = vec![EVENT; layers.len()].join(",");
    let diff_ids: Vec<_> = layers.iter().map(|layer| format!("\"{}\"", layer.descriptor.digest)).collect();
    format!(
        r#"{{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{history}],"os":"","rootfs":{{"type":"layers","diff_ids":[{}]}},"config":{{}}}}"#,
        diff_ids.join(",")
    )
    .into_bytes()
}

fn manifest(config: &[u8], layers: &[Layer]) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Out<'a> {
        schema_version: u32,
        media_type: &'a str,
        config: Descriptor,
        layers: Vec<&'a RawValue>,
    }
    let out = Out {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST,
        config: Descriptor::of(media_type::OCI_CONFIG, config),
        layers: layers.iter().map(|layer| &*layer.raw).collect(),
    };
    // Text, numbers and JSON that was parsed before always serialise.
    serde_json::to_vec(&out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{DefaultRegistry, Reference};

    const KEY: &[u8] = include_bytes!("../../tests/fixtures/cosign/keys/v2/cosign.pub");
    const OTHER: &[u8] = include_bytes!("../../tests/fixtures/cosign/keys/k2/cosign.pub");

    fn image() -> PinnedReference {
        let text = format!("ghcr.io/acme/app@{}", Digest::of(b"image"));
        Reference::parse(&text, DefaultRegistry::None).unwrap().pinned().unwrap()
    }

    fn list(golden: &[u8]) -> List {
        List::parse(&Manifest::parse(golden.to_vec(), None).unwrap(), &image()).unwrap()
    }

    #[test]
    fn manifest_and_config_equal_cosigns_byte_for_byte() {
        let table: [(&[u8], &[u8]); 2] = [
            (
                include_bytes!("../../tests/fixtures/cosign/v2_sig_manifest.json"),
                include_bytes!("../../tests/fixtures/cosign/v2_sig_config.json"),
            ),
            (
                include_bytes!("../../tests/fixtures/cosign/v2_sig_multi3_manifest.json"),
                include_bytes!("../../tests/fixtures/cosign/v2_sig_multi3_config.json"),
            ),
        ];

        for (golden_manifest, golden_config) in table {
            let layers = list(golden_manifest).layers;
            let config = config(&layers);

            assert_eq!(String::from_utf8_lossy(&config), String::from_utf8_lossy(golden_config));
            assert_eq!(String::from_utf8_lossy(&manifest(&config, &layers)), String::from_utf8_lossy(golden_manifest));
        }
    }

    #[test]
    fn our_layer_equals_cosigns_byte_for_byte() {
        let golden = list(include_bytes!("../../tests/fixtures/cosign/v2_sig_manifest.json"));
        let payload = include_bytes!("../../tests/fixtures/cosign/v2_sig_payload.json").to_vec();
        let signature = BASE64_STANDARD.decode(&golden.layers[0].descriptor.annotations[SIGNATURE]).unwrap();

        let ours = Layer::new(&LegacySignature { payload, signature }).unwrap();

        assert_eq!(ours.raw.get(), golden.layers[0].raw.get());
    }

    #[test]
    fn only_the_same_payload_by_the_same_key_is_a_duplicate() {
        let list = list(include_bytes!("../../tests/fixtures/cosign/v2_sig_manifest.json"));
        let payload: &[u8] = include_bytes!("../../tests/fixtures/cosign/v2_sig_payload.json");
        let (key, other) = (PublicKey::from_pem(KEY).unwrap(), PublicKey::from_pem(OTHER).unwrap());

        assert!(list.holds(&Signed { payload, key: &key }));
        assert!(!list.holds(&Signed { payload, key: &other }));
        assert!(!list.holds(&Signed { payload: b"{}", key: &key }));
    }
}
