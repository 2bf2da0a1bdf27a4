//! Where the image comes from: an OCI layout, an archive, a Docker Engine.
//!
//! Reading only: nothing here knows of the registry that the image goes to. Where manifests exist they are handed over byte
//! for byte; what comes out of an old docker archive is uncompressed layers, for the sender to compress with
//! [`gzip::compress`].

mod archive;
mod daemon;
mod docker_archive;
mod error;
#[cfg(test)]
mod fixture;
mod graph;
pub mod gzip;
mod layers;
mod layout;
mod selection;
mod spec;
mod store;

use std::io::{self, Read};
use std::path::PathBuf;

use serde::Serialize;

use crate::oci::{Descriptor, Digest, Manifest};

use archive::Archive;
use layout::Layout;
use store::Directory;

pub use error::SourceError;
pub use spec::ParseSourceError;

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

impl SourceSpec {
    /// Opens the image: reads what it consists of, and checks that all of it is there.
    ///
    /// An engine's image is exported to an unlinked temporary file in the first of `spool` that takes it, or else in the
    /// system's temporary directory or the current one. Files of the other kinds are read where they are.
    pub async fn open(&self, spool: &[PathBuf]) -> Result<Box<dyn Source>, SourceError> {
        if let Self::DockerDaemon { name, socket } = self {
            return daemon::open(name, socket, spool).await;
        }
        let spec = self.clone();
        let opened = tokio::task::spawn_blocking(move || spec.open_files()).await;
        opened.map_err(|error| SourceError::Read { path: "source".to_owned(), source: io::Error::other(error) })?
    }

    fn open_files(&self) -> Result<Box<dyn Source>, SourceError> {
        match self {
            Self::OciLayout { path, reference } => {
                let store = Box::new(Directory::open(path)?);
                Ok(Box::new(Layout::open(store, "oci", reference.as_deref())?))
            }
            Self::OciArchive { path, reference } => {
                let store = Box::new(Archive::open(path)?);
                Ok(Box::new(Layout::open(store, "oci-archive", reference.as_deref())?))
            }
            Self::DockerArchive { path, reference } => docker_archive::open(
                Archive::open(path)?,
                &format!("docker-archive:{}:", path.display()),
                reference.as_deref(),
            ),
            Self::DockerDaemon { socket, .. } => Err(SourceError::NoSocket { socket: socket.clone() }),
        }
    }
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
