//! Signing images that are in a registry, for `publish` and for `sign`: only what is missing is added.

use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::attachment::{
    Attached, LegacySignature, NewBundle, Outcome, attach_bundle, attach_legacy, find_bundle, find_legacy,
};
use crate::error::Error;
use crate::oci::{Descriptor, Manifest, PinnedReference};
use crate::plan::{Recursion, SigningPlan};
use crate::registry::{Look, Registry};
use crate::report::Report;
use crate::sign::KeySigner;
use crate::sigstore::dsse::{Envelope, IN_TOTO};
use crate::sigstore::{SimpleSigning, bundle, dsse, statement};

/// How many images are signed at a time.
const WIDTH: usize = 4;

/// An image that is to be signed.
#[derive(Clone, Debug)]
pub(super) struct SignedImage {
    /// Where it is.
    pub(super) reference: PinnedReference,
    /// Its manifest's descriptor, the subject of what refers to it.
    pub(super) descriptor: Descriptor,
}

/// What signs, where and how.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    /// The registry that the images are in.
    pub(super) registry: &'a Registry,
    /// Who signs.
    pub(super) signer: &'a KeySigner,
    /// How.
    pub(super) signing: &'a SigningPlan,
    /// Whether what others write too is looked at once more.
    pub(super) look: Look,
}

/// Returns what is to be signed: the image, and every platform image if it is an index.
///
/// Attestation manifests inside an index are no platform images.
pub(super) fn images(image: &PinnedReference, manifest: &Manifest, recursion: Recursion) -> Vec<SignedImage> {
    let mut images = Vec::new();
    if let (Recursion::EveryPlatform, Some(index)) = (recursion, manifest.as_index()) {
        for child in index.manifests.iter().filter(|child| !child.is_attestation_manifest()) {
            let reference = image.repository().pin(child.digest.clone());
            if !images.iter().any(|known: &SignedImage| known.reference == reference) {
                images.push(SignedImage { reference, descriptor: child.clone() });
            }
        }
    }
    images.push(SignedImage { reference: image.clone(), descriptor: manifest.descriptor().clone() });
    images
}

/// Signs each image, and records it.
pub(super) async fn sign_all(work: &Work<'_>, images: &[SignedImage], report: &mut Report) -> Result<(), Error> {
    let attached = images.iter().map(|image| sign_image(work, image));
    let mut attached = futures_util::stream::iter(attached).buffered(WIDTH);
    for image in images {
        if let Some(attached) = attached.try_next().await? {
            report.record_signature(&image.reference, &attached);
        }
    }
    Ok(())
}

/// Signs an image in every format that is asked for, and returns what it has then.
pub(super) async fn sign_image(work: &Work<'_>, image: &SignedImage) -> Result<Vec<(&'static str, Attached)>, Error> {
    let (legacy, bundle) = tokio::try_join!(
        async { if work.signing.formats.legacy() { sign_legacy(work, image).await.map(Some) } else { Ok(None) } },
        async { if work.signing.formats.bundle() { sign_bundle(work, image).await.map(Some) } else { Ok(None) } }
    )?;
    let named = |name: &'static str| move |attached| (name, attached);
    Ok(legacy.map(named("legacy")).into_iter().chain(bundle.map(named("bundle"))).collect())
}

async fn sign_legacy(work: &Work<'_>, image: &SignedImage) -> Result<Attached, Error> {
    let Work { registry, signer, signing, look } = *work;
    let payload = SimpleSigning::new(&image.reference, &signing.annotations).to_bytes();
    if let Some(manifest) = find_legacy(registry, &image.reference, &payload, signer.public_key()).await? {
        return Ok(Attached { manifest, outcome: Outcome::AlreadyThere });
    }
    let signature = LegacySignature { signature: signer.sign(&payload)?, payload };
    Ok(attach_legacy(registry, &image.reference, &signature, signer.public_key(), look).await?)
}

async fn sign_bundle(work: &Work<'_>, image: &SignedImage) -> Result<Attached, Error> {
    let Work { registry, signer, signing, look } = *work;
    let payload = statement::sign_statement(image.reference.digest(), &signing.annotations);
    if let Some(manifest) = find_bundle(registry, &image.reference, &payload, signer.public_key()).await? {
        return Ok(Attached { manifest, outcome: Outcome::AlreadyThere });
    }
    let signature = signer.sign(&dsse::pae(IN_TOTO, &payload))?;
    let envelope = Envelope { payload_type: IN_TOTO.to_owned(), payload, signatures: vec![signature] };
    let bytes = bundle::with_key(&signer.public_key().hint(), &envelope);
    let repository = image.reference.repository();
    let bundle = NewBundle { bytes: &bytes, created: jiff::Timestamp::now(), look };
    Ok(attach_bundle(registry, repository, &image.descriptor, &bundle).await?)
}
