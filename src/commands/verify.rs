//! `verify`: prints what cosign prints, and exits as cosign does, for every storage format.

use crate::ci::Environment;
use crate::cli::{SecretInputs, VerifyArgs, VerifyOutput};
use crate::error::Error;
use crate::plan::{Target, VerifyPlan};
use crate::registry::Registry;
use crate::report::Console;
use crate::sign::SignError;
use crate::sigstore::PublicKey;
use crate::verify::{Policy, Verified, VerifyError, output, verify_image};

pub(super) async fn verify(
    args: &VerifyArgs,
    secrets: &SecretInputs,
    environment: &Environment,
    console: &Console,
) -> Result<(), Error> {
    let plan = VerifyPlan::resolve(args, secrets, environment)?;
    let pem = plan.key.read()?;
    let key = PublicKey::from_pem(pem.expose().as_bytes())
        .map_err(|source| SignError::NotAPublicKey { origin: plan.key.to_string(), source })?;
    let policy = Policy { key, annotations: plan.annotations.clone(), claims: plan.claims };
    for target in &plan.images {
        let verified = verify_one(target, &policy).await?;
        let reference = target.reference.to_string();
        console.line(output::checks(&verified, &policy, &reference).trim_end());
        verified.notes().iter().for_each(|note| console.warning(note));
        console.data(&match args.output {
            VerifyOutput::Json => output::json(&verified, &reference),
            VerifyOutput::Text => output::text(&verified, &reference),
        });
    }
    Ok(())
}

/// Resolves the reference once; everything after that is about the digest it named then.
async fn verify_one(target: &Target, policy: &Policy) -> Result<Verified, VerifyError> {
    let could_not = |source| VerifyError::CouldNotVerify { image: target.reference.to_string(), source };
    let registry = Registry::connect(&target.registry).map_err(could_not)?;
    let image = if let Some(pinned) = target.reference.pinned() {
        pinned
    } else {
        let resolved = registry.resolve(&target.reference).await.map_err(could_not)?;
        let reference = target.reference.to_string();
        resolved.ok_or(VerifyError::ImageNotFound { reference })?
    };
    verify_image(&registry, &image, policy).await
}
