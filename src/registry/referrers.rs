//! Referrers: what refers to a manifest, as the registry lists it, or as the index under the fallback tag does.
//!
//! [Specification](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers)

use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderValue, LINK};
use reqwest::{Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::Registry;
use super::authentication::Scope;
use super::error::RegistryError;
use super::exchange::Answer;
use super::fallback_index::FallbackIndex;
use super::manifest::{MAX_MANIFEST, ManifestTarget, check_stated};
use super::transport::{Call, Redirects};
use crate::http::jitter;
use crate::oci::{Descriptor, PinnedReference, Tag, media_type};

/// The most pages of a listing.
const MAX_PAGES: usize = 100;
/// The most referrers of one manifest.
const MAX_REFERRERS: usize = 1000;
/// How often the listing is looked at, or written, before giving up.
const ATTEMPTS: u32 = 12;

/// How long to wait, once, where somebody else was seen to write a list after us: there may be more of them.
const CALM: Duration = Duration::from_millis(300);

/// Whether a list that others write too is looked at once more some time after it was written.
///
/// Registries have no conditional write: somebody who has read a list before our write may write theirs after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is, after twice as long as a round of reading and writing has just taken.
    Again,
    /// It is not: the caller verifies what the registry serves later, and adds what was lost.
    Once,
}

impl Look {
    /// Waits for as long as it takes until a look means something.
    pub async fn after(self, round: Duration) {
        if self == Self::Again {
            tokio::time::sleep((round * 2 + jitter(round)).min(Duration::from_secs(10))).await;
        }
    }
}

/// What refers to a manifest.
#[derive(Clone, Debug)]
pub struct Referrers {
    /// Where it is listed.
    pub listing: ReferrersListing,
    /// The referrers. What the listing says of them is not checked: open each one, and check its subject.
    pub manifests: Vec<Descriptor>,
}

/// Where referrers are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferrersListing {
    /// By the registry itself.
    Api,
    /// In an index under the tag `sha256-<hex>`, kept by whoever adds a referrer.
    FallbackTag,
    /// Nowhere: the registry has no list of its own, and there is no such tag.
    Nothing,
}

/// Whether a registry has a list of its own. Learnt once for each repository: a proxy may have it for some only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReferrersApi {
    Supported,
    Unsupported,
}

impl Registry {
    /// Returns what refers to `subject`.
    ///
    /// Only an answer that means "no such API" leads to the fallback tag; every other failure is an error, so that an
    /// outage never looks like a manifest without referrers.
    pub async fn referrers(&self, subject: &PinnedReference) -> Result<Referrers, RegistryError> {
        if self.referrers_api(subject.repository()) != Some(ReferrersApi::Unsupported)
            && let Some(manifests) = self.listed(subject).await?
        {
            return Ok(Referrers { listing: ReferrersListing::Api, manifests });
        }
        match self.fallback_index(subject).await? {
            Some(index) => {
                Ok(Referrers { listing: ReferrersListing::FallbackTag, manifests: index.descriptors().collect() })
            }
            None => Ok(Referrers { listing: ReferrersListing::Nothing, manifests: Vec::new() }),
        }
    }

    /// Makes sure that `subject` lists `referrer`, a manifest that was pushed before.
    ///
    /// Where the registry keeps the list, this waits until it shows the referrer. Elsewhere it adds it to the index
    /// under the fallback tag, keeps the entries of others byte for byte, and looks again afterwards whether somebody
    /// else has written at the same moment: at once, and, if `look` says so, after some time once more.
    pub async fn list_referrer(
        &self,
        subject: &PinnedReference,
        referrer: &Descriptor,
        look: Look,
    ) -> Result<(), RegistryError> {
        for attempt in 1..=ATTEMPTS {
            if self.referrers_api(subject.repository()) == Some(ReferrersApi::Unsupported) {
                return self.list_under_tag(subject, referrer, look).await;
            }
            match self.listed(subject).await? {
                Some(manifests) if manifests.iter().any(|listed| listed.digest == referrer.digest) => return Ok(()),
                Some(_) => back_off(attempt).await,
                None => return self.list_under_tag(subject, referrer, look).await,
            }
        }
        Err(not_listed(subject, referrer))
    }

    /// Asks the registry for its list. `None`: it has none.
    async fn listed(&self, subject: &PinnedReference) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        let limit = |limit| RegistryError::TooManyReferrers { subject: subject.clone(), limit };
        let repository = subject.repository();
        let first = self.transport().url(repository, &format!("referrers/{}", subject.digest()))?;
        let (mut next, mut descriptors, mut bytes) = (Some(first), Vec::new(), 0);
        for page in 0..MAX_PAGES {
            let Some(url) = next.take() else { break };
            let call = Call::new(Method::GET, url, Scope::pull(repository))
                .header(ACCEPT, HeaderValue::from_static(media_type::OCI_INDEX))
                .redirects(Redirects::WithinRegistry)
                .limit(MAX_MANIFEST);
            let answer = self.transport().send(&call).await?;
            if page == 0 && means_unsupported(&answer) {
                if !answer.has_code("NAME_UNKNOWN") {
                    self.learn_referrers_api(repository, ReferrersApi::Unsupported);
                }
                return Ok(None);
            }
            if answer.status != StatusCode::OK {
                return Err(self.transport().refusal(&call.scope, &answer).await);
            }
            bytes += answer.body.len() as u64;
            let index = FallbackIndex::parse(&answer.body)
                .map_err(|reason| RegistryError::Protocol { request: answer.request(), reason })?;
            if index.len() + descriptors.len() > MAX_REFERRERS {
                return Err(limit("1000 referrers"));
            }
            if bytes > MAX_MANIFEST {
                return Err(limit("4 MiB"));
            }
            descriptors.extend(index.descriptors());
            next = next_page(&answer)?;
        }
        if next.is_some() {
            return Err(limit("100 pages"));
        }
        self.learn_referrers_api(repository, ReferrersApi::Supported);
        Ok(Some(descriptors))
    }

    /// Returns the index under the fallback tag. `None`: there is no such tag, or it is something else's.
    async fn fallback_index(&self, subject: &PinnedReference) -> Result<Option<FallbackIndex>, RegistryError> {
        let repository = subject.repository();
        let tag = fallback_tag(subject);
        let name = format!("{repository}:{tag}");
        let url = self.transport().url(repository, &format!("manifests/{tag}"))?;
        let call = Call::new(Method::GET, url, Scope::pull(repository))
            .header(ACCEPT, HeaderValue::from_static(media_type::OCI_INDEX))
            .limit(MAX_MANIFEST);
        let answer = self.transport().send(&call).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.transport().refusal(&call.scope, &answer).await),
        }
        check_stated(&name, &answer, &answer.body)?;
        // GitLab takes the tag for the digest that it looks like, and serves the subject.
        if super::manifest::check_digest(&name, subject.digest(), &answer.body).is_ok() {
            return Ok(None);
        }
        let refuse = |reason: String| RegistryError::ReferrersTag { name: name.clone(), reason };
        if answer.content_type().is_some_and(|content_type| content_type != media_type::OCI_INDEX) {
            return Err(refuse("it is not an index".to_owned()));
        }
        let index = FallbackIndex::parse(&answer.body).map_err(refuse)?;
        if index.len() > MAX_REFERRERS {
            return Err(RegistryError::TooManyReferrers { subject: subject.clone(), limit: "1000 referrers" });
        }
        Ok(Some(index))
    }

    /// Adds `referrer` to the index under the fallback tag.
    ///
    /// Registries have no conditional write. Somebody who has read the index before our write and writes theirs after
    /// it takes our entry out again; so each round ends with another look, after longer than such a round takes us.
    /// Whatever was seen in the index once and is gone is put back: whoever looks last repairs what the others have lost.
    async fn list_under_tag(
        &self,
        subject: &PinnedReference,
        referrer: &Descriptor,
        look: Look,
    ) -> Result<(), RegistryError> {
        let mut seen: Option<FallbackIndex> = None;
        let mut calmed = false;
        for attempt in 0..=ATTEMPTS {
            let turn = self.fallback_turn().await;
            let started = Instant::now();
            let index = self.fallback_index(subject).await?.unwrap_or_default();
            let others_wrote = seen.as_ref().is_some_and(|seen| index.len() > seen.len());
            let Some(index) = index.completed(referrer, seen.as_ref()) else {
                if !others_wrote || calmed {
                    return Ok(());
                }
                calmed = true;
                drop(turn);
                tokio::time::sleep(CALM + jitter(CALM)).await;
                continue;
            };
            if attempt == ATTEMPTS {
                break;
            }
            if index.len() > MAX_REFERRERS {
                return Err(RegistryError::TooManyReferrers { subject: subject.clone(), limit: "1000 referrers" });
            }
            let target = ManifestTarget::Tag(fallback_tag(subject));
            let bytes = index.to_bytes();
            match self.push_manifest(subject.repository(), &target, media_type::OCI_INDEX, &bytes).await {
                Err(error) if error.is_collision() => tracing::debug!(%error, %subject, "two lists at once"),
                other => drop(other?),
            }
            drop(turn);
            seen = Some(index);
            if attempt == 0 {
                look.after(started.elapsed()).await;
            } else {
                Look::Again.after(started.elapsed()).await;
                tracing::debug!(attempt, %subject, "somebody else writes the list of referrers");
                back_off(attempt).await;
            }
        }
        Err(not_listed(subject, referrer))
    }
}

async fn back_off(attempt: u32) {
    tokio::time::sleep(jitter(Duration::from_millis(100) * (1 << attempt.min(6)))).await;
}

fn not_listed(subject: &PinnedReference, referrer: &Descriptor) -> RegistryError {
    RegistryError::NotListed { subject: subject.clone(), digest: referrer.digest.clone(), attempts: ATTEMPTS }
}

/// Returns whether an answer means that the registry has no list of referrers, as opposed to a failure to give it.
fn means_unsupported(answer: &Answer) -> bool {
    match answer.status.as_u16() {
        200 => answer.content_type() != Some(media_type::OCI_INDEX),
        // A redirect that was not followed leads out of the registry: GitHub's leads to its web site.
        400 | 404 | 405 | 406 | 301 | 302 | 303 | 307 | 308 => true,
        _ => false,
    }
}

/// Returns the tag that lists the referrers of `subject` where the registry does not.
fn fallback_tag(subject: &PinnedReference) -> Tag {
    let digest = subject.digest();
    let hex = &digest.hex()[..digest.hex().len().min(64)];
    #[expect(clippy::expect_used, reason = "an algorithm's name, a dash and hexadecimal digits are a tag")]
    format!("{}-{hex}", digest.algorithm().name()).parse().expect("a digest makes a tag")
}

/// Returns the next page of a listing, which must be on the same host
/// ([RFC 8288](https://www.rfc-editor.org/rfc/rfc8288)).
fn next_page(answer: &Answer) -> Result<Option<Url>, RegistryError> {
    let refuse =
        |target: String, reason| RegistryError::Redirect { host: super::exchange::host(&answer.url), target, reason };
    let links = answer.headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let Some(target) = links.flat_map(|links| links.split(',')).find_map(next_link) else {
        return Ok(None);
    };
    let url = answer.url.join(target).map_err(|_| refuse("…".to_owned(), "it is not a URL"))?;
    if url.origin() != answer.url.origin() || !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(crate::http::redact(&url), "the next page is not on the same host"));
    }
    Ok(Some(url))
}

fn next_link(link: &str) -> Option<&str> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = |parameter: &str| {
        parameter.trim().split_once('=').is_some_and(|(name, value)| {
            name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
        })
    };
    parameters.split(';').any(is_next).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_told_from_other_links() {
        assert_eq!(next_link(r#"</v2/a/referrers/x?n=2>; rel="next""#), Some("/v2/a/referrers/x?n=2"));
        assert_eq!(next_link("<x>;REL=next"), Some("x"));
        assert_eq!(next_link(r#"<x>; rel="prev""#), None);
        assert_eq!(next_link("x; rel=next"), None);
        assert_eq!(next_link("<x"), None);
    }
}
