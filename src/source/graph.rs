//! Walks from a manifest to everything it refers to, and checks that it is all there.

use std::collections::HashMap;

use super::store::{MAX_MANIFEST, Store, read};
use super::{ManifestGraph, SourceError};
use crate::oci::{Descriptor, Digest, DigestAlgorithm, Digester, Manifest, media_type};

/// How deep indexes may be nested.
pub(super) const MAX_DEPTH: usize = 4;
/// How many manifests an image may consist of.
pub(super) const MAX_MANIFESTS: usize = 1000;
/// How many bytes the manifests of an image may have in all, since they are kept in memory.
const MAX_BYTES: usize = 16 << 20;

/// Returns the name of the file that holds the content with this digest.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// Reads the manifest that `root` describes and everything below it, children first.
///
/// Manifests are checked against the size and digest they are referred to by; of configs and layers, only that they are
/// there and have the right size.
pub(super) fn load_graph(store: &dyn Store, root: &Descriptor) -> Result<ManifestGraph, SourceError> {
    let mut walk = Walk::new(store);
    walk.visit(root, 0)?;
    Ok(walk.graph)
}

/// Returns the graph of a root that is not a blob itself: the layout's own `index.json`.
pub(super) fn load_graph_of(store: &dyn Store, root: Manifest) -> Result<ManifestGraph, SourceError> {
    let mut walk = Walk::new(store);
    walk.visit_children(&root, 0)?;
    walk.graph.manifests.push(root);
    Ok(walk.graph)
}

/// Reads one manifest and checks it against its descriptor; `None` if it is absent.
pub(super) fn load_manifest(store: &dyn Store, descriptor: &Descriptor) -> Result<Option<Manifest>, SourceError> {
    let known = media_type::is_index(&descriptor.media_type) || media_type::is_image_manifest(&descriptor.media_type);
    if !known || descriptor.digest.algorithm() != DigestAlgorithm::Sha256 {
        let media_type = super::error::clean(&descriptor.media_type);
        return Err(SourceError::Child { media_type, digest: descriptor.digest.clone() });
    }
    let name = blob_name(&descriptor.digest);
    let Some(bytes) = read(store, &name, MAX_MANIFEST)? else { return Ok(None) };
    let path = store.describe(&name);
    check_content(&path, descriptor, &bytes)?;
    match Manifest::parse(bytes, Some(&descriptor.media_type)) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(source) => Err(SourceError::Manifest { path, source }),
    }
}

/// Checks bytes against the size and digest that a descriptor states.
pub(super) fn check_content(path: &str, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), SourceError> {
    let actual = bytes.len() as u64;
    if actual != descriptor.size {
        return Err(SourceError::Size { path: path.to_owned(), expected: descriptor.size, actual });
    }
    let mut digester = Digester::new(descriptor.digest.algorithm());
    digester.update(bytes);
    let actual = digester.finish();
    if actual != descriptor.digest {
        return Err(SourceError::Content { path: path.to_owned(), expected: descriptor.digest.clone(), actual });
    }
    Ok(())
}

struct Walk<'a> {
    store: &'a dyn Store,
    graph: ManifestGraph,
    bytes: usize,
    /// What each manifest was described as: a second description must be the same.
    manifests: HashMap<Digest, (String, u64)>,
    /// The size of each config and layer.
    blobs: HashMap<Digest, u64>,
}

impl<'a> Walk<'a> {
    fn new(store: &'a dyn Store) -> Self {
        let graph = ManifestGraph { manifests: Vec::new(), blobs: Vec::new() };
        Self { store, graph, bytes: 0, manifests: HashMap::new(), blobs: HashMap::new() }
    }

    fn visit(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), SourceError> {
        let described = (descriptor.media_type.clone(), descriptor.size);
        match self.manifests.insert(descriptor.digest.clone(), described.clone()) {
            Some(before) if before == described => return Ok(()),
            Some(_) => {
                let media_type = super::error::clean(&descriptor.media_type);
                return Err(SourceError::Child { media_type, digest: descriptor.digest.clone() });
            }
            None => {}
        }
        if self.manifests.len() > MAX_MANIFESTS {
            return Err(SourceError::TooComplex { what: "manifests", limit: MAX_MANIFESTS });
        }
        if depth > MAX_DEPTH {
            return Err(SourceError::TooComplex { what: "levels", limit: MAX_DEPTH });
        }
        let manifest = load_manifest(self.store, descriptor)?.ok_or_else(|| self.missing(descriptor))?;
        self.bytes += manifest.bytes().len();
        if self.bytes > MAX_BYTES {
            return Err(SourceError::TooComplex { what: "bytes of manifests", limit: MAX_BYTES });
        }
        self.visit_children(&manifest, depth)?;
        self.graph.manifests.push(manifest);
        Ok(())
    }

    fn visit_children(&mut self, manifest: &Manifest, depth: usize) -> Result<(), SourceError> {
        if let Some(index) = manifest.as_index() {
            for child in &index.manifests {
                self.visit(child, depth + 1)?;
            }
        }
        if let Some(image) = manifest.as_image() {
            self.visit_blob(&image.config)?;
            for layer in &image.layers {
                self.visit_blob(layer)?;
            }
        }
        Ok(())
    }

    fn visit_blob(&mut self, descriptor: &Descriptor) -> Result<(), SourceError> {
        let known = self.blobs.get(&descriptor.digest) == Some(&descriptor.size);
        if known || media_type::is_foreign_layer(&descriptor.media_type) {
            return Ok(());
        }
        let name = blob_name(&descriptor.digest);
        match self.store.size(&name)? {
            None => Err(SourceError::MissingBlob { path: self.store.describe(&name) }),
            Some(actual) if actual != descriptor.size => {
                Err(SourceError::Size { path: self.store.describe(&name), expected: descriptor.size, actual })
            }
            Some(size) => {
                self.blobs.insert(descriptor.digest.clone(), size);
                self.graph.blobs.push(descriptor.clone());
                Ok(())
            }
        }
    }

    fn missing(&self, descriptor: &Descriptor) -> SourceError {
        let path = self.store.describe(&blob_name(&descriptor.digest));
        match &descriptor.platform {
            Some(platform) if !platform.is_unknown() => {
                SourceError::MissingPlatform { platform: super::error::clean(&platform.to_string()), path }
            }
            _ => SourceError::MissingBlob { path },
        }
    }
}
