//! Layers of a docker archive, and the two kinds of image that are made of them: uncompressed layers as they are, or an
//! OCI manifest for layers some of which are compressed already.

use std::collections::HashMap;
use std::io::{self, Read};
use std::thread;

use serde::Serialize;

use super::archive::Archive;
use super::store::Store as _;
use super::{LayeredImage, ManifestGraph, Source, SourceError, SourceImage, SourceLayer, gzip};
use crate::oci::{Descriptor, Digest, DigestAlgorithm, Digester, Manifest, media_type};

/// An OCI layer that is compressed with zstd.
const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Makes an image of a config and its layers.
pub(super) fn open(archive: Archive, config: Vec<u8>, layers: Vec<Layer>) -> Result<Box<dyn Source>, SourceError> {
    if layers.iter().all(|layer| layer.compression == Compression::None) {
        return Ok(Box::new(Layered::new(archive, config, layers)));
    }
    Ok(Box::new(Assembled::new(archive, config, &layers)?))
}

/// How a layer is compressed, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A layer of the archive.
pub(super) struct Layer {
    file: String,
    size: u64,
    diff_id: Digest,
    compression: Compression,
}

impl Layer {
    /// Finds the layer that `manifest.json` calls `path`, and looks whether it is compressed.
    pub(super) fn find(archive: &Archive, path: &str, diff_id: Digest) -> Result<Self, SourceError> {
        let missing = || SourceError::MissingFile { path: archive.describe(path) };
        let file = archive.resolve(path)?.ok_or_else(missing)?;
        let size = archive.size(&file)?.ok_or_else(missing)?;
        let mut magic = Vec::new();
        let opened = archive.open(&file)?.ok_or_else(missing)?.take(4).read_to_end(&mut magic);
        opened.map_err(|source| SourceError::Read { path: archive.describe(path), source })?;
        let compression = match magic.as_slice() {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
            _ => Compression::None,
        };
        Ok(Self { file, size, diff_id, compression })
    }
}

/// An image of uncompressed layers.
struct Layered {
    archive: Archive,
    image: SourceImage,
    files: HashMap<Digest, String>,
}

impl Layered {
    fn new(archive: Archive, config: Vec<u8>, layers: Vec<Layer>) -> Self {
        let listed =
            layers.iter().map(|layer| SourceLayer { diff_id: layer.diff_id.clone(), size: layer.size }).collect();
        let files = layers.into_iter().map(|layer| (layer.diff_id, layer.file)).collect();
        Self { archive, image: SourceImage::Layers(LayeredImage { config, layers: listed }), files }
    }
}

impl Source for Layered {
    fn image(&self) -> &SourceImage {
        &self.image
    }

    fn open(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        let unknown = || SourceError::Unknown { digest: digest.clone() };
        self.archive.open(self.files.get(digest).ok_or_else(unknown)?)?.ok_or_else(unknown)
    }
}

/// An image of compressed layers, with a manifest that was made for them.
struct Assembled {
    archive: Archive,
    image: SourceImage,
    contents: HashMap<Digest, Content>,
}

enum Content {
    Bytes(Vec<u8>),
    File(String),
    /// A file that is compressed whenever it is read, which gives the same bytes each time.
    Compressed(String),
}

impl Assembled {
    fn new(archive: Archive, config: Vec<u8>, layers: &[Layer]) -> Result<Self, SourceError> {
        let mut contents = HashMap::new();
        let mut descriptors = Vec::with_capacity(layers.len());
        for layer in layers {
            let descriptor = describe_layer(&archive, layer)?;
            let content = match layer.compression {
                Compression::None => Content::Compressed(layer.file.clone()),
                Compression::Gzip | Compression::Zstd => Content::File(layer.file.clone()),
            };
            contents.insert(descriptor.digest.clone(), content);
            descriptors.push(descriptor);
        }
        let new = NewManifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST,
            config: Descriptor::of(media_type::OCI_CONFIG, &config),
            layers: descriptors,
        };
        let failed = |source| SourceError::Json { path: archive.path().display().to_string(), source };
        let bytes = serde_json::to_vec(&new).map_err(failed)?;
        let manifest = Manifest::parse(bytes, Some(media_type::OCI_MANIFEST))
            .map_err(|source| SourceError::Manifest { path: archive.path().display().to_string(), source })?;
        contents.insert(new.config.digest.clone(), Content::Bytes(config));
        let mut blobs = vec![new.config];
        for layer in new.layers {
            if !blobs.iter().any(|blob| blob.digest == layer.digest) {
                blobs.push(layer);
            }
        }
        let image = SourceImage::Manifests(ManifestGraph { manifests: vec![manifest], blobs });
        Ok(Self { archive, image, contents })
    }
}

impl Source for Assembled {
    fn image(&self) -> &SourceImage {
        &self.image
    }

    fn open(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        let unknown = || SourceError::Unknown { digest: digest.clone() };
        match self.contents.get(digest).ok_or_else(unknown)? {
            Content::Bytes(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
            Content::File(file) => self.archive.open(file)?.ok_or_else(unknown),
            Content::Compressed(file) => {
                Ok(Box::new(gzip::compress(self.archive.open(file)?.ok_or_else(unknown)?, threads())))
            }
        }
    }
}

/// An image manifest, with its fields in the specification's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewManifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Reads all of a layer to learn its digest. An uncompressed one is held to its diff ID.
fn describe_layer(archive: &Archive, layer: &Layer) -> Result<Descriptor, SourceError> {
    let missing = || SourceError::MissingFile { path: archive.describe(&layer.file) };
    let failed = |source| SourceError::Read { path: archive.describe(&layer.file), source };
    let open = || archive.open(&layer.file)?.ok_or_else(missing);
    let (media_type, size, digest) = match layer.compression {
        Compression::None => {
            let (_, actual) = measure(open()?, layer.diff_id.algorithm()).map_err(failed)?;
            if actual != layer.diff_id {
                let (path, expected) = (archive.describe(&layer.file), layer.diff_id.clone());
                return Err(SourceError::Content { path, expected, actual });
            }
            let compressed = Box::new(gzip::compress(open()?, threads()));
            let (size, digest) = measure(compressed, DigestAlgorithm::Sha256).map_err(failed)?;
            (media_type::OCI_LAYER_GZIP, size, digest)
        }
        Compression::Gzip => {
            let (size, digest) = measure(open()?, DigestAlgorithm::Sha256).map_err(failed)?;
            (media_type::OCI_LAYER_GZIP, size, digest)
        }
        Compression::Zstd => {
            let (size, digest) = measure(open()?, DigestAlgorithm::Sha256).map_err(failed)?;
            (LAYER_ZSTD, size, digest)
        }
    };
    Ok(Descriptor { size, digest, ..Descriptor::of(media_type, &[]) })
}

/// Reads to the end, and returns size and digest.
fn measure(mut reader: Box<dyn Read + Send>, algorithm: DigestAlgorithm) -> io::Result<(u64, Digest)> {
    let mut digester = Digester::new(algorithm);
    let mut buffer = vec![0; 64 << 10];
    let mut size = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok((size, digester.finish())),
            Ok(count) => {
                digester.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
