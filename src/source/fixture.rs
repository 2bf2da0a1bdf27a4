//! Images for the tests of this room: layouts and archives, made in memory.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{ManifestGraph, Source, SourceError, SourceImage};
use crate::oci::{Descriptor, Digest, media_type};

/// A temporary directory; its files go when it does.
pub(super) fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Named files, in order: a layout or an archive.
#[derive(Clone, Default)]
pub(super) struct Files(pub(super) Vec<(String, Vec<u8>)>);

impl Files {
    /// An empty OCI layout.
    pub(super) fn layout() -> Self {
        let mut files = Self::default();
        files.add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        files
    }

    pub(super) fn add(&mut self, name: &str, content: &[u8]) {
        self.0.push((name.to_owned(), content.to_vec()));
    }

    pub(super) fn replace(&mut self, name: &str, content: &[u8]) {
        self.remove(name);
        self.add(name, content);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// Adds a blob and returns its descriptor.
    pub(super) fn blob(&mut self, media_type: &str, content: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type, content);
        self.replace(&blob_path(&descriptor.digest), content);
        descriptor
    }

    /// Adds an image of one layer with this content.
    pub(super) fn image(&mut self, content: &str) -> Descriptor {
        let config = self.blob(media_type::OCI_CONFIG, config(&[content.as_bytes()]).as_bytes());
        let layer = self.blob(media_type::OCI_LAYER_GZIP, format!("compressed {content}").as_bytes());
        self.manifest(&config, &[layer])
    }

    pub(super) fn manifest(&mut self, config: &Descriptor, layers: &[Descriptor]) -> Descriptor {
        let manifest =
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers});
        self.blob(media_type::OCI_MANIFEST, manifest.to_string().as_bytes())
    }

    pub(super) fn index(&mut self, entries: &[Descriptor]) -> Descriptor {
        self.blob(media_type::OCI_INDEX, index(entries).as_bytes())
    }

    /// Writes `index.json`.
    pub(super) fn list(mut self, entries: &[Descriptor]) -> Self {
        self.replace("index.json", index(entries).as_bytes());
        self
    }

    /// Writes the files into a directory of `parent`.
    pub(super) fn write_to(&self, parent: &Path) -> PathBuf {
        let root = parent.join("image");
        for (name, content) in &self.0 {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    /// Returns the files as a tar archive.
    pub(super) fn tar(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, content.as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// Writes the tar archive into a directory.
    pub(super) fn tar_to(&self, parent: &Path) -> PathBuf {
        write(parent, &self.tar())
    }
}

pub(super) fn write(parent: &Path, archive: &[u8]) -> PathBuf {
    let path = parent.join("image.tar");
    std::fs::write(&path, archive).unwrap();
    path
}

pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

pub(super) fn index(entries: &[Descriptor]) -> String {
    json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries}).to_string()
}

/// Returns an image config for these uncompressed layers.
pub(super) fn config(layers: &[&[u8]]) -> String {
    let diff_ids: Vec<Value> = layers.iter().map(|layer| json!(Digest::of(layer))).collect();
    json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string()
}

/// Returns `descriptor` with a name that can be selected.
pub(super) fn named(descriptor: &Descriptor, name: &str) -> Descriptor {
    annotated(descriptor, "org.opencontainers.image.ref.name", name)
}

pub(super) fn annotated(descriptor: &Descriptor, key: &str, value: &str) -> Descriptor {
    let mut descriptor = descriptor.clone();
    descriptor.annotations.insert(key.to_owned(), value.to_owned());
    descriptor
}

pub(super) fn on(descriptor: &Descriptor, architecture: &str) -> Descriptor {
    let platform = crate::oci::Platform {
        architecture: architecture.to_owned(),
        os: if architecture == "unknown" { "unknown" } else { "linux" }.to_owned(),
        variant: None,
        os_version: None,
    };
    Descriptor { platform: Some(platform), ..descriptor.clone() }
}

pub(super) fn graph(source: &dyn Source) -> &ManifestGraph {
    match source.image() {
        SourceImage::Manifests(graph) => graph,
        SourceImage::Layers(_) => panic!("the image is made of uncompressed layers"),
    }
}

/// Returns the digest of the image.
pub(super) fn root(source: &dyn Source) -> Digest {
    graph(source).manifests.last().unwrap().digest().clone()
}

pub(super) fn content(source: &dyn Source, digest: &Digest) -> Vec<u8> {
    let mut content = Vec::new();
    source.open(digest).unwrap().read_to_end(&mut content).unwrap();
    content
}

/// Returns the error and its hint, as a user reads them, with the temporary path taken out.
pub(super) fn shown(error: &SourceError, parent: &Path) -> String {
    let text = format!("{error}\nhint: {}", error.hint().unwrap_or_default());
    text.replace(&parent.display().to_string(), "TMP")
}

/// Returns the error of a source that must not open.
pub(super) fn refusal<T>(result: Result<T, SourceError>) -> SourceError {
    result.err().expect("the source was accepted")
}
