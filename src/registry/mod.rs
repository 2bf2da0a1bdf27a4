//! The distribution client: login, manifests, blobs, referrers, push.
//!
//! It follows the [distribution specification](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md)
//! and trusts no registry: bytes are checked against digests, answers are bounded, and credentials go to the registry's
//! own origin and its token server only. What a signature looks like belongs to `attachment`, whether it is good to
//! `verify`; nothing here decides which tag moves when.

mod authentication;
mod blob;
mod challenge;
mod credentials;
mod error;
mod exchange;
mod fallback_index;
mod manifest;
mod progress;
mod push;
mod referrers;
mod spec;
mod stream;
#[cfg(test)]
mod tests;
mod transport;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

pub use error::{CredentialsError, Presented, RegistryError, Rejection, TransportError};
pub use manifest::{ManifestTarget, PushedManifest, SubjectIndexed};
pub use progress::Progress;
pub use push::{PushStatistics, PushedImage};
pub use referrers::{Look, Referrers, ReferrersListing};
pub use spec::{Credential, CredentialsSpec, PlainHttp, RegistrySpec};

use crate::oci::{Digest, Repository};
use referrers::ReferrersApi;
use transport::Transport;

/// A client for every registry that the plan speaks to. Cloning it is cheap; clones share connections and tokens.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    transport: Transport,
    jobs: usize,
    mount_from: Vec<Repository>,
    /// What is known of each repository's list of referrers.
    referrers: Mutex<HashMap<Repository, ReferrersApi>>,
    /// Manifests that we pushed: a registry that does not show one yet gets a little time.
    pushed: Mutex<HashSet<(Repository, Digest)>>,
    /// Held by whoever writes a list of referrers.
    fallback_turn: tokio::sync::Mutex<()>,
    /// How many uploads may hold chunks in memory.
    chunk_permits: tokio::sync::Semaphore,
}

impl Registry {
    /// Makes a client. Nothing is sent yet.
    pub fn connect(spec: &RegistrySpec) -> Result<Self, RegistryError> {
        Ok(Self(Arc::new(Shared {
            transport: Transport::new(spec)?,
            jobs: spec.jobs.max(1),
            mount_from: spec.mount_from.clone(),
            referrers: Mutex::default(),
            pushed: Mutex::default(),
            fallback_turn: tokio::sync::Mutex::default(),
            chunk_permits: tokio::sync::Semaphore::new(2),
        })))
    }

    fn transport(&self) -> &Transport {
        &self.0.transport
    }

    fn jobs(&self) -> usize {
        self.0.jobs
    }

    /// Returns the repositories that blobs for `target` may be mounted from.
    fn mount_sources<'a>(&'a self, target: &'a Repository) -> impl Iterator<Item = &'a Repository> {
        self.0.mount_from.iter().filter(move |source| source.registry() == target.registry() && *source != target)
    }

    fn referrers_api(&self, repository: &Repository) -> Option<ReferrersApi> {
        self.0.referrers.lock().unwrap_or_else(PoisonError::into_inner).get(repository).copied()
    }

    fn learn_referrers_api(&self, repository: &Repository, api: ReferrersApi) {
        self.0.referrers.lock().unwrap_or_else(PoisonError::into_inner).insert(repository.clone(), api);
    }

    fn has_pushed(&self, repository: &Repository, digest: &Digest) -> bool {
        let pushed = self.0.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        pushed.contains(&(repository.clone(), digest.clone()))
    }

    fn remember_pushed(&self, repository: &Repository, digest: &Digest) {
        self.0.pushed.lock().unwrap_or_else(PoisonError::into_inner).insert((repository.clone(), digest.clone()));
    }

    async fn fallback_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.fallback_turn.lock().await
    }

    /// Waits for the right to hold chunks in memory. `None` never happens: the semaphore is not closed.
    async fn chunk_permit(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.0.chunk_permits.acquire().await.ok()
    }
}
