//! The main job: push by digest, sign, verify what the registry serves, and only then move the tags.

use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::signing::{self, SignedImage, Work};
use crate::attachment::Formats;
use crate::error::Error;
use crate::oci::{Manifest, PinnedReference, Reference};
use crate::plan::{Plan, SourcePlan, Verification};
use crate::registry::{Look, ManifestTarget, Progress, Registry};
use crate::report::{ProgressDisplay, Report};
use crate::source::{Source, SourceError, SourceSpec};
use crate::verify::{Claims, Policy, Reason, Store, Verified, VerifyError, verify_image};

/// Carries out the plan. If it fails before the tags move, every tag points where it pointed.
pub(super) async fn execute(plan: &Plan, report: &mut Report) -> Result<(), Error> {
    // A key that does not open is found out before anything is pushed.
    let signer = plan.signing.as_ref().map(|signing| signing.signer.connect()).transpose()?;
    let registry = Registry::connect(&plan.registry)?;

    let image = obtain(plan, &registry, report).await?;

    let Some((signing, signer)) = plan.signing.as_ref().zip(signer) else {
        return move_tags(plan, &registry, &image, &Clearance::NotSigned, report).await;
    };
    report.record_signer(signer.public_key(), &signing.annotations);
    let images = signing::images(&image.reference, &image.manifest, signing.recursion);
    // Verification follows at once, too soon to see what a slower signer overwrites.
    let work = Work { registry: &registry, signer: &signer, signing, look: Look::Again };
    signing::sign_all(&work, &images, report).await?;

    let clearance = match plan.verification {
        Verification::Off => Clearance::NotAsked,
        Verification::Required => {
            let policy = Policy {
                key: signer.public_key().clone(),
                annotations: signing.annotations.clone(),
                claims: Claims::Required,
            };
            Clearance::Verified(verify_all(&work, &images, &policy, plan, report).await?)
        }
    };
    move_tags(plan, &registry, &image, &clearance, report).await
}

/// The image in the registry, under its digest.
struct Image {
    reference: PinnedReference,
    manifest: Manifest,
}

/// Why the tags may move.
enum Clearance {
    /// Everything that was signed was verified. The evidence is what moves them.
    Verified(Vec<Verified>),
    /// The inputs say not to verify.
    NotAsked,
    /// The inputs say not to sign.
    NotSigned,
}

impl Clearance {
    /// Returns whether the tags may point at `image`.
    fn covers(&self, image: &PinnedReference) -> bool {
        match self {
            Self::Verified(verified) => verified.iter().any(|verified| verified.image() == image),
            Self::NotAsked | Self::NotSigned => true,
        }
    }
}

/// Pushes the image, or finds it where it is.
async fn obtain(plan: &Plan, registry: &Registry, report: &mut Report) -> Result<Image, Error> {
    let source = match &plan.source {
        SourcePlan::Registry { .. } => return find(plan, registry, report).await,
        SourcePlan::Image { source } => source.clone(),
        SourcePlan::Path { path } => detect(path)?,
    };
    let source: Arc<dyn Source> = Arc::from(source.open(&plan.spool).await?);
    let progress = Arc::new(Progress::default());
    let display = ProgressDisplay::start(report.console(), progress.clone());
    let pushed = registry.push_image(&source, &plan.image.repository, &progress).await;
    drop(display);
    let pushed = pushed?;
    report.record_push(&pushed);
    Ok(Image { reference: pushed.image, manifest: pushed.manifest })
}

fn detect(path: &Path) -> Result<SourceSpec, Error> {
    SourceSpec::detect(path).ok_or_else(|| SourceError::Unrecognised { path: path.to_owned() }.into())
}

async fn find(plan: &Plan, registry: &Registry, report: &mut Report) -> Result<Image, Error> {
    let target = plan.image.existing.as_deref().unwrap_or("latest");
    let repository = &plan.image.repository;
    let missing = || Error::ImageNotFound { reference: format!("{repository}:{target}") };
    let manifest = registry.find_manifest(repository, target).await?.ok_or_else(missing)?;
    let reference = repository.pin(manifest.digest().clone());
    report.record_found(&reference, &manifest);
    Ok(Image { reference, manifest })
}

/// Verifies every image that was signed, with a client of its own that remembers nothing of the push.
async fn verify_all(
    work: &Work<'_>,
    images: &[SignedImage],
    policy: &Policy,
    plan: &Plan,
    report: &mut Report,
) -> Result<Vec<Verified>, Error> {
    let registry = Registry::connect(&plan.registry)?;
    let verifications = images.iter().map(|image| verify_one(&registry, image, work, policy));
    let verified: Vec<Verified> =
        futures_util::stream::iter(verifications).buffered(plan.registry.jobs).try_collect().await?;
    for verified in &verified {
        report.record_verification(verified);
    }
    Ok(verified)
}

/// Verifies one image. Another signer who wrote at the same moment may have taken our signature out again: then it is
/// added once more, which adds nothing if that is not the reason.
async fn verify_one(
    registry: &Registry,
    image: &SignedImage,
    work: &Work<'_>,
    policy: &Policy,
) -> Result<Verified, Error> {
    const ATTEMPTS: u32 = 3;
    let formats = work.signing.formats;
    for _ in 1..ATTEMPTS {
        match verify_present(registry, &image.reference, policy, formats).await {
            Err(VerifyError::NoSignatures { .. } | VerifyError::NotSatisfied { .. }) => {
                let again = Work { look: Look::Again, ..*work };
                Box::pin(signing::sign_image(&again, image)).await?;
            }
            outcome => return Ok(outcome?),
        }
    }
    Ok(verify_present(registry, &image.reference, policy, formats).await?)
}

/// Verifies that the image is there and has a signature that satisfies the policy, in every format that was written.
async fn verify_present(
    registry: &Registry,
    image: &PinnedReference,
    policy: &Policy,
    formats: Formats,
) -> Result<Verified, VerifyError> {
    match registry.manifest_exists(image).await {
        Ok(true) => {}
        Ok(false) => return Err(VerifyError::ImageNotFound { reference: image.to_string() }),
        Err(source) => return Err(VerifyError::CouldNotVerify { image: image.to_string(), source }),
    }
    let verified = verify_image(registry, image, policy).await?;
    let served = |store| verified.signatures().iter().any(|signature| signature.store == store);
    let missing = [
        (formats.legacy() && !served(Store::Legacy), "legacy signature"),
        (formats.bundle() && !served(Store::Bundle), "bundle"),
    ];
    let reasons: Vec<_> =
        missing.into_iter().filter_map(|(lacks, format)| lacks.then_some(Reason::NotServed { format })).collect();
    if reasons.is_empty() { Ok(verified) } else { Err(VerifyError::NotSatisfied { image: image.clone(), reasons }) }
}

/// Moves the tags. One that points at the image already is left alone.
async fn move_tags(
    plan: &Plan,
    registry: &Registry,
    image: &Image,
    clearance: &Clearance,
    report: &mut Report,
) -> Result<(), Error> {
    if !clearance.covers(&image.reference) {
        return Err(VerifyError::NoSignatures { image: image.reference.clone() }.into());
    }
    let (repository, manifest) = (&plan.image.repository, &image.manifest);
    for tag in &plan.image.tags {
        let named = Reference::tagged(repository, tag);
        let now = registry.resolve(&named).await?;
        if now.as_ref() != Some(&image.reference) {
            let target = ManifestTarget::Tag(tag.clone());
            registry.push_manifest(repository, &target, manifest.media_type(), manifest.bytes()).await?;
        }
        report.record_tag(&image.reference, tag);
    }
    Ok(())
}
