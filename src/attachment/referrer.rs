//! Bundles as referrers: a manifest whose subject is the image and whose one layer is the bundle.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{AttachError, Attached, Outcome};
use crate::oci::{Descriptor, Manifest, PinnedReference, Repository, media_type};
use crate::registry::{Look, ManifestTarget, Registry};
use crate::sigstore::bundle::{MEDIA_TYPE, MEDIA_TYPE_PREFIX};
use crate::sigstore::statement::SIGN_V1;
use crate::sigstore::{Bundle, PublicKey};

const CONTENT: &str = "dev.sigstore.bundle.content";
const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";
const CREATED: &str = "org.opencontainers.image.created";
/// A bundle over a signature statement is about a kilobyte; nothing larger is a signature of ours.
const MAX_OWN_BUNDLE: u64 = 1 << 20;
/// How many referrers are looked at for a signature of ours.
const MAX_LOOKED_AT: usize = 100;

/// Looks for a bundle by `key` over exactly `statement`, among the referrers of `image`.
pub async fn find_bundle(
    registry: &Registry,
    image: &PinnedReference,
    statement: &[u8],
    key: &PublicKey,
) -> Result<Option<PinnedReference>, AttachError> {
    let referrers = registry.referrers(image).await?;
    for listed in referrers.manifests.iter().filter(|listed| may_be_bundle(listed)).take(MAX_LOOKED_AT) {
        let referrer = image.repository().pin(listed.digest.clone());
        let Some(manifest) = registry.find_manifest(referrer.repository(), &listed.digest.to_string()).await? else {
            continue;
        };
        let Some(layer) = own_layer(&manifest, image) else { continue };
        let bytes = registry.blob(image.repository(), layer, MAX_OWN_BUNDLE).await?;
        if holds(&bytes, statement, key) {
            return Ok(Some(referrer));
        }
    }
    Ok(None)
}

/// What lists say of a referrer is often wrong (cosign writes another type), so it only rules out what cannot be one.
fn may_be_bundle(listed: &Descriptor) -> bool {
    let kind = listed.artifact_type.as_deref().unwrap_or(MEDIA_TYPE);
    let predicate = listed.annotations.get(PREDICATE_TYPE).map_or(SIGN_V1, String::as_str);
    (kind.starts_with(MEDIA_TYPE_PREFIX) || kind == media_type::OCI_EMPTY) && predicate == SIGN_V1
}

/// Returns the layer that is a bundle over a signature statement, if the manifest is of our making or of cosign's.
fn own_layer<'a>(manifest: &'a Manifest, image: &PinnedReference) -> Option<&'a Descriptor> {
    let parsed = manifest.as_image()?;
    let about = parsed.subject.as_ref().is_some_and(|subject| &subject.digest == image.digest());
    let predicate = parsed.annotations.get(PREDICATE_TYPE).is_some_and(|predicate| predicate == SIGN_V1);
    let layer = parsed.layers.first().filter(|layer| layer.media_type.starts_with(MEDIA_TYPE_PREFIX))?;
    (about && predicate && layer.size <= MAX_OWN_BUNDLE).then_some(layer)
}

fn holds(bytes: &[u8], statement: &[u8], key: &PublicKey) -> bool {
    let parsed = Bundle::parse(bytes).ok();
    let envelope = parsed.as_ref().and_then(Bundle::envelope);
    envelope.is_some_and(|envelope| {
        envelope.payload == statement
            && envelope.signatures.iter().any(|signature| key.verify(&envelope.pae(), signature))
    })
}

/// A bundle that is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewBundle<'a> {
    /// The bundle.
    pub bytes: &'a [u8],
    /// When it was made; goes into an annotation, to the second.
    pub created: jiff::Timestamp,
    /// Whether the list of referrers is looked at once more.
    pub look: Look,
}

/// Stores a bundle as a referrer of `subject`, and makes sure that it is listed.
///
/// Costs two blobs, a manifest, and where the registry keeps no list
/// of referrers, an index under the fallback tag.
pub async fn attach_bundle(
    registry: &Registry,
    repository: &Repository,
    subject: &Descriptor,
    bundle: &NewBundle<'_>,
) -> Result<Attached, AttachError> {
    let NewBundle { bytes, created, look } = *bundle;
    let layer = Descriptor::of(MEDIA_TYPE, bytes);
    let (empty, content) = tokio::join!(
        registry.push_blob(repository, media_type::OCI_EMPTY, b"{}".to_vec()),
        registry.push_blob(repository, MEDIA_TYPE, bytes.to_vec()),
    );
    empty?;
    content?;
    let annotations = annotations(SIGN_V1, created);
    let manifest = manifest(subject, &layer, &annotations);
    registry.push_manifest(repository, &ManifestTarget::Digest, media_type::OCI_MANIFEST, &manifest).await?;
    let referrer = Descriptor {
        artifact_type: Some(MEDIA_TYPE.to_owned()),
        annotations,
        ..Descriptor::of(media_type::OCI_MANIFEST, &manifest)
    };
    registry.list_referrer(&repository.pin(subject.digest.clone()), &referrer, look).await?;
    Ok(Attached { manifest: repository.pin(referrer.digest), outcome: Outcome::Added })
}

fn annotations(predicate_type: &str, created: jiff::Timestamp) -> BTreeMap<String, String> {
    let second = jiff::Timestamp::from_second(created.as_second()).unwrap_or(created);
    [
        (CONTENT.to_owned(), "dsse-envelope".to_owned()),
        (PREDICATE_TYPE.to_owned(), predicate_type.to_owned()),
        (CREATED.to_owned(), second.to_string()),
    ]
    .into()
}

fn manifest(subject: &Descriptor, layer: &Descriptor, annotations: &BTreeMap<String, String>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Out<'a> {
        schema_version: u32,
        media_type: &'a str,
        config: Descriptor,
        layers: [&'a Descriptor; 1],
        annotations: &'a BTreeMap<String, String>,
        subject: Descriptor,
        artifact_type: &'a str,
    }
    // cosign finds its own referrers by the type in the config's descriptor.
    let config =
        Descriptor { artifact_type: Some(MEDIA_TYPE.to_owned()), ..Descriptor::of(media_type::OCI_EMPTY, b"{}") };
    let out = Out {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST,
        config,
        layers: [layer],
        annotations,
        subject: Descriptor { annotations: BTreeMap::new(), platform: None, artifact_type: None, ..subject.clone() },
        artifact_type: MEDIA_TYPE,
    };
    // Text and numbers always serialise.
    serde_json::to_vec(&out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_equals_cosigns_byte_for_byte() {
        let golden = include_bytes!("../../tests/fixtures/cosign/v3_bundle_sig_manifest.json");
        let parsed = Manifest::parse(golden.to_vec(), None).unwrap();
        let image = parsed.as_image().unwrap();
        let created = image.annotations[CREATED].parse().unwrap();

        let ours = manifest(image.subject.as_ref().unwrap(), &image.layers[0], &annotations(SIGN_V1, created));

        assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(golden));
    }

    #[test]
    fn a_bundle_of_ours_is_found_again() {
        let bytes = include_bytes!("../../tests/fixtures/cosign/v3_bundle_sig_bundle.json");
        let statement = include_bytes!("../../tests/fixtures/cosign/v3_bundle_sig_statement.json");
        let key = |pem: &[u8]| PublicKey::from_pem(pem).unwrap();
        let own = key(include_bytes!("../../tests/fixtures/cosign/keys/v3/cosign.pub"));
        let other = key(include_bytes!("../../tests/fixtures/cosign/keys/k2/cosign.pub"));

        assert!(holds(bytes, statement, &own));
        assert!(!holds(bytes, statement, &other));
        assert!(!holds(bytes, b"{}", &own));
    }
}
