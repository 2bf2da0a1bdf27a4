//! Decisions: what was asked for and where we are become what will be done. Pure: no file, no network, no clock.

mod error;
mod image;
mod registry;
mod report;
mod signing;

use serde::Serialize;

pub use error::PlanError;
pub use image::{ImagePlan, SourcePlan};
pub use report::{GitHubFiles, GitLabFiles, ReportPlan, Summary};
pub use signing::{Recursion, SigningPlan};

use crate::ci::{Environment, Job};
use crate::cli::{PublishArgs, SecretInputs, SignArgs, TriangulateArgs, VerifyArgs};
use crate::oci::{DefaultRegistry, Reference};
use crate::registry::RegistrySpec;
use crate::secret::Secret;
use crate::sign::KeySource;

/// What `publish` will do. It holds no secret in clear and is what `--dry-run` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Where the image goes, and its tags.
    pub image: ImagePlan,
    /// Where the image comes from.
    pub source: SourcePlan,
    /// How the registry is reached.
    pub registry: RegistrySpec,
    /// How the image is signed, if it is.
    pub signing: Option<SigningPlan>,
    /// Whether the image is verified before its tags move.
    pub verification: Verification,
    /// Folders that may hold an engine's export while it is read, the first choice first.
    pub spool: Vec<std::path::PathBuf>,
    /// What is reported, and where.
    pub report: ReportPlan,
    /// The job that asks for it.
    pub job: Job,
}

/// Whether the image is verified before its tags move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verification {
    /// It is, and nothing moves unless it holds.
    Required,
    /// It is not, because the inputs say so or because nothing is signed.
    Off,
}

impl Plan {
    /// Decides what `publish` will do.
    pub fn resolve(args: &PublishArgs, secrets: &SecretInputs, environment: &Environment) -> Result<Self, PlanError> {
        let job = Job::detect(environment);
        let source = SourcePlan::resolve(args.source.as_deref(), environment)?;
        let image = ImagePlan::resolve(args, &source)?;
        let signing = SigningPlan::resolve(args, secrets, environment, &job)?;
        let verification = if args.verify && signing.is_some() { Verification::Required } else { Verification::Off };
        Ok(Self {
            registry: registry::resolve(&registry::Asked::by_publish(args, secrets), &image.repository, environment)?,
            report: ReportPlan::resolve(args, environment, &job),
            spool: ["TMPDIR", "RUNNER_TEMP"]
                .into_iter()
                .filter_map(|name| environment.get(name))
                .map(Into::into)
                .collect(),
            source,
            image,
            signing,
            verification,
            job,
        })
    }
}

/// What `sign` will do.
#[derive(Clone, Debug, Serialize)]
pub struct SignPlan {
    /// The images, each with how its registry is reached.
    pub images: Vec<Target>,
    /// How they are signed.
    pub signing: SigningPlan,
}

/// What `verify` will do.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyPlan {
    /// The images, each with how its registry is reached.
    pub images: Vec<Target>,
    /// Where the public key is.
    pub key: KeySource,
    /// Annotations that a signature must have.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// Whether the signature must be over the image's digest.
    pub claims: crate::verify::Claims,
}

/// An image, and how its registry is reached.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// The image as it was written.
    #[serde(serialize_with = "displayed")]
    pub reference: Reference,
    /// How its registry is reached.
    pub registry: RegistrySpec,
}

impl SignPlan {
    /// Decides what `sign` will do.
    pub fn resolve(args: &SignArgs, secrets: &SecretInputs, environment: &Environment) -> Result<Self, PlanError> {
        let asked = registry::Asked::by_flags(&args.registry, secrets);
        Ok(Self {
            images: targets(&args.images, &asked, environment)?,
            signing: SigningPlan::resolve_sign(args, secrets, environment)?,
        })
    }
}

impl VerifyPlan {
    /// Decides what `verify` will do.
    pub fn resolve(args: &VerifyArgs, secrets: &SecretInputs, environment: &Environment) -> Result<Self, PlanError> {
        let asked = registry::Asked::by_flags(&args.registry, secrets);
        let claims =
            if args.check_claims { crate::verify::Claims::Required } else { crate::verify::Claims::NotChecked };
        Ok(Self {
            images: targets(&args.images, &asked, environment)?,
            key: key_source(args.key.as_deref().unwrap_or_default(), environment)?,
            annotations: signing::key_values(&args.annotations)?,
            claims,
        })
    }
}

/// Decides where `triangulate` looks.
pub fn triangulate(
    args: &TriangulateArgs,
    secrets: &SecretInputs,
    environment: &Environment,
) -> Result<Target, PlanError> {
    let asked = registry::Asked::by_flags(&args.registry, secrets);
    target(&args.image, &asked, environment)
}

fn targets(
    images: &[String],
    asked: &registry::Asked<'_>,
    environment: &Environment,
) -> Result<Vec<Target>, PlanError> {
    images.iter().map(|image| target(image, asked, environment)).collect()
}

fn target(image: &str, asked: &registry::Asked<'_>, environment: &Environment) -> Result<Target, PlanError> {
    let reference = Reference::parse(image, DefaultRegistry::DockerHub)
        .map_err(|source| PlanError::Reference { value: crate::http::excerpt(image), source })?;
    let registry = registry::resolve(asked, reference.repository(), environment)?;
    Ok(Target { reference, registry })
}

/// Reads a key reference: `env://NAME`, or a file. Key management services are told apart by their scheme.
pub fn key_source(text: &str, environment: &Environment) -> Result<KeySource, PlanError> {
    if let Some(name) = text.strip_prefix("env://") {
        let pem = environment.get(name).ok_or_else(|| PlanError::KeyVariable { name: crate::http::excerpt(name) })?;
        return Ok(KeySource::Variable { name: name.to_owned(), pem: Secret::new(pem) });
    }
    if text.is_empty() {
        return Err(PlanError::NoKey);
    }
    if text.contains("-----BEGIN") {
        return Err(PlanError::KeyInClear);
    }
    match text.split_once("://") {
        Some((scheme, _)) => Err(PlanError::KeyScheme { scheme: crate::http::excerpt(scheme) }),
        None => Ok(KeySource::File { path: text.into() }),
    }
}

fn displayed<S: serde::Serializer>(reference: &Reference, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(reference)
}

#[cfg(test)]
mod tests;
