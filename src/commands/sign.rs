//! `sign`: signs images that are in a registry, by digest.

use super::signing::{self, Work};
use super::with_password;
use crate::ci::Environment;
use crate::cli::{SecretInputs, SignArgs};
use crate::error::Error;
use crate::plan::{ReportPlan, SignPlan, Target};
use crate::registry::{Look, Registry};
use crate::report::{Console, Report};
use crate::sign::KeySigner;

pub(super) async fn sign(
    args: &SignArgs,
    secrets: &SecretInputs,
    environment: &Environment,
    console: &Console,
) -> Result<(), Error> {
    let plan = SignPlan::resolve(args, secrets, environment)?;
    let signer = with_password(plan.signing.signer.clone(), secrets, console).connect()?;
    for target in &plan.images {
        sign_one(target, &plan, &signer, console).await?;
    }
    Ok(())
}

/// A tag is resolved once: what it named then is signed, whatever it names later.
async fn sign_one(target: &Target, plan: &SignPlan, signer: &KeySigner, console: &Console) -> Result<(), Error> {
    let registry = Registry::connect(&target.registry)?;
    let repository = target.reference.repository();
    let missing = || Error::ImageNotFound { reference: target.reference.to_string() };
    let manifest = registry.find_manifest(repository, &target.reference.target()).await?.ok_or_else(missing)?;
    let image = repository.pin(manifest.digest().clone());
    let mut report = Report::new(ReportPlan::nothing(), console.clone());
    let images = signing::images(&image, &manifest, plan.signing.recursion);
    let work = Work { registry: &registry, signer, signing: &plan.signing, look: Look::Again };
    signing::sign_all(&work, &images, &mut report).await
}
