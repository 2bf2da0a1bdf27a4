//! Manifests: fetched and checked, resolved from tags, pushed byte for byte.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use url::Url;

use super::Registry;
use super::authentication::Scope;
use super::error::RegistryError;
use super::exchange::Answer;
use super::transport::Call;
use crate::http::{Attempt, Failure, Retry, excerpt};
use crate::oci::{Digest, Digester, Manifest, PinnedReference, Reference, Repository, Tag};

/// The most bytes of a manifest: what registries accept.
pub(super) const MAX_MANIFEST: u64 = 4 << 20;
/// How long a registry may take to show a manifest that it accepted.
const CONSISTENCY: Duration = Duration::from_secs(10);
/// How often a manifest is offered to a registry that does not see its blobs yet.
const BLOB_UNKNOWN_ATTEMPTS: u32 = 4;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                        application/vnd.docker.distribution.manifest.list.v2+json, \
                        application/vnd.docker.distribution.manifest.v2+json";

/// What a manifest is pushed as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestTarget {
    /// Under its digest only.
    Digest,
    /// Under a tag, which is moved if it exists.
    Tag(Tag),
}

/// What a registry says of a manifest that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedManifest {
    /// The digest of the manifest.
    pub digest: Digest,
    /// Whether the registry has seen the manifest's subject.
    pub subject: SubjectIndexed,
}

/// Whether a registry says that it lists a manifest as its subject's referrer (`OCI-Subject`).
///
/// Do not rely on it: ECR sends the header and has no list ([`Registry::list_referrer`] looks for itself).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectIndexed {
    /// It says so.
    Yes,
    /// It does not say.
    Unknown,
}

impl Registry {
    /// Returns the manifest that `target`, a tag or a digest, names. `None`: there is none.
    ///
    /// The digest is checked, against `target` if that is a digest and against what the registry says.
    pub async fn find_manifest(
        &self,
        repository: &Repository,
        target: &str,
    ) -> Result<Option<Manifest>, RegistryError> {
        let digest = target.parse::<Digest>().ok();
        let url = self.manifest_url(repository, target)?;
        let call = Call::new(Method::GET, url, Scope::pull(repository))
            .header(ACCEPT, HeaderValue::from_static(ACCEPTED))
            .limit(MAX_MANIFEST);
        let pushed = digest.as_ref().is_some_and(|digest| self.has_pushed(repository, digest));
        let mut patience =
            Retry::new(if pushed { CONSISTENCY.min(self.transport().retry_for) } else { Duration::ZERO });
        let answer = loop {
            let answer = self.transport().send(&call).await?;
            match answer.status {
                StatusCode::OK => break answer,
                StatusCode::NOT_FOUND => match patience.wait(Failure::Transient).await {
                    Attempt::Again => {}
                    Attempt::GiveUp => return Ok(None),
                },
                _ => return Err(self.transport().refusal(&call.scope, &answer).await),
            }
        };
        let name = || manifest_name(repository, target);
        if let Some(expected) = &digest {
            check_digest(&name(), expected, &answer.body)?;
        }
        check_stated(&name(), &answer, &answer.body)?;
        Manifest::parse(answer.body.to_vec(), answer.content_type())
            .map(Some)
            .map_err(|source| RegistryError::Manifest { name: name(), source })
    }

    /// Returns the manifest that `image` names, checked against its digest.
    pub async fn manifest(&self, image: &PinnedReference) -> Result<Manifest, RegistryError> {
        let target = image.digest().to_string();
        let found = match self.find_manifest(image.repository(), &target).await {
            // It may have been garbled on its way: worth a second look.
            Err(RegistryError::Digest { .. }) => self.find_manifest(image.repository(), &target).await?,
            found => found?,
        };
        found.ok_or_else(|| RegistryError::ManifestNotFound { image: image.clone() })
    }

    /// Returns what `reference` names at this moment. `None`: nothing.
    ///
    /// A reference with a digest is that digest, if the registry has it, whatever its tag says.
    pub async fn resolve(&self, reference: &Reference) -> Result<Option<PinnedReference>, RegistryError> {
        let repository = reference.repository();
        if let Some(pinned) = reference.pinned() {
            return Ok(self.manifest_exists(&pinned).await?.then_some(pinned));
        }
        let target = reference.target();
        let answer = self.head_manifest(&Scope::pull(repository), &target).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let stated = answer.header("docker-content-digest").and_then(|digest| digest.parse().ok());
        if let (StatusCode::OK, Some(digest)) = (answer.status, stated) {
            return Ok(Some(repository.pin(digest)));
        }
        // HEAD is refused, or says too little: GET says why, or what.
        let manifest = self.find_manifest(repository, &target).await?;
        Ok(manifest.map(|manifest| repository.pin(manifest.digest().clone())))
    }

    /// Returns whether the registry has the manifest.
    pub async fn manifest_exists(&self, image: &PinnedReference) -> Result<bool, RegistryError> {
        self.manifest_exists_for(&Scope::pull(image.repository()), image.digest()).await
    }

    pub(super) async fn manifest_exists_for(&self, scope: &Scope, digest: &Digest) -> Result<bool, RegistryError> {
        let answer = self.head_manifest(scope, &digest.to_string()).await?;
        match answer.status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Ok(self.find_manifest(&scope.repository, &digest.to_string()).await?.is_some()),
        }
    }

    /// Returns the URL of the manifest, unless `target` could be taken for something else than a tag or digest.
    fn manifest_url(&self, repository: &Repository, target: &str) -> Result<Url, RegistryError> {
        if target.parse::<Digest>().is_err() && target.parse::<Tag>().is_err() {
            let request = format!("manifest `{}`", excerpt(target));
            return Err(RegistryError::Protocol { request, reason: "it is neither a tag nor a digest".to_owned() });
        }
        self.transport().url(repository, &format!("manifests/{target}"))
    }

    async fn head_manifest(&self, scope: &Scope, target: &str) -> Result<Answer, RegistryError> {
        let url = self.manifest_url(&scope.repository, target)?;
        let call = Call::new(Method::HEAD, url, scope.clone()).header(ACCEPT, HeaderValue::from_static(ACCEPTED));
        self.transport().send(&call).await
    }

    /// Pushes a manifest byte for byte. Everything it refers to must be there already.
    ///
    /// A registry that does not see the blobs yet is given a little time.
    pub async fn push_manifest(
        &self,
        repository: &Repository,
        target: &ManifestTarget,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<PushedManifest, RegistryError> {
        let digest = Digest::of(bytes);
        let target = match target {
            ManifestTarget::Digest => digest.to_string(),
            ManifestTarget::Tag(tag) => tag.to_string(),
        };
        let url = self.manifest_url(repository, &target)?;
        let content_type = HeaderValue::from_str(media_type).map_err(|_| RegistryError::Protocol {
            request: format!("PUT {}", excerpt(url.path())),
            reason: "the media type cannot be put into a header".to_owned(),
        })?;
        let call = Call::new(Method::PUT, url, Scope::push(repository))
            .header(CONTENT_TYPE, content_type)
            .body(bytes.to_vec().into());
        let answer = self.put_manifest(&call).await?;
        check_stated(&manifest_name(repository, &target), &answer, bytes)?;
        self.remember_pushed(repository, &digest);
        let subject = match answer.header("oci-subject") {
            Some(_) => SubjectIndexed::Yes,
            None => SubjectIndexed::Unknown,
        };
        Ok(PushedManifest { digest, subject })
    }

    async fn put_manifest(&self, call: &Call) -> Result<Answer, RegistryError> {
        let mut patience = Retry::new(CONSISTENCY.min(self.transport().retry_for));
        loop {
            let answer = self.transport().send(call).await?;
            if matches!(answer.status.as_u16(), 200 | 201 | 202 | 204) {
                return Ok(answer);
            }
            let refusal = self.transport().refusal(&call.scope, &answer).await;
            let unknown = matches!(&refusal, RegistryError::Status { source, .. } if source.is_blob_unknown());
            let patient = unknown && patience.attempts() < BLOB_UNKNOWN_ATTEMPTS;
            if !patient || patience.wait(Failure::Transient).await == Attempt::GiveUp {
                return Err(refusal);
            }
        }
    }
}

/// Returns `repository@digest` or `repository:tag`.
fn manifest_name(repository: &Repository, target: &str) -> String {
    let separator = if target.contains(':') { '@' } else { ':' };
    format!("{repository}{separator}{target}")
}

/// Checks content against the digest that it was asked for by.
pub(super) fn check_digest(name: &str, expected: &Digest, bytes: &[u8]) -> Result<(), RegistryError> {
    let mut digester = Digester::new(expected.algorithm());
    digester.update(bytes);
    let actual = digester.finish();
    if actual == *expected {
        return Ok(());
    }
    Err(RegistryError::Digest { name: name.to_owned(), expected: expected.clone(), actual: actual.to_string() })
}

/// Checks `bytes` against the digest that the registry states for them, if it does.
pub(super) fn check_stated(name: &str, answer: &Answer, bytes: &[u8]) -> Result<(), RegistryError> {
    let Some(stated) = answer.header("docker-content-digest") else { return Ok(()) };
    let algorithm = stated.parse::<Digest>().map_or(crate::oci::DigestAlgorithm::Sha256, |stated| stated.algorithm());
    let mut digester = Digester::new(algorithm);
    digester.update(bytes);
    let expected = digester.finish();
    if stated == expected.to_string() {
        return Ok(());
    }
    Err(RegistryError::Digest { name: name.to_owned(), expected, actual: excerpt(stated) })
}
