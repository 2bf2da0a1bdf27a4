//! Where the image comes from: an OCI layout, an archive, a Docker Engine.
//!
//! Reading only: nothing here knows of the registry that the image goes to.

use std::io::Read;
use std::path::PathBuf;

use serde::Serialize;

use crate::oci::{Descriptor, Digest, Manifest};

/// Where the image comes from: decided in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum SourceSpec {
    /// `oci:DIR[:REF]`
    OciLayout {
        /// The layout's directory.
        path: PathBuf,
        /// The `org.opencontainers.image.ref.name` to select, or a digest.
        reference: Option<String>,
    },
    /// `oci-archive:FILE[:REF]`
    OciArchive {
        /// The tar file.
        path: PathBuf,
        /// As for a layout.
        reference: Option<String>,
    },
    /// `docker-archive:FILE[:NAME]`
    DockerArchive {
        /// The tar file.
        path: PathBuf,
        /// The `RepoTags` entry to select.
        reference: Option<String>,
    },
    /// `docker-daemon:NAME`
    DockerDaemon {
        /// The image's name or ID in the engine.
        name: String,
        /// The engine's socket.
        socket: PathBuf,
    },
}

/// An image that can be read, as often as need be.
pub trait Source: Send + Sync {
    /// Returns what the image consists of.
    fn image(&self) -> &SourceImage;

    /// Opens content for reading: the blob that a descriptor of a [`ManifestGraph`] names, or the uncompressed layer with
    /// this diff ID of a [`LayeredImage`]. The reader does not check digests: whoever sends the bytes hashes them.
    fn open(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, SourceError>;
}

/// What an image consists of.
#[derive(Clone, Debug)]
pub enum SourceImage {
    /// Manifests that exist already and are pushed byte for byte.
    Manifests(ManifestGraph),
    /// Uncompressed layers, from which a manifest is made once they are compressed.
    Layers(LayeredImage),
}

/// Manifests and indexes, children first, the root last.
#[derive(Clone, Debug)]
pub struct ManifestGraph {
    /// Each manifest once, every child before its parent.
    pub manifests: Vec<Manifest>,
    /// Configs and layers, each once; foreign layers are left out.
    pub blobs: Vec<Descriptor>,
}

/// An image of uncompressed layers.
#[derive(Clone, Debug)]
pub struct LayeredImage {
    /// The configuration, byte for byte.
    pub config: Vec<u8>,
    /// The layers, the lowest first; one that occurs twice is listed twice.
    pub layers: Vec<SourceLayer>,
}

/// One layer of a [`LayeredImage`].
#[derive(Clone, Debug)]
pub struct SourceLayer {
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The size of the uncompressed tar in bytes.
    pub size: u64,
}

/// The source cannot be read, or is not what it says it is.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing yet.
    #[error("unreachable")]
    Unreachable,
}
