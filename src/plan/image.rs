//! Where the image goes, under which tags, and where it comes from.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::PlanError;
use crate::ci::Environment;
use crate::cli::PublishArgs;
use crate::http::excerpt;
use crate::oci::{DefaultRegistry, Digest, Reference, Repository, Tag};
use crate::source::{ParseSourceError, SourceSpec};

/// Where the image goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImagePlan {
    /// The repository.
    pub repository: Repository,
    /// The tags that move once everything else holds. Without any, the image is published by its digest alone.
    pub tags: Vec<Tag>,
    /// What is in the registry already and is to be signed, if nothing is pushed: a tag or a digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing: Option<String>,
}

impl ImagePlan {
    pub(super) fn resolve(args: &PublishArgs, source: &SourcePlan) -> Result<Self, PlanError> {
        let text = args.image.as_deref().ok_or(PlanError::NoImage)?.trim();
        let image = Reference::parse(text, DefaultRegistry::None)
            .map_err(|source| PlanError::Image { value: excerpt(text), source })?;
        let repository = image.repository().clone();
        let mut tags: Vec<Tag> = image.tag().cloned().into_iter().collect();
        for text in &args.tags {
            let tag = text.parse().map_err(|source| PlanError::Tag { value: excerpt(text), source })?;
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        let existing = match source {
            SourcePlan::Registry { reference: Some(reference) } => {
                let reference = Reference::parse(reference, DefaultRegistry::DockerHub)
                    .map_err(|source| PlanError::Reference { value: excerpt(reference), source })?;
                if reference.repository() != &repository {
                    let (from, to) = (reference.to_string(), repository.to_string());
                    return Err(PlanError::OtherRepository { from, to });
                }
                Some(reference.target())
            }
            SourcePlan::Registry { reference: None } => Some(existing(&image).ok_or(PlanError::NothingToSign)?),
            _ if image.digest().is_some() => return Err(PlanError::ImageDigest),
            _ => None,
        };
        Ok(Self { repository, tags, existing })
    }
}

fn existing(image: &Reference) -> Option<String> {
    image.digest().map(Digest::to_string).or_else(|| image.tag().map(Tag::to_string))
}

/// Where the image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "from")]
pub enum SourcePlan {
    /// A known kind of source.
    Image {
        /// The source.
        source: SourceSpec,
    },
    /// A path: what is there says which kind it is.
    Path {
        /// The path.
        path: PathBuf,
    },
    /// Nothing is pushed: the image is in the registry.
    Registry {
        /// The reference, if it was written as a source.
        reference: Option<String>,
    },
}

impl SourcePlan {
    pub(super) fn resolve(text: Option<&str>, environment: &Environment) -> Result<Self, PlanError> {
        let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
            return Ok(Self::Registry { reference: None });
        };
        let socket = socket(environment);
        match SourceSpec::parse(text, &socket) {
            Ok(source) => Ok(Self::Image { source }),
            Err(ParseSourceError::Registry { reference }) => Ok(Self::Registry { reference: Some(reference) }),
            Err(ParseSourceError::Unknown { .. }) if !text.contains(':') => Ok(Self::Path { path: text.into() }),
            Err(error) => Err(error.into()),
        }
    }
}

fn socket(environment: &Environment) -> PathBuf {
    let named = environment.get("DOCKER_HOST").and_then(|host| host.strip_prefix("unix://"));
    Path::new(named.unwrap_or("/var/run/docker.sock")).to_owned()
}
