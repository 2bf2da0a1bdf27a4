//! Manifests and indexes: read strictly, kept as the bytes they came as.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Descriptor, Digest, media_type};

/// The most bytes that a manifest may have: the limit that registries set.
const MAX_MANIFEST: usize = 4 << 20;
/// The most entries that an index or a manifest may list.
const MAX_ENTRIES: usize = 1000;

/// A manifest or index as it was received: its bytes, its digest, and what they say.
///
/// The bytes are never re-encoded, so that the digest stays what it was.
#[derive(Clone, Debug)]
pub struct Manifest {
    bytes: Vec<u8>,
    descriptor: Descriptor,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Image(Box<ImageManifest>),
    Index(Box<Index>),
}

impl Manifest {
    /// Reads a manifest. `content_type` is what the transport said of it, if it said anything.
    ///
    /// Fails on more than 4 MiB or 1,000 entries, on what is neither an image manifest nor an index or could be read as
    /// both, and when `content_type` and the manifest's own `mediaType` disagree.
    pub fn parse(bytes: Vec<u8>, content_type: Option<&str>) -> Result<Self, ParseManifestError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(ParseManifestError::TooLarge { size: bytes.len() });
        }
        let shape: Shape = serde_json::from_slice(&bytes)?;
        let media_type = shape.media_type(content_type)?;
        let content = if media_type::is_index(&media_type) {
            Content::Index(Box::new(serde_json::from_slice(&bytes)?))
        } else {
            Content::Image(Box::new(serde_json::from_slice(&bytes)?))
        };
        let descriptor = Descriptor { artifact_type: shape.artifact_type, ..Descriptor::of(&media_type, &bytes) };
        let manifest = Self { bytes, descriptor, content };
        match manifest.entry_count() {
            count if count > MAX_ENTRIES => Err(ParseManifestError::TooManyEntries { count }),
            _ => Ok(manifest),
        }
    }

    /// Returns the bytes, as they were received.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the descriptor: media type, size and digest of the bytes.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> &Digest {
        &self.descriptor.digest
    }

    /// Returns the media type.
    pub fn media_type(&self) -> &str {
        &self.descriptor.media_type
    }

    /// Returns the image manifest, if it is one.
    pub fn as_image(&self) -> Option<&ImageManifest> {
        match &self.content {
            Content::Image(image) => Some(image),
            Content::Index(_) => None,
        }
    }

    /// Returns the index, if it is one.
    pub fn as_index(&self) -> Option<&Index> {
        match &self.content {
            Content::Index(index) => Some(index),
            Content::Image(_) => None,
        }
    }

    fn entry_count(&self) -> usize {
        match &self.content {
            Content::Image(image) => image.layers.len(),
            Content::Index(index) => index.manifests.len(),
        }
    }
}

/// An image manifest ([specification](https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md)).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// The type of the artifact, if the manifest is one.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Annotations of the manifest.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// An image index ([specification](https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md)).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// The manifests, in the index's order.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index refers to.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// Annotations of the index.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// The fields that tell an image manifest from an index. A duplicate of one of them does not parse.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
}

impl Shape {
    /// Returns the one media type that the content, its own word and the transport's word agree on.
    fn media_type(&self, content_type: Option<&str>) -> Result<String, ParseManifestError> {
        if self.schema_version != 2 {
            return Err(ParseManifestError::SchemaVersion { version: self.schema_version });
        }
        let image_like = self.config.is_some() || self.layers.is_some();
        let index_like = self.manifests.is_some();
        if image_like && index_like {
            return Err(ParseManifestError::Ambiguous);
        }
        let content_type = content_type.map(|value| value.split(';').next().unwrap_or(value).trim());
        let known = content_type.filter(|value| media_type::is_index(value) || media_type::is_image_manifest(value));
        let said = match (self.media_type.as_deref(), known) {
            (Some(own), Some(transport)) if own != transport => {
                return Err(ParseManifestError::Disagreement { own: own.to_owned(), transport: transport.to_owned() });
            }
            (Some(own), _) => own,
            (None, Some(transport)) => transport,
            (None, None) if index_like => media_type::OCI_INDEX,
            (None, None) => media_type::OCI_MANIFEST,
        };
        let fits = (media_type::is_index(said) && !image_like)
            || (media_type::is_image_manifest(said) && self.config.is_some() && !index_like);
        if fits { Ok(said.to_owned()) } else { Err(ParseManifestError::MediaType { media_type: said.to_owned() }) }
    }
}

/// The bytes are not a manifest that we accept.
#[derive(Debug, thiserror::Error)]
pub enum ParseManifestError {
    /// Not JSON, or a field that must be there is absent, doubled or of another type.
    #[error("not a manifest")]
    Json(#[from] serde_json::Error),
    /// Larger than any registry accepts.
    #[error("a manifest of {size} bytes is over the limit of {MAX_MANIFEST}")]
    TooLarge {
        /// The size in bytes.
        size: usize,
    },
    /// More entries than any real image has.
    #[error("{count} entries are over the limit of {MAX_ENTRIES}")]
    TooManyEntries {
        /// How many it has.
        count: usize,
    },
    /// A Docker schema 1 manifest, or one from the future.
    #[error("schema version {version} is not supported: only version 2 is")]
    SchemaVersion {
        /// The version it names.
        version: u32,
    },
    /// Both an image manifest and an index (CVE-2021-41190).
    #[error("it is both an image manifest and an index")]
    Ambiguous,
    /// The transport and the manifest say different things (CVE-2021-41190).
    #[error("it calls itself `{own}`, the registry calls it `{transport}`")]
    Disagreement {
        /// The manifest's word.
        own: String,
        /// The transport's word.
        transport: String,
    },
    /// A media type that is neither an image manifest nor an index, or does not fit the content.
    #[error("the media type `{media_type}` does not fit its content")]
    MediaType {
        /// The media type it names.
        media_type: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#""config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}"#;

    fn parse(text: &str, content_type: Option<&str>) -> Result<Manifest, ParseManifestError> {
        Manifest::parse(text.as_bytes().to_vec(), content_type)
    }

    #[test]
    fn an_image_manifest_keeps_its_bytes() {
        let text = format!(r#"{{ "schemaVersion":2, {CONFIG}, "layers":[] }}"#);

        let manifest = parse(&text, Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")).unwrap();

        assert_eq!(manifest.bytes(), text.as_bytes());
        assert_eq!(manifest.digest(), &Digest::of(text.as_bytes()));
        assert_eq!(manifest.as_image().unwrap().config.size, 2);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let both = format!(r#"{{"schemaVersion":2,{CONFIG},"layers":[],"manifests":[]}}"#);
        let disagreeing = format!(r#"{{"schemaVersion":2,"mediaType":"{}",{CONFIG}}}"#, media_type::DOCKER_MANIFEST);
        let doubled = format!(r#"{{"schemaVersion":2,{CONFIG},{CONFIG}}}"#);
        let misnamed = format!(r#"{{"schemaVersion":2,"mediaType":"{}",{CONFIG}}}"#, media_type::OCI_INDEX);

        assert!(matches!(parse(&both, None), Err(ParseManifestError::Ambiguous)));
        assert!(matches!(
            parse(&disagreeing, Some(media_type::OCI_MANIFEST)),
            Err(ParseManifestError::Disagreement { .. })
        ));
        assert!(matches!(parse(&doubled, None), Err(ParseManifestError::Json(_))));
        assert!(matches!(parse(&misnamed, None), Err(ParseManifestError::MediaType { .. })));
    }

    #[test]
    fn limits_hold() {
        let entry = CONFIG.trim_start_matches(r#""config":"#);
        let index = |count: usize| format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, vec![entry; count].join(","));

        assert!(parse(&index(1000), None).is_ok());
        assert!(matches!(parse(&index(1001), None), Err(ParseManifestError::TooManyEntries { count: 1001 })));
        assert!(matches!(
            Manifest::parse(vec![b' '; MAX_MANIFEST + 1], None),
            Err(ParseManifestError::TooLarge { .. })
        ));
    }
}
