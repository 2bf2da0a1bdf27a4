//! OCI image layouts ([specification](https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md)), in a
//! directory or in an archive.
//!
//! Manifests, indexes and BuildKit's attestation manifests among them, are handed over byte for byte. An `index.json` of
//! several images needs a reference. One that is itself the only index of a multi-platform image (some tools write the
//! platforms straight into it, without names) is not pushed unasked, since it cannot be told from a collection of images:
//! the reference `index.json` says that it is one image.

use std::io::Read;

use serde::Deserialize;

use super::graph::{blob_name, load_graph, load_graph_of};
use super::selection::{Choice, Selected};
use super::store::{MAX_MANIFEST, Store, read};
use super::{ManifestGraph, Source, SourceError, SourceImage};
use crate::oci::{Digest, Manifest, media_type};

/// The file that makes a directory a layout.
pub(super) const MARKER: &str = "oci-layout";
/// The file that lists the images.
pub(super) const INDEX: &str = "index.json";
const VERSION: &str = "1.0.0";
/// The most bytes of the `oci-layout` file.
const MAX_MARKER: u64 = 64 << 10;

/// An image of an OCI layout.
pub(super) struct Layout {
    store: Box<dyn Store>,
    image: SourceImage,
}

impl Layout {
    /// Reads the image that `reference` names, or the only one. `prefix` is what the source is written with.
    pub(super) fn open(store: Box<dyn Store>, prefix: &str, reference: Option<&str>) -> Result<Self, SourceError> {
        let index = read_index(&*store)?;
        let choice = Choice { index: as_index(&*store, &index)?, path: store.path(), prefix };
        let graph = match choice.select(reference)? {
            Selected::Entry(entry) => load_graph(&*store, entry)?,
            Selected::Whole => load_graph_of(&*store, index.clone())?,
        };
        Ok(Self::of(store, graph))
    }

    /// Takes a graph that was loaded already.
    pub(super) fn of(store: Box<dyn Store>, graph: ManifestGraph) -> Self {
        Self { store, image: SourceImage::Manifests(graph) }
    }
}

impl Source for Layout {
    fn image(&self) -> &SourceImage {
        &self.image
    }

    fn open(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        self.store.open(&blob_name(digest))?.ok_or_else(|| SourceError::Unknown { digest: digest.clone() })
    }
}

/// Checks the version of a layout and reads its `index.json`.
pub(super) fn read_index(store: &dyn Store) -> Result<Manifest, SourceError> {
    let absent = |missing| SourceError::NotALayout { path: store.path().to_owned(), missing };
    let marker = read(store, MARKER, MAX_MARKER)?.ok_or_else(|| absent(MARKER))?;
    let marker: Marker =
        serde_json::from_slice(&marker).map_err(|source| SourceError::Json { path: store.describe(MARKER), source })?;
    if marker.image_layout_version != VERSION {
        let version = super::error::clean(&marker.image_layout_version);
        return Err(SourceError::LayoutVersion { path: store.path().to_owned(), version });
    }
    let bytes = read(store, INDEX, MAX_MANIFEST)?.ok_or_else(|| absent(INDEX))?;
    Manifest::parse(bytes, Some(media_type::OCI_INDEX))
        .map_err(|source| SourceError::Manifest { path: store.describe(INDEX), source })
}

/// Returns what an `index.json` lists.
pub(super) fn as_index<'a>(store: &dyn Store, index: &'a Manifest) -> Result<&'a crate::oci::Index, SourceError> {
    index.as_index().ok_or_else(|| SourceError::NotALayout { path: store.path().to_owned(), missing: INDEX })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}
