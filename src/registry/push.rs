//! Pushing an image: its blobs side by side, then its manifests, children first, by digest only.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::Registry;
use super::authentication::Scope;
use super::blob::{Stored, Uploader};
use super::error::RegistryError;
use super::manifest::ManifestTarget;
use super::progress::Progress;
use super::stream::Content;
use crate::oci::{Descriptor, Digest, Manifest, PinnedReference, Repository, media_type};
use crate::source::{LayeredImage, ManifestGraph, Source, SourceImage, SourceLayer};

/// Blobs from this size on share a few connections: more would not be faster, only hungrier.
const BIG: u64 = 4 << 20;
/// How many big blobs are under way at once.
const BIG_LANE: usize = 6;
/// How many layers are compressed at once.
const COMPRESSION_LANE: usize = 2;
/// The most threads that compress one layer.
const COMPRESSION_THREADS: usize = 4;

/// An image that was pushed, under its digest only.
#[derive(Clone, Debug)]
pub struct PushedImage {
    /// Where it is.
    pub image: PinnedReference,
    /// Its manifest or index.
    pub manifest: Manifest,
    /// Every other manifest, children first.
    pub children: Vec<Manifest>,
    /// What it took.
    pub statistics: PushStatistics,
}

/// What a push took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PushStatistics {
    /// Blobs that were sent.
    pub blobs_uploaded: u64,
    /// Blobs that were mounted from another repository.
    pub blobs_mounted: u64,
    /// Blobs that were there.
    pub blobs_present: u64,
    /// Manifests that were sent.
    pub manifests_uploaded: u64,
    /// Manifests that were there.
    pub manifests_present: u64,
    /// The size of the blobs that were sent.
    pub bytes_uploaded: u64,
}

impl Registry {
    /// Pushes an image to `repository`, by digest: no tag is touched.
    ///
    /// Every byte is hashed on its way. When the source turns out not to be what it says, the upload at hand is broken
    /// off before its end and nothing more is sent ([`RegistryError::is_source`]).
    pub async fn push_image(
        &self,
        source: &Arc<dyn Source>,
        repository: &Repository,
        progress: &Arc<Progress>,
    ) -> Result<PushedImage, RegistryError> {
        let push = Push {
            registry: self,
            source,
            scope: Scope::push(repository),
            uploader: self.upload(repository, progress),
            progress,
            count: Count::default(),
        };
        let mut manifests = match source.image() {
            SourceImage::Manifests(graph) => push.graph(graph).await?,
            SourceImage::Layers(layers) => vec![push.layers(layers).await?],
        };
        let manifest = manifests.pop().ok_or_else(|| RegistryError::SourceContent {
            digest: Digest::of(&[]),
            reason: "it has no manifest".to_owned(),
        })?;
        Ok(PushedImage {
            image: repository.pin(manifest.digest().clone()),
            manifest,
            children: manifests,
            statistics: push.count.statistics(),
        })
    }
}

/// A push under way.
struct Push<'a> {
    registry: &'a Registry,
    source: &'a Arc<dyn Source>,
    scope: Scope,
    uploader: Uploader<'a>,
    progress: &'a Arc<Progress>,
    count: Count,
}

impl Push<'_> {
    /// Pushes manifests that exist, with what they refer to.
    async fn graph(&self, graph: &ManifestGraph) -> Result<Vec<Manifest>, RegistryError> {
        let missing = self.missing_manifests(&graph.manifests).await?;
        let wanted: HashSet<&Digest> = missing.iter().flat_map(|manifest| blobs_of(manifest)).collect();
        let blobs: Vec<&Descriptor> = graph.blobs.iter().filter(|blob| wanted.contains(&blob.digest)).collect();
        self.progress.expect_blobs(graph.blobs.len());
        for _ in blobs.len()..graph.blobs.len() {
            self.count.stored(Stored::Present, 0);
            self.progress.finish_blob();
        }
        let present = self.blobs(&blobs).await?;

        self.count.manifests_present.fetch_add((graph.manifests.len() - missing.len()) as u64, Ordering::Relaxed);
        // Images do not need each other; an index needs its images, and a manifest with a subject its subject.
        let alone = |manifest: &&&Manifest| manifest.as_image().is_some_and(|image| image.subject.is_none());
        let (images, others): (Vec<_>, Vec<_>) = missing.iter().partition(alone);
        stream::iter(images.into_iter().map(Ok))
            .try_for_each_concurrent(self.registry.jobs(), |manifest| self.manifest(manifest, &blobs, &present))
            .await?;
        for manifest in others {
            self.manifest(manifest, &blobs, &present).await?;
        }
        Ok(graph.manifests.clone())
    }

    /// Returns the manifests that the registry does not have, in their order.
    async fn missing_manifests<'m>(&self, manifests: &'m [Manifest]) -> Result<Vec<&'m Manifest>, RegistryError> {
        let Some((root, others)) = manifests.split_last() else { return Ok(Vec::new()) };
        let exists = async |manifest: &'m Manifest| {
            let exists = self.registry.manifest_exists_for(&self.scope, manifest.digest()).await?;
            Ok::<_, RegistryError>((!exists).then_some(manifest))
        };
        // The first request is made alone: it finds out how to log in.
        let root = exists(root).await?;
        let others: Vec<_> =
            stream::iter(others.iter().map(exists)).buffered(self.registry.jobs()).try_collect().await?;
        Ok(others.into_iter().chain([root]).flatten().collect())
    }

    /// Stores blobs. Returns those that were there according to the registry.
    async fn blobs(&self, blobs: &[&Descriptor]) -> Result<HashSet<Digest>, RegistryError> {
        let found: Vec<_> = stream::iter(blobs.iter().copied())
            .map(async |blob| Ok::<_, RegistryError>((blob, self.uploader.has(blob).await?)))
            .buffered(self.registry.jobs())
            .try_collect()
            .await?;
        let (present, mut missing): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, exists)| *exists);
        for (blob, _) in &present {
            self.count.stored(Stored::Present, blob.size);
            self.progress.finish_blob();
        }
        self.progress.expect_bytes(missing.iter().map(|(blob, _)| blob.size).sum());
        missing.sort_by_key(|(blob, _)| std::cmp::Reverse(blob.size));
        let (big, small): (Vec<_>, Vec<_>) =
            missing.into_iter().map(|(blob, _)| blob).partition(|blob| blob.size >= BIG);
        let jobs = self.registry.jobs();
        let big_lane = jobs.div_ceil(2).min(BIG_LANE).min(big.len());
        let small_lane = (jobs - big_lane).max(1);
        let lane = |blobs: Vec<&'_ Descriptor>, width: usize| {
            let blobs: Vec<Descriptor> = blobs.into_iter().cloned().collect();
            stream::iter(blobs.into_iter().map(Ok))
                .try_for_each_concurrent(width.max(1), async |blob: Descriptor| self.add(&blob).await)
        };
        futures_util::future::try_join(lane(big, big_lane), lane(small, small_lane)).await?;
        Ok(present.into_iter().map(|(blob, _)| blob.digest.clone()).collect())
    }

    async fn add(&self, blob: &Descriptor) -> Result<(), RegistryError> {
        let stored = self.uploader.add(blob, &Content::Blob(Arc::clone(self.source))).await?;
        self.count.stored(stored, blob.size);
        self.progress.finish_blob();
        Ok(())
    }

    /// Pushes one manifest. If the registry misses a blob that it said it had, the blob is sent once.
    async fn manifest(
        &self,
        manifest: &Manifest,
        blobs: &[&Descriptor],
        present: &HashSet<Digest>,
    ) -> Result<(), RegistryError> {
        let push = async || {
            let repository = &self.scope.repository;
            self.registry
                .push_manifest(repository, &ManifestTarget::Digest, manifest.media_type(), manifest.bytes())
                .await
        };
        match push().await {
            Err(RegistryError::Status { source, .. }) if source.is_blob_unknown() => {
                let own: HashSet<&Digest> = blobs_of(manifest).collect();
                for blob in blobs.iter().filter(|blob| own.contains(&blob.digest)) {
                    if present.contains(&blob.digest) || !self.uploader.has(blob).await? {
                        self.add(blob).await?;
                    }
                }
                push().await?;
            }
            outcome => drop(outcome?),
        }
        self.count.manifests_uploaded.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Compresses and pushes layers, and the manifest that is made of what comes out.
    async fn layers(&self, image: &LayeredImage) -> Result<Manifest, RegistryError> {
        let mut distinct: Vec<&SourceLayer> = Vec::new();
        for layer in &image.layers {
            if distinct.iter().all(|known| known.diff_id != layer.diff_id) {
                distinct.push(layer);
            }
        }
        self.progress.expect_blobs(distinct.len() + 1);
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(COMPRESSION_THREADS);
        // The config goes first: it is small, and finds out how to log in.
        let config = Descriptor::of(media_type::OCI_CONFIG, &image.config);
        self.progress.expect_bytes(config.size + distinct.iter().map(|layer| layer.size).sum::<u64>());
        let stored = self.uploader.store(&config, &Content::Bytes(image.config.clone().into())).await?;
        self.count.stored(stored, config.size);
        self.progress.finish_blob();
        let compressed: Vec<_> = stream::iter(distinct)
            .map(async |from: &SourceLayer| {
                let diff_id = &from.diff_id;
                let content =
                    Content::Compressed { source: Arc::clone(self.source), diff_id: diff_id.clone(), threads };
                let layer = self.uploader.compress(media_type::OCI_LAYER_GZIP, &content).await?;
                self.count.stored(Stored::Uploaded, layer.size);
                self.progress.revise_bytes(from.size, layer.size);
                self.progress.finish_blob();
                Ok::<_, RegistryError>((diff_id, layer))
            })
            .buffered(COMPRESSION_LANE.min(self.registry.jobs()))
            .try_collect()
            .await?;
        let find = |diff_id: &Digest| compressed.iter().find(|(known, _)| *known == diff_id);
        let layers = image.layers.iter().filter_map(|layer| Some(find(&layer.diff_id)?.1.clone())).collect();
        let manifest = layered_manifest(config, layers)?;
        if self.registry.manifest_exists_for(&self.scope, manifest.digest()).await? {
            self.count.manifests_present.fetch_add(1, Ordering::Relaxed);
        } else {
            self.manifest(&manifest, &[], &HashSet::new()).await?;
        }
        Ok(manifest)
    }
}

/// Returns what a manifest needs in the registry before it is accepted, beside other manifests.
fn blobs_of(manifest: &Manifest) -> impl Iterator<Item = &Digest> {
    let image = manifest.as_image();
    image.into_iter().flat_map(|image| std::iter::once(&image.config).chain(&image.layers)).map(|blob| &blob.digest)
}

/// Makes the manifest of compressed layers: the same bytes for the same descriptors.
fn layered_manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<Manifest, RegistryError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Layered {
        schema_version: u32,
        media_type: &'static str,
        config: Descriptor,
        layers: Vec<Descriptor>,
    }

    let layered = Layered { schema_version: 2, media_type: media_type::OCI_MANIFEST, config, layers };
    // Serialising strings and numbers to memory cannot fail.
    let bytes = serde_json::to_vec(&layered).unwrap_or_default();
    let name = "the manifest of the layers".to_owned();
    Manifest::parse(bytes, None).map_err(|source| RegistryError::Manifest { name, source })
}

/// Counts what was done, from several tasks.
#[derive(Debug, Default)]
struct Count {
    uploaded: AtomicU64,
    mounted: AtomicU64,
    present: AtomicU64,
    bytes: AtomicU64,
    manifests_uploaded: AtomicU64,
    manifests_present: AtomicU64,
}

impl Count {
    fn stored(&self, stored: Stored, size: u64) {
        match stored {
            Stored::Uploaded => {
                self.uploaded.fetch_add(1, Ordering::Relaxed);
                self.bytes.fetch_add(size, Ordering::Relaxed);
            }
            Stored::Mounted => drop(self.mounted.fetch_add(1, Ordering::Relaxed)),
            Stored::Present => drop(self.present.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn statistics(&self) -> PushStatistics {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PushStatistics {
            blobs_uploaded: value(&self.uploaded),
            blobs_mounted: value(&self.mounted),
            blobs_present: value(&self.present),
            manifests_uploaded: value(&self.manifests_uploaded),
            manifests_present: value(&self.manifests_present),
            bytes_uploaded: value(&self.bytes),
        }
    }
}
